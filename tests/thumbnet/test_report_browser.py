"""The report in a real browser. Needs Playwright's Python package and a Chromium; skips without."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.thumbnet.conftest import DATA, MODEL
from thumbnet import report
from thumbnet.options import RunOptions

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser; a system's Chromium serves where Playwright brought none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    system = shutil.which("chromium") or shutil.which("chromium-browser")
    with api.sync_playwright() as playwright:
        try:
            sandbox = [] if os.geteuid() else ["--no-sandbox"]
            browser = playwright.chromium.launch(executable_path=system, args=sandbox)
        except api.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_file(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write(path, report.make(digits, RunOptions(data=str(DATA), max_samples=2), MODEL))
    return path


def opened(chromium: Any, path: Path, scheme: str) -> tuple[Any, list[str]]:
    context = chromium.new_context(color_scheme=scheme, viewport={"width": 1180, "height": 900})
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url))
    page.goto(path.as_uri())
    return page, complaints


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_quietly_and_in_both_schemes(
    chromium: Any, page_file: Path, scheme: str, tmp_path: Path
) -> None:
    page, complaints = opened(chromium, page_file, scheme)
    shot = tmp_path / f"{scheme}.png"
    page.screenshot(path=shot, full_page=True)
    assert shot.stat().st_size > 50_000
    assert complaints == [page_file.as_uri()]  # the page itself, no error, no other request
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 24, 27)")


def test_hover_names_the_tensor(chromium: Any, page_file: Path) -> None:
    page, _ = opened(chromium, page_file, "light")
    assert page.is_hidden("#tip")
    page.hover(".slot >> nth=2", position={"x": 4, "y": 4})
    assert page.inner_text("#tip").startswith("/depthwise/conv/Conv.1: bytes 1,024 to 2,048")
    page.mouse.move(2, 2)
    assert page.is_hidden("#tip")


def test_columns_sort(chromium: Any, page_file: Path) -> None:
    page, _ = opened(chromium, page_file, "light")
    cells = "#layers tbody tr td:nth-child(9)"  # cycles
    before = page.locator(cells).all_inner_texts()
    page.click("#layers th:has-text('cycles') button")
    numbers = [int(text.replace(",", "")) for text in page.locator(cells).all_inner_texts()]
    assert numbers == sorted(numbers, reverse=True)
    page.click("#layers th:has-text('cycles') button")
    numbers = [int(text.replace(",", "")) for text in page.locator(cells).all_inner_texts()]
    assert numbers == sorted(numbers)
    page.click("#layers th:first-child button")
    page.click("#layers th:first-child button")
    assert page.locator(cells).all_inner_texts() == before


def test_contrast_is_readable(chromium: Any, page_file: Path) -> None:
    """WCAG AA for the quiet text, the least readable one, in both schemes."""
    script = """() => {
        const quiet = document.querySelector(".quiet");
        return [getComputedStyle(quiet).color, getComputedStyle(document.body).backgroundColor];
    }"""
    for scheme in ("light", "dark"):
        page, _ = opened(chromium, page_file, scheme)
        one, other = (luminance(text) for text in page.evaluate(script))
        assert (max(one, other) + 0.05) / (min(one, other) + 0.05) >= 4.5


def luminance(colour: str) -> float:
    channels = [int(part) / 255 for part in colour.strip("rgb()").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_it_prints(chromium: Any, page_file: Path, tmp_path: Path) -> None:
    page, _ = opened(chromium, page_file, "light")
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").stat().st_size > 20_000
