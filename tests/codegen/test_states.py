"""Networks that keep a state between runs: a causal network frame by frame gives the bytes of the whole."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from codegen import importer, pipeline, reference, states
from codegen.ir import Array, Graph
from codegen.quant.clipping import Range
from codegen.quant.quantize import quantize
from codegen.streaming import per_frame
from targets import toolchain
from targets.errors import UnsupportedModel, UsageError
from tests.codegen import firmware

FRAMES, CHANNELS = 14, 3


def tcn(folder: Path, kernels: list[tuple[int, int]], seed: int, stride: int = 1) -> Path:
    """Causal convolutions (kernel, dilation), the last added to what it reads, then one per frame."""
    rng = np.random.default_rng(seed)
    nodes, constants, name, depth = [], [], "x", CHANNELS
    for index, (kernel, dilation) in enumerate(kernels):
        weights = rng.normal(0, 0.5, (6, depth, kernel)).astype(np.float32)
        constants.append(numpy_helper.from_array(weights, f"w{index}"))
        pads = [(kernel - 1) * dilation, 0]
        nodes += [
            helper.make_node(
                "Conv", [name, f"w{index}"], [f"c{index}"],
                dilations=[dilation], pads=pads, strides=[stride],
            ),
            helper.make_node("Relu", [f"c{index}"], [f"r{index}"]),
        ]  # fmt: skip
        name, depth = f"r{index}", 6
    if len(kernels) > 1:
        nodes.append(helper.make_node("Add", [name, f"r{len(kernels) - 2}"], ["sum"]))
        name = "sum"
    last = rng.normal(0, 0.5, (2, depth, 1)).astype(np.float32)
    constants.append(numpy_helper.from_array(last, "last"))
    nodes.append(helper.make_node("Conv", [name, "last"], ["y"]))
    x = helper.make_tensor_value_info("x", 1, (1, CHANNELS, FRAMES))
    y = helper.make_tensor_value_info("y", 1, None)
    graph = helper.make_graph(nodes, "net", [x], [y], constants)
    path = folder / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def integers(path: Path) -> Graph:
    graph = pipeline.run(importer.load(path))
    ranges = {name: Range(-2.0, 3.0) for name, t in graph.tensors.items() if t.data is None}
    return quantize(graph, ranges, imported=False)


def frames(seed: int) -> Array:
    """(1, frames, channels), as the device takes them."""
    values = np.random.default_rng(seed).integers(-128, 128, (1, FRAMES, CHANNELS))
    return values.astype(np.int8)


def one_by_one(graph: Graph, x: Array) -> Array:
    """The first output of every frame, by the reference, states handed on."""
    kept = [
        np.full((1, *graph.tensors[p.tensor].shape[1:]), graph.tensors[p.tensor].grid.zero_point)
        for p in graph.inputs[1:]
    ]
    samples = (x.swapaxes(0, 1), *(np.repeat(k.astype(np.int8), FRAMES, axis=0) for k in kept))
    inputs = states.followed(graph, samples, lambda given: reference.run(graph, given))
    return reference.run(graph, inputs)[0]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=3),
    st.integers(0, 99),
)
def test_frames_give_the_bytes_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, kernels: list[tuple[int, int]], seed: int
) -> None:
    whole = integers(tcn(tmp_path_factory.mktemp("tcn"), kernels, seed))
    x = frames(seed)
    (wanted,) = reference.run(whole, (x,))
    found = one_by_one(per_frame(whole), x)
    np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)


@pytest.mark.parametrize("target", ["generic-m0plus", "generic-m4"])
def test_the_state_stays_in_the_arena(tmp_path: Path, target: str) -> None:
    whole = integers(tcn(tmp_path, [(3, 1), (3, 2), (2, 4)], 1))
    graph = per_frame(whole)
    written = firmware.write(graph, target, tmp_path)
    library = tmp_path / "libnet.so"
    toolchain.build_host(tmp_path, written.host_sources, library)
    c = ctypes.CDLL(str(library))
    c.net_input.restype = c.net_output.restype = ctypes.c_void_p
    arena = ctypes.create_string_buffer(written.image.arena_size + 16)
    base = -(-ctypes.addressof(arena) // 16) * 16
    context = (ctypes.c_void_p * 2)()
    assert (
        c.net_init(context, ctypes.c_void_p(base), ctypes.c_size_t(written.image.arena_size)) == 0
    )
    x = frames(5)
    (wanted,) = reference.run(whole, (x,))
    for _ in range(2):  # once more after a reset
        found = []
        for frame in x[0]:
            ctypes.memmove(c.net_input(context, 0), frame.tobytes(), CHANNELS)
            assert c.net_run(context) == 0
            found.append(ctypes.string_at(c.net_output(context, 0), 2))
        assert b"".join(found) == wanted.tobytes()
        assert c.net_reset(context) == 0


@pytest.mark.parametrize("target", ["generic-m0plus", "generic-m4"])
def test_every_byte(tmp_path: Path, target: str) -> None:
    graph = per_frame(integers(tcn(tmp_path, [(3, 1), (2, 3)], 2)))
    rng = np.random.default_rng(6)
    shapes = [graph.tensors[port.tensor].shape for port in graph.inputs]
    x = tuple(rng.integers(-128, 128, (3, *shape[1:])).astype(np.int8) for shape in shapes)
    firmware.every_byte(graph, firmware.write(graph, target, tmp_path), x)


def test_what_sees_the_future_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="c0") as caught:
        per_frame(integers(tcn(tmp_path, [(3, 1)], 0, stride=2)))
    assert "causal" in caught.value.hint


def test_states_of_unlike_shapes_are_refused(tmp_path: Path) -> None:
    graph = pipeline.run(importer.load(tcn(tmp_path, [(3, 1)], 0)))
    with pytest.raises(UsageError, match="shape"):
        states.declared(graph, {"x": "y"})
    with pytest.raises(UsageError, match="no output 'z'"):
        states.declared(graph, {"x": "z"})
