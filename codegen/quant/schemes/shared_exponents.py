"""Blocks of weights with a shared exponent: MX4, MX6, MX9 with shared microexponents, OCP MXINT8, MXFP4.

Exponents are kept relative to the channel's least one, in two to four bits instead of eight: the channel's
own scale holds the rest. Blocks far below the channel's largest weight take the least exponent, which still
has finer steps than int8 weights would have.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from codegen.ir import Array, Factors, Storage
from codegen.quant.scheme import Rows, Scheme, Stored, blocks, counted, nearest

PAIR = 2
_TINY = 1e-30


@dataclass(frozen=True, slots=True)
class Format:
    """A member of the family.

    Attributes:
        name: as users write it.
        weights: the family of its codes.
        size: weights that share an exponent.
        window: octaves between the largest and the least exponent of a channel.
        exponent_bits: that hold them.
        magnitudes: what an element can be, in units; symmetric.
        unit_octave: octaves from the unit to the largest magnitude's power of two.
        bits: of an element.
        paired: whether each two weights may halve their steps by a bit of their own.
    """

    name: str
    weights: str
    size: int
    window: int
    exponent_bits: int
    magnitudes: tuple[int, ...]
    unit_octave: int
    bits: int
    paired: bool = False


def _integers(mantissa: int) -> tuple[int, ...]:
    return tuple(range(1 << mantissa))


FORMATS = (
    Format("mx4", "int4", 16, 4, 4, _integers(2), 1, 3, True),
    Format("mx6", "int8", 16, 2, 2, _integers(4), 3, 5, True),
    Format("mx9", "int8", 16, 3, 2, _integers(7), 6, 8, True),
    Format("mxint8", "int8", 32, 3, 2, _integers(7), 6, 8),
    Format("mxfp4", "int4", 32, 3, 2, (0, 1, 2, 3, 4, 6, 8, 12), 3, 4),
)


def quantize(form: Format, rows: Rows, least: Rows, weights: str) -> Stored:
    """Rows of real weights, their exponents chosen as the format's rule says, within the window."""
    cut = blocks(rows, form.size)
    below = form.unit_octave + form.window + form.paired  # octaves from a channel's top to its unit
    top = np.maximum(_octave(rows), np.ceil(np.log2(np.maximum(least, _TINY))) + below)
    units = top - below
    shifts = np.clip(_octave(cut) - (top - form.window)[:, None], 0, form.window)
    exponents = np.broadcast_to((units[:, None] + shifts)[:, :, None], cut.shape)
    factors = [Factors(form.size, form.exponent_bits, True, shifts.astype(np.uint8))]
    if form.paired:
        pairs = cut.reshape(len(rows), -1, PAIR)
        coarse = np.repeat(shifts + (top - form.window)[:, None], form.size // PAIR, axis=1)
        raised = (_octave(pairs) >= coarse).astype(np.uint8)
        exponents = exponents + np.repeat(raised, PAIR, axis=1).reshape(cut.shape)
        kept = -(-rows.shape[1] // PAIR)
        factors.append(Factors(PAIR, 1, True, raised[:, :kept]))
    steps = cut * 2.0**-exponents
    codes, levels = _coded(form, steps.reshape(len(rows), -1)[:, : rows.shape[1]])
    storage = Storage(form.name, weights, form.bits, codes, levels, tuple(factors))
    return Stored(storage, 2.0**units)


def _octave(values: Rows) -> Rows:
    """Exponent of the largest magnitude along the last axis."""
    found: Rows = np.floor(np.log2(np.maximum(np.abs(values).max(axis=-1), _TINY)))
    return found


def _coded(form: Format, steps: Rows) -> tuple[Array, Array]:
    """Codes of numbers in steps, and what they stand for."""
    top = form.magnitudes[-1]
    if form.magnitudes == tuple(range(top + 1)):
        whole = np.clip(np.rint(steps), -top, top) + (1 << (form.bits - 1))
        return whole.astype(np.uint8), counted(form.bits)
    levels = np.array([*(-m for m in reversed(form.magnitudes)), *form.magnitudes[1:]])
    table = np.append(levels, 0).astype(np.int8)[None]  # minus zero has no use
    return nearest(levels, steps).astype(np.uint8), table


def _scheme(form: Format) -> Scheme:
    own = ", 1 bit per pair" if form.paired else ""
    summary = f"a shared exponent per {form.size} weights{own}"
    return Scheme(form.name, (form.weights,), summary, partial(quantize, form))


SCHEMES = tuple(_scheme(form) for form in FORMATS)
