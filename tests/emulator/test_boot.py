"""Whole images: semihosting, the command line, markers, and published images where they are at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import silicon
from emulator.blocks import block_counter
from emulator.firmware import Firmware
from emulator.timing.price import pricing
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
IMAGES = {image.name: image for image in silicon.images()}


def published(name: str) -> Path:
    """An image of the list; the test is skipped where $THUMBNET_IMAGES does not hold it."""
    folder = os.environ.get("THUMBNET_IMAGES")
    path = silicon.locate(Path(folder), IMAGES[name]) if folder else None
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
        total = pricing("m4-simple").run(blocks, firmware.read)
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
    assert "hint: known: pty, tcp:PORT, socket://HOST:PORT, -" in wrong.stderr


def test_the_list_of_images() -> None:
    assert len(IMAGES) == len(silicon.images()) == 60
    for image in IMAGES.values():
        assert image.board in names()
        assert round(image.microseconds * load(image.board).clock_hz / 1e6) == pytest.approx(
            image.cycles, rel=1e-5
        )


def test_a_changed_image_is_refused(tmp_path: Path) -> None:
    image = silicon.images()[0]
    assert silicon.locate(tmp_path, image) is None
    path = tmp_path / "v1.1" / image.path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"changed")
    with pytest.raises(UsageError, match="has SHA-256"):
        silicon.locate(tmp_path, image)


def most_error(image: silicon.Image) -> float:
    """What predictions of a board's images may be off by; no claim is made for models in floats."""
    if "float" in image.name:
        return 0.35
    if image.name.startswith("bosch-1.2-nucleo-g0b1re"):
        return 0.02
    validated = load(image.board).validated
    assert validated is not None
    return validated.error


def infers(name: str) -> None:
    path, image = published(name), IMAGES[name]
    first, second = silicon.timed(image, path), silicon.timed(image, path, watch=False)
    assert "m-results-[" in first.response
    assert first.blocks == second.blocks  # watching changes nothing
    assert first.response == second.response
    predicted = silicon.predict(image, first).total
    assert abs(predicted / image.cycles - 1) <= most_error(image)


@pytest.mark.parametrize("name", SAMPLES)
def test_published_images_infer_in_the_predicted_time(name: str) -> None:
    infers(name)


@pytest.mark.sweep
@pytest.mark.parametrize("name", sorted(IMAGES))
def test_all_published_images_infer_in_the_predicted_time(name: str) -> None:
    infers(name)


def test_weights_are_read_once() -> None:
    """The images of this vendor have loads in IT blocks; this model streams its weights from flash."""
    image = IMAGES["st-1.2-nucleo-l4r5zi-ad"]
    run = silicon.timed(image, published(image.name))
    timing = load(image.board).flash_timing
    assert timing is not None
    weights = 264_192  # bytes, of its dense layers
    missed = sum(events.data for events in run.events.values()) * timing.sector
    assert weights <= missed < weights * 1.1
