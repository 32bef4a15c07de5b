"""Models that onnxruntime's static quantizer made from the reference models, against onnxruntime.

onnxruntime's QLinearSoftmax rounds on its own; everything before it must agree byte for byte wherever
onnxruntime itself computes in integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from codegen import data, execute, importer, pipeline, reference
from codegen.ir import Array, Graph, Port
from codegen.quant.quantize import quantize
from thumbnet import workflow
from thumbnet.options import CompileOptions, RunOptions

SETS = {"kws": "kws01", "ic": "ic01", "vww": "vww01", "ad": "ad01_windows", "sww": "sww01"}
SAMPLES = 200
CALIBRATION = 64


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, samples: Array) -> None:
        self.samples: Iterator[Array] = iter(samples)

    def get_next(self) -> dict[str, Array] | None:
        sample = next(self.samples, None)
        return None if sample is None else {"input": sample[None]}


def session(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Without this onnxruntime runs some int8 layers in float, which rounds differently.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    return onnxruntime.InferenceSession(str(model), options)


def quantized_by_onnxruntime(
    folder: Path, name: str, out: Path, activations: QuantType, form: QuantFormat
) -> None:
    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(folder / f"models/{name}.onnx", prepared, skip_symbolic_shape=True)
    shape = tuple(session(prepared).get_inputs()[0].shape)
    ports = (Port("input", "input", shape, tuple(range(len(shape)))),)
    samples = data.load(f"{folder}/datasets/{SETS[name]}.npz", ports, "calib_x")
    quantize_static(
        prepared,
        out,
        Reader(samples.spread(CALIBRATION).real()[0]),
        quant_format=form,
        per_channel=True,
        activation_type=activations,
        weight_type=QuantType.QInt8,
    )


Steps = npt.NDArray[np.int32]


def outputs(graph: Graph, samples: data.DataSet) -> Steps:
    stored = tuple(
        reference.to_stored(graph, port, execute.to_device(port, x))
        for port, x in zip(graph.inputs, samples.real(), strict=True)
    )
    return reference.run(graph, stored)[0].astype(np.int32)


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator], ids=str)
@pytest.mark.parametrize("activations", [QuantType.QInt8, QuantType.QUInt8], ids=str)
@pytest.mark.parametrize("name", SETS)
def test_same_answers(
    name: str, activations: QuantType, form: QuantFormat, data_dir: Path, tmp_path: Path
) -> None:
    model = tmp_path / f"{name}.onnx"
    quantized_by_onnxruntime(data_dir, name, model, activations, form)
    graph = quantize(pipeline.run(importer.load(model)), {}, imported=True)
    samples = data.load(f"{data_dir}/datasets/{SETS[name]}.npz", graph.inputs).spread(SAMPLES)
    ours = outputs(graph, samples)
    theirs = _theirs(graph, model, samples)
    differences = np.abs(ours - theirs)
    assert differences.max() <= 1
    same_class = ours.argmax(axis=1) == theirs.argmax(axis=1)
    assert same_class.mean() >= 0.995
    if name == "ad":  # no softmax: nothing may differ
        assert differences.max() == 0


def _theirs(graph: Graph, model: Path, samples: data.DataSet) -> Steps:
    """onnxruntime's outputs as steps of the output's grid."""
    runtime = session(model)
    real = [runtime.run(None, {"input": x[None]})[0] for x in samples.real()[0]]
    grid = graph.tensors[graph.outputs[0].tensor].grid
    steps = np.rint(np.concatenate(real) / grid.scale) + grid.zero_point
    limited: Steps = np.clip(steps, -128, 127).astype(np.int32)
    return limited


@pytest.mark.parametrize(
    "name", ["ad", *(pytest.param(name, marks=pytest.mark.sweep) for name in ("kws", "ic"))]
)
def test_the_firmware_follows(name: str, data_dir: Path, tmp_path: Path) -> None:
    """No calibration data is needed, and the emulated core gives the reference's bytes."""
    model = tmp_path / f"{name}.onnx"
    quantized_by_onnxruntime(data_dir, name, model, QuantType.QInt8, QuantFormat.QDQ)
    spec = f"{data_dir}/datasets/{SETS[name]}.npz"
    running = RunOptions(data=spec, max_samples=3)
    warnings, found = workflow.run(model, CompileOptions(target="generic-m0plus"), running)
    assert warnings == ()
    assert found["mismatched_bytes"] == found["host"]["mismatched_bytes"] == 0
    accuracy = found["accuracy"]
    assert accuracy["device"] == pytest.approx(accuracy["float"], abs=0.006)  # the model as given
