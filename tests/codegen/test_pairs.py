"""Two products per MULS: streams read back as the kernels read them, lanes at their limits, cycles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from codegen import emit, plan
from codegen.ir import IntArray, Op, per_tensor
from codegen.ops import KERNELS, OPS
from codegen.quant.fixed import Requant
from codegen.quant.float_rounding import FloatRequant
from codegen.tuned import conv_pairs, dense_pairs, depthwise_pairs, pairs
from codegen.tuned.limbs import MOST_PATCHES, WORDS, Form, Limbs, fitted
from emulator.cortex_m import CortexM
from emulator.model import EmulatedModel
from targets import toolchain
from targets.target import load
from tests.codegen import cases, networks
from tests.codegen.firmware import every_byte, expected, on_core, write

KINDS = ("random", "large", "equal", "alternating", "lowest")


def weights(kind: str, channels: int, length: int) -> IntArray:
    g = np.random.default_rng(length)
    found = g.integers(-127, 128, (channels, length))
    if kind == "large":
        found = g.choice([-127, 127], (channels, length))
    elif kind == "equal":
        found[:] = 127
    elif kind == "alternating":
        found = np.where(np.arange(length) % 2, 127, -127) * np.ones((channels, 1), np.int64)
    elif kind == "lowest":
        found[:] = -128
    return found.astype(np.int64)


def constants(channels: int) -> Form:
    each = (Limbs(3 * c, 5 * c + 1, (7 * c,), 1000 - c, 9) for c in range(channels))
    return Form(12, -128, 127, tuple(each))


def as_bytes(words: IntArray) -> IntArray:
    return words.astype("<i4").view(np.int8).astype(np.int64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("length", [1, 4, 9, 37])
def test_chunks_hold_any_input(kind: str, size: int, length: int) -> None:
    row = weights(kind, 1, length)[0]
    kept, rest = pairs.limited(row, size)
    whole = kept.copy()
    for element, weight in rest:
        assert weight != 0
        whole[element] += weight
    np.testing.assert_array_equal(whole, row)
    for start in range(0, length, size):
        chunk = kept[start : start + size]
        for lower in (-128, 127):
            for upper in (
                -128,
                127,
            ):  # the inputs that drive both lanes furthest, in any combination
                x = np.where(chunk > 0, lower, -1 - lower)
                y = np.where(chunk > 0, upper, -1 - upper)
                packed = int((chunk * (x + 65536 * y)).sum())
                assert packed >= -(2**31) and packed + 2**15 < 2**31
                assert (packed + 2**15) >> 16 == (chunk * y).sum()
                assert packed - ((packed + 2**15) >> 16 << 16) == (chunk * x).sum()


def test_the_sums_of_both_lanes_are_exact_modulo_32_bits() -> None:
    g = np.random.default_rng(1)
    lower, upper = g.integers(-(2**14), 2**14, (2, 9999))
    both = int((lower + 65536 * upper).sum()) % 2**32
    assert (both - (int(upper.sum()) << 16) + 2**31) % 2**32 - 2**31 == lower.sum()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 8, 27, 64, 150])
def test_convolution_stream(kind: str, length: int) -> None:
    rows, form = weights(kind, 5, length), constants(5)
    count = conv_pairs.word_count(length)
    for row, wanted in zip(rows, form.words(), strict=True):
        parts = pairs.channel(row, wanted, count, conv_pairs.ELEMENT_BYTES)
        stream = np.concatenate(list(parts))
        found = as_bytes(stream[:count])
        assert not found[length:].any()
        at = count
        while stream[at]:
            place, byte = divmod(int(stream[at]), 256)
            found[place // conv_pairs.ELEMENT_BYTES] += np.array(byte).astype(np.int8)
            at += 1
        np.testing.assert_array_equal(found[:length], row)
        np.testing.assert_array_equal(stream[at + 1 :], wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("taps", [1, 3, 9, 10])
def test_depthwise_stream(kind: str, taps: int) -> None:
    rows, form = weights(kind, 3, taps), constants(3)
    stream = depthwise_pairs.stream(rows, form)
    some = any(pairs.limited(row, depthwise_pairs.CHUNK)[1] for row in rows)
    at, words = 0, -(-taps // 4)
    for row, wanted in zip(rows, form.words(), strict=True):
        end = at + 1 + int(stream[at]) // 4
        found = as_bytes(stream[at + 1 : at + 1 + words])[:taps]
        np.testing.assert_array_equal(stream[at + 1 + words : at + 1 + words + WORDS], wanted)
        rest = stream[at + 1 + words + WORDS : end].tolist()
        assert (rest[-1:] == [0]) == some
        for word in rest[:-1]:
            found[taps - (word >> 10)] += np.array(word & 0xFF).astype(np.int8)
        np.testing.assert_array_equal(found, row)
        at = end
    assert at == len(stream)


def test_depthwise_weights_lie_column_after_column() -> None:
    kernel = np.arange(6).reshape(1, 2, 3, 1)
    assert depthwise_pairs.by_column(kernel).tolist() == [[0, 3, 1, 4, 2, 5]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("channels", "length"), [(1, 5), (4, 8), (7, 33), (10, 130)])
def test_dense_stream(kind: str, channels: int, length: int) -> None:
    rows, form = weights(kind, channels, length), constants(channels)
    cut = dense_pairs.blocks(rows)
    padded = cut.kept.shape[2]
    stream = dense_pairs.pack(cut, form.words()).tolist()
    seen, at = set(), 0
    for _ in cut.starts:
        found = np.zeros((4, padded), np.int64)
        entries = [(k, stream[at + 2 * k : at + 2 * k + 2]) for k in range(padded)]
        at += 2 * padded
        while stream[at]:
            entries.append((stream[at] // 4 - 1, stream[at + 1 : at + 3]))
            at += 3
        for k, words in entries:
            for pair, word in enumerate(words):
                low = (word + 128) % 256 - 128
                found[2 * pair : 2 * pair + 2, k] += low, (word - low) >> 16
        start = stream[at + 1]
        at += 2
        for channel in range(4):
            if start + channel < channels:
                np.testing.assert_array_equal(found[channel, :length], rows[start + channel])
                wanted = form.words()[start + channel].tolist()
                assert stream[at + WORDS * channel : at + WORDS * (channel + 1)] == wanted
                seen.add(start + channel)
        at += 4 * WORDS
    assert seen == set(range(channels)) and at == len(stream)


@pytest.mark.parametrize("length", range(1, 200))
def test_passes_cover_every_word(length: int) -> None:
    passes, size = conv_pairs.loop(length)
    assert 0 <= passes * size - length < size <= conv_pairs.FLAT_WORDS


@pytest.mark.parametrize("bound", [300, 2**15, 2**19, 2**22])
@pytest.mark.parametrize("limits", [(-128, 127), (-100, -31), (3, 90)])
@pytest.mark.parametrize("zero_point", [-128, 5, 127])
def test_limbs_are_the_rule(bound: int, limits: tuple[int, int], zero_point: int) -> None:
    """At every threshold between two results, one before, and anywhere."""
    g = np.random.default_rng(bound)
    count = 12
    real = g.uniform(20, 2000, count) / bound
    rule = Requant(tuple(np.rint(real * 2.0**36).astype(np.int64).tolist()), 36)
    bias = g.integers(-bound // 4, bound // 4, count)
    reach = bias - g.integers(bound // 2, bound, count), bias + g.integers(1, bound, count)
    form = fitted(rule, reach, bias, per_tensor(0.1, zero_point), limits)
    assert form is not None
    steps = np.arange(-300, 300)[:, None] / real
    near = np.rint(steps).astype(np.int64)[:, None] + np.arange(-2, 3)[None, :, None]
    sums = np.concatenate([near.reshape(-1, count), g.integers(*reach, (9999, count))])
    sums = np.clip(sums, *reach)
    np.testing.assert_array_equal(
        form.apply(sums - bias), rule.apply(sums, zero_point, *limits).astype(np.int64)
    )


def test_patches_meet_thresholds_that_no_addend_does() -> None:
    """A dyadic scale: every tie goes to the even result."""
    rule = FloatRequant((2.0**-5, 2.0**-9 * 1.7), "layer")
    reach = np.array([-60, -9000]), np.array([100, 9000])
    bias = np.array([3, -40])
    form = fitted(rule, reach, bias, per_tensor(0.1, 5), (-128, 127))
    assert form is not None
    assert 0 < form.patches == len(form.channels[0].patches) <= MOST_PATCHES
    assert form.words().shape == (2, WORDS + 2 * form.patches)
    for channel in (0, 1):
        sums = np.zeros((reach[1][channel] - reach[0][channel] + 1, 2), np.int64)
        sums[:, channel] = np.arange(reach[0][channel], reach[1][channel] + 1)
        wanted = rule.apply(sums, 5)[:, channel]
        np.testing.assert_array_equal(form.apply(sums - bias)[:, channel], wanted)
    many = np.array([-(2**14)] * 2), np.array([2**14] * 2)
    assert fitted(rule, many, bias, per_tensor(0.1, 5), (-128, 127)) is None


def test_limbs_keep_every_product_in_32_bits() -> None:
    bound = 2**20 - 1
    rule = Requant((2**30 + 12345,), 42)
    reach = np.array([-bound]), np.array([bound])
    form = fitted(rule, reach, np.zeros(1, np.int64), per_tensor(0.1, -128), (-128, 127))
    assert form is not None
    (channel,) = form.channels
    inner = 0
    for limb in reversed((channel.m1, *channel.lower)):
        assert abs(bound * limb + inner) < 2**31
        inner = (bound * limb + inner) >> form.bits
    assert abs(bound * channel.m0 + inner + channel.addend) < 2**31


def test_a_channel_of_one_result_needs_no_product() -> None:
    rule = Requant((1, 2**30), 60)
    reach = np.array([-(2**30), -5]), np.array([2**30, 5])
    form = fitted(rule, reach, np.zeros(2, np.int64), per_tensor(0.1, 7), (-128, 127))
    assert form is not None
    assert all((c.m0, c.m1, c.lower) == (0, 0, ()) for c in form.channels)
    assert form.apply(np.array([[2**30, -5]])).tolist() == [[7, 7]]


def test_sums_that_leave_a_limb_no_bits_are_refused() -> None:
    rule = Requant((2**30,), 55)
    reach = np.array([-(2**31) + 1]), np.array([2**31 - 1])
    none = np.zeros(1, np.int64)
    assert fitted(rule, reach, none, per_tensor(0.1, 0), (-128, 127)) is None


def _taken_on_m3() -> Iterator[cases.Case]:
    core = load("generic-m3").core
    for case in cases.cases():
        steps = plan.make(case.graph, core, "speed").steps
        if any(step.kernel.name.endswith("pairs") for step in steps):
            yield case


def test_only_cores_without_smlad_take_them() -> None:
    graph = networks.weighted(OPS["conv2d"](), (1, 4, 4, 8), (8, 1, 1, 8), np.random.default_rng(1))
    for target in ("generic-m0plus", "microbit", "generic-m3", "generic-m4"):
        (step,) = plan.make(graph, load(target).core, "speed").steps
        assert (step.kernel.name == "conv2d.pairs") == (not step.layer.core.dsp)


@pytest.mark.parametrize("case", list(_taken_on_m3())[::4], ids=str)
def test_cortex_m3(case: cases.Case, tmp_path: Path) -> None:
    inputs = networks.samples(case.graph, np.random.default_rng(5))
    wanted = expected(case.graph, inputs)
    written = write(case.graph, "generic-m3", tmp_path)
    np.testing.assert_array_equal(on_core(written, inputs), wanted)


def test_branches_are_short_enough_at_the_limits(tmp_path: Path) -> None:
    """The assembler checks reach: the longest unrolled loops, every optional part, four limbs, patches."""
    g = np.random.default_rng(5)
    wide = ((0.05, 3), (3.0, -11))
    same = OPS["conv2d"](pads=(1, 2, 3, 2), stride=(2, 1), dilation=(3, 1), clamp=(0.0, 6.0))
    deep = OPS["conv2d"](pads=(5, 3, 5, 3), groups=3)
    cases = (
        networks.weighted(same, (1, 9, 9, 4), (6, 3, 4, 4), g, wide),  # 12 words
        networks.weighted(same, (1, 9, 9, 70), (6, 3, 3, 70), g, wide),
        networks.weighted(deep, (1, 13, 9, 3), (3, 9, 7, 1), g, wide),  # 63 taps
        networks.weighted(OPS["dense"](), (1, 3, 96), (7, 96), g, wide),
    )
    target = load("generic-m0plus")
    for number, graph in enumerate(cases):
        made = plan.make(graph, target.core, "speed")
        (function,) = made.functions
        assert function.kernel.name.endswith("pairs")
        four = dict(function.instance.params) | {"limbs": 4, "patches": MOST_PATCHES}
        kernel = function.kernel
        body = emit.render(str(kernel.assembly), f=function, order=function.order, **four)
        folder = tmp_path / str(number)
        folder.mkdir()
        project = emit.emit(made, target, "0" * 64)
        for name, text in project.files.items():
            (folder / name).write_text(text)
        (name,) = (name for name in project.sources if name.endswith(".S"))
        model = {"name": "net", "core": "cortex-m0plus"}
        text = emit.render("kernels.S.j2", model=model, functions=[(function, body)])
        (folder / name).write_text(text)
        sources = ("startup.c", "main.c", *project.sources)
        found = toolchain.find("auto")
        toolchain.build_firmware(found, target, folder, sources, "link.ld", folder / "net.elf")


@pytest.mark.parametrize(
    ("op", "x", "weights"),
    [
        (OPS["conv2d"](), (1, 8, 8, 32), (32, 1, 1, 32)),
        (OPS["conv2d"](pads=(1, 1, 1, 1)), (1, 12, 12, 16), (16, 3, 3, 16)),
        (OPS["conv2d"](pads=(1, 1, 1, 1), groups=16), (1, 12, 12, 16), (16, 3, 3, 1)),
        (OPS["dense"](), (1, 128), (64, 128)),
    ],
)
def test_cycles_are_predicted(
    op: Op,
    x: tuple[int, ...],
    weights: tuple[int, ...],
    tmp_path: Path,
) -> None:
    grids = ((0.05, 3), (3.0, -11))
    graph = networks.weighted(op, x, weights, np.random.default_rng(2), grids)
    made = plan.make(graph, load("generic-m0plus").core, "speed")
    (step,) = made.steps
    assert step.kernel.name.endswith("pairs")
    built = write(graph, "generic-m0plus", tmp_path)
    elf = built.folder / "net.elf"
    target = load("generic-m0plus")
    sources = ("startup.c", "main.c", *built.sources)
    found = toolchain.find("auto")
    toolchain.build_firmware(found, target, built.folder, sources, "link.ld", elf)
    (inputs,) = networks.samples(graph, np.random.default_rng(3), 1)
    with EmulatedModel(CortexM(target, elf, count=True), built.image, "cortex-m0plus") as model:
        (count,) = model.infer((inputs[0].tobytes(),)).steps
    assert step.kernel.cycles(step.layer) == pytest.approx(count.cycles, rel=0.15)


@pytest.mark.parametrize(
    ("op", "x", "shape"),
    [
        (OPS["conv2d"](), (1, 5, 5, 24), (25, 1, 1, 24)),
        (OPS["conv2d"](), (1, 3, 3, 5), (9, 3, 3, 5)),
        (OPS["conv2d"](groups=6), (1, 4, 3, 6), (6, 3, 3, 1)),
        (OPS["dense"](), (1, 25, 30), (25, 30)),
    ],
)
def test_inputs_that_drive_the_lanes_furthest(
    op: Op, x: tuple[int, ...], shape: tuple[int, ...], tmp_path: Path
) -> None:
    """Windows that are, for one channel, at one end of int8 wherever its weight is positive."""
    grids = ((0.05, 3), (3.0, -11))
    graph = networks.weighted(op, x, shape, np.random.default_rng(8), grids)
    rows = graph.tensors["w"].values.astype(np.int64).reshape(shape[0], -1)
    size = int(np.prod(x))
    driven = [np.resize(np.where(row > 0, a, -1 - a), size) for row in rows for a in (127, -128)]
    # Pixels 0, 1, ... at the ends of channels 0, 1, ...: both lanes of a register at theirs.
    ends = np.where(rows > 0, 127, -128)
    driven += [np.resize(np.roll(ends, shift, axis=0), size) for shift in range(4)]
    inputs = (np.stack(driven).reshape(-1, *x[1:]).astype(np.int8),)
    written = write(graph, "generic-m0plus", tmp_path)
    every_byte(graph, written, inputs)


def test_every_kernel_of_pairs_is_here() -> None:
    named = {k.name for kernels in KERNELS.values() for k in kernels if k.name.endswith("pairs")}
    assert named == {"conv2d.pairs", "conv2d.depthwise_pairs", "dense.pairs"}
