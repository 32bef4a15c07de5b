"""The Python interface."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thumbnet as tn
from tests.thumbnet.conftest import DATA, HOSTILE, MODEL, hostile_model


@pytest.fixture(scope="module")
def samples() -> dict[str, Any]:
    data = np.load(DATA)
    scale = np.float32(data["x_scale"])
    return {"x": data["x"] * scale, "y": data["y"], "calib": data["calib_x"] * scale}


@pytest.fixture(scope="module")
def model(samples: dict[str, Any]) -> tn.Model:
    return tn.compile(MODEL, calib=samples["calib"])


def test_compile_and_emulate(model: tn.Model, samples: dict[str, Any]) -> None:
    done = model.emulate(samples["x"][:40], samples["y"][:40], max_samples=4)
    assert done.matches_reference
    assert done.outputs[0].shape == (4, 10)
    assert done.outputs[0].dtype == np.float32
    assert list(done.outputs[0].argmax(axis=1)) == list(samples["y"][:4])
    assert done.found["accuracy"]["samples"] == 40
    assert done.found["accuracy"]["float"] > 0.9
    assert done.cycles == done.found["timing"]["cycles"]
    assert done.latency_ms == pytest.approx(done.cycles / 120e3, rel=1e-4)
    assert done.sram == done.found["sram"]["total"] and done.flash == done.found["flash"]["total"]
    assert len(done.layers) == 7


def test_a_mapping_by_input_names(model: tn.Model, samples: dict[str, Any]) -> None:
    named = tn.compile(MODEL, calib={"x": samples["calib"]})
    assert named.files == model.files


def test_no_samples_are_random_ones(model: tn.Model) -> None:
    done = model.emulate(max_samples=1)
    assert done.matches_reference
    assert done.found["accuracy"] is None


def test_save_writes_what_generate_writes(model: tn.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "project")
    written = {path.name: path.read_bytes() for path in (tmp_path / "project").iterdir()}
    assert written == dict(model.files)
    assert b'"model": "digits"' in written["manifest.json"]


def test_report_and_export(model: tn.Model, samples: dict[str, Any], tmp_path: Path) -> None:
    page = model.report(tmp_path / "x.html", samples["x"][:8]).read_text()
    assert "against" in page and "Quantization error" in page
    model.export("make", tmp_path / "make")
    assert (tmp_path / "make/Makefile").is_file()
    with pytest.raises(tn.ThumbnetError, match="unknown package"):
        model.export("rpm", tmp_path / "rpm")


def test_the_project_goes_with_the_model(samples: dict[str, Any]) -> None:
    short = tn.compile(MODEL, calib=samples["calib"], optimize="flash")
    folder = short.folder
    assert folder.is_dir() and short.manifest["optimize"] == "flash"
    del short
    gc.collect()
    assert not folder.parent.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target": "nucleo"}, "unknown target"),
        ({"optimise": "speed"}, "optimise"),
        ({"calib": np.zeros((4, 3, 8, 8))}, "shape"),
        ({}, "calibration"),
    ],
)
def test_errors_say_what_is_wrong(options: dict[str, Any], says: str) -> None:
    with pytest.raises(tn.ThumbnetError, match=says) as caught:
        tn.compile(MODEL, **options)
    assert caught.value.hint or says == "shape"


def test_labels_need_samples(model: tn.Model) -> None:
    with pytest.raises(tn.ThumbnetError, match="labels"):
        model.emulate(y=[1, 2])


def test_notebooks_show_names_as_text(tmp_path: Path) -> None:
    hostile_model(tmp_path / "x.onnx")
    shown = tn.compile(tmp_path / "x.onnx", calib="random")._repr_html_()
    assert "<td>" in shown and "<img" not in shown and "&lt;img" in shown
    assert not any(name in shown for name in HOSTILE[:2])
