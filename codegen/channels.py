"""How operators connect the channels (last axis) of their operands and results."""

from __future__ import annotations

from codegen.forms import Reshape
from codegen.ir import Graph, Node
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.ops.mean import Mean

CHANNELWISE = frozenset({"lookup", "add", "mul", "max_pool", "average_pool", "resize"})


def mixes(graph: Graph, node: Node) -> bool:
    """Whether each channel of a node's result is a weighted sum of all channels of its input."""
    op = node.op
    return isinstance(op, Dense) or (isinstance(op, Conv2D) and op.groups == 1)


def is_channelwise(graph: Graph, node: Node) -> bool:
    """Whether a result's channel depends on the same channel of each operand alone."""
    op = node.op
    if isinstance(op, Conv2D):
        return is_depthwise(graph, node)
    if isinstance(op, Mean):
        return max(op.axes) < len(graph.tensors[node.inputs[0]].shape) - 1
    if op.kind in CHANNELWISE:
        operands = [graph.tensors[name] for name in node.inputs]
        channels = graph.tensors[node.output].shape[-1]
        # A repeated single channel cannot be cut; constants can, along with the rest.
        return all(t.shape[-1] in (channels, 1) and len(t.shape) > 1 for t in operands)
    return False


def is_depthwise(graph: Graph, node: Node) -> bool:
    """Whether a convolution has one output channel per input channel, which sees only that."""
    op = node.op
    depth = graph.tensors[node.inputs[0]].shape[-1]
    return isinstance(op, Conv2D) and op.groups == depth == graph.tensors[node.output].shape[-1]


def flattens(graph: Graph, node: Node) -> bool:
    """Whether a reshape keeps whole pixels together, so that channels stay recognisable."""
    if not isinstance(node.op, Reshape):
        return False
    depth = graph.tensors[node.inputs[0]].shape[-1]
    return node.op.shape[-1] % depth == 0
