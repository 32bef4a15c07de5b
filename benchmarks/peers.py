"""Our predicted cycles next to published measurements: `python -m benchmarks.peers [--toolchain NAME]`.

Writes benchmarks/results/peers-l4r5.md and prints it. Needs the reference data, as benchmarks.models does.
"""

from __future__ import annotations

import argparse
import datetime
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from benchmarks.models import RESULTS, TASKS, Toolchain, data_folder, measure
from codegen.select import Objective
from targets import load

LIST = Path(__file__).with_name("peers.toml")
RESULT = RESULTS / "peers-l4r5.md"
GOAL = 1.4  # the fewest published cycles over ours
OBJECTIVES: tuple[Objective, ...] = ("speed", "balanced")

TEXT = """# MLPerf Tiny on {board}, {megahertz} MHz, {date}

Written by `python -m benchmarks.peers`.

Published figures are measurements: medians of the board's own timer, in microseconds, times {megahertz}, from
the repositories mlcommons/tiny_results_v1.1 and v1.2.

Ours are **predictions** of the calibrated model `{model}`, not measurements. Its stated error is {error}, on
{against}; no image of ours was among them. Compiler: {toolchain}.

Our networks are the benchmark's float models, quantized by thumbnet on the benchmark's data; every output
byte of 20 samples equals the reference's. Channels that are proved constant are not computed. A prediction is
one inference with its input in place. sww is no part of these rounds.
"""


@dataclass(frozen=True)
class Peer:
    """A published result: microseconds per inference of each network that it has."""

    name: str
    microseconds: Mapping[str, float]

    def cycles(self, task: str, clock_hz: int) -> int | None:
        """Of a network, at the board's clock."""
        time = self.microseconds.get(task)
        return None if time is None else round(time * clock_hz / 1e6)


def peers(path: Path = LIST) -> tuple[str, tuple[Peer, ...]]:
    """The board, and everybody's results on it."""
    with path.open("rb") as stream:
        found = tomllib.load(stream)
    names = {task.name for task in TASKS}
    return found["board"], tuple(
        Peer(
            f"{one['submitter']} v{one['version']}",
            {key: value for key, value in one.items() if key in names},
        )
        for one in found["results"]
    )


def best(task: str, known: tuple[Peer, ...], clock_hz: int) -> tuple[Peer, int] | None:
    """The fewest published cycles of a network, and whose they are."""
    found = [(peer, cycles) for peer in known if (cycles := peer.cycles(task, clock_hz))]
    return min(found, key=lambda pair: pair[1], default=None)


def published_rows(known: tuple[Peer, ...], clock_hz: int) -> list[str]:
    """A line per result, a column per network."""
    lines = []
    for peer in known:
        cycles = [peer.cycles(task.name, clock_hz) for task in TASKS]
        cells = [peer.name, *("-" if one is None else f"{one:,}" for one in cycles)]
        lines.append(_line(cells))
    return lines


def row(found: Mapping[str, Any], optimize: str, against: tuple[Peer, int] | None) -> str:
    """A line of our table.

    Args:
        found: the JSON object of `thumbnet run`.
        optimize: the objective it was generated for.
        against: the best published result.
    """
    timing = found["timing"]
    parts = timing["breakdown"]
    shares = [f"{parts[key] / timing['cycles']:.1%}" for key in ("alignment", "data")]
    cells = [found["model"], optimize, f"{timing['cycles']:,}", f"{timing['latency_ms']:.2f}"]
    cells += [*shares, f"{found['flash']['total']:,}", f"{found['sram']['total']:,}"]
    if against is None:
        return _line([*cells, "-", "-", "-"])
    peer, cycles = against
    ratio = cycles / timing["cycles"]
    return _line([*cells, f"{cycles:,} ({peer.name})", f"{ratio:.2f}", _verdict(ratio)])


def _verdict(ratio: float) -> str:
    return "yes" if ratio >= GOAL else "no"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def report(board: str, toolchain: str, known: tuple[Peer, ...], rows: list[str]) -> str:
    """The page: what is compared with what, and how far ours can be trusted."""
    target = load(board)
    checked = target.validated
    assert checked is not None
    text = TEXT.format(
        board=board,
        megahertz=f"{target.clock_hz / 1e6:g}",
        date=datetime.date.today().isoformat(),
        model=target.core.cycle_model,
        error=f"{checked.error:.0%}",
        against=checked.against,
        toolchain=toolchain,
    )
    heads = [
        _line(["published, cycles", *(task.name for task in TASKS)]),
        "|---|" + "---:|" * len(TASKS),
    ]
    columns = [
        "model",
        "--optimize",
        "predicted cycles",
        "ms",
        "alignment",
        "flash data",
        "flash B",
    ]
    columns += ["SRAM B", "best published cycles", "ratio", f"at least {GOAL:g}"]
    published = [*heads, *published_rows(known, target.clock_hz)]
    ours = [_line(columns), "|---|---|" + "---:|" * (len(columns) - 3) + "---|", *rows]
    return "\n".join([text, *published, "", *ours, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--toolchain", default="gcc", choices=get_args(Toolchain))
    chosen = parser.parse_args()
    if not (data_folder() / "models").is_dir():
        raise SystemExit("reference data not found; set THUMBNET_DATA")
    board, known = peers()
    clock_hz = load(board).clock_hz
    rows, compiler = [], ""
    for task in TASKS:
        for optimize in OBJECTIVES:
            found = measure(task, board, chosen.toolchain, "none", optimize)
            if found["mismatched_bytes"]:
                raise SystemExit(f"{task.name}: {found['mismatched_bytes']} bytes differ")
            compiler = found["toolchain"]
            rows.append(row(found, optimize, best(task.name, known, clock_hz)))
    text = report(board, compiler, known, rows)
    RESULT.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
