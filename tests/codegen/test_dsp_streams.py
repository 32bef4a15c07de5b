"""Weight streams of the DSP kernels, read back as the kernels read them."""

from __future__ import annotations

import numpy as np
import pytest

from codegen.ir import IntArray
from codegen.ops import OPS
from codegen.quant.fixed import Requant, template_params
from codegen.requantize import Scaling
from codegen.tuned import dense as packing_dense
from codegen.tuned import depthwise as packing_depthwise
from codegen.tuned.lanes import halves, lane, signed


def layer(channels: int, length: int, least: int) -> tuple[IntArray, IntArray, IntArray]:
    g = np.random.default_rng(channels * 1000 + length)
    weights = g.integers(least, 128, (channels, length))
    return weights, g.integers(-(2**20), 2**20, channels), g.integers(2**30, 2**31, channels)


def as_int16(word: int) -> int:
    return (word + 0x8000) % 0x10000 - 0x8000


@pytest.mark.parametrize(
    ("channels", "length"), [(1, 1), (2, 4), (3, 7), (8, 16), (11, 37), (12, 64), (17, 130)]
)
def test_dense_stream(channels: int, length: int) -> None:
    weights, bias, multipliers = layer(channels, length, -127)
    weights[0], weights[-1] = 127, -127
    words = iter(packing_dense.pack(weights, bias, multipliers).tolist())
    cut = packing_dense.blocks(channels)
    order = packing_dense.input_order(length).tolist()
    seen = set()
    for _ in cut.starts:
        sums = [next(words) for _ in range(cut.width)]
        rows = np.zeros((cut.width, len(order)), np.int64)
        for k in range(0, len(order), 2):
            for even in range(0, cut.width, 2):
                word = next(words)
                for position in (0, 1):
                    both = as_int16(word >> (16 * position))
                    low = (both + 128) % 256 - 128
                    rows[even, order[k + position]] = low
                    rows[even + 1, order[k + position]] = (both - low) // 256
        start = next(words)
        scale = [next(words) for _ in range(cut.width)]
        assert not rows[:, length:].any()
        for channel in range(min(cut.width, channels)):
            even = channel - channel % 2
            np.testing.assert_array_equal(rows[channel, :length], weights[start + channel])
            assert (
                scale[channel // 2 + channel % 2 * (cut.width // 2)] == multipliers[start + channel]
            )
            first = sums[channel] if channel == even else (sums[channel] - sums[even]) // 256
            assert first == bias[start + channel]
            seen.add(start + channel)
    assert seen == set(range(channels)) and next(words, None) is None


@pytest.mark.parametrize(("channels", "taps"), [(4, 1), (5, 9), (8, 10), (11, 9)])
def test_depthwise_stream(channels: int, taps: int) -> None:
    weights, bias, multipliers = layer(channels, taps, -128)
    words = packing_depthwise.pack(weights, bias, multipliers).reshape(-1, 8 + 2 * taps)
    starts = packing_depthwise.starts(channels)
    assert {start + i for start in starts for i in range(4)} == set(range(channels))
    for start, block in zip(starts, words.tolist(), strict=True):
        assert block[:4] == bias[start : start + 4].tolist()
        assert block[-4:] == multipliers[start : start + 4].tolist()
        for tap in range(taps):
            even, odd = block[4 + 2 * tap], block[5 + 2 * tap]
            found = [
                as_int16(word >> s) for word, s in ((even, 0), (odd, 0), (even, 16), (odd, 16))
            ]
            assert found == weights[start : start + 4, tap].tolist()


def test_halves_and_signs() -> None:
    assert halves(np.array([-1]), np.array([2])).tolist() == [0x2FFFF]
    assert halves(np.array([5]), np.array([-32768])).tolist() == [-(2**31) + 5]
    assert signed(np.array([2**31, -(2**31), -(2**31) - 1])).tolist() == [
        -(2**31),
        -(2**31),
        2**31 - 1,
    ]


@pytest.mark.parametrize("scale", [0, 8])
@pytest.mark.parametrize("shift", [33, 40, 46, 52])
@pytest.mark.parametrize("zero_point", [-128, 5, 127])
def test_two_instructions_are_the_rule(scale: int, shift: int, zero_point: int) -> None:
    """SMMLA and SSAT, spelled out in 64-bit integers, against the definition."""
    g = np.random.default_rng(shift)
    bound = 2**22
    rule = Requant(tuple(g.integers(2**30, 2**31, 4).tolist()), shift)
    q = template_params(rule, bound, zero_point)
    found = lane(Scaling(np.array(rule.multipliers), None, q), scale)
    if found is None:
        assert abs(zero_point) << (shift - 32 + scale) >= 2**30 - 2 ** (shift - 33 + scale)
        return
    steps = np.arange(-300, 300)[:, None] * 2.0**shift / np.array(rule.multipliers)
    near = np.rint(steps).astype(np.int64)[:, None] + np.arange(-2, 3)[:, None]
    sums = np.concatenate([near.reshape(-1, 4), g.integers(-bound, bound, (9999, 4))])
    sums = np.clip(sums, -bound, bound)
    high = ((sums << scale) * np.array(rule.multipliers)) >> 32
    assert np.abs(found.addend + high).max() < 2**31
    got = np.clip((found.addend + high) >> found.shift, -128, 127)
    np.testing.assert_array_equal(got, rule.apply(sums, zero_point))


def test_far_taps_have_no_fixed_offsets() -> None:
    wide = OPS["conv2d"](groups=9).window((9, 3, 3, 1))  # type: ignore[attr-defined]
    numbers = packing_depthwise.params(wide, (1, 5, 300, 9), (1, 3, 298, 9))
    assert (numbers["interior"], numbers["border"]) == (False, True)
    near = packing_depthwise.params(wide, (1, 5, 30, 8), (1, 3, 28, 8))
    assert (near["interior"], near["border"]) == (True, False)
