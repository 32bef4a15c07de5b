"""What ONNX's pools have in common: reading their window, ceil mode included."""

from __future__ import annotations

from dataclasses import replace

from codegen.build import Builder, OnnxNode
from codegen.spatial import Pair, Window, read_window


def read_pool(node: OnnxNode, b: Builder, image: str) -> tuple[Window, Pair]:
    """The window of a pool; how many rows and columns ceil mode adds at bottom and right."""
    _, height, width, _ = b.shape(image)
    kernel = node.integers("kernel_shape")
    rank = len(kernel or ())
    if kernel is None or rank != b.rank(b.read(node, 0)) - 2 or min(kernel) < 1:
        raise node.unsupported("kernel_shape is missing or does not fit the operand")
    window = read_window(node, kernel, (height, width))
    if any(pad >= window.kernel[axis % 2] for axis, pad in enumerate(window.pads)):
        raise node.unsupported(f"pads {window.pads} reach a whole kernel {window.kernel}")
    extra = (0, 0)
    if node.integer("ceil_mode", 0) and node.text("auto_pad", "NOTSET") == "NOTSET":
        extra = (_extra(window, 0, height), _extra(window, 1, width))
    return window, extra


def grown(window: Window, extra: Pair) -> Window:
    """The window with its bottom and right pads changed by `extra`."""
    top, left, bottom, right = window.pads
    return replace(window, pads=(top, left, bottom + extra[0], right + extra[1]))


def _extra(window: Window, axis: int, size: int) -> int:
    """What to add to the padding behind, so that rounding up becomes rounding down."""
    before, behind = window.pads[axis], window.pads[axis + 2]
    span = (window.kernel[axis] - 1) * window.dilation[axis] + 1
    stride = window.stride[axis]
    last = -(-(size + before + behind - span) // stride) * stride
    if last >= size + before:  # a window that starts in the padding is not taken
        last -= stride
    return max(last + span - size - before - behind, -behind)
