"""`thumbnet tune` as a user has it: files, recipes that generate takes, budgets, errors, other processes."""

from __future__ import annotations

import csv
import json
import os
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from targets.errors import ThumbnetError
from tests.thumbnet.test_cli import DATA, DIGITS, ROOT, failure, result, thumbnet
from thumbnet import parallel

pytest.importorskip("scipy")
pytest.importorskip("joblib")
FEW = ("--points", 4, "--verify", 2)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("tune") / "front"
    return folder, result("tune", DIGITS, "--data", DATA, "-o", folder, *FEW)


def test_the_folder_holds_front_picture_and_recipes(tuned: tuple[Path, dict[str, Any]]) -> None:
    folder, found = tuned
    assert json.loads((folder / "pareto.json").read_text()) == found
    rows = list(csv.DictReader((folder / "pareto.csv").open()))
    assert len(rows) == len(found["front"]) > 5
    assert [float(row["flash B"]) for row in rows] == [p["flash"] for p in found["front"]]
    assert (folder / "pareto.md").read_text().count("\n") == len(rows) + 2
    picture = ET.parse(folder / "pareto.svg").getroot()
    circles = [e for e in picture.iter() if e.tag.endswith("circle")]
    assert len(circles) == len(rows) + 3  # the legend has three
    verified = [i for i, p in enumerate(found["front"]) if p["verified"]]
    assert sorted(p.name for p in (folder / "recipes").iterdir()) == [
        f"{i:03}.toml" for i in verified
    ]
    assert found["recommended"] in verified and len(verified) == 2
    assert found["seconds"]["solve"] < 1
    assert found["additivity"]["rank_correlation"] > 0.8


def test_losses_are_those_of_layers_that_a_user_knows(tuned: tuple[Path, dict[str, Any]]) -> None:
    layers = {layer["name"]: layer["formats"] for layer in tuned[1]["layers"]}
    assert "/mix/conv/Conv" in layers and "/head/Gemm" in layers
    for formats in layers.values():
        assert formats["int8"]["loss"] < formats["int4"]["loss"] < formats["int2"]["loss"]
        assert formats["int8"]["constants"] > formats["int4"]["constants"]


