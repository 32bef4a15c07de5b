"""Latency, what-if, profiles and checks, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.thumbnet.test_cli import DATA, DIGITS, failure, result, thumbnet
from thumbnet import emulation

QUICK = ("--accuracy", "none", "--max-samples", "2")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board") / "digits"
    result("generate", DIGITS, "-o", folder, "--data", DATA, "--target", "nucleo-l4r5zi")
    return folder


def test_a_validated_board_states_its_error(board: Path) -> None:
    found = result("emulate", board, *QUICK)
    timing = found["timing"]
    assert timing["error"] == 0.05
    assert "published images" in timing["validated"]
    assert timing["wait_states"] == 5
    assert timing["breakdown"]["data"] > 0  # weights come from flash
    assert sum(layer["timing_cycles"] for layer in found["layers"]) == pytest.approx(
        timing["cycles"], rel=0.01
    )
    shown = thumbnet("emulate", board, *QUICK).stdout
    assert "5 wait states (±5%)" in shown


def test_without_checks_no_error_is_stated(board: Path) -> None:
    found = result("emulate", board, *QUICK, "--checks", "none")
    assert found["checked_samples"] == 0
    assert found["timing"]["error"] is None
    assert result("emulate", board, *QUICK, "--checks", "all")["checked_samples"] == 2


def test_without_a_c_compiler_python_counts_the_same(board: Path) -> None:
    plain = thumbnet("emulate", board, *QUICK, "--json", THUMBNET_NO_NATIVE="1")
    found = json.loads(plain.stdout)
    assert plain.returncode == 0
    assert found["checked_samples"] == 0
    assert found["instructions"] == result("emulate", board, *QUICK)["instructions"]
    refused = failure(1, "emulate", board, *QUICK, "--checks", "all", THUMBNET_NO_NATIVE="1")
    assert "--checks none" in refused


def test_what_if(board: Path) -> None:
    slow, none, both = result(
        "emulate",
        board,
        *QUICK,
        *("--what-if", "clock=40M", "--what-if", "ws=0", "--what-if", "clock=20M,ws=3"),
    )["what_if"]
    assert (slow["clock_hz"], slow["wait_states"]) == (40_000_000, 1)
    assert (none["clock_hz"], none["wait_states"]) == (120_000_000, 0)
    assert (both["clock_hz"], both["wait_states"]) == (20_000_000, 3)
    assert none["cycles"] < slow["cycles"] < both["cycles"]
    assert slow["latency_ms"] == pytest.approx(slow["cycles"] / 40e3, rel=1e-3)


@pytest.mark.parametrize("text", ["clock=fast", "ws=", "voltage=3", "clock=0", "clock=200M"])
def test_what_cannot_be(board: Path, text: str) -> None:
    assert "hint" in failure(2, "emulate", board, *QUICK, "--what-if", text) or text == "clock=0"


def test_nothing_is_known_of_a_generic_flash(tmp_path: Path) -> None:
    message = failure(2, "run", DIGITS, "--data", DATA, *QUICK, "--what-if", "ws=2")
    assert "nothing is known of the flash of 'generic-m4'" in message


def test_profile(board: Path, tmp_path: Path) -> None:
    path = tmp_path / "flame.json"
    found = result("emulate", board, *QUICK, "--speedscope", path)
    profile, cycles = found["profile"], found["timing"]["cycles"]
    for table in ("kernels", "symbols", "mix"):
        assert sum(row["cycles"] for row in profile[table]) == pytest.approx(cycles, rel=0.01)
        instructions = sum(row["instructions"] for row in profile[table])
        assert instructions == pytest.approx(found["instructions"], rel=1e-3)  # medians of samples
    assert any(line["file"].endswith(".S") and line["line"] for line in profile["lines"])
    flame: dict[str, Any] = json.loads(path.read_text())
    (stacks,) = flame["profiles"]
    assert sum(stacks["weights"]) == pytest.approx(cycles, rel=0.01)
    assert stacks["endValue"] == pytest.approx(sum(stacks["weights"]))
    assert len(stacks["samples"]) == len(stacks["weights"])
    frames = flame["shared"]["frames"]
    assert all(0 <= i < len(frames) for stack in stacks["samples"] for i in stack)
    names = {frame["name"] for frame in frames}
    assert {layer["name"] for layer in found["layers"]} <= names
    assert sorted(p.name for p in tmp_path.iterdir()) == ["flame.json"]


@pytest.mark.parametrize(
    ("by", "shown"),
    [("symbols", "digits_conv2d"), ("lines", ".S:"), ("mix", "accumulate"), ("kernels", "gemm")],
)
def test_tables(board: Path, by: str, shown: str) -> None:
    assert shown in thumbnet("emulate", board, *QUICK, "--by", by).stdout


def test_a_profile_needs_counts(board: Path, tmp_path: Path) -> None:
    message = failure(
        2, "emulate", board, *QUICK, "--no-profile", "--speedscope", tmp_path / "x.json"
    )
    assert "--speedscope needs --profile" in message


def test_a_place_that_cannot_be_written(board: Path) -> None:
    assert "cannot write" in failure(
        2, "emulate", board, *QUICK, "--speedscope", "/nowhere/flame.json"
    )


def test_cycle_models_are_named(board: Path) -> None:
    assert (
        result("emulate", board, *QUICK, "--cycles-model", "cortex-m7")["cycles_model"]
        == "cortex-m7"
    )
    assert "known: m4-simple" in failure(2, "emulate", board, *QUICK, "--cycles-model", "m9")


def test_samples_in_parallel_are_the_same(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from thumbnet import verify
    from thumbnet.options import RunOptions

    options = RunOptions(data=str(DATA), accuracy="none", max_samples=7)
    one = verify.verify(board, options)
    monkeypatch.setattr(emulation, "WORTH_A_PROCESS", 0)
    assert verify.verify(board, options) == one
