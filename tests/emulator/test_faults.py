"""What hardware would refuse is a Fault that says where and why; nothing hangs."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.cortex_m import CortexM
from emulator.fault import Fault
from targets import load
from targets.errors import DoesNotFit, UsageError
from tests.emulator.conftest import Boot
from tests.emulator.fake_model import Build

CASES = {
    "null write": ("probe_write", 0, "write to unmapped memory at 0x00000000"),
    "flash write": ("probe_write", 0x08000100, "write to flash at 0x08000100"),
    "unmapped read": ("probe_read", 0x30000000, "read of unmapped memory at 0x30000000"),
    "past RAM": ("probe_read", 0x20040000, "read of unmapped memory at 0x20040000"),
    "wild call": ("probe_jump", 0x40000001, "jump to memory that is not code"),
    "call of unmapped code": ("probe_jump", 0x07000001, "jump to unmapped memory at 0x07000000"),
    "undefined": ("probe_undefined", 0, "undefined instruction"),
    "endless": ("probe_endless", 0, "did not return within 0.2 s"),
    "sleep": ("probe_sleep", 0, "stopped by itself"),
    "spoiled register": ("probe_spoil", 0, "r4 not preserved"),
    "breakpoint": ("probe_breakpoint", 0, "breakpoint"),
    "overflow": ("probe_recurse", 1 << 30, r"at 0x1ff|overflowed"),
}


@pytest.mark.parametrize("name", CASES)
def test_fault(boot: Boot, name: str) -> None:
    function, argument, message = CASES[name]
    machine = boot(timeout_s=0.2)
    with pytest.raises(Fault, match=message) as caught:
        machine.measure(function, argument)
    assert caught.value.report.symbol == function
    assert "sp=" in caught.value.hint


def test_unaligned_word_on_armv6m(boot: Boot) -> None:
    with pytest.raises(Fault, match="unaligned"):
        boot("generic-m0plus").call("probe_read", 0x20000001)
    boot("generic-m4").call("probe_read", 0x20000001)


def test_m0_refuses_code_for_m4(build: Build) -> None:
    with pytest.raises(Fault, match="undefined instruction"):
        CortexM(load("generic-m0plus"), build("generic-m4")).boot()


def test_floating_point_must_be_enabled(build: Build) -> None:
    machine = CortexM(load("generic-m4"), build("generic-m3"))  # its start-up code enables none
    machine.boot()
    with pytest.raises(Fault, match="before CPACR enables the unit"):
        machine.call("probe_float")


def test_floating_point_runs_when_enabled(boot: Boot) -> None:
    boot("generic-m4").call("probe_float")


def test_image_for_another_memory_map(build: Build) -> None:
    with pytest.raises(DoesNotFit, match="outside the flash of mps2-an386"):
        CortexM(load("mps2-an386"), build("generic-m4"))


def test_unknown_symbol(boot: Boot) -> None:
    with pytest.raises(UsageError, match="no symbol 'nothing'"):
        boot().call("nothing")


def test_no_elf(tmp_path: Path) -> None:
    path = tmp_path / "x.elf"
    with pytest.raises(UsageError, match="cannot read"):
        CortexM(load("generic-m4"), path)
    path.write_bytes(b"no")
    with pytest.raises(UsageError, match="no ELF file"):
        CortexM(load("generic-m4"), path)


def test_arguments_and_result(boot: Boot) -> None:
    assert boot().call("probe_sum", 1, 2, 3, -4) == 1 + 4 + 9 - 16 + (1 << 32)


def test_stack_of_a_known_array(boot: Boot) -> None:
    machine = boot()
    small = machine.measure("probe_sum", 1, 2, 3, 4).stack
    large = machine.measure("probe_stack", 3).stack
    assert small <= 16
    assert 512 <= large < 512 + 160
    assert machine.measure("probe_sum", 1, 2, 3, 4).stack == small  # forgets the deeper call
