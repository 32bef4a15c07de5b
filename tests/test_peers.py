"""The comparison with published results: whose figures they are, and which is the best."""

from __future__ import annotations

import tomllib

import pytest

from benchmarks import peers, silicon
from targets.target import load

CLOCK_HZ = 120_000_000


def test_every_result_is_of_the_board_and_of_known_networks() -> None:
    board, known = peers.peers()
    assert load(board).clock_hz == CLOCK_HZ
    assert len({peer.name for peer in known}) == len(known) > 2
    assert all(peer.microseconds for peer in known)


def test_it_agrees_with_the_images_that_predictions_are_held_against() -> None:
    """Where an image's measured time is listed for validation, it is the one compared with here."""
    board, known = peers.peers()
    listed = tomllib.loads(silicon.LIST.read_text())["images"]
    times = {
        (one["task"], one["version"], one["microseconds"])
        for one in listed
        if one["board"] == board
    }
    for name in ("STMicroelectronics v1.2", "Bosch v1.2", "Bosch, max_performance v1.2"):
        (peer,) = (peer for peer in known if peer.name == name)
        assert {(task, "1.2", time) for task, time in peer.microseconds.items()} <= times


@pytest.mark.parametrize(
    ("task", "name", "cycles"),
    [
        ("kws", "STMicroelectronics v1.2", 5_182_388),
        ("ic", "STMicroelectronics v1.2", 19_814_552),
        ("vww", "STMicroelectronics v1.2", 10_671_226),
        ("ad", "Plumerai v1.1", 486_197),
    ],
)
def test_the_best(task: str, name: str, cycles: int) -> None:
    found = peers.best(task, peers.peers()[1], CLOCK_HZ)
    assert found is not None
    assert (found[0].name, found[1]) == (name, cycles)


def test_nobody_published_the_fifth() -> None:
    assert peers.best("sww", peers.peers()[1], CLOCK_HZ) is None


@pytest.mark.parametrize(("cycles", "ratio"), [(1000, "1.40 | yes"), (1001, "1.40 | no")])
def test_a_row_has_the_ratio_to_the_best(cycles: int, ratio: str) -> None:
    parts = {"alignment": 100, "data": 0}
    timing = {"cycles": cycles, "latency_ms": 0.01, "breakdown": parts}
    found = {"model": "kws", "timing": timing, "flash": {"total": 5}, "sram": {"total": 6}}
    peer = peers.Peer("other v1", {"kws": 1400 / 120})
    line = peers.row(found, "speed", (peer, 1400))
    assert line.endswith(f"| 1,400 (other v1) | {ratio} |")
