"""Firmware links within the memory of every board. The whole matrix is a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from emulator.blocks import block_counter
from emulator.firmware import Firmware
from targets import images, load, names, toolchain
from targets.target import Target
from tests.targets.conftest import Link, need
from thumbnet import compiler, project, verify
from thumbnet.options import CompileOptions

ROOT = Path(__file__).resolve().parent.parent.parent
DIGITS = ROOT / "examples/digits"
SMALL = ("microbit",)  # kws and its stack do not fit into 16 KiB of RAM
ONE_OF_EACH = ("microbit", "nucleo-f401re", "nucleo-g071rb", "nucleo-h743zi", "mps2-an505")


def check_within(elf: Path, target: Target) -> None:
    """Holds what is in flash and in RAM against the target's banks."""
    flat = images.segments.flatten(images.read_elf(elf, target))
    assert target.flash.base == flat.address
    assert flat.end <= target.flash.end
    with elf.open("rb") as stream:
        file = ELFFile(stream)
        in_ram = [x for x in file.iter_sections() if x["sh_type"] == "SHT_NOBITS" and x["sh_size"]]
        (end,) = file.get_section_by_name(".symtab").get_symbol_by_name("app_ram_end")
        used = end["st_value"]
    assert in_ram  # the arena, at least
    for section in in_ram:
        assert target.ram.base <= section["sh_addr"]
        assert section["sh_addr"] + section["sh_size"] <= used <= target.ram.end - 0x400
    stack = int.from_bytes(flat.data[target.vector_offset :][:4], "little")
    assert stack == target.ram.end


@pytest.mark.parametrize("board", ONE_OF_EACH)
def test_one_board_of_each_kind(board: str, link: Link) -> None:
    check_within(link(board, "auto"), load(board))


def check_boots(elf: Path, board: str) -> None:
    """From the reset vector to main(), with all peripherals around."""
    with elf.open("rb") as stream:
        (main,) = ELFFile(stream).get_section_by_name(".symtab").get_symbol_by_name("main")
    firmware = Firmware(load(board), elf, counter=block_counter)
    assert firmware.run(max_cycles=100_000) == "cycles"  # it waits in main() for a host
    assert main["st_value"] & ~1 in {block.address for block in firmware.take_blocks()}


@pytest.mark.parametrize("board", ["microbit", "arduino-nano33ble", "pico", "pico2", "teensy41"])
def test_one_board_of_each_family_boots(board: str, link: Link) -> None:
    check_boots(link(board, "auto"), board)


@pytest.mark.sweep
@pytest.mark.parametrize("choice", ["gcc", "zig"])
@pytest.mark.parametrize("board", names())
def test_every_board_links_a_real_model(
    board: str, choice: str, tmp_path: Path, data_dir: Path
) -> None:
    model = data_dir / "models" / "kws.onnx"
    data = data_dir / "datasets" / "kws01.npz"
    if board in SMALL:
        model, data = DIGITS / "digits.onnx", DIGITS / "digits.npz"
    need(choice)
    target = load(board)
    options = CompileOptions(target=board, data=str(data), calib_samples=8, method="minmax")
    folder = tmp_path / "project"
    project.write(folder, compiler.compile_model(model, options).files)
    built = verify.build(folder, choice)
    assert built.toolchain == toolchain.find(choice).version
    check_within(built.elf, target)
    if target.family:
        check_boots(built.elf, board)
