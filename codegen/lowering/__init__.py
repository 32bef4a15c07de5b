"""ONNX operators that become others of the graph. The folder is the registry."""

from __future__ import annotations

from collections.abc import Mapping

from codegen import ops
from codegen.build import Converter
from codegen.lowering import refused

CONVERTERS: Mapping[str, Converter] = ops.converters(
    (*ops.modules(ops.__name__, ops.__path__), *ops.modules(__name__, __path__))
)
SUPPORTED: tuple[str, ...] = tuple(sorted(CONVERTERS.keys() - refused.ONNX.keys()))
"""What `thumbnet ops` lists: converters that do more than say why not."""
