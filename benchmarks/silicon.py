"""Predicted against measured on silicon: `python -m benchmarks.silicon --images DIR [NAME ...]`.

DIR/v1.1 and DIR/v1.2 hold files of the repositories that benchmarks/silicon.toml names, at their paths. Each
image is booted and told to infer once after one warm-up; the blocks between its two reads of its timer are
priced by the board's own model, and compared with what the board's timer measured. The images were compiled
and measured by others, and are no part of this project.

--fit prints factors on terms of the model that fit the images of one submitter's first round best; the rest
of the images then tests them. --write keeps the table in benchmarks/results/silicon.md.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import itertools
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emulator.blocks import BlockCount, block_counter
from emulator.firmware import Firmware
from emulator.monitor import Events
from emulator.timing.price import Cost, calibrated
from targets import load
from targets.errors import ThumbnetError, UsageError

LIST = Path(__file__).with_name("silicon.toml")
RESULT = Path(__file__).parent / "results" / "silicon.md"
READY = b"m-ready\r\n"
BOOT_CYCLES = 100_000_000
PAUSE_CYCLES = 1_000_000  # a host takes its time to answer; a parser may not listen at once
RUN_CYCLES = 2_000_000_000
FITTED = "bosch-1.1-"  # images that coefficients are fitted on
GRID, PRECISION = 41, 1e-3
TERMS = ("branch", "alignment", "fetch", "data")


@dataclass(frozen=True)
class Image:
    """An image and what its board's own timer measured."""

    name: str
    version: str  # of the round
    path: str  # in its repository
    sha256: str
    board: str
    task: str
    runs: int
    microseconds: float  # median of the runs, per inference
    cycles: int  # the same at the board's clock


@dataclass(frozen=True)
class Timed:
    """What ran between the start and the stop of the image's own clock."""

    firmware: Firmware  # as it stands after the inference: memory and registers can be read
    blocks: tuple[BlockCount, ...]
    events: Mapping[int, Events]
    response: str  # to the command


def images() -> tuple[Image, ...]:
    """All images, in the order of the list."""
    with LIST.open("rb") as stream:
        return tuple(Image(**fields) for fields in tomllib.load(stream)["images"])


def default_folder() -> Path | None:
    """Where tests look for the images."""
    folder = os.environ.get("THUMBNET_IMAGES")
    return Path(folder) if folder else None


def locate(folder: Path, image: Image) -> Path | None:
    """The image's file below a folder, checked; None where it is not there."""
    for name in (image.version, f"v{image.version}"):
        path = folder / name / image.path
        if path.is_file():
            found = hashlib.sha256(path.read_bytes()).hexdigest()
            if found != image.sha256:
                raise UsageError(f"{path} has SHA-256 {found}, not {image.sha256}")
            return path
    return None


def boot(image: Image, path: Path, watch: bool = True) -> Firmware:
    """The image on its board, ready for commands."""
    firmware = Firmware(load(image.board), path, counter=block_counter, watch=watch)
    for region in load(image.board).regions:
        if region.kind == "ram":
            firmware.write(
                region.base, bytes(region.size)
            )  # the input: images infer on what is there
    if firmware.run(until=READY, max_cycles=BOOT_CYCLES) != "until":
        raise ThumbnetError(f"{image.name} did not boot; it sent {firmware.received!r}")
    firmware.run(max_cycles=PAUSE_CYCLES)
    return firmware


def command(firmware: Firmware, text: str) -> str:
    """Sends a command; returns the response, up to and with the prompt."""
    start = len(firmware.received)
    firmware.send(text.encode())
    stop = firmware.run(until=READY, max_cycles=RUN_CYCLES)
    response = firmware.received[start:].decode("latin-1")
    if stop != "until":
        raise ThumbnetError(f"'{text}' ended in '{stop}' with {response!r}")
    firmware.run(max_cycles=PAUSE_CYCLES)
    return response


