"""No byte of a model's strings reaches C but through identifier() and comment()."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen import emit, plan
from codegen.ir import Graph
from codegen.names import comment, identifier
from codegen.ops import OPS
from targets.target import load
from tests.codegen import networks

HOSTILE = [
    "*/ int evil; /*",
    "// line\nint evil;",
    "back\\\nslash",
    "??/",
    '"quote"',
    "%n%s",
    "{{ 7 * 7 }}",
    "nul\0byte",
    "\u202eright-to-left",
    "line\u2028separator",
    "int",
    "memcpy",
    "a" * 100_000,
    "",
    "1starts-with-digit",
    "__reserved",
    "../../etc/passwd",
]


@given(st.text())
def test_identifiers_are_plain(text: str) -> None:
    name = identifier(text)
    assert re.fullmatch(r"[a-z][a-z0-9_]{0,80}", name, flags=re.ASCII)
    assert name not in ("int", "while", "class", "kernels", "main")


@given(st.text())
def test_comments_cannot_end_or_continue(text: str) -> None:
    shown = comment(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert not re.search(r"\*/|/\*|//|\\|\?", shown)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_stays_in_comments(text: str) -> None:
    graph = _renamed(text)
    made = plan.make(graph, load("generic-m4").core)
    files = emit.emit(made, load("generic-m4"), "0" * 64).files
    plain = plan.make(_renamed("node"), load("generic-m4").core)
    harmless = emit.emit(plain, load("generic-m4"), "0" * 64).files
    for name, content in files.items():
        assert _code(content) == _code(harmless[name])


def _renamed(text: str) -> Graph:
    generator = np.random.default_rng(0)
    graph = networks.weighted(OPS["dense"](), (1, 4), (3, 4), generator)
    node = replace(graph.nodes[0], sources=(text,))
    ports = tuple(replace(port, name=text) for port in graph.inputs)
    return replace(graph, nodes=(node,), inputs=ports)


def _code(text: str) -> str:
    """C without its comments."""
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
