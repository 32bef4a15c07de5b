"""Kernels that expand stored weights to the int8 stream of conv2d.gemm in scratch, then are that kernel.

Flash has, per four channels, the first sums, the factors (four nibbles to a halfword, one per block), the
codes (codegen.tuned.coded), the multipliers. The stream (codegen.tuned.raw8) is made

- conv2d.factors, dense.factors: of 4-bit codes with factors, two products at once, u = w + 8:
      word of channels 0 and 1 = u0 * s0 + u1 * 256 * s1 - 8 * (s0 + 256 * s1)
  Codes of six bits (u = w + 32) are nibbles, and words of the two bits above them.
- conv2d.tables, dense.tables: of places in a table, which a call first makes in scratch for all pairs of
  codes: an entry is the pair of u0 and so on, already in halves; factors are optional. Where channels have
  levels of their own (ttq), flash has them in front of each block's codes, and its four tables are made anew.

Where weights pass by more than once, the stream of all channels is made first. Of one or two pixels each
block is multiplied as soon as it is expanded: scratch then holds four channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from codegen import window
from codegen.ir import IntArray
from codegen.kernel import NO_LANE, Constant, Footprint, Instance, Kernel, Layer, unmet
from codegen.requantize import Scaling, reach
from codegen.spatial import Window
from codegen.tuned import coded, gemm, raw8
from codegen.tuned.coded import Coded
from codegen.tuned.lanes import folded_bias, lane, signed
from codegen.tuned.raw8 import BLOCK

MOST_STREAM = 16_384  # bytes of scratch for expanded weights
GROUP_PAIRS = 8  # expanded without a loop where there are no factors
FRAME = 60  # bytes on the stack, with room for a counter
OWN_TABLES = 4 * 48 + 8  # cycles of the tables of four channels, counted from the template
Kind = Literal["factors", "tables"]
Sliding = Callable[[Layer], tuple[Window, window.Shape, window.Shape]]
Limits = Callable[[Layer], tuple[int, int]]


@lru_cache(maxsize=64)
def _coded(layer: Layer) -> Coded | None:
    """The weights of a layer as they are expanded. Layers are compared as themselves."""
    w = layer.inputs[1]
    return coded.read(w.storage) if w.storage is not None and w.grid.width == 8 else None


@dataclass(frozen=True, slots=True)
class Sizes:
    """What follows from a layer's geometry and its codes.

    Attributes:
        window: geometry of the product.
        code: of the weights.
    """

    window: gemm.Geometry
    code: Coded

    @property
    def at_once(self) -> bool:
        """Whether blocks are multiplied as they are expanded."""
        return self.window.y[1] * self.window.y[2] <= gemm.PIXELS

    @property
    def blocks(self) -> int:
        """Of four channels."""
        return -(-self.window.y[3] // BLOCK)

    @property
    def stream_bytes(self) -> int:
        """Of the expanded stream in scratch."""
        block = 4 * (8 + 2 * self.window.pairs)
        return block if self.at_once else self.blocks * block

    @property
    def table_bytes(self) -> int:
        """Of tables in scratch, of pairs of codes: one, or one for each channel of a block."""
        one = 0 if self.code.table is None else 4 << 2 * self.code.bits
        return BLOCK * one if self.code.own_tables else one

    @property
    def group_pairs(self) -> int:
        """Pairs of inputs with the same factors."""
        return self.code.factors.size // 2 if self.code.factors else GROUP_PAIRS

    @property
    def factor_words(self) -> int:
        """Of four channels."""
        groups = -(-self.window.pairs // self.group_pairs)
        return -(-groups // 2) if self.code.factors else 0

    @property
    def level_words(self) -> int:
        """Of four channels with tables of their own: a byte a level."""
        return 1 << self.code.bits if self.code.own_tables else 0

    @property
    def code_words(self) -> int:
        """Of four channels."""
        return -(-self.window.pairs * self.code.bits // 4)

    @property
    def block_words(self) -> int:
        """In flash, of four channels."""
        return 8 + self.factor_words + self.level_words + self.code_words

    @property
    def scratch(self) -> int:
        """Bytes: windows, stream, table."""
        return self.window.scratch + self.stream_bytes + self.table_bytes


def packed(layer: Layer, multipliers: IntArray, sizes: Sizes) -> IntArray:
    """Everything in flash behind the rounding constant and the table: (blocks, words)."""
    x, w, b = layer.inputs
    code, order = sizes.code, sizes.window.order()
    channels, length = code.codes.shape
    count = sizes.blocks * BLOCK
    codes = np.full((count, length + 1), code.zero or 0, np.int64)  # the last column: "none"
    codes[:channels, :length] = code.codes
    bias, m = np.zeros((2, count), np.int64)
    bias[:channels], m[:channels] = folded_bias(x, w, b), multipliers
    even, odd = bias.reshape(-1, 2).T
    parts = [np.stack([even, 256 * odd + even], axis=1).reshape(-1, BLOCK)]
    if code.factors:
        scales = np.zeros((count, 2 * sizes.factor_words), np.int64)
        scales[:channels, : code.factors.values.shape[1]] = code.factors.values
        parts.append(coded.nibbles(scales))
    if code.own_tables:
        assert code.table is not None
        tables = np.full((count, code.table.shape[1]), code.offset)
        tables[:channels] = code.table
        parts.append(_bytes(tables).reshape(-1, sizes.level_words))
    parts.append(_coded_words(codes[:, order], code))
    parts.append(m.reshape(-1, 2, 2).transpose(0, 2, 1).reshape(-1, BLOCK))
    return signed(np.concatenate(parts, axis=1))


def _coded_words(codes: IntArray, code: Coded) -> IntArray:
    if code.table is not None:
        return coded.units(codes, code.bits)
    return coded.sixes(codes) if code.bits == coded.LONG_BITS else coded.nibbles(codes)


def _bytes(levels: IntArray) -> IntArray:
    """Words of four levels each."""
    return levels.astype(np.uint8).view("<i4").astype(np.int64)


def _table_words(code: Coded) -> IntArray:
    """What flash has in front of the first block."""
    if code.table is None or code.own_tables:
        return np.zeros(0, np.int64)
    return _bytes(code.table).ravel()


def params(sizes: Sizes) -> dict[str, object]:
    """What the templates are told of expanding."""
    code, pairs, group = sizes.code, sizes.window.pairs, sizes.group_pairs
    return {
        "expanded": True,
        "twin": "factors" if code.table is None else "tables",
        "at_once": sizes.at_once,
        "blocks": sizes.blocks,
        "stream_at": sizes.window.scratch,
        "table_at": sizes.window.scratch + sizes.stream_bytes,
        "levels": 0 if code.table is None else code.table.shape[1],
        "own_tables": code.own_tables,
        "code_bits": code.bits,
        "offset": code.offset,
        "shifts": code.factors is not None and code.factors.shifts,
        "group_pairs": group,
        "whole_groups": pairs // group,
        "rest_pairs": pairs % group,
        "factor_bytes": 4 * sizes.factor_words,
        "code_words": sizes.code_words,
    }


def instance(layer: Layer, scales: Scaling, sizes: Sizes, kind: Kind) -> Instance:
    """Template params, and everything in flash."""
    even = lane(scales)
    assert even is not None
    size = sizes.window
    blocks = packed(layer, scales.multipliers, sizes)
    numbers = gemm.numbers(size, scales, layer.inputs[0].grid.zero_point) | {
        "elements": tuple(size.order())
    }
    if sizes.code.bits == coded.LONG_BITS:
        numbers |= {"frame": FRAME}
    if sizes.at_once:
        numbers |= {"stream_bytes": 4 * blocks.size}
    table = _table_words(sizes.code)
    words = np.concatenate([np.array([even.addend]), table, blocks.ravel()])
    held = 4 * (len(table) + sizes.blocks * (sizes.block_words - 8))
    label = window.label(size.slides, size.x, size.y)
    constant = Constant("weights", "int32_t", words, held)
    return Instance(f"{kind}_{label}", numbers | params(sizes), (constant,))


def _aligned(order: list[int], size: int) -> bool:
    """Whether each block of the widened window holds elements of one block of weights."""
    return all(element < 0 or element // size == at // size for at, element in enumerate(order))


def _refusal(layer: Layer, size: gemm.Geometry, groups: int, scales: Scaling, kind: Kind) -> str:
    code = _coded(layer)
    if code is None or (code.table is None) != (kind == "factors"):
        wanted = {"factors": "short codes with factors", "tables": "places in a short table"}
        return f"flash does not hold {wanted[kind]}"
    x, w, b = layer.inputs
    sizes = Sizes(size, code)

    def exact() -> bool:
        ends = np.abs(np.stack(reach(x.grid, w, b)))[:, 1::2]
        return bool(ends.max(initial=0) < 1 << 23)

    def untorn() -> bool:
        return code.factors is None or _aligned(size.order(), code.factors.size)

    return gemm.unfit(layer, lambda: size, groups) or unmet(
        (
            lambda: sizes.stream_bytes <= MOST_STREAM,
            f"expanded weights take over {MOST_STREAM:,} bytes",
        ),
        (exact, "256 times a sum of an odd channel leaves 32 bits"),
        (lambda: lane(scales, 8) is not None, NO_LANE),
        (lambda: raw8.fits_raw8(w.values), "256 * odd + even weight leaves 16 bits"),
        (untorn, "a run of a window tears a block"),
        (lambda: code.zero is not None or -1 not in size.order(), "no code for no weight"),
    )


def cycles(sizes: Sizes, limits: tuple[int, int]) -> float:
    """Predicted, counted from the template; m4-simple."""
    code, pairs = sizes.code, sizes.window.pairs
    groups = -(-pairs // sizes.group_pairs)
    if code.bits == coded.LONG_BITS:
        block, start = 32.0 + 24 * pairs + 27 * groups, 20.0
    elif code.table is None:
        block, start = 32.0 + 13 * pairs + 19 * groups, 20.0
    else:
        scaled = code.factors is not None
        pair = 16 + 2 * scaled + code.bits / 4
        block = 36 + pair * pairs + (4 + 18 * scaled) * groups
        places = code.table.shape[1]
        table = (8 + 14 * places / 4) * places
        start = 30 + (0 if code.own_tables else table)
        block += OWN_TABLES * code.own_tables
    return gemm.cycles(sizes.window, limits) + start + sizes.blocks * block


def kernels(
    kind: Literal["conv2d", "dense"],
    sliding: Sliding,
    groups: Callable[[Layer], int],
    scaling: Callable[[Layer], Scaling],
    limits: Limits,
    footprints: Callable[[Layer], tuple[Footprint | None, ...]],
) -> tuple[Kernel, ...]:
    """The variants.

    Args:
        kind: of the operator.
        sliding: window, input and output shape of a layer.
        groups: of a layer.
        scaling: how its sums become int8.
        limits: least and largest result.
        footprints: of a kernel that reads two windows before it writes.
    """

    def sizes(layer: Layer) -> Sizes:
        code = _coded(layer)
        assert code is not None
        return Sizes(gemm.geometry(*sliding(layer)), code)

    def variant(form: Kind) -> Kernel:
        def refusal(layer: Layer) -> str:
            size = gemm.geometry(*sliding(layer))
            return _refusal(layer, size, groups(layer), scaling(layer), form)

        return Kernel(
            name=f"{kind}.{form}",
            template="ops/conv2d.gemm.c.j2",
            assembly="ops/conv2d.gemm.S.j2",
            serves=lambda layer: not refusal(layer),
            refusal=refusal,
            instance=lambda layer: instance(layer, scaling(layer), sizes(layer), form),
            cycles=lambda layer: cycles(sizes(layer), limits(layer)),
            footprints=footprints,
            scratch=lambda layer: sizes(layer).scratch,
        )

    return variant("factors"), variant("tables")


def conv_kernels(
    sliding: Sliding,
    groups: Callable[[Layer], int],
    scaling: Callable[[Layer], Scaling],
    limits: Limits,
) -> tuple[Kernel, ...]:
    """The variants of conv2d; arguments as of `kernels`."""

    def footprints(layer: Layer) -> tuple[Footprint | None, ...]:
        size = gemm.geometry(*sliding(layer))
        return (gemm.footprint(size.slides, size.x, size.y),)

    return kernels("conv2d", sliding, groups, scaling, limits, footprints)


def dense_kernels(
    scaling: Callable[[Layer], Scaling],
    limits: Limits,
    footprints: Callable[[Layer], tuple[Footprint | None, ...]],
) -> tuple[Kernel, ...]:
    """The variants of dense: a row of the input is a pixel."""

    def sliding(layer: Layer) -> tuple[Window, window.Shape, window.Shape]:
        channels, length = layer.inputs[1].shape
        rows = layer.output.size // channels
        return (
            Window((1, 1), (1, 1), (0,) * 4, (1, 1)),
            (1, 1, rows, length),
            (1, 1, rows, channels),
        )

    return kernels("dense", sliding, lambda layer: 1, scaling, limits, footprints)
