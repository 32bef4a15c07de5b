"""What a model is calibrated on: the user's samples, or random ones, and the grids that samples come on."""

from __future__ import annotations

from dataclasses import replace

from codegen import data, execute, states
from codegen.ir import Array, Graph
from codegen.quant import calibrate
from targets.errors import UsageError
from thumbnet.options import CompileOptions


def inputs(
    graph: Graph, options: CompileOptions, warnings: list[str]
) -> tuple[Graph, tuple[Array, ...], bool]:
    """The graph with its inputs' grids, calibration inputs in device layout, and whether those are real.

    Args:
        warnings: where texts for the user are added.
    """
    samples, grid_source = _calibration(graph, options, warnings)
    return _adopt_input_grid(graph, grid_source), samples, grid_source is not None


def _calibration(
    graph: Graph, options: CompileOptions, warnings: list[str]
) -> tuple[tuple[Array, ...], data.DataSet | None]:
    """Calibration inputs in device layout, and the set that they came from."""
    if options.calib == "random":
        warnings.append(
            "calibrated on random inputs: sizes and cycles are close, accuracy is not to be trusted"
        )
        return calibrate.random_samples(graph, 32, options.seed), None
    spec = options.calib
    key = "calib_x" if spec is None or data.has_key(spec, "calib_x") else "x"
    spec = spec or options.data
    if spec is None:
        if any(t.quant for t in graph.tensors.values()):
            return _fallback(graph, options, warnings), None
        raise UsageError(
            "quantization needs calibration data",
            hint="pass --calib FILE.npz, or --calib random to try without (accuracy will be poor)",
        )
    if options.calib is None and not data.has_key(spec, "calib_x"):
        raise UsageError(
            f"{spec} holds no calib_x to calibrate on",
            hint="pass --calib FILE.npz, or --calib random to try without (accuracy will be poor)",
        )
    found = data.load(spec, states.fed(graph), key)
    if not graph.states:  # their samples follow each other
        found = found.spread(options.calib_samples)
    found = states.completed(graph, found.head(options.calib_samples))
    samples = tuple(
        execute.to_device(port, x) for port, x in zip(graph.inputs, found.real(), strict=True)
    )
    return samples, found


def _fallback(graph: Graph, options: CompileOptions, warnings: list[str]) -> tuple[Array, ...]:
    """Random inputs for the few tensors that a quantized model leaves without a grid."""
    warnings.append(
        "some tensors of this quantized model have no grid; calibrated on random inputs "
        "(pass --calib FILE.npz for real ones)"
    )
    return calibrate.random_samples(graph, 32, options.seed)


def _adopt_input_grid(graph: Graph, found: data.DataSet | None) -> Graph:
    """Gives inputs the 8-bit grid that their data is stored on: then no input value is ever rounded."""
    if found is None:
        return graph
    changed = []
    for port, x, grid in zip(graph.inputs, found.x, found.grids, strict=True):
        tensor = graph.tensors[port.tensor]
        if grid is None or grid.width != 8 or tensor.quant is not None:
            continue
        shift = 128 if x.dtype.kind == "u" else 0
        zero_point = grid.zero_point - shift
        if -128 <= zero_point <= 127:
            adopted = replace(grid, zero_points=(zero_point,))
            changed.append(replace(tensor, quant=adopted))
    return graph.with_tensors(*changed)
