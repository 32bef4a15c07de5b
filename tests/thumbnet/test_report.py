"""The report: one page, whose numbers are those of the JSON inside it, and that nothing can break out of."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen import data, graph_file, importer, pipeline
from tests.thumbnet.conftest import DATA, MODEL
from thumbnet import analysis, report
from thumbnet.options import RunOptions

ROOT = Path(__file__).resolve().parent.parent.parent
OPENS_NOTHING = frozenset({"meta", "link", "br", "img", "input"})
# How the page spells numbers, written a second time.
SPELLINGS: dict[str, Callable[[Any], str]] = {
    "count": lambda v: format(v, ","),
    "bytes": lambda v: format(v, ",") + " B",
    "ms": lambda v: format(v, ".3f") + " ms",
    "plain_ms": lambda v: format(v, ".3f"),
    "share": lambda v: format(100 * v, ".1f") + "%",
    "fine_share": lambda v: format(100 * v, ".3f") + "%",
    "score": lambda v: format(100 * v, ".2f") + "%",
    "db": lambda v: format(v, ".1f"),
    "number": lambda v: format(v, ".4g"),
    "mhz": lambda v: format(v / 1e6, "g") + " MHz",
    "shape": lambda v: "x".join(str(size) for size in v),
    "text": str,
}


@dataclass
class Page(HTMLParser):
    """What a browser would see of a page."""

    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    numbers: list[tuple[str, str, str]] = field(default_factory=list)  # path, kind, text
    texts: dict[str, str] = field(default_factory=dict)  # of style and script, and "json"
    untraced: list[tuple[str, str]] = field(default_factory=list)  # text of a cell, its data-v
    text: str = ""
    open: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.tags.append((tag, given))
        if tag not in OPENS_NOTHING and not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append((tag, given))
        if "data-from" in given:
            self.numbers.append((given["data-from"], given["data-kind"], ""))

    def handle_endtag(self, tag: str) -> None:
        if tag not in OPENS_NOTHING and self.open and self.open[-1][0] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        tag, given = self.open[-1] if self.open else ("", {})
        if tag in ("style", "script"):
            self.texts["json" if given.get("id") == "data" else tag] = data
            return
        self.text += data
        if tag == "td" and "num" in given.get("class", "") and data.strip():
            self.untraced.append((data, given.get("data-v", "")))
        if "data-from" in given:
            path, kind, text = self.numbers[-1]
            self.numbers[-1] = (path, kind, text + data)


def parsed(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    assert not page.open, page.open
    return page


@pytest.fixture(scope="module")
def found(digits: Path) -> dict[str, Any]:
    return report.make(digits, RunOptions(data=str(DATA), max_samples=2), MODEL)


@pytest.fixture(scope="module")
def page(found: dict[str, Any]) -> Page:
    return parsed(report.page(found))


def value(found: Any, path: str) -> Any:
    for step in path.split("."):
        found = found[int(step) if isinstance(found, list) else step]
    return found


def test_every_number_is_the_one_in_the_json(page: Page) -> None:
    embedded = json.loads(page.texts["json"])
    assert len(page.numbers) > 300
    for path, kind, text in page.numbers:
        wanted = value(embedded, path)
        assert text == ("–" if wanted is None else SPELLINGS[kind](wanted)), path


def test_every_number_in_a_table_is_traced(page: Page, found: dict[str, Any]) -> None:
    """But for the positions of layers, which stand in three tables."""
    positions = [str(index) for index in range(len(found["layers"]))] * 3
    assert page.untraced == [(text, text) for text in positions]


def test_json_is_the_emulation_s(page: Page, digits: Path) -> None:
    embedded = json.loads(page.texts["json"])
    emulated = json.loads((digits / "build/result.json").read_text())
    assert embedded["sram"] == emulated["sram"]
    assert embedded["flash"] == emulated["flash"]
    assert embedded["timing"] == emulated["timing"]
    for shown, measured in zip(embedded["layers"], emulated["layers"], strict=True):
        assert shown["cycles"] == measured["timing_cycles"]
        assert shown["ms"] == pytest.approx(measured["timing_cycles"] / 120e3)
    assert sum(layer["share"] for layer in embedded["layers"]) == pytest.approx(1, abs=1e-3)


def test_confusions_add_up(found: dict[str, Any]) -> None:
    counts = np.array(found["accuracy"]["confusion"])
    assert counts.shape == (10, 10)
    assert counts.sum() == found["accuracy"]["samples"]
    assert np.trace(counts) / counts.sum() == pytest.approx(found["accuracy"]["device"])


def test_errors_of_layers_are_what_the_models_say(found: dict[str, Any], digits: Path) -> None:
    assert found["errors_against"] == analysis.FLOAT_MODEL
    errors = [layer["error"] for layer in found["layers"]]
    kept = json.loads((digits / "build/result.json").read_text())["layers"]
    assert [layer["sqnr_db"] for layer in kept] == [error["sqnr_db"] for error in errors]
    assert all(15 < error["sqnr_db"] < 60 for error in errors)
    graph = graph_file.load(digits / "reference.npz")
    samples = data.load(str(DATA), graph.inputs)
    alone = analysis.layer_errors(graph, None, samples)
    last = found["layers"][-1]["error"]["sqnr_db"]
    assert alone[graph.outputs[0].tensor]["sqnr_db"] > last  # exact weights lose less
    float_graph = pipeline.run(importer.load(MODEL))
    both = analysis.layer_errors(graph, float_graph, samples)
    assert both[graph.outputs[0].tensor]["sqnr_db"] == last
    sizes = graph.tensors[graph.outputs[0].tensor].size * analysis.SAMPLES
    assert sum(both[graph.outputs[0].tensor]["histogram"]) == sizes


def test_layers_that_the_float_model_lacks_are_measured_all_the_same(digits: Path) -> None:
    graph = graph_file.load(digits / "reference.npz")
    samples = data.load(str(DATA), graph.inputs)
    whole = pipeline.run(importer.load(MODEL))
    pool = next(node for node in whole.nodes if node.op.kind == "max_pool")
    renamed = {pool.output: "elsewhere"}
    nodes = tuple(
        replace(
            node,
            inputs=tuple(renamed.get(name, name) for name in node.inputs),
            output=renamed.get(node.output, node.output),
        )
        for node in whole.nodes
    )
    moved = replace(whole.tensors[pool.output], name="elsewhere")
    errors = analysis.layer_errors(graph, replace(whole, nodes=nodes).with_tensors(moved), samples)
    assert {node.output for node in graph.nodes} <= set(errors)
    alone = [name for name, e in errors.items() if e["against"] == analysis.ROUNDING_ALONE]
    assert alone == [pool.output]


def test_noise_is_measured_right() -> None:
    from codegen.ir import per_tensor

    sums = analysis.Sums()
    real = np.array([1.0, -1.0, 1.0, 300.0])
    sums.add(real, real + np.array([0.1, -0.1, 0.1, 0.0]), per_tensor(1.0, 0))
    summary = sums.summary()
    expected = 10 * np.log10((3 + 300.0**2) / 0.03)
    assert summary["sqnr_db"] == pytest.approx(expected, abs=0.01)
    assert summary["clipped"] == 0.25
    assert summary["histogram"][-1] == 1


def test_the_page_is_small_and_needs_nothing(found: dict[str, Any], page: Page) -> None:
    html = report.page(found)
    assert len(html.encode()) < 300_000
    loads = {"src", "href", "srcset", "action", "style", "background", "poster"}
    for tag, given in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
        assert not loads & set(given), (tag, given)
        assert not any(key.startswith("on") for key in given), (tag, given)
    assert "url(http" not in page.texts["style"] and "@import" not in page.texts["style"]
    assert not re.search(r"fetch|XMLHttp|import\(|eval|innerHTML", page.texts["script"])


def test_the_policy_names_style_and_script(page: Page) -> None:
    policy = next(g["content"] for t, g in page.tags if t == "meta" and "http-equiv" in g)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for name in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.texts[name].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_hostile_names_stay_text(hostile: Path) -> None:
    made = report.make(hostile)
    shown = parsed(report.page(made))
    plain = {tag for tag, _ in shown.tags}
    assert not plain & {"img", "iframe"}
    assert len([tag for tag, _ in shown.tags if tag == "script"]) == 2
    for tag, given in shown.tags:
        assert not any(key.startswith("on") for key in given), (tag, given)
    embedded = json.loads(shown.texts["json"])
    assert embedded["layers"] == made["layers"]
    assert any("</script><img" in layer["name"] for layer in made["layers"])
    assert "</script><img src=x onerror" in shown.text  # as text
    assert "\u202e" not in shown.text and "\x07" not in shown.text


def test_a_project_that_was_never_emulated_is_emulated_first(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    shutil.copytree(digits, folder, ignore=shutil.ignore_patterns("build"))
    command = [sys.executable, "-m", "thumbnet", "report", str(folder), "--max-samples", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    shown = parsed((folder / "report.html").read_text())
    assert "mismatched bytes" in shown.text
    assert "Confusion" not in shown.text and "Quantization error" not in shown.text


def test_the_report_is_reproducible(found: dict[str, Any]) -> None:
    assert report.page(found) == report.page(json.loads(json.dumps(found)))


def test_fits_are_the_boards_own(found: dict[str, Any]) -> None:
    from targets import target

    assert [row["target"] for row in found["boards"]] == list(target.names())
    for row in found["boards"]:
        board = target.load(row["target"])
        assert row["ram_share"] == pytest.approx(row["ram"] / board.ram.size)
        assert row["fits"] == (row["ram"] <= board.ram.size and row["flash"] <= board.flash.size)
