"""HEX, BIN and UF2 hold exactly what the ELF file loads; damage in them is seen."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from targets import images, load
from targets.errors import DoesNotFit, UsageError
from targets.hardware import Hardware
from targets.images import bin as raw
from targets.images import hex as intel
from targets.images import uf2
from targets.images.segments import Segment, flatten

BASE = 0x0800_FFF8
IMAGE = (
    Segment(BASE, bytes(range(40))),  # over the end of a 64 KiB bank
    Segment(0x0801_0100, b"\x01\x02\x03"),
    Segment(0x0803_0000, b"last"),
)


def test_hex_reads_back() -> None:
    text = intel.encode(IMAGE)
    assert intel.decode(text) == IMAGE
    assert b":020000040801F1\r\n" in text
    assert text.endswith(b":00000001FF\r\n")
    assert max(map(len, text.split())) == 1 + 2 * (5 + 16)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b":02000004", b":02000005", "line 1 is no Intel HEX record"),
        (b":020000040800F2", b":020000020800F4", "record type 2"),
        (b":020000040800F2", b"020000040800F2", "line 1"),
        (b"0001020304", b"00010203", "line 2"),
        (b":00000001FF", b"", "no end record"),
    ],
)
def test_damaged_hex_is_refused(old: bytes, new: bytes, message: str) -> None:
    text = intel.encode(IMAGE)
    assert old in text
    with pytest.raises(UsageError, match=message):
        intel.decode(text.replace(old, new, 1))


def test_bin_fills_gaps_like_erased_flash() -> None:
    data = raw.encode(IMAGE)
    assert len(data) == 0x0803_0004 - BASE
    for segment in IMAGE:
        at = segment.address - BASE
        assert data[at : at + len(segment.data)] == segment.data
    assert set(data[40 : 0x0801_0100 - BASE]) == {0xFF}


def test_flatten_refuses_overlaps_and_nothing() -> None:
    with pytest.raises(UsageError, match="two contents at 0x00000001"):
        flatten((Segment(0, b"ab"), Segment(1, b"c")))
    with pytest.raises(UsageError, match="nothing"):
        flatten(())


def test_uf2_block_by_block() -> None:
    family = 0xE48BFF56
    image = (Segment(0x1000_0010, bytes(range(256)) * 5), Segment(0x1000_2000, b"end"))
    data = uf2.encode(image, family)
    assert len(data) == 512 * 48  # three whole sectors of 16 pages
    blocks = list(uf2.decode(data))
    assert [block.number for block in blocks] == list(range(48))
    assert {(block.count, block.family, len(block.data)) for block in blocks} == {(48, family, 256)}
    assert [block.address for block in blocks] == [0x1000_0000 + 256 * i for i in range(48)]
    for at in range(0, len(data), 512):
        assert data[at : at + 8] == b"UF2\nWQ]\x9e"
        assert data[at + 8 : at + 12] == b"\0\x20\0\0"  # a family is present, nothing else
        assert set(data[at + 32 + 256 : at + 508]) == {0}
        assert data[at + 508 : at + 512] == b"\x30\x6f\xb1\x0a"
    whole = b"".join(block.data for block in blocks)
    for segment in image:
        at = segment.address - 0x1000_0000
        assert whole[at : at + len(segment.data)] == segment.data
    written = sum(len(s.data) for s in image)
    assert whole.count(0xFF) == len(whole) - written + image[0].data.count(0xFF)


@pytest.mark.parametrize("at", [0, 4, 9, 508])
def test_damaged_uf2_is_refused(at: int) -> None:
    data = bytearray(uf2.encode(IMAGE, 1))
    data[at] ^= 0xFF
    with pytest.raises(UsageError, match="block 0 is no UF2 block"):
        list(uf2.decode(bytes(data)))
    with pytest.raises(UsageError, match="blocks of 512"):
        list(uf2.decode(bytes(data[:-1])))


def test_formats_of_a_linked_image(linked: Path) -> None:
    pico = load("pico")
    segments = images.read_elf(linked, pico)
    files = {form: images.convert(linked, form, pico) for form in images.FORMATS}
    assert files["elf"] == linked
    assert {path.suffix for path in files.values()} == {".elf", ".hex", ".bin", ".uf2"}
    flat = flatten(segments)
    assert flat.address == pico.flash.base
    assert flatten(intel.decode(files["hex"].read_bytes())) == flat
    assert files["bin"].read_bytes() == flat.data
    blocks = list(uf2.decode(files["uf2"].read_bytes()))
    assert {block.family for block in blocks} == {0xE48BFF56}
    assert b"".join(block.data for block in blocks).rstrip(b"\xff") == flat.data.rstrip(b"\xff")
    assert not [path for path in linked.parent.iterdir() if path.name.startswith(".")]


def test_formats_agree_with_objcopy(linked: Path, tmp_path: Path) -> None:
    objcopy = shutil.which("arm-none-eabi-objcopy")
    if objcopy is None:
        pytest.skip("arm-none-eabi-objcopy is not installed")
    theirs = tmp_path / "theirs"
    pico = load("pico")
    subprocess.run([objcopy, "-O", "binary", linked, theirs], check=True)
    # It fills what lies between segments with zeros, where we leave flash erased.
    assert flatten(images.read_elf(linked, pico), fill=0).data == theirs.read_bytes()
    subprocess.run([objcopy, "-O", "ihex", linked, theirs], check=True)
    text = theirs.read_bytes().splitlines()
    without_entry = b"\n".join(line for line in text if line[7:9] != b"05")  # the entry's record
    ours = intel.decode(images.convert(linked, "hex", pico).read_bytes())
    assert flatten(ours, fill=0) == flatten(
        intel.decode(without_entry), fill=0
    )  # sections, not segments


def test_what_cannot_be_converted(linked: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes UF2 files"):
        images.convert(linked, "uf2", replace(load("pico"), hardware=Hardware()))
    with pytest.raises(DoesNotFit, match="outside the flash of nucleo-f401re"):
        images.convert(linked, "hex", load("nucleo-f401re"))
    with pytest.raises(UsageError, match="unknown format 'srec'"):
        images.convert(linked, "srec", load("pico"))
    (tmp_path / "no.elf").write_bytes(b"no")
    with pytest.raises(UsageError, match="is no ELF file"):
        images.convert(tmp_path / "no.elf", "hex", load("pico"))
    with pytest.raises(UsageError, match="cannot read"):
        images.convert(tmp_path / "none.elf", "hex", load("pico"))
