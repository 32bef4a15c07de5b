"""The comparison of boards with their sources sees a wrong fact of every kind."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import facts
from targets import family, load, names
from targets.errors import UsageError
from targets.hardware import Source
from targets.target import Target


def of_toml(board: Target, fact: str) -> Source:
    (source,) = (s for s in board.sources if fact in s.facts)
    return replace(source, facts=(fact,))


def chip(board: Target) -> str:
    """A chip's description that agrees with a board."""
    uart = family.load(board.family).uart(board.console)
    interrupts = [{"signal": "GLOBAL", "interrupt": "U"}, {"signal": "RX", "interrupt": "D"}]
    port = {"name": board.console.upper(), "address": uart.base, "interrupts": interrupts}
    wires = ((board.wiring.tx, "TX"), (board.wiring.rx, "RX"))
    pins = [{"pin": pin, "signal": s, "af": board.wiring.function} for pin, s in wires]
    port["pins"] = pins
    memory = [{"address": r.base, "size": r.size} for r in board.regions]
    core = {"peripherals": [port], "interrupts": [{"name": "U", "number": uart.irq}]}
    return json.dumps({"memory": [memory], "cores": [core]})


SVD = """<device><peripherals><peripheral><name>UART0</name><baseAddress>0x40034000</baseAddress>
<interrupt><name>U</name><value>20</value></interrupt></peripheral></peripherals></device>"""
ROWS = '"9903": BoardInfo( "m", "nrf52833", None ), "9904": BoardInfo( "m", "nrf52833", "x" ),'
IDS = ROWS + ROWS.replace("9903", "9905").replace("9904", "9906")
FAMILIES = '[{"short_name": "RP2040", "id": "0xe48bff56"}]'
TWO_IDS = '{"build": {"hwids": [["0x2341", "0x005A"], ["0x2341", "0x805A"]]}}'
# Board and fact: a text that agrees, and what in it is made wrong.
CASES = {
    ("nucleo-f401re", "regions"): (chip(load("nucleo-f401re")), str(0x18000), str(0x17C00)),
    ("nucleo-f746zg", "dtcm"): (chip(load("nucleo-f746zg")), str(0x10000), str(0xFC00)),
    ("nucleo-f401re", "console_base"): (chip(load("nucleo-f401re")), str(0x4000_4400), "7"),
    ("nucleo-f401re", "console_irq"): (chip(load("nucleo-f401re")), '"number": 38', '"number": 37'),
    ("nucleo-f401re", "pins"): (
        chip(load("nucleo-f401re")),
        '"signal": "RX", "af": 7',
        '"signal": "RX", "af": 8',
    ),
    ("pico", "console_base"): (SVD, "0x40034000", "0x40038000"),
    ("pico", "console_irq"): (SVD, "20</value>", "21</value>"),
    ("pico2", "console_base"): ("#define UART0_BASE _u(0x40070000)", "70000", "78000"),
    ("pico2", "console_irq"): ("#define UART0_IRQ 33", "33", "34"),
    ("teensy41", "console_base"): ("#define IMXRT_LPUART6_ADDRESS 0x40198000", "98", "9C"),
    ("teensy41", "console_irq"): ("IRQ_LPUART6 = 25,", "25", "26"),
    ("pico", "ram"): ("ORIGIN = 0x20000000, LENGTH = 264k", "264k", "260k"),
    ("pico", "flash_size"): ("FLASH_SIZE_BYTES (2 * 1024 * 1024)", "(2", "(4"),
    ("pico", "uf2_family"): (FAMILIES, "ff56", "ff57"),
    ("teensy41", "clock_hz"): ('{"build": {"f_cpu": "600000000L"}}', "600", "528"),
    ("arduino-nano33ble", "usb"): (TWO_IDS, "805A", "805B"),
    ("microbit-v2", "board_ids"): (IDS, "9906", "9907"),
    ("microbit-v2", "pyocd"): (IDS, "nrf52833", "nrf52840"),
}


@pytest.mark.parametrize(("name", "fact"), CASES)
def test_a_wrong_fact_differs(name: str, fact: str) -> None:
    text, right, wrong = CASES[name, fact]
    board = replace(load(name), sources=(of_toml(load(name), fact),))
    (found,) = facts.check(board, lambda source: text)
    assert (found.agrees, found.fact, found.board) == (True, fact, name)
    assert right in text
    (found,) = facts.check(board, lambda source: text.replace(right, wrong))
    assert not found.agrees


def test_every_kind_of_fact_is_tried_and_every_board_has_sources() -> None:
    assert {fact for _, fact in CASES} >= set(facts.FACTS)
    for name in names():
        board = load(name)
        assert bool(board.sources) == bool(board.hardware.flashers), name
        for source in board.sources:
            assert len(source.commit) == 40


def test_an_unknown_fact() -> None:
    board = load("pico")
    odd = replace(board, sources=(replace(board.sources[0], facts=("colour",)),))
    with pytest.raises(UsageError, match="nothing checks the fact 'colour'"):
        list(facts.check(odd, lambda source: ""))


def test_clones(tmp_path: Path) -> None:
    clone = tmp_path / "owner" / "name"
    clone.mkdir(parents=True)

    def git(*arguments: str) -> str:
        user = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        command = ("git", "-C", str(clone), *user, *arguments)
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (clone / "file").write_text("old")
    git("add", "file")
    git("commit", "-qm", "one")
    commit = git("rev-parse", "HEAD")
    (clone / "file").write_text("new")
    read = facts.clones(tmp_path)
    assert read(Source("owner/name", commit, "file", ())) == "old"
    with pytest.raises(UsageError, match="cannot read owner/name none"):
        read(Source("owner/name", commit, "none", ()))