def timed(image: Image, path: Path, watch: bool = True) -> Timed:
    """Boots an image and counts the blocks of one inference, as its own timer brackets it.

    The block that reads the timer is counted once, at the end: the first read forgets it.
    """
    firmware = boot(image, path, watch)
    laps: list[tuple[tuple[BlockCount, ...], Mapping[int, Events]]] = []
    firmware.on_time_read = lambda address: laps.append(
        (firmware.take_blocks(), firmware.take_events())
    )
    response = command(firmware, "infer 1 1%")
    firmware.on_time_read = lambda address: None
    if len(laps) != 2 or "m-infer-done" not in response:
        raise ThumbnetError(f"{image.name} read its timer {len(laps)} times: {response!r}")
    return Timed(firmware, *laps[1], response)


def predict(image: Image, run: Timed) -> Cost:
    """What the board's model makes of a run."""
    return calibrated(load(image.board)).run(run.blocks, run.firmware.read, run.events)


def measured(folder: Path, names: list[str]) -> Iterator[tuple[Image, Cost]]:
    """Every image that is there, with its prediction."""
    for image in images():
        path = locate(folder, image)
        if path and (not names or any(image.name.startswith(name) for name in names)):
            yield image, predict(image, timed(image, path))


def row(image: Image, cost: Cost) -> str:
    error = cost.total / image.cycles - 1
    shares = " | ".join(f"{getattr(cost, key) / cost.total:.1%}" for key in TERMS)
    fitted = "fit" if image.name.startswith(FITTED) else ""
    return f"| {image.name} | {fitted} | {image.cycles:,} | {cost.cycles:,} | {error:+.2%} | {shares} |"


def fit(found: list[tuple[Image, Cost]], terms: tuple[str, ...]) -> dict[str, float]:
    """Factors on terms of the model with the smallest largest relative error, then the smallest mean square.

    Searched on a grid that is refined around its best point: the error is convex in the factors.
    """
    rest = np.array([(c.total - sum(getattr(c, t) for t in terms)) / i.cycles for i, c in found])
    columns = np.array([[getattr(c, t) / i.cycles for t in terms] for i, c in found])
    best, width = np.full(len(terms), 1.0), 1.0
    while width > PRECISION:
        axes = [np.maximum(0, x + width * np.linspace(-1, 1, GRID)) for x in best]
        points = np.array(list(itertools.product(*axes)))
        errors = rest[:, None] + columns @ points.T - 1
        worst = np.abs(errors).max(axis=0).round(3)
        best = points[np.lexsort(((errors**2).sum(axis=0), worst))[0]]
        width /= 2
    return {term: round(float(x), 3) for term, x in zip(terms, best, strict=True)}


def report(lines: list[str]) -> str:
    """The table with where its images come from."""
    with LIST.open("rb") as stream:
        rounds = tomllib.load(stream)["rounds"]
    origin = "; ".join(f"{r['repository']} at {r['commit'][:8]}" for r in rounds)
    today = datetime.date.today().isoformat()
    title = f"Predicted against measured cycles of published images, {today}. Images: {origin}."
    return "\n".join([title, "", *lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--images", type=Path, default=default_folder(), required=not default_folder()
    )
    parser.add_argument("--fit", nargs="*", choices=TERMS, help="fit factors on these terms")
    parser.add_argument("--write", action="store_true", help=f"keep the table in {RESULT.name}")
    parser.add_argument("names", nargs="*", help="beginnings of names")
    options = parser.parse_args()
    lines = [
        "| image | | measured cycles | predicted | error | branches | alignment | fetch | data |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    found = []
    print("\n".join(lines))
    for image, cost in measured(options.images, options.names):
        found.append((image, cost))
        lines.append(row(image, cost))
        print(lines[-1], flush=True)
    if options.fit:
        training = [pair for pair in found if pair[0].name.startswith(FITTED)]
        print(f"fitted on {len(training)} images: {fit(training, tuple(options.fit))}")
    if options.write:
        RESULT.write_text(report(lines))


if __name__ == "__main__":
    main()
