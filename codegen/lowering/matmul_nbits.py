"""onnxruntime's MatMulNBits: packed weights of few bits with a scale per block, as a MatMul."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codegen import ops
from codegen.build import Builder, Converter, OnnxNode
from codegen.ir import Array, IntArray
from codegen.lowering.quantize_linear import grouped
from codegen.ops.add import Add
from codegen.quant.packing import unpack


def _matmul_nbits(node: OnnxNode, b: Builder) -> None:
    k, n, bits = (node.integer(key, 0) for key in ("K", "N", "bits"))
    size = node.integer("block_size", 0)
    packed, scales, zeros = (b.static(node, index) for index in (1, 2, 3))
    if bits not in (2, 4, 8) or min(k, n, size) < 1 or packed is None or scales is None:
        raise node.unsupported("weights of 2, 4 or 8 bits with constant scales are expected")
    if node.has(4):
        raise node.unsupported("an index of groups (g_idx) is not supported")
    blocks = -(-k // size)
    if packed.size != n * blocks * size * bits // 8 or scales.size != n * blocks:
        raise node.unsupported(f"weights or scales do not fit {n} x {k} in blocks of {size}")
    codes = unpack(packed.reshape(n, -1).astype(np.uint8), bits, blocks * size)
    points = _zero_points(node, zeros, (n, blocks), bits)
    wide = [np.repeat(a, size, axis=1)[:, :k].T for a in (scales.reshape(n, blocks), points)]
    weights = grouped(b, node, codes[:, :k].T, wide[0], wide[1], channels=1)
    b.set(f"{node.outputs[0]}/weights", weights)
    result = node.outputs[0] if not node.has(5) else f"{node.outputs[0]}/product"
    names = (node.inputs[0], f"{node.outputs[0]}/weights")
    plain = OnnxNode("MatMul", "", node.name, names, (result,))
    ops.CONVERTERS["MatMul"](plain, b)
    if node.has(5):
        b.write(node, b.emit(Add(), (b.get(result), b.read(node, 5)), node.sources))


def _zero_points(
    node: OnnxNode, zeros: Array | None, shape: tuple[int, int], bits: int
) -> IntArray:
    """(N, blocks): the middle code where the file has none; rows of packed codes else."""
    if zeros is None:
        return np.full(shape, 1 << (bits - 1), np.int64)
    if zeros.dtype != np.uint8:
        raise node.unsupported("zero points that are no packed integers are not supported")
    if zeros.size != shape[0] * -(-shape[1] * bits // 8):
        raise node.unsupported(f"{zeros.size} bytes of zero points for {shape} blocks")
    return unpack(zeros.reshape(shape[0], -1).astype(np.uint8), bits, shape[1])


ONNX: Mapping[str, Converter] = {"com.microsoft::MatMulNBits": _matmul_nbits}
