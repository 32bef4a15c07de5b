"""Flashers: which is chosen, the exact commands, what failing tools and absent boards come to."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import serial

from targets import drives, flashers, load, names, usb
from targets.errors import DeviceError, ToolMissing, UsageError
from targets.flashers import FLASHERS, Job, base, bossac, choose, tools
from targets.hardware import METHODS
from targets.usb import Device

ST_LINK = Device(0x0483, 0x374B, "066DFF", "STM32 STLink", "/dev/ttyACM0")
J_LINK = Device(0x1366, 0x0105, "000683", "J-Link", "/dev/ttyACM7")
NANO = Device(0x2341, 0x805A, "ABC", "Nano 33 BLE", "/dev/ttyACM1")
NANO_LOADER = Device(0x2341, 0x005A, "ABC", "Nano 33 BLE", "/dev/ttyACM2")
PICO_LOADER = Device(0x2E8A, 0x0003, "E0C9", "RP2 Boot")
MICROBIT_2 = Device(0x0D28, 0x0204, "9904360259", "DAPLink", "/dev/ttyACM3")


def job(board: str, *devices: Device, **more: str) -> Job:
    return Job(load(board), Path("build/kws.hex"), devices, **more)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An otherwise empty PATH folder; no Python package brings a flasher, and no drive is mounted."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(tools, "find_spec", lambda name: None)
    monkeypatch.setattr(drives, "_places", lambda: iter(()))
    monkeypatch.setattr(usb, "lists_everything", lambda: True)
    return folder


def install(folder: Path, name: str, script: str = "") -> Path:
    """A program that notes its arguments beside itself."""
    program = folder / name
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/{name}.args\n{script}\n')
    program.chmod(0o755)
    return program


def arguments(folder: Path, name: str) -> list[str]:
    return (folder / f"{name}.args").read_text().splitlines()


def test_every_method_has_a_flasher_and_every_board_known_methods() -> None:
    assert sorted(FLASHERS) == sorted(METHODS)
    for method, flasher in FLASHERS.items():
        assert flasher.method == method
        assert flasher.install
    for name in names():
        board = load(name)
        assert bool(board.hardware.flashers) == bool(board.hardware.link), name
        if board.hardware.flashers:
            assert board.hardware.usb_ids, name


COMMANDS = {
    ("nucleo-f401re", "stm32programmer"): "-c port=SWD -w build/kws.hex -v -rst",
    ("nucleo-f401re", "openocd"): (
        "-f interface/stlink.cfg -f target/stm32f4x.cfg -c "
        "program {build/kws.hex} verify reset exit"
    ),
    ("nucleo-f401re", "st-flash"): "--reset write build/kws.hex 0x08000000",
    ("nucleo-f401re", "pyocd"): "flash --no-wait --target stm32f401retx build/kws.hex",
    ("nrf52840-dk", "jlink"): (
        "-device nRF52840_xxAA -if SWD -speed 4000 -autoconnect 1 -ExitOnError 1 -NoGui 1 "
        "-CommandFile build/kws.jlink"
    ),
    ("nrf52840-dk", "openocd"): (
        "-f interface/jlink.cfg -c transport select swd -f target/nrf52.cfg -c "
        "program {build/kws.hex} verify reset exit"
    ),
    ("teensy41", "teensy"): "--mcu=TEENSY41 -w -v build/kws.hex",
    ("pico", "picotool"): "load --verify --execute build/kws.hex",
    ("arduino-nano33ble", "bossac"): "--port=PORT -U -i -e -w build/kws.hex -R",
    ("pico", "uf2"): "build/kws.hex RPI-RP2/",
    ("microbit-v2", "daplink"): "build/kws.hex MICROBIT/",
}


@pytest.mark.parametrize(("board", "method"), COMMANDS)
@pytest.mark.usefixtures("programs")
def test_exact_commands(board: str, method: str) -> None:
    assert " ".join(FLASHERS[method].command(job(board))[1:]) == COMMANDS[board, method]


@pytest.mark.parametrize(
    ("board", "method", "text"),
    [
        ("nucleo-f401re", "stm32programmer", "sn=066DFF"),
        ("nucleo-f401re", "openocd", "adapter serial 066DFF"),
        ("nucleo-f401re", "st-flash", "--serial 066DFF"),
        ("nucleo-f401re", "pyocd", "--uid 066DFF"),
        ("nrf52840-dk", "jlink", "-SelectEmuBySN 066DFF"),
        ("pico", "picotool", "--ser 066DFF"),
    ],
)
def test_a_probe_can_be_named(board: str, method: str, text: str) -> None:
    assert text in " ".join(FLASHERS[method].command(job(board, probe="066DFF")))


def test_preference_of_what_is_installed(programs: Path) -> None:
    asked = job("nucleo-f401re", ST_LINK)
    with pytest.raises(ToolMissing, match="no tool to flash nucleo-f401re") as caught:
        choose(asked)
    assert "stlink-tools" in caught.value.hint
    assert "thumbnet[flash]" in caught.value.hint
    install(programs, "pyocd")
    assert choose(asked).method == "pyocd"
    install(programs, "st-flash")
    assert choose(asked).method == "st-flash"
    install(programs, "STM32_Programmer_CLI")
    assert choose(asked).method == "stm32programmer"
    assert choose(asked, "pyocd").method == "pyocd"
    with pytest.raises(ToolMissing, match="no tool"):
        choose(asked, "openocd")
    with pytest.raises(UsageError, match="not flashed by 'teensy'"):
        choose(asked, "teensy")
    with pytest.raises(UsageError, match="mps2-an386 is no board that can be flashed"):
        choose(job("mps2-an386"))


def test_a_board_must_be_there_unless_it_is_named(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(programs, "st-flash")
    absent = job("nucleo-f401re", NANO, MICROBIT_2)
    with pytest.raises(DeviceError, match="no nucleo-f401re was found") as caught:
        choose(absent)
    assert caught.value.exit_code == 5
    assert "thumbnet doctor" in caught.value.hint
    assert choose(absent, dry=True).method == "st-flash"
    assert choose(replace(absent, probe="066DFF")).method == "st-flash"
    monkeypatch.setattr(usb, "lists_everything", lambda: False)
    assert choose(absent).method == "st-flash"


def test_a_probe_of_the_wrong_kind_is_no_way(programs: Path) -> None:
    install(programs, "JLinkExe")
    with pytest.raises(DeviceError):
        choose(job("nucleo-f401re", ST_LINK))
    assert choose(job("nucleo-f401re", J_LINK)).method == "jlink"
    with pytest.raises(DeviceError):
        choose(job("pico", J_LINK))


def test_daplink_serial_numbers_tell_boards_apart() -> None:
    assert usb.role(MICROBIT_2, load("microbit-v2")) == "probe"
    assert usb.role(MICROBIT_2, load("microbit")) is None
    assert usb.role(replace(MICROBIT_2, serial=""), load("microbit")) == "probe"
    assert usb.role(ST_LINK, load("nucleo-f401re")) == "probe"
    assert usb.role(NANO_LOADER, load("arduino-nano33ble")) == "bootloader"
    assert usb.role(NANO, load("arduino-nano33ble")) == "serial"


def test_the_console_is_the_only_port_of_the_board() -> None:
    board = load("nucleo-f401re")
    assert usb.console_port(board, (ST_LINK, NANO)) == "/dev/ttyACM0"
    assert usb.console_port(board, (ST_LINK, replace(ST_LINK, port="/dev/ttyACM9"))) == ""
    assert usb.console_port(board, (NANO,)) == ""


def test_linux_lists_devices_without_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, texts in {
        "1-1": {"idVendor": "2e8a", "idProduct": "0003", "serial": "E0C9", "product": "RP2 Boot"},
        "1-1:1.0": {"bInterfaceClass": "08"},
        "1-2": {"idVendor": "0483", "idProduct": "374b", "serial": "066DFF", "product": "ST"},
    }.items():
        (tmp_path / name).mkdir()
        for file, text in texts.items():
            (tmp_path / name / file).write_text(text + "\n")
    monkeypatch.setattr(usb, "LINUX_DEVICES", tmp_path)
    monkeypatch.setattr(usb, "_ports", lambda: iter((ST_LINK,)))
    assert usb.attached() == (ST_LINK, PICO_LOADER)


def test_a_tool_gets_its_arguments_and_its_script(programs: Path, tmp_path: Path) -> None:
    install(programs, "JLinkExe")
    image = tmp_path / "my kws.hex"
    here = replace(job("nrf52840-dk", J_LINK), image=image)
    FLASHERS["jlink"].flash(here)
    script = tmp_path / "my kws.jlink"
    assert arguments(programs, "JLinkExe")[-2:] == ["-CommandFile", str(script)]
    assert script.read_text() == f'loadfile "{image}"\nr\ng\nexit\n'


def test_a_failing_tool_is_quoted(programs: Path) -> None:
    install(programs, "pyocd", "echo Connecting; echo 'Target type not known' >&2; exit 1")
    with pytest.raises(DeviceError, match="pyocd failed:\nConnecting\nTarget type") as caught:
        FLASHERS["pyocd"].flash(job("nucleo-f401re"))
    assert caught.value.hint.endswith("know the part: pyocd pack install stm32f401retx")


def test_a_tool_that_waits_for_ever(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = shutil.which("sleep", path=os.defpath)
    install(programs, "teensy_loader_cli", f"exec {sleep} 60")
    monkeypatch.setattr(base, "TIMEOUT_S", 0.2)
    with pytest.raises(DeviceError, match="teensy_loader_cli did not finish") as caught:
        FLASHERS["teensy"].flash(job("teensy41"))
    assert caught.value.hint == "press the button on the board"


def test_a_tool_that_does_not_run(programs: Path) -> None:
    (programs / "pyocd").write_bytes(b"\x00\x01")
    (programs / "pyocd").chmod(0o755)
    with pytest.raises(ToolMissing, match="does not run"):
        FLASHERS["pyocd"].flash(job("nucleo-f401re"))


def test_a_python_package_is_run_with_this_python(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "find_spec", lambda name: name == "pyocd")
    command = FLASHERS["pyocd"].command(job("nucleo-f401re"))
    assert command[:3] == (sys.executable, "-m", "pyocd")


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    folder = tmp_path / "RPI-RP2"
    folder.mkdir()
    text = "UF2 Bootloader v3.0\nModel: Raspberry Pi RP2\nBoard-ID: RPI-RP2\n"
    (folder / "INFO_UF2.TXT").write_text(text)
    return folder


@pytest.mark.usefixtures("programs")
def test_a_uf2_drive(drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "kws.uf2"
    image.write_bytes(b"image")
    pico, pico2 = (replace(job(board), image=image) for board in ("pico", "pico2"))
    with pytest.raises(DeviceError, match="no pico was found") as caught:
        choose(pico)
    assert caught.value.hint.startswith("Hold BOOTSEL")
    assert "picotool" in caught.value.hint
    with pytest.raises(DeviceError, match="no drive of pico is mounted"):
        FLASHERS["uf2"].flash(pico)
    monkeypatch.setattr(drives, "_places", lambda: iter((tmp_path, drive)))
    assert choose(pico).method == "uf2"
    assert FLASHERS["uf2"].command(pico) == ("cp", str(image), f"{drive}/")
    FLASHERS["uf2"].flash(pico)
    assert (drive / "kws.uf2").read_bytes() == b"image"
    with pytest.raises(DeviceError):  # the drive of another board
        choose(pico2)
    named = replace(pico, port=str(drive))
    monkeypatch.setattr(drives, "_places", lambda: iter(()))
    assert choose(named).method == "uf2"


@pytest.mark.usefixtures("programs")
def test_two_drives_are_one_too_many(
    drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(drive, tmp_path / "other")
    monkeypatch.setattr(drives, "_places", lambda: iter((drive, tmp_path / "other")))
    with pytest.raises(DeviceError, match="more than one drive fits") as caught:
        FLASHERS["uf2"].flash(replace(job("pico"), image=tmp_path / "kws.uf2"))
    assert "--port" in caught.value.hint


@pytest.mark.usefixtures("programs")
def test_a_full_drive(drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "kws.uf2"
    image.write_bytes(b"image")
    (drive / "kws.uf2").mkdir()  # what cannot be opened for writing
    monkeypatch.setattr(drives, "_places", lambda: iter((drive,)))
    with pytest.raises(DeviceError, match="cannot write to the drive"):
        FLASHERS["uf2"].flash(replace(job("pico"), image=image))


def test_a_daplink_drive_says_which_board_it_is(tmp_path: Path) -> None:
    (tmp_path / "DETAILS.TXT").write_text("# DAPLink\nUnique ID: 9904360259\nHIC ID: 6d\n")
    (found,) = drives.mounted((tmp_path, tmp_path / "none"))
    assert (found.kind, found.board) == ("daplink", "9904")
    here = {"port": str(tmp_path)}
    assert FLASHERS["daplink"].reaches(job("microbit-v2", **here))
    assert not FLASHERS["daplink"].reaches(job("microbit", **here))


def test_bossac_enters_the_boot_loader(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(programs, "bossac")
    touched: list[tuple[str, int]] = []

    class Line:
        dtr = True

        def __init__(self, port: str, baudrate: int) -> None:
            touched.append((port, baudrate))

        def __enter__(self) -> Line:
            return self

        def __exit__(self, *error: object) -> None:
            assert not self.dtr

    later = iter([(), (NANO,), (NANO_LOADER,)])
    monkeypatch.setattr(serial, "serial_for_url", Line)
    monkeypatch.setattr(usb, "attached", lambda: next(later))
    monkeypatch.setattr(bossac, "POLL_S", 0.0)
    asked = job("arduino-nano33ble", NANO)
    assert choose(asked).method == "bossac"
    FLASHERS["bossac"].flash(asked)
    assert touched == [("/dev/ttyACM1", 1200)]
    assert arguments(programs, "bossac")[0] == "--port=/dev/ttyACM2"

    FLASHERS["bossac"].flash(job("arduino-nano33ble", NANO_LOADER))  # already there: no touch
    assert len(touched) == 1


def test_bossac_waits_only_so_long(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(programs, "bossac")
    monkeypatch.setattr(bossac, "WAIT_S", 0.0)
    asked = job("arduino-nano33ble", NANO)
    with pytest.raises(DeviceError, match="cannot open /dev/ttyACM1") as caught:
        FLASHERS["bossac"].flash(asked)
    assert "twice" in caught.value.hint
    monkeypatch.setattr(bossac, "_touch", lambda port, hint: None)
    with pytest.raises(DeviceError, match="did not enter its boot loader"):
        FLASHERS["bossac"].flash(asked)


def test_every_flasher_takes_a_known_format() -> None:
    from targets.images import FORMATS

    assert {flasher.form for flasher in flashers.FLASHERS.values()} <= set(FORMATS)
