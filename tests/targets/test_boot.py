"""What boot ROMs and boot loaders find in the flash of linked images, by both compilers."""

from __future__ import annotations

import struct

import pytest
from elftools.elf.elffile import ELFFile
from unicorn import UC_ARCH_ARM, UC_MODE_MCLASS, UC_MODE_THUMB, Uc, arm_const

from targets import images, load
from targets.images.segments import flatten
from tests.targets.conftest import Link

COMPILERS = ("gcc", "zig")


def flash(link: Link, board: str, compiler: str) -> bytes:
    """The content of flash from its start on."""
    target = load(board)
    image = flatten(images.read_elf(link(board, compiler), target))
    assert image.address == target.flash.base
    return image.data


def words(data: bytes, at: int, count: int) -> tuple[int, ...]:
    return struct.unpack_from(f"<{count}I", data, at)


def crc32_mpeg2(data: bytes) -> int:
    """CRC-32 as RP2040's boot ROM takes it: most significant bit first, ones to begin with."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C1_1DB7 if crc >> 31 else 0)) & 0xFFFF_FFFF
    return crc


def check_vectors(data: bytes, board: str) -> tuple[int, int]:
    """The initial stack pointer and the reset vector, which must make sense."""
    target = load(board)
    stack, reset = words(data, target.vector_offset, 2)
    assert stack == target.ram.end
    assert reset % 2 == 1 and target.vector_table < reset < target.flash.end
    return stack, reset


def test_the_checksum_is_the_usual_one() -> None:
    assert crc32_mpeg2(b"123456789") == 0x0376_E6E7  # its published check value


@pytest.mark.parametrize("compiler", COMPILERS)
def test_rp2040_second_stage_maps_the_flash_and_starts_the_image(link: Link, compiler: str) -> None:
    data = flash(link, "pico", compiler)
    assert crc32_mpeg2(data[:252]) == words(data, 252, 1)[0]
    stack, reset = check_vectors(data, "pico")

    # The boot ROM runs it from RAM, while flash answers to nothing but the SSI.
    stage, ssi = 0x2004_1F00, 0x1800_0000
    uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
    uc.ctl_set_cpu_model(arm_const.UC_CPU_ARM_CORTEX_M0)
    uc.mem_map(0x2004_0000, 0x2000)
    uc.mem_map(0x1000_0000, 0x1000)
    uc.mem_map(0xE000_E000, 0x1000)
    uc.mem_write(stage, data[:256])
    uc.mem_write(0x1000_0100, data[0x100:0x140])
    writes: list[tuple[int, int]] = []

    def on_write(uc: Uc, offset: int, size: int, value: int, user: object) -> None:
        writes.append((offset, value))

    uc.mmio_map(ssi, 0x1000, None, None, on_write, None)
    uc.emu_start(stage | 1, reset & ~1, count=100)

    assert uc.reg_read(arm_const.UC_ARM_REG_PC) == reset & ~1
    assert uc.reg_read(arm_const.UC_ARM_REG_MSP) == stack
    assert bytes(uc.mem_read(0xE000_ED08, 4)) == struct.pack("<I", 0x1000_0100)
    assert writes[0] == (0x08, 0)  # the SSI takes no settings while it is on
    assert writes[-1] == (0x08, 1)
    settings = dict(writes[1:-1])
    assert settings.pop(0x14) == 4
    control = settings.pop(0x00)
    assert (control >> 16 & 31, control >> 8 & 3, control >> 21 & 3) == (31, 3, 0)
    command = settings.pop(0xF4)
    assert (command >> 24, command >> 8 & 3, command >> 2 & 15, command & 3) == (0x03, 2, 6, 0)
    assert settings == {0x04: 0}


@pytest.mark.parametrize("compiler", COMPILERS)
def test_rp2350_finds_one_image_definition(link: Link, compiler: str) -> None:
    data = flash(link, "pico2", compiler)
    check_vectors(data, "pico2")
    start, item, last, onward, end = words(data, data.index(b"\xd3\xde\xff\xff", 0, 4096), 5)
    assert (start, end) == (0xFFFF_DED3, 0xAB12_3579)
    kind, size, flags = item & 0xFF, item >> 8 & 0xFF, item >> 16
    assert (kind, size) == (0x42, 1)  # image type, one word
    executable, secure, arm, rp2350 = 1, 2 << 4, 0 << 8, 1 << 12
    assert flags == executable | secure | arm | rp2350
    assert (last & 0xFF, last >> 8 & 0xFFFF, onward) == (0xFF, size, 0)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_imxrt_finds_its_flash_and_its_entry(link: Link, compiler: str) -> None:
    data = flash(link, "teensy41", compiler)
    stack, reset = check_vectors(data, "teensy41")
    assert data[:4] == b"FCFB"
    assert words(data, 0x50, 1) == (8 << 20,)
    header, entry, _, dcd, boot_data, itself, csf, _ = words(data, 0x1000, 8)
    assert header.to_bytes(4, "little")[:3] == b"\xd1\x00\x20"
    assert (itself, dcd, csf) == (0x6000_1000, 0, 0)
    base, size, plugin = words(data, boot_data - 0x6000_0000, 3)
    assert (base, size, plugin) == (0x6000_0000, load("teensy41").flash.size, 0)

    uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
    uc.ctl_set_cpu_model(arm_const.UC_CPU_ARM_CORTEX_M7)
    uc.mem_map(0x6000_0000, 0x10_0000)
    uc.mem_write(0x6000_0000, data)
    assert entry % 2 == 1
    uc.emu_start(entry, reset & ~1, count=20)
    assert uc.reg_read(arm_const.UC_ARM_REG_PC) == reset & ~1
    assert uc.reg_read(arm_const.UC_ARM_REG_SP) == stack


@pytest.mark.parametrize("compiler", COMPILERS)
def test_behind_a_boot_loader(link: Link, compiler: str) -> None:
    board = load("arduino-nano33ble")
    data = flash(link, board.name, compiler)
    check_vectors(data, board.name)
    assert (board.flash.base, board.flash.end) == (0x1_0000, 0x10_0000)
    _, reset = words(data, 0, 2)

    uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
    uc.ctl_set_cpu_model(arm_const.UC_CPU_ARM_CORTEX_M4)
    uc.mem_map(board.flash.base, board.flash.size)
    uc.mem_map(board.ram.base, board.ram.size)
    uc.mem_map(0xE000_E000, 0x1000)
    uc.mem_write(board.flash.base, data)
    uc.reg_write(arm_const.UC_ARM_REG_SP, board.ram.end)
    with link(board.name, compiler).open("rb") as stream:
        (main,) = ELFFile(stream).get_section_by_name(".symtab").get_symbol_by_name("main")
    uc.emu_start(reset, main["st_value"] & ~1, count=100_000)
    assert uc.reg_read(arm_const.UC_ARM_REG_PC) == main["st_value"] & ~1
    # The loader's interrupts are off, and ours go through our table.
    assert bytes(uc.mem_read(0xE000_E180, 64)) == b"\xff" * 64
    assert bytes(uc.mem_read(0xE000_ED08, 4)) == struct.pack("<I", board.vector_table)
