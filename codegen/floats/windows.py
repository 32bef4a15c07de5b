"""Convolution, pooling and dense layers of reals in float32."""

from __future__ import annotations

from collections.abc import Mapping

from codegen.floats.rewrite import Lowering, Rewriter
from codegen.ir import Node
from codegen.ops.average_pool import AveragePool
from codegen.ops.conv2d import Conv2D
from codegen.ops.convolution import Convolution
from codegen.ops.dense import Dense
from codegen.ops.matmul import MatMul
from codegen.ops.max_pool import MaxPool
from codegen.ops.pool import Pool


def _conv2d(node: Node, new: Rewriter) -> None:
    op = node.op
    assert isinstance(op, Conv2D)
    made = Convolution(op.stride, op.pads[:2], op.pads[2:], op.dilation, op.groups, op.clamp)
    new.emit(made, node.inputs, node.output, node)


def _dense(node: Node, new: Rewriter) -> None:
    op = node.op
    assert isinstance(op, Dense)
    new.emit(MatMul((False, True), op.clamp), node.inputs, node.output, node)


def _max_pool(node: Node, new: Rewriter) -> None:
    op = node.op
    assert isinstance(op, MaxPool)
    made = Pool("max", 1, op.kernel, op.stride, op.pads[:2], op.pads[2:], op.dilation)
    new.emit(made, node.inputs, node.output, node)


def _average_pool(node: Node, new: Rewriter) -> None:
    op = node.op
    assert isinstance(op, AveragePool)
    made = Pool(
        "average",
        1,
        op.kernel,
        op.stride,
        op.pads[:2],
        op.pads[2:],
        (1, 1),
        count_include_pad=op.count_include_pad,
    )
    new.emit(made, node.inputs, node.output, node)


LOWERINGS: Mapping[str, Lowering] = {
    "average_pool": _average_pool,
    "conv2d": _conv2d,
    "dense": _dense,
    "max_pool": _max_pool,
}
