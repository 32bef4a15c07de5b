"""Weights of one and two bits for cores with SMLAD: two channels to a halfword, unpacked by one AND.

A lane word is what SMLAD multiplies two inputs with; its halves are the two inputs' weights of two channels:

    two bits    half = 2**14 * high + u               u = low + offset, 0..3; high in -2..1
    one bit     half = +-2**split * bit + bit         weights are 2 * bit - 1

A word of flash holds 32 bits of such fields: `mask AND (word ROR r)` is a lane word, with four or eight
rotations. A sum of lane words times inputs is L +- 2**split * H. While the magnitude of L stays below
2**(split - 1) its bits are the low ones, sign extended; so L is taken off after every *chunk* of elements,
and what is left is a multiple of 2**split. In the end the layer's sums are

    two bits    bias + H, and bias + L - offset * sigma       sigma: sum of the inputs
    one bit     bias + 2 * H - sigma, and bias + 2 * L - sigma
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codegen.ir import IntArray
from codegen.kernel import Layer, unmet
from codegen.requantize import Scaling, reach
from codegen.tuned.lanes import ADDEND_LIMIT, signed

NOT_FEW = "the weights are neither -1 and 1 nor within -2..1"
NOT_HELD = "the upper lane of a sum leaves 32 bits"
NO_CHUNK = "the lower lane overflows within a few elements"
NO_RULE = "requantization has no form of one shift, or a shifted sum leaves 32 bits"
LARGEST_INPUT = 128
_TURNS: Mapping[tuple[int, int], tuple[int, ...]] = {
    (1, 14): (0, 1, 4, 5, 8, 9, 12, 13),
    (1, 15): (0, 2, 4, 6, 8, 10, 12, 14),
    (2, 14): (0, 4, 8, 12),
}


@dataclass(frozen=True, slots=True)
class Packing:
    """How a layer's weights are held.

    Attributes:
        bits: of a weight in flash.
        split: bit of a halfword at which the upper lane starts.
        offset: from a weight of the lower lane to its code; of one bit, what a sum of inputs counts.
    """

    bits: int
    split: int
    offset: int

    @property
    def turns(self) -> tuple[int, ...]:
        """Rotations to the right, one for each lane word of a word."""
        return _TURNS[self.bits, self.split]

    @property
    def negative(self) -> bool:
        """Whether the upper lane counts down: a bit that is the halfword's sign."""
        return self.split == 15

    @property
    def mask(self) -> int:
        """What a rotated word is masked with."""
        half = ((1 << self.bits) - 1) * (1 + (1 << self.split))
        return half | half << 16

    @property
    def doubling(self) -> int:
        """Bits by which sums of codes are shifted left to be sums of weights."""
        return 2 - self.bits

    @property
    def most(self) -> int:
        """What the codes of a chunk may sum to in the lower lane."""
        return (1 << (self.split - 1)) // LARGEST_INPUT

    def lower(self, weights: IntArray) -> IntArray:
        """Codes of the lower lane, without sign."""
        return (weights + 1) // 2 if self.bits == 1 else weights + self.offset

    def halves(self, upper: IntArray, lower: IntArray) -> IntArray:
        """Halfwords of two channels' weights, without sign."""
        above = (upper + 1) // 2 if self.bits == 1 else upper & 3
        found: IntArray = above << self.split | self.lower(lower)
        return found

    def words(self, lanes: IntArray) -> IntArray:
        """Lane words (..., as many as there are turns) to words of flash (...)."""
        held = np.zeros(lanes.shape[:-1], np.int64)
        for index, turn in enumerate(self.turns):
            lane = lanes[..., index]
            held |= (lane << turn | lane >> (32 - turn)) & 0xFFFFFFFF
        return signed(held)


@dataclass(frozen=True, slots=True)
class Rule:
    """Requantization by SMMLA and a shift, of sums shifted left by `lift`."""

    lift: int
    shift: int
    addend: int
    low: int
    high: int


