"""Products of matrices of plain numbers, batches broadcast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen import sums
from codegen.build import Converter
from codegen.ir import Array
from codegen.kernel import Instance, Layer
from codegen.loops import broadcast_strides, loops, strides
from codegen.plain import operands, plain_kernel, reference

__all__ = ["KERNELS", "ONNX", "OP", "MatMul", "reference"]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MatMul:
    """Operands: a (1, ..., M, K), b (1, ..., K, N) or one matrix (K, N), and maybe what sums start from.

    Attributes:
        transposed: whether a holds (K, M), and b holds (N, K).
        clamp: smallest and largest result.
    """

    kind: ClassVar[str] = "matmul"
    transposed: tuple[bool, bool] = (False, False)
    clamp: sums.Clamp = None

    def infer(self, shapes: tuple[Shape, ...]) -> Shape:
        """(1, ..., M, N)."""
        a, b = self._matrices(shapes[:2])
        if a[-1] != b[-2]:
            raise ValueError(f"matrices {list(shapes[0])} and {list(shapes[1])} do not fit")
        result = (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])
        if any(np.broadcast_shapes(start, result) != result for start in shapes[2:]):
            raise ValueError(f"{list(shapes[2])} does not broadcast to {list(result)}")
        return result

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The products, added in the order of K."""
        a, b, *start = sums.promoted(inputs)
        a = np.swapaxes(a, -1, -2) if self.transposed[0] else a
        b = np.swapaxes(b, -1, -2) if self.transposed[1] else b
        shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        total = np.zeros(shape, a.dtype)
        if start:
            total += start[0]
        for k in range(a.shape[-1]):
            total += a[..., k, None] * b[..., k, None, :]
        return sums.clamped(total, self.clamp)

    def result_type(self, types: tuple[str, ...]) -> str:
        """That of sums."""
        return sums.result_type(types)

    def macs(self, shapes: tuple[Shape, ...]) -> int:
        """Products of one sample."""
        return int(np.prod(self.infer(shapes))) * self._matrices(shapes[:2])[0][-1]

    def _matrices(self, shapes: tuple[Shape, ...]) -> tuple[Shape, Shape]:
        a, b = shapes
        if len(a) < 2 or len(b) not in (2, len(a)):
            raise ValueError(f"{list(a)} and {list(b)} are no matrices")
        a, b = (
            (*s[:-2], s[-1], s[-2]) if swap else s
            for s, swap in zip((a, b), self.transposed, strict=True)
        )
        return a, b


OP = MatMul
ONNX: Mapping[str, Converter] = {}


def _instance(layer: Layer) -> Instance:
    op, out = layer.node.op, layer.output
    assert isinstance(op, MatMul)
    rows, constants = operands(layer)
    names = ["a", "b", "start"][: len(rows)]
    a, b, *rest = (tensor.shape for tensor in layer.inputs)
    m, n = out.shape[-2:]
    length = a[-2] if op.transposed[0] else a[-1]
    batch = out.shape[:-2]
    walked = {
        "a": (*_batch(a, batch), 1 if op.transposed[0] else a[-1]),
        "b": (*_batch(b, batch), 0),
    }
    start = broadcast_strides(rest[0], out.shape) if rest else (0,)
    if rest:
        walked["start"] = start[:-1]
    return Instance(
        label=f"{'x'.join(map(str, (*batch[1:], m)))}_{length}_{n}",
        params={
            "operands": [{"name": x, **row} for x, row in zip(names, rows, strict=True)],
            "loops": loops((*batch, m), walked),
            "length": length,
            "columns": n,
            "a_step": m if op.transposed[0] else 1,
            "b_step": 1 if op.transposed[1] else n,
            "gap": length if op.transposed[1] else 1,
            "start_step": start[-1],
            "starts": bool(rest),
            "block": sums.BLOCK,
            **sums.types(out),
            **sums.bounds(op.clamp),
        },
        constants=constants,
    )


def _batch(shape: Shape, batch: Shape) -> Shape:
    """Element strides of an operand's matrices inside loops over a batch."""
    whole = (1,) * (len(batch) + 2 - len(shape)) + shape
    return tuple(
        0 if size == 1 else step for size, step in zip(whole[:-2], strides(whole)[:-2], strict=True)
    )


def _cycles(layer: Layer) -> float:
    op = layer.node.op
    assert isinstance(op, MatMul)
    return sums.cycles(layer, op.macs(tuple(tensor.shape for tensor in layer.inputs)))


KERNELS = (plain_kernel("matmul", "ops/matmul.c.j2", _instance, _cycles),)
