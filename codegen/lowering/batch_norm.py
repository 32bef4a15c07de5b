"""BatchNormalization as a product and a sum per channel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.ops.add import Add
from codegen.ops.mul import Mul


def _batch_norm(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    operands = [b.static(node, index) for index in range(1, 5)]
    if any(value is None for value in operands) or node.integer("training_mode", 0):
        raise node.unsupported("training mode is not supported")
    scale, shift, mean, variance = (np.asarray(value, np.float64) for value in operands)
    if b.rank(x) < 2 or scale.shape != (b.shape(x)[1],):
        raise node.unsupported(f"{scale.shape} channels for {list(b.shape(x))}")
    with np.errstate(all="ignore"):  # what is not finite is refused with the constant
        factor = scale / np.sqrt(variance + node.real("epsilon", 1e-5))
    shape = (1, -1) + (1,) * (b.rank(x) - 2)
    product = b.constant(factor.reshape(shape), f"{node.label}.factor")
    offset = b.constant((shift - mean * factor).reshape(shape), f"{node.label}.offset")
    scaled = b.emit(Mul(), (x, product), node.sources)
    b.write(node, b.emit(Add(), (scaled, offset), node.sources))


ONNX: Mapping[str, Converter] = {"BatchNormalization": _batch_norm}
