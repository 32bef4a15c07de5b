"""Firmware that needs more stack than there is says so: in QEMU, which has the units for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codegen import graph_file
from emulator.qemu_console import QemuConsole
from targets import load
from targets.link.board import Board
from targets.link.client import Faulted
from thumbnet import checking, compiler, project, verify
from thumbnet.options import CompileOptions

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/digits"
DIGITS, DATA = EXAMPLE / "digits.onnx", str(EXAMPLE / "digits.npz")


@pytest.mark.parametrize("target", ["mps2-an386", "mps2-an505"])
def test_a_stack_overflow_is_a_fault(target: str, qemu: str, tmp_path: Path) -> None:
    """Held by the MPU, or by the stack pointer's limit."""
    compiled = compiler.compile_model(DIGITS, CompileOptions(target=target, data=DATA))
    text = compiled.files["digits.c"].decode()
    deep = (
        "static volatile int going = 1;\nstatic int deep(int n)\n{\n    volatile int here = n;\n"
        "    return going ? deep(here + 1) + here : here;\n}\n\ndigits_status_t digits_run_step("
    )
    calls = "    case 2u:\n        going = deep(0);\n"
    text = text.replace("digits_status_t digits_run_step(", deep).replace("    case 2u:\n", calls)
    project.write(tmp_path, {**compiled.files, "digits.c": text.encode()})
    program = verify.build(tmp_path).elf
    manifest = project.read_manifest(tmp_path)
    graph = graph_file.load(tmp_path / project.REFERENCE)
    inputs = (np.zeros((1, *manifest["inputs"][0]["shape"][1:]), np.int8),)
    with QemuConsole(load(target), program) as emulated:
        there = Board(emulated.name, project.image(manifest), manifest["build_id"])
        with pytest.raises(Faulted) as caught:
            checking.on_board(there, graph, manifest, inputs, inputs, compiler.silent, program)
    assert "stack overflow" in caught.value.message
    assert caught.value.message.endswith(f"layer {manifest['layers'][2]['name']}")
