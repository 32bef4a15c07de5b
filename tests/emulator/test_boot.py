"""Whole images: semihosting, the command line, markers, and published images where they are at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import tier_a
from emulator.blocks import block_counter
from emulator.cycles import price
from emulator.firmware import Firmware
from targets import load, names
from targets.errors import UsageError
from tests.emulator.whole import build, results

# One image per board and vendor, small enough for every run; all of them with -m sweep.
SAMPLES = (
    "bosch-1.2-nucleo-g0b1re-int8-ad",
    "bosch-1.2-nucleo-l4r5zi-int8-kws",
    "st-1.2-nucleo-l4r5zi-kws",
    "bosch-1.2-disco-f746ng-int8-ad",
    "bosch-1.2-nucleo-h7a3zi-float-ad",
    "st-1.2-nucleo-u575zi-q-kws",
)
IMAGES = {image.name: image for image in tier_a.images()}


def published(name: str) -> Path:
    """An image of the list; the test is skipped where $THUMBNET_IMAGES does not hold it."""
    folder = os.environ.get("THUMBNET_IMAGES")
    path = tier_a.locate(Path(folder), IMAGES[name]) if folder else None
    if path is None:
        pytest.skip("published images are not at hand; set THUMBNET_IMAGES to run this test")
    return path


@pytest.mark.parametrize("board", ["nucleo-g0b1re", "nucleo-l4r5zi", "nucleo-u575zi-q"])
def test_semihosting(tmp_path: Path, board: str) -> None:
    image = build(board, "hosted", tmp_path)
    with Firmware(load(board), image) as firmware:
        assert firmware.run() == "exit"
        assert firmware.exit_code == 7
        assert firmware.text == b"1two\ntwo"
        *answers, elapsed = results(firmware, image)
        assert answers == [0, 0xFFFF_FFFF, 0, load(board).clock_hz, 0]
        assert 0 < elapsed <= firmware.cycles


def test_markers_bracket_what_they_time(tmp_path: Path) -> None:
    board = "nucleo-l4r5zi"
    image = build(board, "timing", tmp_path)
    with Firmware(load(board), image, counter=block_counter) as firmware:
        laps = []

        def mark(address: int) -> None:
            laps.append((address, firmware.cycles, firmware.take_blocks()))
            if len(laps) == 2:
                firmware.stop()

        firmware.on_time_read = mark
        assert firmware.run() == "stopped"
        (address, start, _), (_, stop, blocks) = laps
        assert address == 0xE000_1004
        total = price(blocks, firmware.read)
        assert total.instructions > 2000
        assert abs(total.cycles - (stop - start)) <= 2 * 2  # the exits at either end


def test_a_raw_binary_is_the_same(tmp_path: Path) -> None:
    board = "nucleo-l4r5zi"
    image = build(board, "timing", tmp_path)
    with Firmware(load(board), image) as firmware:
        firmware.run()
        expected = results(firmware, image)
        raw = tmp_path / "image.bin"
        raw.write_bytes(firmware.read(load(board).flash.base, 0x1000))
    with Firmware(load(board), raw) as firmware:
        firmware.run()
        assert results(firmware, image) == expected


def boot(*arguments: object, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "thumbnet", "boot", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        input=typed,
    )


def test_command_line(tmp_path: Path) -> None:
    done = boot(build("nucleo-l4r5zi", "hosted", tmp_path), "-t", "nucleo-l4r5zi")
    assert (done.returncode, done.stdout) == (1, "1two\ntwo")
    assert done.stderr.startswith("exit after ")
    echo = build("mps2-an386", "echo", tmp_path)
    done = boot(echo, "-t", "mps2-an386", "-q", typed="HAL")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout) == sorted("hi\nIBM")  # input interrupts the greeting
    found = json.loads(boot(echo, "-t", "mps2-an386", "--json").stdout)
    assert (found["stop"], found["console"], found["exit_code"]) == ("idle", "hi\n", None)
    assert found["seconds"] == found["cycles"] / 25_000_000
    wrong = boot(echo, "-t", "mps2-an386", "--uart", "carrier")
    assert wrong.returncode == 2
    assert "hint: known: pty, tcp:PORT, -" in wrong.stderr


def test_the_list_of_images() -> None:
    assert len(IMAGES) == len(tier_a.images()) == 60
    for image in IMAGES.values():
        assert image.board in names()
        assert round(image.microseconds * load(image.board).clock_hz / 1e6) == pytest.approx(
            image.cycles, rel=1e-5
        )


def test_a_changed_image_is_refused(tmp_path: Path) -> None:
    image = tier_a.images()[0]
    assert tier_a.locate(tmp_path, image) is None
    path = tmp_path / "v1.1" / image.path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"changed")
    with pytest.raises(UsageError, match="has SHA-256"):
        tier_a.locate(tmp_path, image)


def infers(name: str) -> None:
    path = published(name)
    first, second = (tier_a.timed_blocks(IMAGES[name], path) for _ in range(2))
    assert "m-results-[" in first.response
    assert first.blocks == second.blocks
    assert first.response == second.response
    cycles = price(first.blocks, first.firmware.read).cycles
    assert 0.5 < cycles / IMAGES[name].cycles < 2  # a table for another core, without wait states


@pytest.mark.parametrize("name", SAMPLES)
def test_published_images_infer(name: str) -> None:
    infers(name)


@pytest.mark.sweep
@pytest.mark.parametrize("name", sorted(IMAGES))
def test_all_published_images_infer(name: str) -> None:
    infers(name)


def test_watching_flash_changes_nothing_and_sees_the_weights() -> None:
    """The images of this vendor have loads in IT blocks; this model reads each weight once."""
    image = IMAGES["st-1.2-nucleo-l4r5zi-ad"]
    path = published(image.name)
    reads, laps = [0], []

    def count(address: int, size: int) -> None:
        reads[0] += size

    watched = tier_a.timed_blocks(
        image,
        path,
        lambda firmware: firmware.watch_reads(0x0800_0000, 0x0820_0000, count),
        lambda: laps.append(reads[0]),
    )
    assert watched.blocks == tier_a.timed_blocks(image, path).blocks
    weights = 264_192  # bytes, of its dense layers
    assert weights <= laps[1] - laps[0] < weights * 1.1
