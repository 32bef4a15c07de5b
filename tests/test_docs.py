"""What the documents say to run, runs.

A block of python or console after a line `<!-- run -->` is executed. Blocks of a document share a folder
that starts with the digits example. In a console block, lines after a command must appear in what it prints;
`<!-- run exit=1 -->` expects its last command to end so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(
    r"^<!-- run(?: exit=(?P<code>\d+))? -->\n```(?P<kind>python|console)\n(?P<text>.*?)^```$",
    re.M | re.S,
)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


@dataclass(frozen=True)
class Block:
    kind: str
    text: str
    code: int


def blocks(path: Path) -> list[Block]:
    found = BLOCK.finditer(path.read_text())
    return [Block(m["kind"], m["text"], int(m["code"] or 0)) for m in found]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONPATH": paths}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=environment
    )


def run_python(block: Block, folder: Path) -> None:
    done = run([sys.executable, "-W", "error::ResourceWarning", "-c", block.text], folder)
    assert done.returncode == block.code, done.stderr


def run_console(block: Block, folder: Path) -> None:
    parts = re.split(r"^\$ ", block.text, flags=re.M)[1:]
    for index, part in enumerate(parts):
        line, *expected = part.strip().splitlines()
        script = re.sub(r"^thumbnet\b", f"{sys.executable} -m thumbnet", line)
        done = run(["bash", "-c", script], folder)
        last = index == len(parts) - 1
        assert done.returncode == (block.code if last else 0), (line, done.stdout, done.stderr)
        printed = " ".join((done.stdout + done.stderr).split())
        for wanted in expected:
            assert " ".join(wanted.split()) in printed, (line, printed)


@pytest.mark.parametrize(
    "path", [p for p in DOCUMENTS if blocks(p)], ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_blocks_of_a_document_run(path: Path, tmp_path: Path) -> None:
    for name in ("digits.onnx", "digits.npz"):
        shutil.copy(ROOT / "examples/digits" / name, tmp_path)
    for block in blocks(path):
        (run_python if block.kind == "python" else run_console)(block, tmp_path)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_documents_hold(path: Path) -> None:
    for target in LINK.findall(path.read_text()):
        assert (path.parent / target).exists(), target


def test_marks_are_spelled_right() -> None:
    """A mark that the pattern misses would leave a block untested."""
    for path in DOCUMENTS:
        text = path.read_text()
        assert text.count("<!-- run") == len(blocks(path)), path


def test_the_workflow_s_commands_exist(tmp_path: Path) -> None:
    text = (ROOT / "examples/ci/thumbnet.yml").read_text().replace("\\\n", " ")
    for verb, rest in re.findall(r"thumbnet (run|compare)([^\n]*)", text):
        known = run([sys.executable, "-m", "thumbnet", verb, "--help"], tmp_path).stdout
        for option in re.findall(r" (--[a-z-]+)", rest):
            assert option in known, (verb, option)
