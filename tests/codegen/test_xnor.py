"""Carry-save adders: what the planned steps compute, limits of counts, classes of borders, cycles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import kernels
from codegen import plan
from codegen.kernel import Layer
from codegen.ops import KERNELS, OPS
from codegen.tuned import adders, xnor, xnor_small
from targets import toolchain
from targets.target import load
from tests.codegen import networks

MASK = 0xFFFFFFFF
KINDS = ("random", "all", "none")


def words(kind: str, count: int, seed: int) -> list[tuple[int, int]]:
    """Words of input and weights: random ones, all bits different, none."""
    g = np.random.default_rng(seed)
    x = [int(v) for v in g.integers(0, 2**32, count)]
    w = [int(v) for v in g.integers(0, 2**32, count)]
    others = {"random": w, "all": [v ^ MASK for v in x], "none": x}
    return list(zip(x, others[kind], strict=True))


def run(step: Any, held: dict[str, int]) -> None:
    """A step of adders, as either machine takes it."""
    r = step.registers
    if step.kind == "differ":
        held[r[0]] ^= held[r[1]]
    elif step.kind == "full":
        x, y, z = (held[name] for name in r[:3])
        held[r[0]], held[r[1]] = x ^ y ^ z, x & y | z & (x ^ y)
    elif step.kind == "half":
        x, y = held[r[0]], held[r[1]]
        held[r[0]], held[r[2]] = x ^ y, x & y
    elif step.kind in ("move", "mask"):
        held[r[0]] = held[r[1]]


def counted(chunk: adders.Chunk, given: list[tuple[int, int]]) -> int:
    """What the kernel for cores with SMLAD counts, with its narrow fields."""
    held: dict[str, int] = {}
    for step in chunk.steps:
        if step.kind == "load":
            held[step.registers[0]], held[step.registers[1]] = given[step.word]
        run(step, held)
    for name in chunk.registers:
        held[name] = nibbles(held[name])
    total = 0
    for group in chunk.groups:
        value = held[group.low] + (2 * held[group.high] if group.high else 0)
        assert max_field(held[group.low], 4) + 2 * (group.high is not None) * 4 <= 15
        total += octets(value) << group.shift
    assert max_field(total, 8) <= 255 and total <= MASK
    return sum(total >> 8 * i & 255 for i in range(4))


def nibbles(value: int) -> int:
    value -= value >> 1 & 0x55555555
    return (value & 0x33333333) + (value >> 2 & 0x33333333)


def octets(value: int) -> int:
    assert value <= MASK
    return (value & 0x0F0F0F0F) + (value >> 4 & 0x0F0F0F0F)


def max_field(value: int, width: int) -> int:
    return max(value >> at & ((1 << width) - 1) for at in range(0, 32, width))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", range(1, adders.MOST + 1))
def test_adders_count_every_bit(size: int, kind: str) -> None:
    given = words(kind, size, size)
    wanted = sum((x ^ w).bit_count() for x, w in given)
    chunk = adders.chunk(0, size)
    assert counted(chunk, given) == wanted
    used = {name for step in chunk.steps for name in step.registers}
    assert used <= set(adders.POOL) and len(chunk.spare) == 3
    assert not set(chunk.spare) & set(chunk.registers)


def narrow(step: xnor_small.Step, held: dict[str, int]) -> None:
    """A step of counting on the smallest core."""
    r = step.registers
    if step.kind == "pairs":
        held[r[0]] -= held[r[0]] >> 1 & held[r[2]]
    elif step.kind in ("nibbles", "bytes"):
        shift, mask = (2 if step.kind == "nibbles" else 4), held[r[2]]
        held[r[0]] = (held[r[0]] & mask) + (held[r[0]] >> shift & mask)
    elif step.kind == "join":
        held[r[0]] += 2 * held[r[1]]
    elif step.kind == "gather":
        held[r[0]] += held[r[1]] << step.number
    elif step.kind == "total":
        mask = held[r[2]]
        halves = (held[r[0]] & mask) + (held[r[0]] >> 8 & mask)
        held[r[0]] = (halves + (halves >> 16)) & 0xFFFF


def small(chunk: xnor_small.Chunk, given: list[tuple[int, int]]) -> int:
    """What the kernel for Armv6-M counts."""
    held: dict[str, int] = {"r10": 0x55555555, "r11": 0x33333333, "r12": 0x0F0F0F0F}
    held["lr"] = 0x00FF00FF
    base = 0
    for step in chunk.steps:
        r = step.registers
        if step.kind == "advance":
            base += xnor_small.REACH
        elif step.kind.startswith("load"):
            for i in range(len(r) // 2):
                held[r[i]], held[r[i + len(r) // 2]] = given[base + step.number + i]
        else:
            narrow(step, held)
        run(step, held)
        assert all(0 <= value <= MASK for value in held.values())
    return held[chunk.total]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", range(1, xnor_small.MOST + 1))
def test_adders_of_the_smallest_core_count_every_bit(size: int, kind: str) -> None:
    given = words(kind, size, size)
    chunk = xnor_small.chunk(0, size)
    assert small(chunk, given) == sum((x ^ w).bit_count() for x, w in given)
    assert chunk.total not in chunk.spare and len(set(chunk.spare)) == 3


def test_chunks_beyond_their_limits_are_not_made() -> None:
    with pytest.raises(ValueError, match="registers"):
        adders.chunk(0, adders.MOST + 1)
    for chunk in (adders.chunk, xnor_small.chunk):
        with pytest.raises(ValueError, match="byte"):
            chunk(0, adders.MOST_CHUNK + 1)


@given(count=st.integers(1, 300), most=st.integers(2, 23))
def test_chunks_take_every_word_once(count: int, most: int) -> None:
    found = adders.chunks(count, most)
    assert [word for at, size in found for word in range(at, at + size)] == list(range(count))
    assert max(size for _, size in found) <= most
    assert all(at % 2 == 0 for at, _ in found) or most % 2


SHAPES = {
    "3x3 K=576": ([6, 6, 64], [64, 3, 3, 64], [0, 0, 0, 0]),
    "3x3 K=576 padded": ([4, 4, 64], [64, 3, 3, 64], [1, 1, 1, 1]),
    "1x1 K=1024": ([2, 2, 1024], [64, 1, 1, 1024], [0, 0, 0, 0]),
    "1x1 K=256": ([3, 3, 256], [64, 1, 1, 256], [0, 0, 0, 0]),
}
GOALS = {"3x3 K=576": 0.34, "3x3 K=576 padded": 0.34, "1x1 K=1024": 0.33, "1x1 K=256": 0.40}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("bits", [False, True])
@pytest.mark.parametrize("target", ["generic-m4", "generic-m0plus"])
def test_goals(name: str, bits: bool, target: str, tmp_path: Path) -> None:
    """Cycles per product on cores with SMLAD, instructions per product on the smallest; predictions."""
    x, w, pads = SHAPES[name]
    layer = {"name": name, "op": "binary_conv2d", "input": x, "weights": w} | {
        "pads": pads,
        "bits": bits,
    }
    row = kernels.measure(layer, target, toolchain.find("auto"), tmp_path)
    products = row.cycles / row.each
    if target == "generic-m4":
        assert row.each <= GOALS[name]
    else:
        assert row.instructions / products <= 0.6
    made = plan.make(kernels.network(layer), load(target).core, "speed")
    assert made.predicted_cycles == pytest.approx(row.cycles, rel=0.1)


@settings(max_examples=15, deadline=None)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    depth=st.integers(1, 70),
    seed=st.integers(0, 2**32),
)
def test_bases_count_what_lies_inside(
    size: tuple[int, int],
    pads: tuple[int, int, int, int],
    stride: tuple[int, int],
    depth: int,
    seed: int,
) -> None:
    """With clear bits outside, base - 2 * count is the sum that zeros outside give."""
    g = np.random.default_rng(seed)
    rows, columns = (max(3, n) for n in size)
    op = OPS["binary_conv2d"](stride=stride, pads=pads, binary=True)
    graph = networks.binary(op, (1, rows, columns, depth), (3, 3, 3, depth), g)
    layer = Layer(
        graph.nodes[0],
        tuple(graph.tensors[name] for name in graph.nodes[0].inputs),
        graph.tensors["y"],
        load("generic-m4").core,
    )
    (kernel,) = (k for k in KERNELS["binary_conv2d"] if k.name == "binary_conv2d.xnor")
    slides = op.window((3, 3, 3, depth))  # type: ignore[attr-defined]
    x, y = layer.inputs[0].stored_shape, layer.output.stored_shape
    found = xnor.Products(slides, x, y, layer, 0, True, 0, (0, 0))
    groups = xnor.classes(found)
    values = g.choice([-1, 1], (1, rows, columns, depth))
    w = layer.inputs[1].values.astype(np.int64).reshape(3, -1)
    top, left, bottom, right = pads
    for fill in (0, -1):
        around = np.pad(
            values, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill
        )
        sums = np.array(
            [
                [
                    w @ around[0, r * stride[0] :, c * stride[1] :][:3, :3].reshape(-1)
                    for c in range(len(groups.columns))
                ]
                for r in range(len(groups.rows))
            ]
        )
        if fill == 0:
            wanted = sums
        else:
            base = groups.base[groups.rows[:, None], groups.columns[None, :]]
            np.testing.assert_array_equal(base + sums - 9 * depth, wanted)
    assert kernel.serves(layer)
