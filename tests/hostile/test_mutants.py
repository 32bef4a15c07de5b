"""Mutated models end in a clear error or in C. `python -m benchmarks.mutants` tries as many as one likes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import mutants
from codegen import importer
from targets.errors import ThumbnetError, UnsupportedModel
from tests.codegen.tiny_models import Net, node
from tests.hostile.mutate import mutant
from tests.hostile.seeds import seeds
from tests.hostile.test_values import conv, grid, normalization
from tests.hostile.trial import Hang, attempt, limited
from thumbnet import compiler
from thumbnet.options import CompileOptions

ROOT = Path(__file__).resolve().parents[2]
FEW, MANY = 600, 20_000
FROM = 10_000_000  # numbers that long runs, which begin at 0, have not tried


@pytest.mark.parametrize("name", seeds())
def test_the_seeds_are_sound(name: str, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(seeds()[name].SerializeToString())
    assert attempt(tmp_path / "net.onnx", whole=True).outcome == "compiled"


def check(tally: mutants.Tally, count: int) -> None:
    assert not tally.defects, tally.defects[:10]
    assert sum(tally.outcomes.values()) == count
    assert tally.outcomes["imported"] + tally.outcomes["compiled"] > count / 10
    assert tally.most_seconds < 2.0
    assert tally.peak < mutants.MOST_BYTES


def test_some_mutants(tmp_path: Path) -> None:
    check(in_a_process(FROM, FROM + FEW, 60, tmp_path), FEW)


@pytest.mark.sweep
def test_many_mutants(tmp_path: Path) -> None:
    check(in_a_process(FROM + FEW, FROM + FEW + MANY, 100, tmp_path), MANY)


def in_a_process(first: int, end: int, whole: int, folder: Path) -> mutants.Tally:
    """What comes of some mutants; in a process of their own, as memory is measured."""
    arguments = [str(first), str(end), str(folder), str(whole), ""]
    command = [sys.executable, "-m", "benchmarks.mutants", "--chunk", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    return mutants.Tally(**json.loads(done.stdout))


def test_a_number_is_a_mutant() -> None:
    """Within a process and across processes, whatever seeds the hashes of texts."""
    code = (
        "import hashlib; from tests.hostile.mutate import mutant; from tests.hostile.seeds import seeds;"
        "print([hashlib.sha256(mutant(n, seeds())).hexdigest() for n in range(30)])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        ).stdout
        for seed in ("0", "1")
    }  # fmt: skip
    here = [hashlib.sha256(mutant(n, seeds())).hexdigest() for n in range(30)]
    assert said == {f"{here}\n"}
    assert len(set(here)) == 30


def test_an_endless_loop_is_noticed() -> None:
    def forever() -> None:
        while True:
            with contextlib.suppress(Exception):
                hashlib.sha256(b"").hexdigest()

    with pytest.raises(Hang), limited(0.2):
        forever()


def test_runs_go_on_where_they_ended(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    command = [sys.executable, "-m", "benchmarks.mutants", "--jobs", "1", "--state", str(state)]
    for count in (20, 20):
        subprocess.run([*command, "--count", str(count)], cwd=ROOT, check=True, capture_output=True)
    kept = json.loads(state.read_text())
    assert kept["chunks"] == [0]
    assert sum(kept["tally"]["outcomes"].values()) == 20


# What mutants have found, kept as code.


def load(net: Net, folder: Path) -> None:
    (folder / "net.onnx").write_bytes(net.model().SerializeToString())
    importer.load(folder / "net.onnx")


def test_an_attribute_without_a_type(tmp_path: Path) -> None:
    model = conv().model()
    model.graph.node[0].op_type = "Relu"
    model.graph.node[0].attribute.add(name="axis")
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ThumbnetError, match="layer") as caught:
        importer.load(tmp_path / "net.onnx")
    assert not isinstance(caught.value.__cause__, TypeError)


@pytest.mark.parametrize("axes", [[7], [0, 1, 2], [-9]])
def test_a_slice_of_axes_that_are_not_there(axes: list[int], tmp_path: Path) -> None:
    values = {"s": [0], "e": [1], "a": axes}
    nodes = [node("Slice", "x s e a", name="cut")]
    net = Net(nodes, [(1, 4)], {k: np.array(v) for k, v in values.items()})
    with pytest.raises(UnsupportedModel, match="Slice 'cut'"):
        load(net, tmp_path)


def test_a_gather_beyond_the_end_names_its_node(tmp_path: Path) -> None:
    values = {"t": [1, 2, 3], "i": [72]}
    nodes = [node("Gather", "t i", "g", name="pick"), node("Reshape", "x g")]
    net = Net(nodes, [(1, 4)], {k: np.array(v) for k, v in values.items()})
    with pytest.raises(UnsupportedModel, match="Gather 'pick'"):
        load(net, tmp_path)


def test_names_do_not_drive_the_terminal(tmp_path: Path) -> None:
    net = Net([node("\x1b[31mConv\n\t", "x", name="\x1b[0m" + "long" * 1000)], [(1, 4)])
    with pytest.raises(UnsupportedModel) as caught:
        load(net, tmp_path)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 1000


def test_activations_too_small_for_bins(tmp_path: Path) -> None:
    """A factor of 1e-45 leaves denormal numbers, which no histogram divides."""
    for net in (normalization(g=1e-45), grid(1e-45)):
        (tmp_path / "net.onnx").write_bytes(net.model().SerializeToString())
        with contextlib.suppress(UnsupportedModel):
            options = CompileOptions(calib="random", method="mse")
            assert compiler.compile_model(tmp_path / "net.onnx", options).files
