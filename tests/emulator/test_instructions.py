"""The count of instructions against one made independently: a hook on every single instruction.

The hook is not called for an instruction that an IT block skips, whereas the count has it: a core spends a
cycle on it. So the two must agree at every address outside IT blocks; inside, the count is that of
the IT instruction itself, and what the hook lacks there is the whole difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from unicorn import UC_HOOK_CODE

from emulator.blocks import BlockCount
from emulator.cortex_m import CortexM
from emulator.model import EmulatedModel
from emulator.timing.price import pricing
from targets import load
from thumbnet import compiler, project, verify
from thumbnet.options import CompileOptions

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits" / "digits.onnx"
DATA = DIGITS.with_suffix(".npz")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built project of the digits model for a Cortex-M4."""
    compiled = compiler.compile_model(DIGITS, CompileOptions(data=str(DATA)))
    path = tmp_path_factory.mktemp("project") / "digits"
    project.write(path, compiled.files)
    verify.build(path)
    return path


def halfword(machine: CortexM, address: int) -> int:
    return int.from_bytes(machine.read(address, 2), "little")


def walk(machine: CortexM, start: int, end: int) -> Iterator[int]:
    """Addresses of the instructions in a range."""
    while start < end:
        yield start
        start += 4 if halfword(machine, start) >= 0xE800 else 2


def counted(machine: CortexM, blocks: tuple[BlockCount, ...]) -> Counter[int]:
    """Executions of each address, as the blocks have it."""
    found: Counter[int] = Counter()
    for block in blocks:
        for address in walk(machine, block.address, block.address + block.size):
            found[address] += block.executions
    return found


def conditional(machine: CortexM, executed: Mapping[int, int]) -> dict[int, int]:
    """Address of each instruction in an IT block -> that of its IT instruction."""
    found = {}
    for address in executed:
        code = halfword(machine, address)
        if code >> 8 == 0xBF and code & 0xF:
            members = 4 - ((code & 0xF) & -(code & 0xF)).bit_length() + 1
            inside = walk(machine, address + 2, address + 2 + 4 * members)
            found.update({next(inside): address for _ in range(members)})
    return found


def test_every_instruction_of_a_model(folder: Path) -> None:
    manifest = project.read_manifest(folder)
    image = project.image(manifest)
    machine = CortexM(load("generic-m4"), folder / verify.BUILD / "digits.elf", count=True)
    hooked: Counter[int] = Counter()

    def on_instruction(uc: object, address: int, size: int, user: object) -> None:
        hooked[address] += 1

    machine._uc.hook_add(UC_HOOK_CODE, on_instruction)  # before any code is translated
    skipped = 0
    with EmulatedModel(machine, image) as model:
        model.infer((bytes(image.inputs[0]),))
        for step in range(image.steps):
            hooked.clear()
            run = machine.measure(f"{image.name}_run_step", machine.address("app_ctx"), step)
            executed = counted(machine, run.blocks)
            inside = conditional(machine, executed)
            for address, executions in executed.items():
                if address in inside:
                    assert executions == executed[inside[address]]
                    assert hooked[address] <= executions
                else:
                    assert hooked[address] == executions, hex(address)
            lacking = sum(executed[address] - hooked[address] for address in inside)
            assert (
                pricing("m4-simple").run(run.blocks, machine.code).instructions
                == hooked.total() + lacking
            )
            assert not set(hooked) - set(executed)
            skipped += lacking
    assert skipped > 0  # else this test has seen no IT block at work
