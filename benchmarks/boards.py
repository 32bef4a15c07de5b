"""Writes the part of docs/hardware.md that boards' files determine: `python -m benchmarks.boards`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from targets import flashers, load, names
from targets.flashers.copying import COPIES
from targets.hardware import probes
from targets.target import Target

PAGE = Path(__file__).resolve().parent.parent / "docs" / "hardware.md"
NOTHING = COPIES[0].install
BEGIN, END = "<!-- from targets/boards/*.toml: -->\n", "<!-- end -->\n"


def render(page: str) -> str:
    """The page with its generated part as boards' files say."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    boards = [load(name) for name in names()]
    on_desks = [board for board in boards if board.hardware.flashers]
    return (
        before
        + BEGIN
        + "\n".join(line for b in on_desks for line in _board(b))
        + "\n"
        + END
        + after
    )


def _board(board: Target) -> Iterator[str]:
    hardware = board.hardware
    core = board.core.name.removeprefix("cortex-").upper()
    memory = f"{board.flash.size // 1024:,} KiB of flash, {board.total_ram // 1024:,} KiB of RAM"
    yield f"### {board.name}\n"
    yield f"[{board.description}]({hardware.link}): {core} at {board.clock_hz / 1e6:g} MHz, {memory}.\n"
    steps = (_plug(board), _install(board), _compile(board), _flash(board), _check(board))
    yield from (f"{number}. {text}" for number, text in enumerate(steps, 1))
    yield ""


def _plug(board: Target) -> str:
    hardware = board.hardware
    if hardware.bootloader:
        return f"{hardware.bootloader}."
    return f"Plug the cable into the socket of the {probes()[hardware.probe].description}."


def _install(board: Target) -> str:
    ways = flashers.of_target(board)
    ready = [way for way in ways if way.install == NOTHING]
    tools = ", ".join(f"`{way.method}`" for way in ways if way not in ready)
    if ready:
        return f"Nothing to install: `{ready[0].method}` copies a file. Other ways: {tools}."
    few = "Install one of these" if len(ways) > 1 else "Install this"
    return f"{few} (the table above says how): {tools}."


def _compile(board: Target) -> str:
    return f"`thumbnet generate kws.onnx -o kws --data kws.npz --target {board.name}`"


def _flash(board: Target) -> str:
    return "`thumbnet flash kws` (`--dry-run` prints the command)"


def _check(board: Target) -> str:
    wiring = board.hardware.wiring
    over = f"{wiring}; then" if wiring else "The console comes over the same cable:"
    return f"{over} `thumbnet check kws --port PORT --data kws.npz`"


def main() -> None:
    """Rewrites the page."""
    PAGE.write_text(render(PAGE.read_text()))


if __name__ == "__main__":
    main()
