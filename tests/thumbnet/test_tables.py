"""Tables for terminals, Markdown and spreadsheets, and the progress bars."""

from __future__ import annotations

import csv
import io
import json
import shutil
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from thumbnet import show, tables, views
from thumbnet.cli import cli
from thumbnet.tables import Bar, Code, Share, Table


def printed(*arguments: object) -> str:
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_layers_in_every_format(digits: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(digits, tmp_path / "digits")
    options = ("emulate", folder, "--max-samples", 1, "--quiet", "--format")
    found = json.loads(printed(*options, "json"))
    rows = list(csv.DictReader(io.StringIO(printed(*options, "csv"))))
    assert [row["layer"] for row in rows] == [layer["name"] for layer in found["layers"]]
    assert sum(int(row["cycles"]) for row in rows) == sum(one["cycles"] for one in found["layers"])
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1)
    markdown = printed(*options, "md").splitlines()
    assert len(markdown) == len(rows) + 2
    assert markdown[2].startswith("| `/stem/conv/Conv` |")
    assert len({line.count(" |") for line in markdown}) == 1
    assert found["matches_reference"] is True


@pytest.mark.parametrize("verb", ["boards", "ops"])
def test_lists_as_csv(verb: str) -> None:
    rows = list(csv.reader(io.StringIO(printed(verb, "--format", "csv"))))
    assert len(rows) > 10 and len({len(row) for row in rows}) == 1


def test_bars_grow_by_eighths() -> None:
    lengths = [tables.bar(i / 64) for i in range(65)]
    assert lengths[0] == "" and lengths[-1] == "█" * tables.BAR
    assert len(set(lengths)) == 65
    assert tables.bar(2.0) == tables.bar(1.0)


def test_cells_of_every_kind() -> None:
    table = Table(
        ("name", "n", "x", "share", "bar"), [(Code("a|b"), 1234, 0.5, Share(0.25), Bar(1))]
    )
    assert [tables.shown(value) for value in table.rows[0]] == [
        *("a|b", "1,234", "0.5", "25.0%"),
        "█" * tables.BAR,
    ]
    assert "| `a\\|b` | 1,234 |" in tables.markdown(table)
    assert tables.as_csv(table).splitlines()[1] == "a|b,1234,0.5,0.25,1"


def test_long_names_are_cut_to_the_terminal(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = json.loads((digits / "build/result.json").read_text())
    found["layers"][0]["name"] = "x" * 300
    stream = io.StringIO()
    monkeypatch.setattr(show, "out", Console(file=stream, width=120))
    show.table(views.layers(found))
    lines = stream.getvalue().splitlines()
    assert len(lines) == len(found["layers"]) + 1  # nothing wraps
    assert "xxx…" in lines[1]


def test_short_steps_show_no_bar() -> None:
    with show._LateProgress(console=Console(file=io.StringIO(), force_terminal=True)) as bars:
        bars.add_task("step", total=10)
        (task,) = bars.tasks
        assert task.elapsed is not None and task.elapsed < show.LATE_S
        rows = [table.row_count for table in bars.get_renderables()]  # type: ignore[union-attr]
        assert rows == [0]
        task.start_time = time.monotonic() - 2 * show.LATE_S
        rows = [table.row_count for table in bars.get_renderables()]  # type: ignore[union-attr]
        assert rows == [1]
