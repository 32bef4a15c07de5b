"""Windows that slide along any number of axes: where they stand, and what of them lies inside.

For plain numbers (docs/floats.md); codegen.spatial is for the two axes of images on reals.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from codegen.ir import Array, IntArray
from codegen.kernel import Constant
from codegen.onnx_node import OnnxNode

Sizes = tuple[int, ...]
Slices = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Slides:
    """How a window moves; one number per axis in each field.

    Attributes:
        kernel: its extent.
        stride: between two places of the window.
        before: padding in front of the image.
        after: padding behind it.
        dilation: between two of its elements.
        ceil: whether a last window that reaches beyond the padding is taken, as `ceil_mode` of ONNX.
    """

    kernel: Sizes
    stride: Sizes
    before: Sizes
    after: Sizes
    dilation: Sizes
    ceil: bool = False

    def places(self, sizes: Sizes) -> Sizes:
        """How many places the window takes along each axis; ValueError when there is none."""
        if any(len(numbers) != len(self.kernel) for numbers in (sizes, self.stride, self.before)):
            raise ValueError(f"a {list(self.kernel)} window does not slide over {list(sizes)}")
        found = tuple(self._places(axis, size) for axis, size in enumerate(sizes))
        if min(found, default=1) < 1:
            raise ValueError(f"a {list(self.kernel)} window does not fit into {list(sizes)}")
        return found

    def span(self, axis: int) -> int:
        """What the window covers along an axis, gaps of dilation included."""
        return (self.kernel[axis] - 1) * self.dilation[axis] + 1

    def seen(self, sizes: Sizes, places: Sizes) -> Iterator[tuple[Sizes, Slices, Slices]]:
        """For each element of the window: itself, the places where it lies inside, what it sees there."""
        for tap in product(*map(range, self.kernel)):
            ranges = [self._seen(axis, tap[axis], sizes, places) for axis in range(len(sizes))]
            if all(high > low for low, high, _ in ranges):
                at = tuple(slice(low, high) for low, high, _ in ranges)
                seen = tuple(
                    slice(start, start + (high - low - 1) * step + 1, step)
                    for (low, high, start), step in zip(ranges, self.stride, strict=True)
                )
                yield tap, at, seen

    def inside(self, axis: int, size: int, places: int) -> IntArray:
        """(places, 3): the first index inside the image, the element that sees it, how many are inside."""
        start = np.arange(places, dtype=np.int64) * self.stride[axis] - self.before[axis]
        dilation = self.dilation[axis]
        first = np.maximum(-(start // dilation), 0)
        last = np.minimum(-((start - size) // dilation), self.kernel[axis])
        taps = np.maximum(last - first, 0)
        index = np.where(taps > 0, start + first * dilation, 0)
        return np.stack([index, np.where(taps > 0, first, 0), taps], axis=1)

    def counted(self, axis: int, size: int, places: int) -> IntArray:
        """How many elements of each window lie in the image or its padding."""
        start = np.arange(places, dtype=np.int64) * self.stride[axis] - self.before[axis]
        room = size + self.after[axis] - start
        counted: IntArray = np.minimum(-(-room // self.dilation[axis]), self.kernel[axis])
        return counted

    def _places(self, axis: int, size: int) -> int:
        room = size + self.before[axis] + self.after[axis] - self.span(axis)
        stride = self.stride[axis]
        if not self.ceil:
            return room // stride + 1
        count = -(-room // stride) + 1
        # A window that starts in the padding behind is not taken.
        return count - 1 if (count - 1) * stride >= size + self.before[axis] else count

    def _seen(self, axis: int, tap: int, sizes: Sizes, places: Sizes) -> tuple[int, int, int]:
        offset, stride = tap * self.dilation[axis] - self.before[axis], self.stride[axis]
        low = max(0, -(offset // stride))
        high = min(places[axis], (sizes[axis] - 1 - offset) // stride + 1)
        return low, high, low * stride + offset


@dataclass(frozen=True, slots=True)
class Walk:
    """A window's way along axes as a template takes it.

    Attributes:
        axes: one entry per axis. `places`, `taps`; `step` and `tap_step`, in elements of the image, between
            places and between elements of the window; `weight_step` between the latter in elements of the
            weights; `ragged`: whether parts of windows lie outside. Then constant `slides` holds for
            every place the image's and the weights' elements to start from, and how many taps to take.
        constants: the tables of ragged axes.
    """

    axes: tuple[dict[str, object], ...]
    constants: tuple[Constant, ...]


def walk(
    slides: Slides, sizes: Sizes, places: Sizes, image: Sizes, weights: Sizes, stem: str = "slides"
) -> Walk:
    """The way of a window over an image; `image` and `weights` are element strides of their axes."""
    axes: list[dict[str, object]] = []
    constants: list[Constant] = []
    for axis, count in enumerate(places):
        rows = slides.inside(axis, sizes[axis], count)
        ragged = bool((rows[:, 2] != slides.kernel[axis]).any())
        entry: dict[str, object] = {
            "name": f"p{axis}",
            "tap": f"t{axis}",
            "places": count,
            "taps": slides.kernel[axis],
            "step": slides.stride[axis] * image[axis],
            "tap_step": slides.dilation[axis] * image[axis],
            "weight_step": weights[axis],
            "ragged": ragged,
            "slides": f"{stem}{axis}",
        }
        axes.append(entry)
        if ragged:
            table = rows * np.array([image[axis], weights[axis], 1])
            constants.append(Constant(f"{stem}{axis}", "int32_t", table.astype(np.int32)))
    return Walk(tuple(axes), tuple(constants))


def read_slides(node: OnnxNode, kernel: Sizes, sizes: Sizes) -> Slides:
    """The window that a Conv or pool node describes, for an image of these sizes."""
    rank = len(sizes)
    if len(kernel) != rank or min(kernel, default=0) < 1:
        raise node.unsupported(f"kernel_shape {list(kernel)} does not fit {rank} axes")
    stride, dilation = steps(node, "strides", rank), steps(node, "dilations", rank)
    mode = node.text("auto_pad", "NOTSET")
    zeros = (0,) * rank
    slides = Slides(kernel, stride, zeros, zeros, dilation)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        before, after = same_pads(slides, sizes, upper=mode == "SAME_UPPER")
        return Slides(kernel, stride, before, after, dilation)
    if mode not in ("NOTSET", "VALID"):
        raise node.unsupported(f"auto_pad {mode} is unknown")
    pads = (mode == "NOTSET" and node.integers("pads")) or zeros * 2
    if len(pads) != 2 * rank or min(pads) < 0:
        raise node.unsupported(f"pads {list(pads)} are not {2 * rank} numbers from 0 on")
    ceil = mode == "NOTSET" and bool(node.integer("ceil_mode", 0))
    return Slides(kernel, stride, pads[:rank], pads[rank:], dilation, ceil)


def steps(node: OnnxNode, key: str, rank: int) -> Sizes:
    """Strides or dilations: positive numbers, 1 where nothing is said."""
    values = node.integers(key) or (1,) * rank
    if len(values) != rank or min(values) < 1:
        raise node.unsupported(f"{key} {list(values)} is not {rank} positive numbers")
    return values


def same_pads(slides: Slides, sizes: Sizes, *, upper: bool) -> tuple[Sizes, Sizes]:
    """The padding with which ceil(size / stride) windows fit."""
    totals = [
        max((-(-size // stride) - 1) * stride + slides.span(axis) - size, 0)
        for axis, (size, stride) in enumerate(zip(sizes, slides.stride, strict=True))
    ]
    small = tuple(total // 2 for total in totals)
    large = tuple(total - total // 2 for total in totals)
    return (small, large) if upper else (large, small)


def place(array: Array, lead: int, where: Slices) -> tuple[slice, ...]:
    """An index of an array: everything along `lead` axes, then slices of the axes behind them."""
    return (slice(None),) * lead + where + (slice(None),) * (array.ndim - lead - len(where))
