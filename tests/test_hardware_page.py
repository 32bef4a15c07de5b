"""The generated part of docs/hardware.md is what boards' files say."""

from __future__ import annotations

from benchmarks import boards
from targets import flashers, load, names


def test_the_page_is_current() -> None:
    page = boards.PAGE.read_text()
    assert boards.render(page) == page, "run python -m benchmarks.boards"


def test_every_board_has_five_steps() -> None:
    page = boards.PAGE.read_text()
    for name in names():
        if not load(name).hardware.flashers:
            assert f"### {name}\n" not in page
            continue
        section = page.split(f"### {name}\n")[1].split("### ")[0].split(boards.END)[0]
        steps = [
            line for line in section.splitlines() if line[:2] in ("1.", "2.", "3.", "4.", "5.")
        ]
        assert len(steps) == 5
        assert f"--target {name}`" in steps[2]


def test_every_method_is_explained() -> None:
    page = boards.PAGE.read_text()
    for method in flashers.FLASHERS:
        assert f"| `{method}` |" in page