def rule(scaling: Scaling) -> Rule | None:
    """The form that the kernels take; None when there is none."""
    q = scaling.q
    if scaling.shifts is not None or q["float"] or q["wide"]:
        return None
    names = ("pre", "shift", "zero_point", "low", "high")
    lift, shift, zero_point, low, high = (int(str(q[name])) for name in names)
    addend = (1 << (shift - 1)) + (zero_point << shift) if shift > 0 else 0
    fits = 1 <= shift <= 31 and abs(addend) < ADDEND_LIMIT and lift < 14
    return Rule(lift, shift, addend, low, high) if fits else None


def packing(weights: IntArray) -> Packing | None:
    """The packing of weights (channels, elements); None where there is none.

    Args:
        weights: integers.
    """
    low, high = int(weights.min()), int(weights.max())
    if np.all(np.abs(weights) == 1):
        tall = int((weights > 0).sum(axis=1).max()) * LARGEST_INPUT
        if tall >= 1 << 17:
            return None
        return Packing(1, 15 if tall < 1 << 16 else 14, 1)
    if low < -2 or high > 1:
        return None
    tall = int(np.abs(weights).sum(axis=1).max()) * LARGEST_INPUT
    return Packing(2, 14, max(1, -low)) if tall < 1 << 17 else None


def is_few(weights: IntArray) -> bool:
    """Whether the weights are of one or two bits."""
    return bool(np.all(np.abs(weights) == 1)) or (weights.min() >= -2 and weights.max() <= 1)


def refusal(layer: Layer, scaling: Scaling) -> str:
    """Which condition on weights and sums fails; empty if none does."""
    x, w, b = layer.inputs
    rows = w.values.astype(np.int64).reshape(len(w.values), -1)

    def fits() -> bool:
        found = rule(scaling)
        ends = int(np.abs(np.stack(reach(x.grid, w, b))).max())
        zero = abs(x.grid.zero_point) * int(np.abs(rows).sum(axis=1).max())
        inputs = LARGEST_INPUT * rows.shape[1] * 2
        return found is not None and (ends + zero + inputs) << found.lift < 1 << 31

    return unmet(
        (lambda: w.storage is not None and is_few(rows), NOT_FEW),
        (lambda: packing(rows) is not None, NOT_HELD),
        (fits, NO_RULE),
    )


def longest_chunk(codes: IntArray, most: int, size: int, limit: int) -> int:
    """Steps of so many elements that a chunk may have, for every row; chunks follow each other.

    Args:
        codes: (rows, elements) of the lower lane, elements a multiple of `size`.
        most: what a chunk's codes may sum to.
        size: elements of a step.
        limit: the most steps that are wanted.
    """
    for count in range(min(limit, codes.shape[1] // size), 0, -1):
        if np.all(fits(codes, most, size * count)):
            return count
    return 0


def fits(codes: IntArray, most: int, length: int) -> npt.NDArray[np.bool_]:
    """For every row whether no chunk of so many elements sums to more than `most`."""
    whole = np.pad(codes, ((0, 0), (0, -codes.shape[1] % length)))
    chunks = whole.reshape(len(codes), whole.shape[1] // length, length)
    found: npt.NDArray[np.bool_] = chunks.sum(axis=2).max(axis=1, initial=0) <= most
    return found


def longest_signed(
    lower: IntArray, held: Packing, elements: int, size: int, limit: int
) -> tuple[int, IntArray]:
    """As `longest_chunk`, and for every row of weights 1, or -1 where the negated weights' codes fit.

    A channel with its weights, bias and multiplier negated has the same products of sum and multiplier.

    Args:
        lower: (rows, length) weights of the lower lane.
        held: their packing.
        elements: of a row with what fills its last step; that has codes of 0.
        size: elements of a step.
        limit: the most steps that are wanted.
    """
    filling = ((0, 0), (0, elements - lower.shape[1]))
    straight = np.pad(held.lower(lower), filling)
    turned = np.pad(held.lower(-lower), filling)
    turns = np.all(np.abs(lower) <= 1, axis=1)
    for count in range(min(limit, elements // size), 0, -1):
        as_is = fits(straight, held.most, size * count)
        if np.all(as_is | (turns & fits(turned, held.most, size * count))):
            return count, np.where(as_is, 1, -1)
    return 0, np.ones(len(lower), np.int64)
