"""memory.svg: well-formed whatever the model is called, one rectangle per tensor, small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from codegen import memory_svg, occupancy, plan
from codegen.ir import Graph, Node, Port, Tensor, per_tensor, verify_quantized
from codegen.ops import OPS
from targets.target import load
from tests.codegen import random_graphs
from tests.golden import network
from thumbnet import compiler, memory_map
from thumbnet.options import CompileOptions

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = ("</title><script>alert(1)</script>", "\x00\x1b]0;x\x07", "a&b<c>\"'", "\ud800é漢" * 50)


def chain(length: int) -> Graph:
    grid = per_tensor(0.05, 0)
    tensors = {f"t{i}": Tensor(f"t{i}", (1, 4, 4, 2), grid) for i in range(length + 1)}
    nodes = tuple(
        Node(OPS["max_pool"]((1, 1), (1, 1)), (f"t{i}",), f"t{i + 1}") for i in range(length)
    )
    ports = [(Port(n, n, (1, 4, 4, 2), (0, 1, 2, 3)),) for n in ("t0", f"t{length}")]
    return verify_quantized(Graph("long", tensors, nodes, ports[0], ports[1]))


def renamed(graph: Graph, name: str) -> Graph:
    """The graph with its first inner tensor and its node called otherwise."""
    old = graph.nodes[0].output
    nodes = tuple(
        replace(
            node,
            inputs=tuple(name if i == old else i for i in node.inputs),
            output=name if node.output == old else node.output,
            sources=(name,) if node.output == old else node.sources,
        )
        for node in graph.nodes
    )
    tensors = {name if n == old else n: t for n, t in graph.tensors.items()}
    tensors[name] = replace(tensors[name], name=name)
    return replace(graph, nodes=nodes, tensors=tensors)


def test_one_rectangle_per_tensor_and_a_bound() -> None:
    made = network.planned("generic-m4")
    drawn = ElementTree.fromstring(memory_svg.draw(made))
    boxes = [r for r in drawn.iter(f"{SVG}rect") if r.find(f"{SVG}title") is not None]
    places = occupancy.places(made)
    assert len(boxes) == len(places)
    assert {r.get("class") for r in boxes} == {p.kind for p in places}
    titles = [r.findtext(f"{SVG}title") or "" for r in boxes]
    for place in places:
        assert any(t.startswith(f"{place.slot.name} ({place.kind})") for t in titles)
    assert f"bound {made.size_bound:,} B" in memory_svg.draw(made)
    assert memory_svg.draw(made) == memory_svg.draw(made)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_stay_text(name: str) -> None:
    made = plan.make(renamed(random_graphs.graph(3), name), load("generic-m4").core)
    text = memory_svg.draw(made)
    drawn = ElementTree.fromstring(text.encode())
    tags = {element.tag.removeprefix(SVG) for element in drawn.iter()}
    assert tags == {"svg", "title", "style", "text", "path", "rect"}
    assert not any(ord(c) < 32 and c != "\n" for c in text)


def test_a_long_network_stays_small() -> None:
    text = memory_svg.draw(plan.make(chain(500), load("generic-m4").core))
    assert len(text.encode()) < 60_000
    assert "small places are not shown" in text
    ElementTree.fromstring(text)


def test_the_project_holds_the_picture(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2] / "examples/digits"
    options = CompileOptions(data=str(root / "digits.npz"))
    made = compiler.compile_model(root / "digits.onnx", options)
    assert len(made.files["memory.svg"]) < 60_000
    ElementTree.fromstring(made.files["memory.svg"])
    entries = made.manifest["memory_map"]
    assert {e["kind"] for e in entries} >= {"input", "output", "tensor"}
    by_name = {e["name"]: e for e in entries}
    for entry in entries:
        assert (entry["layer"] is None) == (entry["kind"] == "input")
        for other in entry["overlaps"]:
            assert entry["name"] in by_name[other]["overlaps"]
    assert len(memory_map.arena_map(made.manifest).steps) == len(made.manifest["layers"])
