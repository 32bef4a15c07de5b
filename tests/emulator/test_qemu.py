"""QEMU does what Unicorn does: the same bytes, the same stack, the same number of instructions."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from unicorn import UC_HOOK_CODE

from emulator import native, qemu_counter, qemu_process
from emulator.blocks import BlockCount
from emulator.cortex_m import CortexM
from emulator.fault import Fault
from emulator.memory import POISON
from emulator.model import EmulatedModel
from emulator.qemu import LARGE, QemuMachine
from emulator.qemu_counter import joined
from emulator.qemu_process import QemuProcess, plugin_option
from emulator.timing.price import pricing
from targets import load, names
from targets.errors import DoesNotFit, ToolMissing, UsageError
from targets.machine import Inference
from tests.emulator.fake_model import IMAGE, Build, expected

pytestmark = pytest.mark.usefixtures("qemu")
TARGETS = [name for name in names() if load(name).qemu]
BOARD = "mps2-an386"
COMPILER = "gcc" if shutil.which("arm-none-eabi-gcc") else "zig"
X = bytes(range(10, 18))


@pytest.fixture
def machine(build: Build) -> Iterator[QemuMachine]:
    """Idle and counting."""
    with QemuMachine(load(BOARD), build(BOARD, COMPILER), count=True) as booted:
        yield booted


def process(machine: QemuMachine) -> int:
    assert machine._process is not None
    return machine._process._process.pid


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def infer(machine: QemuMachine | CortexM) -> Inference:
    with EmulatedModel(machine, IMAGE) as model:
        model.infer((X[::-1],))
        found = model.infer((X,))
    return replace(found, blocks=(), events=())  # Unicorn and QEMU cut code into other blocks


@pytest.mark.parametrize("target", TARGETS)
def test_infers_as_unicorn_does(build: Build, target: str) -> None:
    board, image = load(target), build(target, COMPILER)
    found = infer(QemuMachine(board, image, count=True))
    assert found.outputs == (expected(X),)
    assert found.arena_high_water == 48
    assert all(step.instructions > 10 for step in found.steps)
    if board.core.unicorn_cpu:
        assert found == infer(CortexM(board, image, count=True))


def test_a_core_that_unicorn_lacks(build: Build) -> None:
    with pytest.raises(UsageError, match="no cortex-m55") as caught:
        CortexM(load("mps3-an547"), build("mps3-an547", COMPILER))
    assert "--engine qemu" in caught.value.hint


@pytest.mark.parametrize(
    ("function", "argument"), [("probe_loop", 5000), ("probe_stack", 3), ("probe_many", 1)]
)
def test_counts_are_unicorns(
    build: Build, machine: QemuMachine, function: str, argument: int
) -> None:
    other = CortexM(load(BOARD), build(BOARD, COMPILER), count=True)
    other.boot()
    there, here = other.measure(function, argument), machine.measure(function, argument)
    assert (here.result, here.stack) == (there.result, there.stack)
    counted = pricing("m4-simple").run(here.blocks, machine.code)
    assert counted.instructions == pricing("m4-simple").run(there.blocks, other.code).instructions
    assert counted.instructions == machine.instructions  # QEMU's decoder agrees with ours


def test_counts_start_anew(machine: QemuMachine) -> None:
    first = machine.measure("probe_loop", 10).blocks
    machine.call("probe_many", 1)
    assert machine.measure("probe_loop", 10).blocks == first
    assert pricing("m4-simple").run(first, machine.code).instructions == 2 + 2 * 10 + 1
    assert pricing("m4-simple").run(first, machine.code).cycles == 23 + 2 * (9 + 1)


@pytest.mark.parametrize("argument", [0, 1])
def test_what_an_it_block_skips_is_counted_in_both(
    build: Build, machine: QemuMachine, argument: int
) -> None:
    other = CortexM(load(BOARD), build(BOARD, COMPILER), count=True)
    hooked = []
    other._uc.hook_add(UC_HOOK_CODE, lambda uc, address, size, user: hooked.append(address))
    other.boot()
    hooked.clear()
    there, here = other.measure("probe_it", argument), machine.measure("probe_it", argument)
    assert len(hooked) == 4  # Unicorn's hook is not called for the one skipped
    assert pricing("m4-simple").run(there.blocks, other.code).instructions == 5
    assert (
        pricing("m4-simple").run(here.blocks, machine.code).instructions
        == machine.instructions
        == 5
    )


@pytest.mark.parametrize("function", ["probe_it", "probe_many", "probe_stack"])
def test_counts_are_those_of_a_callback_per_instruction(
    build: Build, machine: QemuMachine, tmp_path: Path, qemu: str, function: str
) -> None:
    path = tmp_path / "count"
    path.write_bytes(bytes(8))
    options = qemu_counter.plugin_options(qemu_process.release(qemu))
    plugin = native.compiled(Path(__file__).with_name("insn_plugin.c"), options)
    assert plugin is not None
    option = plugin_option(plugin, count=path)
    process = QemuProcess(BOARD, build(BOARD, COMPILER), tmp_path / "log", option)
    with contextlib.closing(process):
        idle = machine.address("app_idle")
        process.remote.set_breakpoint(idle)
        process.remote.resume(5)
        before = int.from_bytes(path.read_bytes(), "little")
        call = {"r0": 1, "lr": idle | 1, "pc": machine.address(function)}
        process.remote.set_registers(call)
        process.remote.resume(5)
        after = int.from_bytes(path.read_bytes(), "little")
    assert before > 0
    machine.measure(function, 1)
    assert machine.instructions == after - before


def test_blocks_are_joined_only_where_one_always_follows_the_other() -> None:
    first, rest = BlockCount(0, 4, 7, 0), BlockCount(4, 6, 7, 2)
    assert joined([first, rest]) == (BlockCount(0, 10, 7, 2),)
    assert joined([first, rest, BlockCount(10, 2, 5, 5)])[1:] == (BlockCount(10, 2, 5, 5),)
    for apart in (
        [BlockCount(0, 4, 7, 1), rest],
        [first, BlockCount(4, 6, 8, 2)],
        [first, rest, BlockCount(4, 8, 1, 0)],
        [first, BlockCount(6, 6, 7, 2)],
    ):
        assert joined(apart) == tuple(apart)


def test_memory(machine: QemuMachine) -> None:
    ram = load(BOARD).ram
    assert machine.read(ram.end - LARGE - 4096, LARGE) == bytes((POISON,)) * LARGE
    data = os.urandom(LARGE + 3)
    machine.write(ram.base + 0x10_0001, data)
    assert machine.read(ram.base + 0x10_0001, len(data)) == data  # through a file
    assert machine.read(ram.base + 0x10_0001, 1500) == data[:1500]  # in packets
    assert machine.read_word(ram.base + 0x10_0001) == int.from_bytes(data[:4], "little")
    for size in (4, LARGE):
        with pytest.raises(Fault, match="host read of"):
            machine.read(0x9000_0000, size)


def test_call(machine: QemuMachine) -> None:
    assert machine.call("probe_sum", 1, 2, 3, -4) == 1 + 4 + 9 - 16 + (1 << 32)
    assert 512 <= machine.measure("probe_stack", 3).stack < 512 + 160
    assert machine.measure("probe_sum", 1, 2, 3, 4).stack <= 16  # forgets the deeper call
    assert machine.function_at(machine.address("probe_sum")) == "probe_sum"
    with pytest.raises(UsageError, match="no symbol 'nothing'"):
        machine.call("nothing")


FAULTS = {
    "unmapped write": ("probe_write", 0xF000_0000, "access to unmapped memory at 0xf0000000"),
    "unmapped read": ("probe_read", 0x9000_0000, "access to unmapped memory at 0x90000000"),
    "wild call": ("probe_jump", 0x9000_0001, "jump to unmapped memory"),
    "undefined": ("probe_undefined", 0, "undefined instruction"),
    "breakpoint": ("probe_breakpoint", 0, "hard fault"),
    "spoiled register": ("probe_spoil", 0, "r4 not preserved"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_hard_fault_is_reported_at_once(build: Build, name: str) -> None:
    function, argument, message = FAULTS[name]
    with (
        QemuMachine(load(BOARD), build(BOARD, COMPILER), timeout_s=60) as machine,
        pytest.raises(Fault, match=message) as caught,
    ):
        machine.measure(function, argument)
    assert caught.value.report.symbol == function
    assert "sp=" in caught.value.hint


@pytest.mark.parametrize("function", ["probe_endless", "probe_sleep"])
def test_a_call_that_never_returns(build: Build, function: str) -> None:
    machine = QemuMachine(load(BOARD), build(BOARD, COMPILER), timeout_s=0.5)
    machine.boot()
    pid = process(machine)
    with pytest.raises(Fault, match=r"did not return within 0\.5 s") as caught:
        machine.call(function)
    assert caught.value.report.symbol == function
    assert not running(pid)


def test_stack_overflow_of_a_small_ram(build: Build) -> None:
    with (
        QemuMachine(load("microbit"), build("microbit", COMPILER), timeout_s=5) as machine,
        pytest.raises(Fault, match="stack overflow"),
    ):
        machine.call("probe_recurse", 1 << 30)


def test_qemu_that_dies_is_a_fault(machine: QemuMachine) -> None:
    os.kill(process(machine), 9)
    with pytest.raises(Fault, match="host read"):
        machine.read_word(machine.address("app_status"))


def test_qemu_that_dies_in_a_call_is_a_fault(build: Build) -> None:
    with QemuMachine(load(BOARD), build(BOARD, COMPILER), timeout_s=60) as machine:
        killer = threading.Timer(0.2, os.kill, (process(machine), 9))
        killer.start()
        with pytest.raises(Fault, match="QEMU ended"):
            machine.call("probe_endless")
        killer.join()


def test_nothing_is_left_running(build: Build) -> None:
    machine = QemuMachine(load(BOARD), build(BOARD, COMPILER))
    pids = []

    def use(machine: QemuMachine) -> None:
        with machine:
            pids.append(process(machine))
            assert running(pids[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use(machine)
    assert not running(pids[0])
    machine.boot()
    pid = process(machine)
    del machine  # never closed
    assert not running(pid)


def test_a_failing_init_leaves_nothing_running(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = QemuMachine(load(BOARD), build(BOARD, COMPILER))
    pids = []

    def status(address: int) -> int:
        pids.append(process(machine))
        return 1

    monkeypatch.setattr(machine, "read_word", status)
    with pytest.raises(Fault, match="kws_init returned 1"), EmulatedModel(machine, IMAGE):
        pass
    assert pids and not running(pids[0])


@pytest.mark.parametrize("api", [None, 99])
def test_without_a_plugin_runs_are_not_counted(
    build: Build, monkeypatch: pytest.MonkeyPatch, api: int | None
) -> None:
    options = (f"-DPLUGIN_API={api}", *qemu_counter.plugin_options((0, 0))[1:])
    path = None if api is None else native.compiled(qemu_counter.SOURCE, options)
    assert api is None or path is not None
    monkeypatch.setattr(qemu_counter, "plugin", lambda release: path)
    machine = QemuMachine(load(BOARD), build(BOARD, COMPILER), count=True)
    found = infer(machine)
    assert found.outputs == (expected(X),)
    assert found.steps == ()


def test_what_is_refused(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no machine with the memory of generic-m4") as caught:
        QemuMachine(load("generic-m4"), build("generic-m4", COMPILER))
    assert BOARD in caught.value.hint
    with pytest.raises(DoesNotFit, match="outside the flash of mps2-an386"):
        QemuMachine(load(BOARD), build("generic-m4", COMPILER))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolMissing, match="not on PATH") as missing:
        QemuMachine(load(BOARD), Path("x.elf"))
    assert "install" in missing.value.hint
