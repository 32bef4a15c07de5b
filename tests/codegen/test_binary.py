"""Binary activations: bits in memory, exact thresholds, import of every dialect, whole networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen import bits, check_plan, graph_file, plan, prune, reference
from codegen.importer import load as load_onnx
from codegen.ir import Array, FloatArray, Graph, Tensor, per_tensor
from codegen.ops.binarize import Binarize
from codegen.ops.binary_conv2d import BinaryConv2D
from codegen.quant import calibrate, quantize
from codegen.quant.binary import meets_zero, scaling, thresholds
from targets.errors import UnsupportedModel
from targets.target import load
from tests.codegen.firmware import every_byte, write
from tests.codegen.tiny_models import Net, close, compiled, node, ours, samples, theirs

G = np.random.default_rng(11)
ZERO_HITS = np.array([0.0, -0.0, 1.0, -1.0, 0.5], np.float32)


def signs(*shape: int) -> FloatArray:
    return G.choice([-1, 1], shape).astype(np.float32)


def normal(*shape: int) -> FloatArray:
    return G.normal(size=shape).astype(np.float32)


def kinds(graph: Graph) -> list[str]:
    return [n.op.kind for n in graph.nodes if n.op.kind != "reshape"]


@given(channels=st.integers(1, 100), seed=st.integers(0, 2**32))
def test_unpacking_gives_what_was_packed(channels: int, seed: int) -> None:
    values = np.random.default_rng(seed).choice([-1, 1], (2, 3, channels)).astype(np.int8)
    packed = bits.pack(values)
    assert packed.shape == (2, 3, 4 * bits.words(channels))
    np.testing.assert_array_equal(bits.unpack(packed, channels), values)
    spare = 32 * bits.words(channels) - channels
    words = np.ascontiguousarray(packed).view("<u4")
    assert not spare or not (words[..., -1] >> (32 - spare)).any()


def test_a_tensor_of_bits_takes_a_word_for_32_channels() -> None:
    tensor = Tensor("t", (1, 4, 5, 40), per_tensor(1.0, 0, 1))
    assert tensor.stored_shape == (1, 4, 5, 8)
    assert tensor.bytes == 160
    assert Tensor("t", (1, 40), per_tensor(1.0, 0)).bytes == 40


@settings(max_examples=200)
@given(
    slope=st.one_of(st.floats(-4, 4, width=32), st.sampled_from([0.0, 0.25, -0.5, 1.0])),
    offset=st.one_of(st.floats(-300, 300, width=32), st.integers(-40, 40).map(float)),
    zero=st.sampled_from([-1, 1]),
)
def test_thresholds_are_where_the_sign_changes(slope: float, offset: float, zero: int) -> None:
    slopes, offsets = np.array([slope]), np.array([offset])
    (edge,), (flip,) = thresholds(slopes, offsets, zero, 1.0, (-100, 101))
    q = np.arange(-100, 101)
    exact = q * slope + offset  # float64: product and sum keep the exact sign of 24-bit numbers
    wanted = exact >= 0 if zero > 0 else exact > 0
    np.testing.assert_array_equal((q >= edge) ^ bool(flip), wanted)
    assert meets_zero(slopes, offsets, 100) == bool((exact == 0).any())


@settings(max_examples=100)
@given(
    length=st.integers(1, 5000),
    scales=st.lists(st.floats(0, 30), min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
)
def test_scaled_sums_stay_within_32_bits(length: int, scales: list[float], seed: int) -> None:
    steps = np.array(scales)
    starts = np.random.default_rng(seed).uniform(-1e9, 1e9, len(steps))
    multipliers, addends, shift = scaling(steps, starts, length, "layer")
    for total in (-length, length):
        assert np.abs(multipliers * total + addends).max() < 2**31
    real = np.clip(steps * length + starts, -128, 127)
    near = np.clip((multipliers * length + addends) >> shift, -128, 127)
    # The shift leaves 31 bits for scale times length: a step's error is far below one.
    assert np.abs(near - np.floor(real)).max() <= 1


def test_sums_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="32 bits"):
        scaling(np.array([1e9]), np.zeros(1), 100, "layer")


CONSTANTS: Mapping[str, Array | np.generic] = {
    "w": signs(6, 4, 3, 3),
    "scale": np.abs(normal(6, 1, 1)) + np.float32(0.1),
    "bias": normal(6) + np.float32(0.01),
    "zero": np.float32(0),
    "one": np.float32(1),
    "minus": np.float32(-1),
    "tenth": np.float32(0.1),
    "two": np.float32(2),
    "g": normal(6),
    "m": 3 * normal(6),
    "v": np.abs(normal(6)) + np.float32(1),
}
NORM = node("BatchNormalization", "c g bias m v", "y")
FIRST = {
    "greater-equal": [
        node("GreaterOrEqual", "x zero", "p"),
        node("Where", "p one minus", "s"),
    ],
    "less": [node("Less", "x zero", "p"), node("Where", "p minus one", "s")],
    "greater": [node("Greater", "x zero", "p"), node("Where", "p one minus", "s")],
    "swapped": [node("GreaterOrEqual", "zero x", "p"), node("Where", "p minus one", "s")],
    "cast": [
        node("GreaterOrEqual", "x zero", "p"),
        node("Cast", "p", "q", to=1),
        node("Mul", "q two", "r"),
        node("Sub", "r one", "s"),
    ],
    "twice": [node("Sign", "x", "p"), node("Add", "p tenth", "q"), node("Sign", "q", "s")],
    "scaled": [
        node("GreaterOrEqual", "x zero", "p"),
        node("Where", "p one minus", "q"),
        node("Mul", "q two", "s"),
    ],
}


def net(first: list[onnx.NodeProto], rest: list[onnx.NodeProto]) -> Net:
    return Net([*first, *rest], [(1, 4, 6, 6)], CONSTANTS, opset=16)


CONV = [node("Conv", "s w", "c", pads=[1, 1, 1, 1]), NORM]


@pytest.mark.parametrize("name", FIRST)
def test_signs_of_every_dialect(name: str, tmp_path: Path) -> None:
    path = net(FIRST[name], CONV).save(tmp_path)
    graph = compiled(path)
    exact = name == "cast"  # its affine form is no scale of a sign: a table, and an int8 layer
    assert ("binary_conv2d" in kinds(graph)) is not exact
    inputs = samples(graph)
    inputs[0].reshape(-1)[: len(ZERO_HITS)] = ZERO_HITS
    (mine,), (their,) = ours(graph, inputs), theirs(path, inputs)
    close(mine, their)


def test_a_sign_that_may_be_0_is_no_bit(tmp_path: Path) -> None:
    path = net([node("Sign", "x", "s")], CONV).save(tmp_path)
    graph = compiled(path)
    assert "binarize" not in kinds(graph) and "conv2d" in kinds(graph)
    inputs = samples(graph)
    inputs[0].reshape(-1)[: len(ZERO_HITS)] = ZERO_HITS
    close(ours(graph, inputs)[0], theirs(path, inputs)[0])


def test_a_sum_that_meets_0_keeps_the_sign_of_onnx(tmp_path: Path) -> None:
    second = [node("Sign", "c", "t"), node("Conv", "t w2", "y")]
    first = [*FIRST["greater"], node("Conv", "s w", "c")]
    constants: dict[str, Array | np.generic] = {**CONSTANTS, "w2": signs(3, 6, 1, 1)}
    path = Net([*first, *second], [(1, 4, 6, 6)], constants, opset=16).save(tmp_path)
    graph = compiled(path)
    assert kinds(graph).count("binary_conv2d") == 1 and "conv2d" in kinds(graph)
    inputs = samples(graph)
    close(ours(graph, inputs)[0], theirs(path, inputs)[0])


@pytest.mark.parametrize("domain", ["qonnx.custom_op.general", "onnx.brevitas"])
def test_bipolar_quantizers(domain: str, tmp_path: Path) -> None:
    nodes = [
        node("BipolarQuant", "x two", "s", domain=domain),
        node("BipolarQuant", "raw half", "w", domain=domain),
        node("Conv", "s w", "y", pads=[1, 1, 1, 1]),
    ]
    raw = normal(6, 4, 3, 3)
    raw[0, 0] = 0  # counts as +1
    constants: dict[str, Array | np.generic] = {
        "raw": raw,
        "half": np.float32(0.5),
        "two": np.float32(2),
    }
    found = Net(nodes, [(1, 4, 6, 6)], constants, domains=[domain])
    graph = compiled(found.save(tmp_path))
    assert kinds(graph) == ["binarize", "binary_conv2d"]
    plain = [
        node("GreaterOrEqual", "x zero", "p"),
        node("Where", "p two less", "s"),
        node("Conv", "s w", "y", pads=[1, 1, 1, 1]),
    ]
    signed = np.where(raw >= 0, np.float32(0.5), np.float32(-0.5))
    numbers: dict[str, Array | np.generic] = {
        "zero": np.float32(0),
        "two": np.float32(2),
        "less": np.float32(-2),
        "w": signed,
    }
    path = Net(plain, [(1, 4, 6, 6)], numbers, opset=16).save(tmp_path)
    inputs = samples(graph)
    inputs[0].reshape(-1)[: len(ZERO_HITS)] = ZERO_HITS
    close(ours(graph, inputs)[0], theirs(path, inputs)[0])


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_padding_with_signs(value: float, tmp_path: Path) -> None:
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    pad = [node("Pad", "q pads fill", "s"), node("Conv", "s w", "c"), NORM]
    first = [*FIRST["greater"][:1], node("Where", "p one minus", "q")]
    constants: dict[str, Array | np.generic] = {
        **CONSTANTS,
        "pads": pads,
        "fill": np.float32(value),
    }
    path = Net([*first, *pad], [(1, 4, 6, 6)], constants, opset=16).save(tmp_path)
    graph = compiled(path)
    (op,) = (n.op for n in graph.nodes if isinstance(n.op, BinaryConv2D))
    assert op.pad_value == value and op.pads == (1, 1, 1, 1)
    inputs = samples(graph)
    close(ours(graph, inputs)[0], theirs(path, inputs)[0])


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([node("Greater", "x zero", "y")], "truth value"),
    ],
)
def test_choices_that_are_refused(nodes: list[onnx.NodeProto], why: str, tmp_path: Path) -> None:
    path = Net(nodes, [(1, 4, 6, 6)], CONSTANTS, opset=16).save(tmp_path)
    with pytest.raises(UnsupportedModel, match=why):
        load_onnx(path)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Mul", "x x", "s"), node("Greater", "x s", "p"), node("Where", "p one minus", "y")],
        [node("Where", "yes x one", "y")],
        [node("Greater", "x zero", "p"), node("Where", "p x one", "y")],
        [node("LessOrEqual", "x zero", "p"), node("Not", "p", "q"), node("Where", "q x one", "y")],
    ],
)
def test_choices_that_are_made_on_plain_numbers(
    nodes: list[onnx.NodeProto], tmp_path: Path
) -> None:
    """What is no sign of a layer is chosen element by element (docs/floats.md)."""
    yes = np.arange(144).reshape(1, 4, 6, 6) % 3 == 0
    constants: dict[str, Array | np.generic] = {**CONSTANTS, "yes": yes}
    path = Net(nodes, [(1, 4, 6, 6)], constants, opset=16).save(tmp_path)
    graph = load_onnx(path)
    inputs = samples(graph)
    close(ours(graph, inputs)[0], theirs(path, inputs)[0])


def _norm(constants: dict[str, Array], name: str, channels: int) -> str:
    spread = np.abs(normal(channels)) + np.float32(1)
    values = (normal(channels), normal(channels), np.float32(3) * normal(channels), spread)
    names = [f"{name}{suffix}" for suffix in "gbmv"]
    constants |= dict(zip(names, values, strict=True))
    return " ".join(names)


def network() -> Net:
    """Int8 first and last; pools before and after signs, negative factors, a dense layer of signs."""
    constants: dict[str, Array] = {
        "w0": normal(32, 1, 3, 3),
        "b0": normal(32),
        "w1": signs(40, 32, 3, 3),
        "alpha": np.abs(normal(1, 40, 1, 1)),
        "w2": signs(48, 40, 3, 3),
        "w3": signs(20, 48 * 4) * np.float32(0.5),
        "b3": normal(20),
        "w4": normal(10, 20),
        "b4": normal(10),
    }
    same, half = {"pads": [1, 1, 1, 1]}, {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        node("Conv", "x w0 b0", "c0", **same),
        node("Sign", "c0", "s0"),
        node("Conv", "s0 w1", "c1", **same),
        node("Mul", "c1 alpha", "a1"),
        node("MaxPool", "a1", "p1", **half),
        node("BatchNormalization", f"p1 {_norm(constants, 'n1', 40)}", "n1"),
        node("Sign", "n1", "s1"),
        node("Conv", "s1 w2", "c2", **same),
        node("BatchNormalization", f"c2 {_norm(constants, 'n2', 48)}", "n2"),
        node("MaxPool", "n2", "p2", **half),
        node("Sign", "p2", "s2"),
        node("Flatten", "s2", "f"),
        node("Gemm", "f w3 b3", "d", transB=1),
        node("Relu", "d", "r"),
        node("Gemm", "r w4 b4", "y", transB=1),
    ]
    return Net(nodes, [(1, 1, 8, 8)], constants)


def quantized(graph: Graph) -> Graph:
    ranges = calibrate.ranges(graph, calibrate.random_samples(graph, 16, 0), "mse")
    return prune.prune(quantize.quantize(graph, ranges, imported=False))


def test_a_whole_network_is_what_onnxruntime_computes(tmp_path: Path) -> None:
    path = network().save(tmp_path)
    graph = compiled(path)
    assert kinds(graph) == [
        "conv2d", "binarize", "binary_conv2d", "max_pool", "binarize", "binary_conv2d",
        "bit_max_pool", "binary_conv2d", "dense",
    ]  # fmt: skip
    inputs = samples(graph)
    close(ours(graph, inputs)[0], theirs(path, inputs)[0])


@pytest.mark.parametrize("target", ["generic-m4", "generic-m0plus"])
def test_a_whole_network_on_host_and_core(target: str, tmp_path: Path) -> None:
    graph = quantized(compiled(network().save(tmp_path)))
    inputs = (G.integers(-128, 128, (4, *graph.tensors["x"].shape[1:])).astype(np.int8),)
    written = write(graph, target, tmp_path)
    every_byte(graph, written, inputs)


def test_a_quantized_network_survives_its_file(tmp_path: Path) -> None:
    graph = quantized(compiled(network().save(tmp_path)))
    (tmp_path / "g.npz").write_bytes(graph_file.dump(graph))
    again = graph_file.load(tmp_path / "g.npz")
    x = (G.integers(-128, 128, (3, *graph.tensors["x"].shape[1:])).astype(np.int8),)
    np.testing.assert_array_equal(reference.run(graph, x)[0], reference.run(again, x)[0])


def test_the_arena_holds_bits(tmp_path: Path) -> None:
    graph = quantized(compiled(network().save(tmp_path)))
    made = check_plan.check(plan.make(graph, load("generic-m4").core))
    for step in made.steps:
        if isinstance(step.layer.node.op, Binarize):
            pixels = step.layer.output.size // step.layer.output.shape[-1]
            assert step.output.size == 4 * pixels * bits.words(step.layer.output.shape[-1])
