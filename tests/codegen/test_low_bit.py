"""Weights of few bits: packing, schemes, lowering, and kernels in C that expand rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen import prune
from codegen.ir import Graph, InvalidGraph, verify_quantized
from codegen.kernel import Layer
from codegen.ops import KERNELS, OPS
from codegen.quant import calibrate, lower, ptq, schemes, vocabulary
from codegen.quant.clipping import CLIPPERS
from codegen.quant.packing import bits_per_weight, pack, row_bytes, unpack
from codegen.quant.rounding import ROUNDINGS
from codegen.quant.scheme import BITS
from codegen.quant.schemes import SCHEMES
from codegen.quant.weight_scales import SCALES
from targets.errors import UsageError
from targets.target import load
from tests.codegen import networks
from tests.codegen.firmware import expected, on_core, on_host, write

PAIRS = [(w, s.name) for s in SCHEMES.values() for w in s.weights]
OPERATORS = ("conv", "grouped", "depthwise", "dense")


@given(
    bits=st.integers(1, 8),
    rows=st.integers(1, 4),
    count=st.integers(1, 40),
    seed=st.integers(0, 2**32),
)
def test_unpacking_gives_what_was_packed(bits: int, rows: int, count: int, seed: int) -> None:
    numbers = np.random.default_rng(seed).integers(0, 1 << bits, (rows, count))
    packed = pack(numbers, bits)
    assert packed.shape == (rows, row_bytes(count, bits))
    np.testing.assert_array_equal(unpack(packed, bits, count), numbers)


def test_a_number_that_is_too_large_is_not_packed() -> None:
    with pytest.raises(ValueError, match="3 bits"):
        pack(np.array([[8]]), 3)


def test_the_vocabulary_has_every_name_and_no_other() -> None:
    assert set(vocabulary.SCHEME_NAMES) == set(SCHEMES)
    assert set(vocabulary.WEIGHTS) == set(BITS)
    assert tuple(ROUNDINGS) == vocabulary.ROUNDING_NAMES
    assert (*SCALES, ptq.AUTO) == vocabulary.CLIPS
    assert set(vocabulary.METHODS) == {*calibrate.ONE_PASS, *CLIPPERS}


@pytest.mark.parametrize(("weights", "scheme"), PAIRS)
@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(1, 70), seed=st.integers(0, 2**32), spread=st.sampled_from([0.0, 1.0, 6.0])
)
def test_expanding_is_exact_and_small(
    weights: str, scheme: str, length: int, seed: int, spread: float
) -> None:
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(5, length)) * np.exp2(generator.normal(size=(5, length)) * spread)
    rows[3] = 0
    least = np.array([0, 0, 1e-3, 1e-3, 4.0])
    found = SCHEMES[scheme].quantize(rows, least, weights)
    storage = found.storage
    assert (storage.scheme, storage.weights) == (scheme, weights)
    assert storage.codes.max() < 1 << storage.bits == storage.levels.shape[1]
    assert all(f.values.max() < 1 << f.bits for f in storage.factors)
    expanded = storage.expanded()
    wide = scheme in ("mx9", "mxint8")
    assert np.abs(expanded).max() <= (2047 if wide else 127)
    by_hand = [
        [
            int(storage.levels[row % len(storage.levels), storage.codes[row, k]])
            * int(
                np.prod(
                    [
                        1 << f.values[row, k // f.size] if f.shifts else f.values[row, k // f.size]
                        for f in storage.factors
                    ]
                )
            )
            for k in range(length)
        ]
        for row in range(len(rows))
    ]
    np.testing.assert_array_equal(expanded, by_hand)
    assert np.all(found.scales >= least) and np.all(found.scales > 0)
    assert bits_per_weight(storage) >= storage.bits


# Least signal to noise in dB on normal weights: a scheme that is worse than this is broken.
QUALITY = {
    ("int4", "uniform"): 18,
    ("int3", "uniform"): 12,
    ("int2", "uniform"): 7,
    ("int4", "vsq16"): 20,
    ("int4", "group32"): 19,
    ("int4", "mx4"): 15,
    ("int8", "mx6"): 27,
    ("int8", "mx9"): 44,
    ("int8", "mxint8"): 40,
    ("int4", "mxfp4"): 18,
    ("int4", "codebook16"): 19,
    ("int2", "codebook4"): 8,
    ("int4", "apot"): 19,
    ("int4", "log2"): 14,
    ("ternary", "ternary"): 6.5,
    ("ternary", "ttq"): 6.5,
    ("binary", "binary"): 4,
}


@pytest.mark.parametrize(("weights", "scheme"), QUALITY)
def test_weights_stay_close_to_what_they_were(weights: str, scheme: str) -> None:
    rows = np.random.default_rng(0).normal(size=(16, 288))
    found = SCHEMES[scheme].quantize(rows, np.zeros(16), weights)
    error = found.storage.expanded() * found.scales[:, None] - rows
    assert 10 * np.log10((rows**2).sum() / (error**2).sum()) >= QUALITY[weights, scheme]


def test_weights_that_are_trained_for_a_scheme_are_kept() -> None:
    generator = np.random.default_rng(1)
    scales = generator.uniform(0.1, 2, 6)
    for name, values in (("ternary", [-1, 0, 1]), ("binary", [-1, 1])):
        signs = generator.choice(values, (6, 40))
        found = SCHEMES[name].quantize(signs * scales[:, None], np.zeros(6), name)
        np.testing.assert_array_equal(found.storage.expanded(), signs)
        np.testing.assert_allclose(found.scales, scales)


def layer(
    kind: str, weights: str, scheme: str, generator: np.random.Generator, code: int | None = None
) -> Graph:
    """A small layer with stored weights."""
    conv = OPS["conv2d"]
    op, x, shape = {
        "conv": (conv((1, 2), (1, 0, 1, 1), clamp=(0.0, inf)), (1, 4, 5, 3), (5, 3, 3, 3)),
        "grouped": (conv(groups=2), (1, 3, 2, 36), (4, 1, 1, 18)),
        "depthwise": (conv(pads=(1, 1, 1, 1), groups=5), (1, 4, 4, 5), (5, 3, 3, 1)),
        "dense": (OPS["dense"](), (1, 2, 35), (7, 35)),
    }[kind]
    return networks.stored(op, x, shape, generator, weights, scheme, code)


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize(("weights", "scheme"), PAIRS)
def test_every_scheme_in_c(weights: str, scheme: str, kind: str, tmp_path: Path) -> None:
    """Reference, host, M4 and M0+ agree; the kernel that expands rows serves every core."""
    expanding = next(k for k in KERNELS["dense" if kind == "dense" else "conv2d"][::-1])
    generator = np.random.default_rng(5)
    for code in (None, 0, -1):
        graph = layer(kind, weights, scheme, generator, code)
        inputs = networks.samples(graph, generator, 2)
        wanted = expected(graph, inputs)
        folder = tmp_path / str(code)  # a library is loaded once by its path
        folder.mkdir()
        for target in ("generic-m4", "generic-m0plus"):
            written = write(graph, target, folder, expanding)
            if code is None:
                np.testing.assert_array_equal(on_core(written, inputs), wanted)
        np.testing.assert_array_equal(on_host(written, inputs), wanted)


def test_int8_kernels_leave_stored_weights_alone() -> None:
    graph = layer("conv", "int8", "mx9", np.random.default_rng(0))
    node = graph.nodes[0]
    operands = tuple(graph.tensors[name] for name in node.inputs)
    stored = Layer(node, operands, graph.tensors["y"], load("generic-m4").core)
    assert [k.name for k in KERNELS["conv2d"] if k.serves(stored)] == ["conv2d.expand"]


def test_a_graph_whose_weights_are_not_what_is_stored_is_refused() -> None:
    graph = layer("dense", "int4", "uniform", np.random.default_rng(0))
    w = graph.tensors["w"]
    wrong = replace(w, data=w.values + 1)
    with pytest.raises(InvalidGraph, match="storage"):
        verify_quantized(graph.with_tensors(wrong))


def chain(generator: np.random.Generator, names: Sequence[str] = "abc") -> Graph:
    """Dense layers with wide weights, each called by a letter."""
    graphs = [
        networks.weighted(OPS["dense"](), (1, 12), (12, 12), generator, ((0.05, 3), (0.05, 3)))
        for _ in names
    ]
    tensors = {"x0": graphs[0].tensors["x0"]}
    nodes = []
    for name, before, graph in zip(names, ("x0", *names[:-1]), graphs, strict=True):
        node, w, b = graph.nodes[0], graph.tensors["w"], graph.tensors["b"]
        wide = generator.integers(-2047, 2048, w.shape).astype(np.int16)
        mine = replace(w, name=f"{name}.w", data=wide, quant=replace(w.grid, width=16))
        tensors |= {mine.name: mine, f"{name}.b": replace(b, name=f"{name}.b")}
        tensors[name] = replace(graph.tensors["y"], name=name)
        inputs = (before, f"{name}.w", f"{name}.b")
        nodes.append(replace(node, inputs=inputs, output=name, sources=(name,)))
    last = replace(graphs[0].outputs[0], name=names[-1], tensor=names[-1])
    return verify_quantized(
        replace(graphs[0], tensors=tensors, nodes=tuple(nodes), outputs=(last,))
    )


def test_first_and_last_layers_stay_int8_unless_they_are_named() -> None:
    """The ends hold a twelfth of the weights each."""
    graph = chain(np.random.default_rng(0), "abcdefghijkl")
    four = lower.Format("int4")
    chosen = lower.choose(graph, lower.Formats(four), False)
    inner = dict.fromkeys("bcdefghijk", "int4")
    assert {name: weights for name, (weights, _) in chosen.items()} == inner
    named = lower.Formats(four, {"a": lower.Format(None, "vsq16"), "b": lower.Format("int8")})
    chosen = lower.choose(graph, named, False)
    schemes_of = {name: scheme.name for name, (_, scheme) in chosen.items()}
    assert schemes_of == {"a": "vsq16"} | dict.fromkeys("cdefghijk", "uniform")
    with pytest.raises(UsageError, match="'z'"):
        lower.choose(graph, lower.Formats(four, {"z": four}), False)
    with pytest.raises(UsageError, match="of its own"):
        lower.choose(graph, lower.Formats(four), True)


def test_ends_with_a_large_share_of_the_weights_are_stored_too() -> None:
    graph = chain(np.random.default_rng(0))
    assert set(lower.choose(graph, lower.Formats(lower.Format("int4")), False)) == set("abc")


def test_layers_with_next_to_no_weights_stay_int8() -> None:
    """Of 101 layers alike each holds less than a hundredth."""
    graph = chain(np.random.default_rng(0), tuple(f"l{i}" for i in range(101)))
    assert not lower.choose(graph, lower.Formats(lower.Format("int4")), False)


def test_lowered_weights_stand_for_the_same_numbers() -> None:
    graph = chain(np.random.default_rng(2))
    chosen = {"b": schemes.find(None, "mx9")}
    lowered = lower.lower(graph, chosen, False)  # type: ignore[arg-type]
    for name in ("b.w", "b.b"):
        before, after = graph.tensors[name], lowered.tensors[name]
        step = np.array(after.grid.scales).reshape(-1, *[1] * (after.values.ndim - 1))
        was = np.array(before.grid.scales).reshape(step.shape) * before.values
        largest = np.abs(was).max()
        assert np.abs(after.values * step - was).max() <= largest / 120
    assert lowered.tensors["b.w"].storage is not None
    assert lowered.tensors["a.w"] is graph.tensors["a.w"]
    assert prune.prune(lowered).tensors["b.w"].storage is not None


def test_rounding_to_signs_is_refused_unless_forced_or_trained() -> None:
    graph = chain(np.random.default_rng(3))
    chosen = {"b": schemes.find("ternary", None)}
    with pytest.raises(UsageError, match="no usable model") as refused:
        lower.lower(graph, chosen, False)  # type: ignore[arg-type]
    assert "fine-tune" in str(refused.value.hint)
    assert lower.lower(graph, chosen, True).tensors["b.w"].storage is not None  # type: ignore[arg-type]
    w = graph.tensors["b.w"]
    trained = replace(w, data=(np.sign(w.values) * 2047).astype(np.int16))
    graph = graph.with_tensors(trained)
    found = lower.lower(graph, chosen, False).tensors["b.w"]  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.values, np.sign(w.values))


@pytest.mark.parametrize(
    ("weights", "scheme"), [("int4", "mx6"), ("binary", "vsq16"), ("int5", None), (None, "vsq")]
)
def test_formats_that_do_not_exist_are_refused(weights: str | None, scheme: str | None) -> None:
    with pytest.raises(UsageError) as refused:
        schemes.find(weights, scheme)
    assert refused.value.hint
