"""ONNX operators on plain numbers (docs/floats.md). The folder is the registry.

A converter here reads its operands with `Builder.plain`: every tensor has an axis 0 for samples before the
axes of the ONNX tensor, constants too. It serves where the graph is to compute in float, where an operand
is plain already, and where codegen/lowering has no converter for what the node asks.
"""

from __future__ import annotations

from collections.abc import Mapping

from codegen import ops
from codegen.build import Converter

PLAIN: Mapping[str, Converter] = ops.converters(ops.modules(__name__, __path__))
