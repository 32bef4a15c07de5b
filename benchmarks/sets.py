"""Test sets with their models, and how onnxruntime does on them."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime import quantization as ort

from benchmarks.models import TASKS, data_folder
from codegen import data, importer, metrics

JPEG = "ic-jpeg"  # the network of ic on the 10,000 test images that went through JPEG
CALIBRATION = 512  # of its training images
onnxruntime.set_default_logger_severity(3)


@dataclass(frozen=True)
class Source:
    """A model with its test set; calibration data lie in the same file unless `calib` names others.

    Attributes:
        decoded: whether the images are those that went through JPEG.
    """

    model: Path
    data: str
    calib: str | None
    metric: str
    decoded: bool = False

    def options(self) -> dict[str, Any]:
        """For CompileOptions."""
        return {"data": self.data, "calib": self.calib}


def check() -> None:
    if not (data_folder() / "models").is_dir():
        raise SystemExit("reference data not found; set THUMBNET_DATA")


def source(name: str, folder: Path) -> Source:
    """A reference model with its whole test set; `folder` holds decoded images between calls."""
    models, sets = data_folder() / "models", data_folder() / "datasets"
    if name == JPEG:
        path = folder / "jpeg.npz"
        if not path.exists():
            decode(sets / "cifar10_jpeg.npz", path)
        return Source(models / "ic.onnx", str(path), None, "top1", decoded=True)
    (task,) = (task for task in TASKS if task.name == name)
    calib = str(sets / task.calib) if task.calib else None
    return Source(models / f"{name}.onnx", str(sets / task.data), calib, task.metric or "top1")


def decode(packed: Path, path: Path) -> None:
    """All test images and some of the training images, evenly spaced, as a data file."""
    with np.load(packed) as arrays:
        chosen = np.linspace(0, len(arrays["train_y"]) - 1, CALIBRATION).astype(np.int64)
        x = _images(arrays["test_jpeg"], arrays["test_offset"], range(len(arrays["test_y"])))
        calib = _images(arrays["train_jpeg"], arrays["train_offset"], chosen)
        grid: dict[str, Any] = {"x_scale": np.float32(1), "x_zero_point": np.int64(0)}
        np.savez(path, x=x, y=arrays["test_y"], calib_x=calib, **grid)


def _images(packed: Any, offsets: Any, chosen: Any) -> Any:
    """Images (N, 32, 32, 3) uint8."""
    from PIL import Image  # noqa: PLC0415 - for this set alone

    files = (packed[offsets[i] : offsets[i + 1]].tobytes() for i in chosen)
    return np.stack([np.asarray(Image.open(io.BytesIO(f)).convert("RGB")) for f in files])


def samples(source: Source, key: str = "x") -> data.DataSet:
    """The test set, or what `calib_x` names."""
    ports = importer.load(source.model).inputs
    if key == "x":
        return data.load(source.data, ports)
    return data.load(source.calib or source.data, ports, "calib_x")


def scored(source: Source, outputs: Any) -> metrics.Scored:
    """Real outputs with their labels."""
    found = samples(source)
    assert found.y is not None
    inputs = found.real()[0] if found.group is not None else found.x[0]
    return metrics.Scored(inputs, outputs, found.y, found.group)


def accuracy_of(source: Source, model: Path) -> float:
    """The metric of a model as onnxruntime runs it, on the whole test set."""
    session = onnxruntime.InferenceSession(str(model))
    name, x = session.get_inputs()[0].name, samples(source)
    outputs = [session.run(None, {name: x.real(i, i + 1)[0]})[0] for i in range(len(x))]
    return metrics.find(source.metric)(scored(source, np.concatenate(outputs)))


def onnxruntime_accuracy(source: Source, activations: str, weights: str) -> float:
    """The metric after onnxruntime's own static quantization: min-max, per channel, QDQ."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quantized.onnx"
        ort.quantize_static(
            str(source.model),
            str(path),
            _reader(source),
            quant_format=ort.QuantFormat.QDQ,
            per_channel=True,
            activation_type=getattr(ort.QuantType, activations),
            weight_type=getattr(ort.QuantType, weights),
        )
        return accuracy_of(source, path)


def _reader(source: Source) -> Any:
    (found,) = samples(source, "calib_x").spread(CALIBRATION).real()
    name = importer.load(source.model).inputs[0].name

    class Reader(ort.CalibrationDataReader):  # type: ignore[misc]
        """Hands out samples one by one."""

        def __init__(self) -> None:
            self.rows = iter(found)

        def get_next(self) -> dict[str, Any] | None:
            row = next(self.rows, None)
            return None if row is None else {name: row[None]}

    return Reader()
