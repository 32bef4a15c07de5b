"""The operators of a graph in PyTorch, in the graph's own layout: images are (samples, H, W, C)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any, TypeAlias

import torch
from torch.nn import functional

from codegen.ir import Node, Op
from codegen.train.fake_quant import signs

Tensor: TypeAlias = Any  # torch brings no types that the checker sees


def _clamped(y: Tensor, clamp: tuple[float, float] | None) -> Tensor:
    if clamp == (0.0, inf):
        return torch.relu(y)  # a third of clamp's time, both ways together
    return y if clamp is None else torch.clamp(y, *clamp)


def _bordered(x: Tensor, pads: tuple[int, int, int, int], fill: float) -> Tensor:
    """A (samples, C, H, W) view of an image, within its border."""
    image = x.permute(0, 3, 1, 2)
    top, left, bottom, right = pads
    return functional.pad(image, (left, right, top, bottom), value=fill) if any(pads) else image


def _conv2d(op: Any, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    top, left, bottom, right = op.pads
    alike = (top, left) == (bottom, right)  # then no padded copy is needed
    image = x.permute(0, 3, 1, 2) if alike else _bordered(x, op.pads, 0.0)
    border = (top, left) if alike else 0
    kernels = w.permute(0, 3, 1, 2)
    y = functional.conv2d(image, kernels, b, op.stride, border, op.dilation, op.groups)
    return _clamped(y.permute(0, 2, 3, 1), op.clamp)


def _dense(op: Any, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return _clamped(functional.linear(x, w, b), op.clamp)


def _average_pool(op: Any, x: Tensor) -> Tensor:
    image = _bordered(x, op.pads, 0.0)
    sums = functional.avg_pool2d(image, op.kernel, op.stride, divisor_override=1)
    counts = torch.from_numpy(op.counts(x.shape[1], x.shape[2]))
    return (sums / counts).permute(0, 2, 3, 1)


def _max_pool(op: Any, x: Tensor) -> Tensor:
    image = _bordered(x, op.pads, -inf)
    found = functional.max_pool2d(image, op.kernel, op.stride, 0, op.dilation)
    return found.permute(0, 2, 3, 1)


def _add(op: Any, x: Tensor, y: Tensor) -> Tensor:
    return _clamped(op.signs[0] * x + op.signs[1] * y, op.clamp)


def _slice(op: Any, x: Tensor) -> Tensor:
    parts = zip(op.begins[1:], op.sizes[1:], op.steps[1:], strict=True)
    return x[(slice(None), *(slice(b, b + (n - 1) * s + 1, s) for b, n, s in parts))]


def _pad(op: Any, x: Tensor) -> Tensor:
    flat = [size for pair in reversed(op.pads) for size in pair]
    return functional.pad(x, flat, value=op.value)


def _concat(op: Any, *parts: Tensor) -> Tensor:
    samples = max(len(part) for part in parts)
    return torch.cat([part.expand(samples, *part.shape[1:]) for part in parts], op.axis)


LOOKUPS: Mapping[str, Callable[[Tensor, float, float], Tensor]] = {
    "clip": torch.clamp,
    "elu": lambda x, alpha, _b: functional.elu(x, alpha),
    "hard_sigmoid": lambda x, alpha, beta: torch.clamp(alpha * x + beta, 0, 1),
    "hard_swish": lambda x, _a, _b: functional.hardswish(x),
    "identity": lambda x, _a, _b: x,
    "leaky_relu": lambda x, alpha, _b: functional.leaky_relu(x, alpha),
    "relu": lambda x, _a, _b: torch.relu(x),
    "sign": lambda x, _a, _b: signs(x),
    "sigmoid": lambda x, _a, _b: torch.sigmoid(x),
    "tanh": lambda x, _a, _b: torch.tanh(x),
}
OPERATORS: Mapping[str, Callable[..., Tensor]] = {
    "add": _add,
    "average_pool": _average_pool,
    "concat": _concat,
    "conv2d": _conv2d,
    "dense": _dense,
    "lookup": lambda op, x: LOOKUPS[op.function](x, op.alpha, op.beta),
    "max_pool": _max_pool,
    "mean": lambda op, x: x.mean(op.axes, keepdim=op.keepdims),
    "mul": lambda op, x, y: _clamped(x * y, op.clamp),
    "pad": _pad,
    "reshape": lambda op, x: x.reshape(len(x), *op.shape[1:]),
    "slice": _slice,
    "softmax": lambda op, x: torch.softmax(x, -1),
    "transpose": lambda op, x: x.permute(op.perm),
}
"""By `kind`; the kinds and functions that codegen.onnx_save writes."""


def run(op: Op, inputs: tuple[Tensor, ...]) -> Tensor:
    """One operator; gradients flow to all operands."""
    return OPERATORS[op.kind](op, *inputs)


def logits_of(node: Node | None, output: str) -> str:
    """The tensor that holds what a softmax turns into the output; the output itself without one."""
    return node.inputs[0] if node is not None and node.op.kind == "softmax" else output
