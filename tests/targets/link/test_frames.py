"""Frames in both languages: nothing damaged is accepted, and the next whole frame always is."""

from __future__ import annotations

import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen import emit
from targets import toolchain
from targets.errors import UsageError
from targets.link.frames import (
    MAX_FRAME,
    MAX_PAYLOAD,
    Damaged,
    Frame,
    Receiver,
    decode,
    encode,
    stuff,
    unstuff,
)

HERE = Path(__file__).parent
FRAMES = st.builds(Frame, st.integers(0, 255), st.integers(0, 65535), st.binary(max_size=600))
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C parser with its adversary, for this machine; with sanitizers where the compiler has them."""
    folder = tmp_path_factory.mktemp("fuzz")
    for name in ("app_frames.c", "app_frames.h"):
        text = emit.render(f"board/console/{name}.j2", capacity=MAX_PAYLOAD)
        (folder / name).write_text(text)
    program = folder / "fuzz"
    warnings = ("-std=c99", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-I", str(folder))
    sources = (str(folder / "app_frames.c"), str(HERE / "fuzz.c"))
    command = (*toolchain.host_compiler(), *warnings, *sources, "-o", str(program))
    if subprocess.run((*command, *SANITIZERS), capture_output=True, check=False).returncode:
        subprocess.run(command, check=True)
    return program


def attack(fuzz: Path, seed: int, count: int, stream: Path) -> tuple[int, int]:
    """Frames that the C parser accepts, and their checksum."""
    done = subprocess.run(
        (fuzz, str(seed), str(count), stream), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    _, accepted, _, crc = done.stdout.split()
    return int(accepted), int(crc, 16)


def accepted_here(stream: Path) -> tuple[int, int]:
    """The same of the Python parser, on the same bytes."""
    receiver = Receiver()
    count = crc = 0
    with stream.open("rb") as line:
        while data := line.read(4096):
            for found in receiver.take(data):
                if isinstance(found, Frame):
                    count += 1
                    size = len(found.payload)
                    head = struct.pack("<BHH", found.type, found.sequence, size)
                    crc = zlib.crc32(found.payload, zlib.crc32(head, crc))
    return count, crc


@pytest.mark.parametrize("seed", range(4))
def test_damaged_frames(fuzz: Path, tmp_path: Path, seed: int) -> None:
    found = attack(fuzz, seed, 10_000, tmp_path / "line")
    assert 5_000 < found[0] < 8_000
    assert accepted_here(tmp_path / "line") == found


@pytest.mark.sweep
def test_a_million_damaged_frames(fuzz: Path, tmp_path: Path) -> None:
    found = attack(fuzz, 99, 1_000_000, tmp_path / "line")
    assert found[0] > 500_000
    assert accepted_here(tmp_path / "line") == found


@given(st.binary(max_size=2000))
@settings(max_examples=200)
def test_stuffing_is_undone_and_has_no_zeros(data: bytes) -> None:
    stuffed = stuff(data)
    assert 0 not in stuffed
    assert len(stuffed) <= len(data) + len(data) // 254 + 1
    assert unstuff(stuffed) == data


@given(FRAMES)
def test_a_frame_survives(frame: Frame) -> None:
    wire = encode(frame)
    assert wire[0] == wire[-1] == 0
    assert decode(wire[1:-1]) == frame
    assert list(Receiver().take(wire)) == [frame]


@given(FRAMES, st.data())
def test_a_changed_byte_is_seen_and_the_next_frame_arrives(
    frame: Frame, data: st.DataObject
) -> None:
    wire = bytearray(encode(frame))
    at = data.draw(st.integers(1, len(wire) - 2))
    wire[at] ^= data.draw(st.integers(1, 255))
    following = Frame(1, 2, b"next")
    found = list(Receiver().take(bytes(wire) + encode(following)))
    assert frame not in found
    assert found[-1] == following
    assert all(isinstance(one, Damaged) for one in found[:-1])


@given(st.lists(FRAMES, max_size=5), st.lists(st.integers(1, 300), max_size=20))
def test_frames_arrive_in_any_pieces(frames: list[Frame], cuts: list[int]) -> None:
    wire = b"".join(map(encode, frames))
    receiver, found, start = Receiver(), [], 0
    for size in cuts:
        found += list(receiver.take(wire[start : start + size]))
        start += size
    found += list(receiver.take(wire[start:]))
    assert found == frames


def test_the_longest_frame() -> None:
    assert len(encode(Frame(1, 1, b"\1" * MAX_PAYLOAD))) <= MAX_FRAME
    with pytest.raises(UsageError, match="frames take"):
        encode(Frame(1, 1, bytes(MAX_PAYLOAD + 1)))


def test_endless_garbage_is_not_kept() -> None:
    receiver = Receiver()
    found = [one for _ in range(100) for one in receiver.take(b"x" * 1000)]
    assert found
    assert all(isinstance(one, Damaged) for one in found)
    assert list(receiver.take(encode(Frame(1, 1))))[-1] == Frame(1, 1)
