"""Comparing builds: changes per layer, limits, formats."""

from __future__ import annotations

import copy
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from targets.errors import UsageError
from thumbnet import compare, project, show_compare

ROOT = Path(__file__).resolve().parent.parent.parent
HOSTILE = "a|b`<img src=x>@team\n=1+1\x1b[31m"


def layer(name: str, cycles: int | None, **more: Any) -> dict[str, Any]:
    given = {"kernel": "conv2d.gemm", "arena_bytes": 512, "scratch": 64, "weight_bytes": 900}
    counts = {"constant_bytes": 100, "cycles": cycles, "instructions": cycles and cycles - 50}
    return {"name": name} | given | counts | more


def build(*layers: dict[str, Any], **more: Any) -> dict[str, Any]:
    cycles = [one["cycles"] for one in layers]
    measured = None not in cycles
    code = {"code": 2000, "total": 4000} if measured else {"code": None}
    return {
        "schema_version": project.SCHEMA_VERSION,
        "model": "net",
        "target": "generic-m4",
        "cycles": sum(cycles) if measured else None,
        "sram": {"total_static": 600} | ({"total": 720} if measured else {}),
        "flash": {"weights": 1800, "constants": 200} | code,
        "layers": list(layers),
        **more,
    }


def thumbnet(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "thumbnet", "compare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A build and the same with 3 % more cycles, all in one layer."""
    before = build(layer("first", 40_000), layer("second", 50_000), layer("third", 10_000))
    after = copy.deepcopy(before)
    after["layers"][1]["cycles"] += 3_000
    after["cycles"] += 3_000
    paths = tmp_path / "a.json", tmp_path / "b.json"
    for path, found in zip(paths, (before, after), strict=True):
        path.write_text(json.dumps(found))
    return paths


def test_a_regression_of_three_percent_is_caught_and_its_layer_named(
    files: tuple[Path, Path],
) -> None:
    done = thumbnet(*files, "--fail-on", "cycles+2%,flash+1k")
    assert done.returncode == 1
    assert "FAIL  cycles+2%" in done.stderr
    assert "'second'" in done.stderr
    assert "+3.00%" in done.stderr
    assert "ok    flash+1k" in done.stderr
    assert thumbnet(*files, "--fail-on", "cycles+4%").returncode == 0
    assert thumbnet(*files[::-1], "--fail-on", "cycles+2%").returncode == 0  # faster is fine


def test_json_is_one_object_with_every_change(files: tuple[Path, Path]) -> None:
    done = thumbnet(*files, "--fail-on", "cycles+2%", "--json")
    found = json.loads(done.stdout)
    assert found["passed"] is False
    assert found["limits"][0]["layer"]["name"] == "second"
    assert found["totals"]["cycles"] == {
        "a": 100_000,
        "b": 103_000,
        "delta": 3_000,
        "relative": pytest.approx(0.03),
    }
    assert [one["status"] for one in found["layers"]] == ["same", "changed", "same"]
    assert json.loads(thumbnet(*files, "--format", "json").stdout)["totals"] == found["totals"]


def test_layers_come_and_go() -> None:
    before = build(layer("kept", 1000), layer("gone", 500))
    after = build(layer("kept", 1000, kernel="conv2d.pairs"), layer("fresh", 700))
    found = compare.compare(before, after, compare.limits("cycles+1"))
    assert {one["name"]: one["status"] for one in found["layers"]} == {
        "kept": "changed",
        "fresh": "added",
        "gone": "removed",
    }
    assert found["limits"][0]["layer"]["name"] == "fresh"
    table = show_compare.markdown(found)
    assert "| + | `fresh` |" in table
    assert "conv2d.gemm -> conv2d.pairs" in table


def test_builds_that_were_not_measured_compare_by_their_plans() -> None:
    planned, measured = build(layer("one", None)), build(layer("one", 1000))
    found = compare.compare(planned, measured)
    assert found["totals"]["sram"]["delta"] == 0  # without stack, on both sides
    assert found["totals"]["cycles"]["delta"] is None
    with pytest.raises(UsageError, match="no cycles"):
        compare.compare(planned, measured, compare.limits("cycles+1%"))


@pytest.mark.parametrize(
    ("text", "amount", "relative"),
    [("cycles+2%", 0.02, True), ("flash+1k", 1024, False), ("cycles+1K", 1000, False)],
)
def test_limits_are_read(text: str, amount: float, relative: bool) -> None:
    (limit,) = compare.limits(text)
    assert (limit.amount, limit.relative, limit.sign) == (amount, relative, 1)


@pytest.mark.parametrize("text", ["cycles", "cycles+", "cyles+2%", "flash=3", "cycles+2%%"])
def test_wrong_limits_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        compare.limits(text)
    assert caught.value.hint


def test_errors_of_layers_are_compared_where_a_report_measured_them() -> None:
    before, after = build(layer("one", 10, sqnr_db=30.5)), build(layer("one", 10, sqnr_db=24.5))
    found = compare.compare(before, after)
    assert found["layers"][0]["sqnr_db"]["delta"] == -6
    assert found["layers"][0]["status"] == "changed"
    assert "SQNR dB" in show_compare.layers(found).headings
    assert "SQNR dB" not in show_compare.layers(compare.compare(build(), build())).headings


def test_a_loss_of_accuracy_is_caught() -> None:
    before = build(layer("one", 10), accuracy={"device": 0.92})
    after = build(layer("one", 10), accuracy={"device": 0.90})
    found = compare.compare(before, after, compare.limits("accuracy-0.5%, accuracy+1%"))
    assert [limit["exceeded"] for limit in found["limits"]] == [True, False]
    assert found["limits"][0]["layer"] is None


def test_hostile_names_stay_text() -> None:
    found = compare.compare(build(layer("one", 10)), build(layer(HOSTILE, 20)))
    table = show_compare.markdown(found)
    row = next(line for line in table.splitlines() if "img" in line)
    name = row.split(" | ")[1]
    assert name.startswith("`") and name.endswith("`") and "`" not in name[1:-1]
    assert "\x1b" not in table
    cells = [row[0] for row in csv.reader(show_compare.as_csv(found).splitlines())]
    assert not any(cell[:1] in "=+-@" for cell in cells)


def test_every_row_of_a_csv_has_every_column(files: tuple[Path, Path]) -> None:
    rows = list(csv.reader(thumbnet(*files, "--format", "csv").stdout.splitlines()))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert rows[-1][0] == "TOTAL"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"layers": []}', "\xff"])
def test_files_that_are_no_build_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content, encoding="latin-1")
    done = thumbnet(path, path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