def test_generate_takes_the_recipe_and_gets_what_was_measured(
    tuned: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, found = tuned
    point = found["front"][found["recommended"]]
    assert point["verified"]["mismatched_bytes"] == 0
    # A network so small is mostly code, whose size is predicted less well than that of weights.
    assert point["verified"]["flash"]["total"] == pytest.approx(point["flash"], rel=0.12)
    assert point["verified"]["cycles"] == pytest.approx(point["cycles"], rel=0.1)
    options = ("--data", DATA, "--recipe", folder / "recipe.toml", "-o", tmp_path / "again")
    again = result("generate", DIGITS, *options)
    assert again["flash"]["weights"] == point["verified"]["flash"]["weights"]
    built = {layer["name"]: layer["kernel"] for layer in again["layers"]}
    assert built == {name: layer["kernel"] for name, layer in point["layers"].items()}


def test_budgets_are_kept(tmp_path: Path) -> None:
    options = ("--data", DATA, "-o", tmp_path / "front", *FEW)
    limits = ("--flash", "9K", "--cycles", "500K")
    found = result("tune", DIGITS, *options, "--formats", "int8,int4", *limits)
    assert all(p["flash"] <= 9 * 1024 and p["cycles"] <= 500_000 for p in found["front"])
    best = min(p["combined_loss"] for p in found["front"])
    chosen = found["front"][found["recommended"]]
    alike = {layer["weights"] for layer in chosen["layers"].values() if "weights" in layer}
    assert chosen["combined_loss"] == best or len(alike) == 1
    assert "budgets" in failure(3, "tune", DIGITS, *options, "--flash", "2K")


def test_sram_is_a_limit_of_every_step_and_of_the_whole_arena(tmp_path: Path) -> None:
    options = ("--data", DATA, "-o", tmp_path / "front", "--points", 3, "--verify", 1)
    found = result("tune", DIGITS, *options, "--sram", 2200)
    assert all(point["step_sram"] <= 2200 for point in found["front"])
    point = found["front"][found["recommended"]]
    generated = ("--data", DATA, "--recipe", tmp_path / "front/recipe.toml", "-o", tmp_path / "c")
    assert result("generate", DIGITS, *generated)["sram"]["total_static"] <= 2200
    assert point["verified"]["mismatched_bytes"] == 0


def test_a_goal_of_accuracy_is_kept_on_calibration_data(tmp_path: Path) -> None:
    options = ("--data", DATA, "-o", tmp_path / "front", "--points", 3, "--verify", 1)
    formats = ("--formats", "int8,int4:vsq16")
    done = thumbnet("tune", DIGITS, *options, *formats, "--accuracy-drop", "0.1")
    assert "recommended: point" in done.stdout and "/mix/conv/Conv" in done.stdout
    assert "cannot tell 0.1 % apart" in done.stderr
    found = json.loads((tmp_path / "front" / "pareto.json").read_text())
    assert found["front"][found["recommended"]]["changed"] == 0
    assert found["formats"] == ["int8", "int4:vsq16"]


def test_the_actor_critic_needs_no_scipy(tmp_path: Path) -> None:
    missing = tmp_path / "hidden" / "scipy"
    missing.mkdir(parents=True)
    (missing / "__init__.py").write_text("raise ImportError('hidden')")
    paths = {"PYTHONPATH": os.pathsep.join((str(missing.parent), str(ROOT)))}
    options = ("--data", DATA, "--formats", "int8,int4", "--verify", 1)
    error = failure(6, "tune", DIGITS, *options, "-o", tmp_path / "exact", **paths)
    assert "thumbnet[tune]" in error
    output = tmp_path / "learnt"
    done = thumbnet("tune", DIGITS, *options, "-o", output, "--search", "rl", **paths)
    assert done.returncode == 0, done.stderr
    assert json.loads((output / "pareto.json").read_text())["search"] == "rl"


def test_wrong_requests_are_explained(tmp_path: Path) -> None:
    options = ("--data", DATA, "-o", tmp_path / "front")
    assert "int9" in failure(2, "tune", DIGITS, *options, "--formats", "int9")
    assert "vsq16" in failure(2, "tune", DIGITS, *options, "--formats", "int8:vsq16")
    assert "--calib" in failure(2, "tune", DIGITS, "-o", tmp_path / "x")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    error = failure(2, "tune", DIGITS, "--data", DATA, "-o", tmp_path / "mine")
    assert "not empty" in error


def square(number: int) -> int:
    return number * number


def test_work_is_shared_between_processes() -> None:
    moved: list[int] = []
    assert parallel.run(square, [1, 2, 3], 2, None, moved.append) == [1, 4, 9]
    assert sum(moved) == 3


def test_a_dask_cluster_measures_the_same(
    tuned: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        options = ("--data", DATA, "-o", tmp_path / "front", *FEW)
        found = result("tune", DIGITS, *options, "--dask", cluster.scheduler_address)
    for mine, other in zip(found["front"], tuned[1]["front"], strict=True):
        assert mine["verified"] == other["verified"]


def test_a_missing_cluster_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(parallel, "CONNECT_S", 1)
    with pytest.raises(ThumbnetError, match="no scheduler answers"):
        parallel.run(square, [1], 1, "tcp://127.0.0.1:9")


def test_a_recipe_may_force_two_bits_into_a_layer(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    layer = '[layers."/mix/conv/Conv"]\nweights = "int2"\n'
    options = ("--data", DATA, "--recipe", recipe, "-o", tmp_path / "digits")
    recipe.write_text(layer)
    assert "no usable model" in failure(2, "generate", DIGITS, *options)
    recipe.write_text("force = 2\n" + layer)
    assert "true or false" in failure(2, "generate", DIGITS, *options)
    recipe.write_text("force = true\n" + layer)
    found = result("generate", DIGITS, *options)
    mix = next(one for one in found["layers"] if one["name"] == "/mix/conv/Conv")
    assert mix["weights_bits"] == 2
    assert (tmp_path / "digits/recipe.toml").read_text().count("force = true") == 1
    again = ("--data", DATA, "--recipe", tmp_path / "digits/recipe.toml", "-o", tmp_path / "again")
    assert result("generate", DIGITS, *again)["build_id"] == found["build_id"]
