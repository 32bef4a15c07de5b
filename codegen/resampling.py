"""Where the elements of a resized axis come from, as ONNX's Resize defines it. In float64, at compile time"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from codegen.ir import FloatArray, IntArray
from codegen.limits import MAX_ACTIVATION

TINY = 1e-6
Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis that is resized.

    Attributes:
        size: elements before.
        count: elements afterwards.
        scale: the factor, which `count` is a rounded result of.
        crop: first and last place of what is kept, as parts of the axis (tf_crop_and_resize).
    """

    size: int
    count: int
    scale: float
    crop: tuple[float, float] = (0.0, 1.0)

    @property
    def length(self) -> float:
        """The size afterwards, not rounded."""
        found = self.scale * self.size
        return self.count if abs(found - self.count) < TINY else found

    @property
    def is_kept(self) -> bool:
        """Whether nothing changes."""
        return self.count == self.size and self.scale == 1 and self.crop == (0.0, 1.0)


def _corners(axis: Axis, x: Reals) -> Reals:
    return x * 0 if axis.count == 1 else x * (axis.size - 1) / (axis.length - 1)


def _half_pixel(axis: Axis, x: Reals) -> Reals:
    return (x + 0.5) / axis.scale - 0.5


def _symmetric(axis: Axis, x: Reals) -> Reals:
    return axis.size / 2 * (1 - axis.count / axis.length) + _half_pixel(axis, x)


def _cropped(axis: Axis, x: Reals) -> Reals:
    first, last = axis.crop
    if axis.count == 1:
        return x * 0 + (first + last) / 2 * (axis.size - 1)
    return first * (axis.size - 1) + x * (last - first) * (axis.size - 1) / (axis.length - 1)


PLACES: Mapping[str, Callable[[Axis, Reals], Reals]] = {
    "align_corners": _corners,
    "asymmetric": lambda axis, x: x / axis.scale,
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _symmetric,
    "pytorch_half_pixel": lambda axis, x: _half_pixel(axis, x) if axis.count > 1 else x * 0,
    "tf_crop_and_resize": _cropped,
    "tf_half_pixel_for_nn": lambda axis, x: (x + 0.5) / axis.scale,
}
"""Where an index of the result lies among the elements before."""
NEAREST: Mapping[str, Callable[[Reals], Reals]] = {
    "ceil": np.ceil,
    "floor": np.floor,
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
}


def places(axis: Axis, mode: str) -> Reals:
    """The place of every index of the result."""
    return PLACES[mode](axis, np.arange(axis.count, dtype=np.float64))


def nearest(axis: Axis, at: Reals, rounding: str) -> IntArray:
    """The element that is nearest to every place."""
    return np.clip(NEAREST[rounding](at), 0, axis.size - 1).astype(np.int64)


def _linear(distance: Reals) -> Reals:
    weight: Reals = np.clip(1 - np.abs(distance), 0, 1)
    return weight


def _cubic(distance: Reals, a: float) -> Reals:
    """Keys' piecewise cubic, which is 0 from distance 2 on."""
    d = np.abs(distance)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


@dataclass(frozen=True, slots=True)
class Filter:
    """How neighbours are weighted.

    Attributes:
        cubic: by Keys' cubic with the coefficient `a`, else linearly.
        antialias: when an axis shrinks, the weights run over as many more neighbours.
        inside: neighbours beyond the axis count nothing; else the element at the edge stands for them.
    """

    cubic: bool
    a: float = -0.75
    antialias: bool = False
    inside: bool = False

    def weights(self, axis: Axis, at: Reals) -> tuple[IntArray, FloatArray]:
        """For every place the first element that counts, (count,), and weights from there on, (count, taps).

        Raises:
            ValueError: there would be too many weights.
        """
        shrink = min(axis.scale, 1.0) if self.antialias else 1.0
        radius = (2 if self.cubic else 1) / shrink
        taps = 2 * ceil(radius)
        if len(at) * taps > MAX_ACTIVATION:
            raise ValueError(f"{len(at)} sums of {taps} neighbours are too many")
        indices = np.floor(at).astype(np.int64)[:, None] + np.arange(1 - taps // 2, taps // 2 + 1)
        distances = (indices - at[:, None]) * shrink
        found = _cubic(distances, self.a) if self.cubic else _linear(distances)
        if self.inside:
            found = np.where((indices >= 0) & (indices < axis.size), found, 0)
        if self.inside or self.antialias:
            totals = found.sum(axis=1, keepdims=True)
            found = found / np.where(totals == 0, 1, totals)
        return _within(axis.size, indices, found)


def _within(size: int, indices: IntArray, found: Reals) -> tuple[IntArray, FloatArray]:
    """The same sums over windows that lie inside the axis: those beyond it add to the edge."""
    count, taps = found.shape
    kept = min(taps, size)
    first = np.clip(indices[:, 0], 0, size - kept)
    weights = np.zeros((count, kept))
    columns = np.clip(indices, 0, size - 1) - first[:, None]
    np.add.at(weights, (np.arange(count)[:, None], columns), found)
    return first, weights.astype(np.float32)
