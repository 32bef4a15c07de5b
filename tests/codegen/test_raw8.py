"""The packed weight streams, unpacked again."""

from __future__ import annotations

import numpy as np
import pytest

from codegen.ops import OPS

# isort: split
# Operators first: they and codegen.spatial import one another.
from codegen.spatial import Window
from codegen.tuned import gemm, raw8


def test_widened_order() -> None:
    assert raw8.widened_order([4]) == [0, 2, 1, 3]
    assert raw8.widened_order([1, 2]) == [1, 2, 0, -1]
    assert raw8.widened_order([7, 4]) == [0, 2, 1, 3, 4, 6, 7, 9, 8, 10, 5, -1]
    assert raw8.widened_order([3, 3]) == [0, 2, 3, 5, 1, 4]
    assert len(raw8.widened_order([9, 9, 9])) == 28


@pytest.mark.parametrize("lengths", [[1], [2, 3], [9, 9, 9], [1, 1, 1], [7, 6, 5, 4], [13, 0, 3]])
def test_a_widened_window_holds_every_element_once(lengths: list[int]) -> None:
    order = raw8.widened_order(lengths)
    assert sorted(e for e in order if e >= 0) == list(range(sum(lengths)))
    assert len(order) == -(-sum(lengths) // 2) * 2


@pytest.mark.parametrize("channels", [1, 4, 6, 8])
@pytest.mark.parametrize("lengths", [[8], [3, 3, 3], [1], [5, 6]])
def test_raw8_holds_every_number(channels: int, lengths: list[int]) -> None:
    generator = np.random.default_rng(1)
    w = generator.choice([-127, 127, -1, 0, 5], (channels, sum(lengths)))
    w[0, 0] = -128
    bias = generator.integers(-(2**22), 2**22, channels)
    multipliers = generator.integers(0, 2**31, channels)
    order = raw8.widened_order(lengths)
    stream = raw8.stream(w, bias, multipliers, order).reshape(-(-channels // 4), -1)
    for channel in range(channels):
        block, lane = stream[channel // 4], channel % 4
        high, odd = divmod(lane, 2)
        pairs = block[4 + high : -4 : 2].copy().view(np.int16)  # little endian, as the cores are
        even = pairs.astype(np.int8).astype(int)
        found = (pairs.astype(int) - even) // 256 if odd else even
        wanted = [0 if element < 0 else w[channel, element] for element in order]
        assert found.tolist() == wanted
        first = int(block[2 * high])
        if odd:
            first = (int(block[2 * high + 1]) - first + 2**31) % 2**32 - 2**31
        assert first == bias[channel] * (256 if odd else 1)
        assert block[-4:][2 * odd + high] == multipliers[channel]


def test_an_odd_channel_may_hold_minus_128_above_no_negative_number() -> None:
    assert raw8.fits_raw8(np.array([[-128, 0], [-127, -128], [-128, -128]], np.int8))
    assert not raw8.fits_raw8(np.array([[-1], [-128]], np.int8))


def test_runs_of_a_window() -> None:
    shape = gemm.geometry(Window((3, 3), (1, 1), (0, 0, 0, 0)), (1, 9, 9, 5), (1, 7, 7, 4))
    assert shape.runs() == [(0, 15), (45, 15), (90, 15)]
    shape = gemm.geometry(Window((3, 3), (1, 1), (1, 1, 1, 1)), (1, 9, 9, 5), (1, 9, 9, 4))
    assert shape.runs() == [(0, 15), (55, 15), (110, 15)]
    assert shape.line_bytes == 168
    shape = gemm.geometry(Window((1, 2), (1, 1), (0, 0, 0, 0), (1, 3)), (1, 1, 9, 2), (1, 1, 6, 4))
    assert shape.runs() == [(0, 2), (6, 2)]
    shape = gemm.geometry(Window((2, 4), (1, 1), (0, 0, 0, 0)), (1, 9, 4, 3), (1, 8, 1, 4))
    assert shape.runs() == [(0, 24)]


@pytest.mark.parametrize("pairs", range(1, 400))
def test_the_inner_loop_covers_every_pair(pairs: int) -> None:
    passes, unrolled, rest = gemm.loop(pairs)
    assert 1 + passes * unrolled + rest == pairs
    assert passes == 0 or passes * unrolled > rest


def test_a_block_reads_both_windows_before_it_writes() -> None:
    slides = OPS["conv2d"]().window((4, 1, 1, 8))  # type: ignore[attr-defined]
    steps = gemm.footprint(slides, (1, 1, 5, 8), (1, 1, 5, 4))
    assert steps.read_low.tolist() == [0, 16, 32]
    assert steps.read_high.tolist() == [16, 32, 40]
    assert steps.write_low.tolist() == [0, 8, 16]
    assert steps.write_high.tolist() == [8, 16, 20]
    assert steps.reads_first
