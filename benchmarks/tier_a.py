"""Published firmware images in the emulator: `python -m benchmarks.tier_a FOLDER [NAME ...]`.

FOLDER/1.1 and FOLDER/1.2 (or v1.1 and v1.2) hold files of the repositories that benchmarks/silicon.toml
names, at their paths. Each image is booted, told to infer once after one warm-up, and the blocks between
its two reads of its timer are counted: what a board's timer measured, and a cycle model must explain.
"""

from __future__ import annotations

import argparse
import hashlib
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from emulator.blocks import BlockCount, block_counter
from emulator.cycles import price
from emulator.firmware import Firmware
from targets import load
from targets.errors import ThumbnetError, UsageError

LIST = Path(__file__).with_name("silicon.toml")
Prepare = Callable[[Firmware], None]

READY = b"m-ready\r\n"
BOOT_CYCLES = 100_000_000
PAUSE_CYCLES = (
    1_000_000  # a host takes its time to answer; parsers that are not yet listening need it
)
RUN_CYCLES = 2_000_000_000


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
    response: str  # to the command


def images() -> tuple[Image, ...]:
    """All images, in the order of the list."""
    with LIST.open("rb") as stream:
        return tuple(Image(**fields) for fields in tomllib.load(stream)["images"])


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


def boot(image: Image, path: Path, prepare: Prepare = lambda firmware: None) -> Firmware:
    """The image on its board, ready for commands; prepare() sees it before it runs."""
    firmware = Firmware(load(image.board), path, counter=block_counter)
    prepare(firmware)
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


def timed_blocks(
    image: Image,
    path: Path,
    prepare: Prepare = lambda firmware: None,
    on_lap: Callable[[], None] = lambda: None,
) -> Timed:
    """Boots an image and counts the blocks of one inference, as its own timer brackets it.

    The block that reads the timer is counted once, at the end: the first read forgets it.

    Args:
        image: from the list.
        path: what locate() found.
        prepare: sees the firmware before it runs, to watch more than blocks.
        on_lap: called at the start and at the stop of the image's clock.
    """
    firmware = boot(image, path, prepare)
    laps: list[tuple[BlockCount, ...]] = []

    def on_time_read(address: int) -> None:
        laps.append(firmware.take_blocks())
        on_lap()

    firmware.on_time_read = on_time_read
    response = command(firmware, "infer 1 1%")
    firmware.on_time_read = lambda address: None
    if len(laps) != 2 or "m-infer-done" not in response:
        raise ThumbnetError(f"{image.name} read its timer {len(laps)} times: {response!r}")
    return Timed(firmware, laps[1], response)


def _report(image: Image, path: Path) -> str:
    timed = timed_blocks(image, path)
    total = price(timed.blocks, timed.firmware.read)
    executions = sum(block.executions for block in timed.blocks)
    return (
        f"| {image.name} | {len(timed.blocks)} | {executions} | {total.instructions} "
        f"| {total.cycles} | {image.cycles} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Boot published images and count one inference.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    print("| image | blocks | executions | instructions | cycles, m4-simple | cycles, measured |")
    print("|---|---|---|---|---|---|")
    for image in images():
        path = locate(options.folder, image)
        if path and (not options.names or image.name in options.names):
            print(_report(image, path), flush=True)


if __name__ == "__main__":
    main()
