"""4-bit weights for cores with SMLAD: four channels to a halfword, the words of conv2d.int4 and dense.int4.

    half = 4096 * w3 + 256 * u2 + 16 * u1 + u0        u = w + 8, 0..15; w3 signed

SMLAD of the word as it is, of its low bytes and of two masked nibbles gives four sums that hold

    a3 = 4096 * S3 + 256 * U2 + 16 * U1 + U0    a1 = 16 * U1 + U0    a2 = 256 * U2    a0 = U0

with U = S + 8 * (sum of the inputs). a3 - a2 - a1 and a1 - a0 leave one channel each; then the eights are
taken off, and every sum is 2**(4 n) * Sn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codegen.ir import IntArray
from codegen.kernel import Layer
from codegen.requantize import Scaling, reach
from codegen.tuned.lanes import ADDEND_LIMIT, halves, signed

CHANNELS = 4  # to a halfword
LANE_BITS = 4
LOW, HIGH = -8, 7
NOT_FITTING = "flash holds weights in int8, or they leave -8..7"
NOT_EXACT = "a sum times its lane's scale leaves 32 bits, or requantization has no such form"


@dataclass(frozen=True, slots=True)
class Rule:
    """Requantization of the four sums by SMMLA and a shift.

    Attributes:
        lift: bits by which the first sum is shifted left, where its multiplier needs them: 0 or 4.
        shift: after SMMLA, of the first sum.
        addend: of SMMLA, for the first sum; the others' is larger by `steps`, as is their shift.
        low, high: limits of results.
    """

    lift: int
    shift: int
    addend: int
    low: int
    high: int

    @property
    def steps(self) -> tuple[int, ...]:
        """From sum to sum, by how many bits addend and shift grow."""
        return (0, LANE_BITS - self.lift, LANE_BITS, LANE_BITS)


def rule(scaling: Scaling) -> Rule | None:
    """The form that the kernels take; None when there is none.

    A rule that shifts sums left before it multiplies finds them shifted already, by their lane.
    """
    q = scaling.q
    if scaling.shifts is not None or q["float"] or q["wide"]:
        return None
    names = ("pre", "shift", "zero_point", "low", "high")
    pre, post, zero_point, low, high = (int(str(q[name])) for name in names)
    lift = LANE_BITS if pre else 0
    shift = post + lift - pre
    addend = (1 << (shift - 1)) + (zero_point << shift) if shift > 0 else 0
    largest = LANE_BITS * (CHANNELS - 1) - lift
    fits = shift >= 1 and shift + largest <= 31 and abs(addend) << largest < ADDEND_LIMIT
    return Rule(lift, shift, addend, low, high) if fits else None


def fits(layer: Layer) -> bool:
    """Whether flash may hold a layer's weights in 4 bits."""
    _, w, _ = layer.inputs
    return w.storage is not None and bool(w.values.min() >= LOW and w.values.max() <= HIGH)


def exact(layer: Layer, scaling: Scaling, starts: tuple[int, ...]) -> bool:
    """Whether no sum times its lane's scale leaves 32 bits.

    Sums on the way may wrap: they are added modulo 2**32, and the results fit.

    Args:
        layer: with operands x, w, b.
        scaling: how its sums become int8.
        starts: first channel of each block; blocks may overlap.
    """
    x, w, b = layer.inputs
    ends = np.max(np.abs(np.stack(reach(x.grid, w, b))), axis=0)
    found = rule(scaling)
    if found is None:
        return False
    bits = np.cumsum(found.steps) + found.lift
    width = max(np.diff([*starts, len(ends)]).max(), CHANNELS)
    for start in starts:
        mine = ends[start : start + width]
        if np.any(mine << bits[np.arange(len(mine)) % CHANNELS] >= 1 << 31):
            return False
    return True


def blocks(weights: IntArray, bias: IntArray) -> tuple[IntArray, IntArray]:
    """First sums (blocks, 4) and words (blocks, pairs) of four channels at a time.

    Args:
        weights: (channels, elements), both multiples of 4 and 2, -8..7.
        bias: (channels,), with the input's zero point folded in.
    """
    w = weights.reshape(-1, CHANNELS, weights.shape[1])
    u0, u1, u2 = (w[:, n] + 8 for n in range(3))
    half = 4096 * w[:, 3] + 256 * u2 + 16 * u1 + u0
    b0, b1, b2, b3 = bias.reshape(-1, CHANNELS).T
    low = 16 * b1 + b0
    first = np.stack([b0, low, 256 * b2, 4096 * b3 + 256 * b2 + low], axis=1)
    return signed(first), halves(half[:, 0::2], half[:, 1::2])
