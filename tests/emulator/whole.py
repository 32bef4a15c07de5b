"""Small whole images for boards, built as the toolchain builds any."""

from __future__ import annotations

import shutil
from pathlib import Path

from emulator import elf
from emulator.firmware import Firmware
from targets import family, load
from targets.toolchain import build_firmware, find

IMAGES = Path(__file__).with_name("images")


def build(target: str, source: str, folder: Path, **defines: int) -> Path:
    """images/SOURCE.c for a board, as an ELF file."""
    board = load(target)
    console = family.load(board.family).uart(board.console)
    facts = {
        "RAM_END": board.ram.end,
        "UART_BASE": console.base,
        "UART_IRQ": console.irq,
        "UART_V1": int(console.kind == "stm32-v1"),
        "UART_V2": int(console.kind == "stm32-v2"),
        "REPORT": 0,
        **defines,
    }
    project = folder / f"{target}-{source}"
    project.mkdir(parents=True, exist_ok=True)
    lines = [f"#define {name} {value}u" for name, value in facts.items()]
    (project / "config.h").write_text("\n".join(lines) + "\n")
    for name in ("machine.h", "machine.c", f"{source}.c"):
        shutil.copy(IMAGES / name, project)
    script = (IMAGES / "link.ld").read_text()
    script = script.replace("ROM_BASE", hex(board.flash.base))
    (project / "link.ld").write_text(script.replace("RAM_BASE", hex(board.ram.base)))
    output = project / "image.elf"
    sources = ("machine.c", f"{source}.c")
    build_firmware(find(), board, project, sources, "link.ld", output)
    return output


def results(firmware: Firmware, image: Path) -> list[int]:
    """What the image has noted."""
    symbols = elf.read(image).symbols
    count = int.from_bytes(firmware.read(symbols["result_count"], 4), "little")
    data = firmware.read(symbols["results"], 4 * count)
    return [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]
