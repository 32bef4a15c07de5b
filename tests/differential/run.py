"""Random graphs as C on the host: in float against onnxruntime, in int8 against the NumPy reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from codegen import check_plan, execute, plan, reference
from codegen.ir import Array, Graph
from emulator.host import HostModel
from targets import toolchain
from targets.errors import UnsupportedModel
from targets.machine import ModelImage
from targets.target import load
from tests.codegen.firmware import write_plan
from tests.differential import graphs
from thumbnet import compiler
from thumbnet.options import CompileOptions

SAMPLES = 3
TOLERANCE = 1e-5  # of the largest value: sums run in another order than onnxruntime's
TARGET = "generic-m4"


@dataclass(frozen=True)
class Case:
    """A graph as C: in float, or in int8."""

    seed: int
    graph: Graph
    image: ModelImage
    sources: tuple[str, ...]
    x: Array
    expected: Array


def samples(model: onnx.ModelProto, seed: int) -> Array:
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    x: Array = np.random.default_rng(seed).standard_normal((SAMPLES, *shape[1:]), np.float32)
    return x


def prepared(seed: int, folder: Path, *, floats: bool) -> Case:
    """One graph; raises UnsupportedModel where thumbnet refuses it."""
    model = graphs.make(seed)
    kind = "float" if floats else "int8"
    path = folder / f"{kind}{seed}.onnx"
    onnx.save(model, path)
    options = CompileOptions(
        calib="random", calib_samples=8, seed=seed, weights="float32" if floats else None
    )
    graph = compiler.prepare(path, options).quantized
    made = check_plan.check(plan.make(graph, load(TARGET).core, "balanced"))
    written = write_plan(made, TARGET, folder / f"{kind}{seed}")
    sources = tuple(f"{kind}{seed}/{source}" for source in written.host_sources)
    real = execute.to_device(graph.inputs[0], samples(model, seed))
    x = reference.to_stored(graph, graph.inputs[0], real)
    (expected,) = reference.run(graph, (x,))
    return Case(seed, graph, written.image, sources, x, expected)


def by_onnxruntime(seed: int) -> Array:
    """The outputs of onnxruntime, without its own fusions."""
    model = graphs.make(seed)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return np.concatenate([session.run(None, {"x": x[None]})[0] for x in samples(model, seed)])


def disagreement(case: Case, library: Path, *, floats: bool) -> str:
    """What is wrong with a case; empty where nothing is."""
    found = HostModel(library, case.image).run((case.x,))[0]  # type: ignore[arg-type]
    wanted = np.ascontiguousarray(case.expected)
    if found.tobytes() != wanted.tobytes():
        return "the C differs from the NumPy reference"
    if not floats:
        return ""
    port = case.graph.outputs[0]
    values = execute.from_device(port, case.expected).astype(np.float64)
    real = by_onnxruntime(case.seed).astype(np.float64).reshape(values.shape)
    error = float(np.abs(values - real).max()) / max(1e-3, float(np.abs(real).max()))
    return "" if error <= TOLERANCE else f"{error:.2g} from onnxruntime"


def results(seeds: Sequence[int], folder: Path, *, floats: bool) -> dict[int, str]:
    """For every graph "", "refused: ..." or what is wrong."""
    found: dict[int, str] = {}
    made = []
    for seed in seeds:
        try:
            made.append(prepared(seed, folder, floats=floats))
        except UnsupportedModel as error:
            found[seed] = f"refused: {error}"
    if made:
        library = folder / "graphs.so"
        sources = tuple(source for case in made for source in case.sources)
        toolchain.build_host(folder, sources, library, ("-O1",))
        for case in made:
            found[case.seed] = disagreement(case, library, floats=floats)
    return found
