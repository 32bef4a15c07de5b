"""`build --format`, `flash`, `boards` and `doctor` as a user meets them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from targets import drives, load, names, usb
from targets.errors import DeviceError
from targets.target import Target
from targets.usb import Device
from tests.thumbnet.checking.boards import served
from tests.thumbnet.test_cli import result, thumbnet
from thumbnet import compiler, doctor, flashing, project
from thumbnet.options import CompileOptions

ROOT = Path(__file__).resolve().parent.parent.parent
DIGITS = ROOT / "examples/digits"


def generated(folder: Path, board: str) -> Path:
    data = str(DIGITS / "digits.npz")
    options = CompileOptions(target=board, data=data, calib_samples=8, method="minmax")
    project.write(folder, compiler.compile_model(DIGITS / "digits.onnx", options).files)
    return folder


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generated(tmp_path_factory.mktemp("pico") / "digits", "pico")


@pytest.fixture(scope="module")
def nucleo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generated(tmp_path_factory.mktemp("nucleo") / "digits", "nucleo-f401re")


def test_build_writes_the_formats_asked_for(pico: Path, nucleo: Path) -> None:
    found = result("build", pico, "--format", "elf,hex,bin,uf2")
    assert [Path(path).suffix for path in found["images"].values()] == [
        ".elf",
        ".hex",
        ".bin",
        ".uf2",
    ]
    assert all(Path(path).stat().st_size for path in found["images"].values())
    assert list(result("build", nucleo)["images"]) == ["elf"]
    refused = thumbnet("build", nucleo, "--format", "uf2")
    assert (refused.returncode, "takes UF2" in refused.stderr) == (2, True)
    wrong = thumbnet("build", nucleo, "--format", "elf,srec")
    assert (wrong.returncode, "unknown format 'srec'" in wrong.stderr) == (2, True)


def test_a_dry_run_prints_the_command_and_a_run_runs_it(nucleo: Path, tmp_path: Path) -> None:
    tool = tmp_path / "st-flash"
    tool.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/args\n')
    tool.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    asked = ("flash", nucleo, "--probe", "066DFF", "--method", "st-flash")
    image = nucleo / "build" / "digits.bin"
    wanted = [str(tool), "--reset", "--serial", "066DFF", "write", str(image), "0x08000000"]

    dry = thumbnet(*asked, "--dry-run", PATH=path)
    assert dry.returncode == 0, dry.stderr
    assert shlex.split(dry.stdout) == wanted
    assert not (tmp_path / "args").exists()

    found = result(*asked, PATH=path)
    assert (tmp_path / "args").read_text().splitlines() == wanted[1:]
    assert (found["method"], found["confirmed"], found["dry_run"]) == ("st-flash", False, False)
    assert image.stat().st_size > 10_000


def test_a_drive_that_the_user_names(pico: Path, tmp_path: Path) -> None:
    (tmp_path / "INFO_UF2.TXT").write_text("UF2 Bootloader v3.0\nBoard-ID: RPI-RP2\n")
    found = result("flash", pico, "--port", tmp_path)
    assert (found["method"], found["port"]) == ("uf2", None)
    written = (tmp_path / "digits.uf2").read_bytes()
    assert written == (pico / "build" / "digits.uf2").read_bytes()
    assert "digits is on pico" in thumbnet("flash", pico, "--port", tmp_path).stdout


def test_exit_codes_of_flash(nucleo: Path, pico: Path, tmp_path: Path) -> None:
    missing = thumbnet("flash", nucleo, "--method", "openocd", PATH="/nowhere")
    assert missing.returncode == 6
    assert "no tool to flash nucleo-f401re" in missing.stderr
    assert "apt install openocd" in missing.stderr
    absent = thumbnet("flash", pico, "--method", "uf2", "--port", tmp_path)
    assert absent.returncode == 5
    assert "no drive of pico is mounted" in absent.stderr
    assert "BOOTSEL" in absent.stderr
    wrong = thumbnet("flash", nucleo, "--method", "uf2")
    assert wrong.returncode == 2
    assert thumbnet("flash", tmp_path).returncode == 2
    for done in (missing, absent, wrong):
        assert "Traceback" not in done.stderr


def test_a_board_confirms_what_it_runs(
    pico: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "INFO_UF2.TXT").write_text("Board-ID: RPI-RP2\n")
    probe = Device(0x2E8A, 0x000C, "E66", "Debug Probe", "/dev/ttyACM5")
    monkeypatch.setattr(usb, "attached", lambda: (probe,))
    asked: list[tuple[str, str, str]] = []

    def confirm(target: Target, port: str, build_id: str) -> None:
        asked.append((target.name, port, build_id))

    options = flashing.FlashOptions(port=str(tmp_path))
    found = flashing.flash(pico, options, confirm)
    assert asked == [("pico", "/dev/ttyACM5", project.read_manifest(pico)["build_id"])]
    assert found["confirmed"] is True

    def refuse(target: Target, port: str, build_id: str) -> None:
        raise DeviceError("it runs another image")

    with pytest.raises(DeviceError, match="another image"):
        flashing.flash(pico, options, refuse)
    dry = flashing.FlashOptions(port=str(tmp_path), dry_run=True)
    assert flashing.flash(pico, dry, refuse)["confirmed"] is False


def test_flash_asks_the_board_over_the_link(nucleo: Path, pico: Path, tmp_path: Path) -> None:
    tool = tmp_path / "st-flash"
    tool.write_text("#!/bin/sh\nexit 0\n")
    tool.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    asked = ("flash", nucleo, "--method", "st-flash")
    with served(nucleo) as url:
        done = thumbnet(*asked, "--port", url, PATH=path)
        build_id = project.read_manifest(nucleo)["build_id"]
        assert done.returncode == 0, done.stderr
        assert f"{build_id[:16]}, confirmed by the board" in done.stdout
    with served(pico) as url:  # another image than the one that was written
        wrong = thumbnet(*asked, "--port", url, PATH=path)
    assert wrong.returncode == 5
    assert f"not {build_id[:12]}, which was written" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    silent = thumbnet(*asked, PATH=path)
    assert silent.returncode == 0
    assert "not confirmed: no serial port of the board is known" in silent.stdout


def test_a_board_that_stays_silent_is_not_confirmed() -> None:
    with pytest.raises(DeviceError, match="not confirmed: there is no /nowhere") as caught:
        flashing.confirm_over_link(load("nucleo-f401re"), "/nowhere", "0" * 64, patience_s=0.1)
    assert caught.value.exit_code == 5


def test_the_console_is_where_the_board_has_it() -> None:
    own = Device(0x2E8A, 0x000A, "E66", "Pico", "/dev/ttyACM0")
    probe = Device(0x2E8A, 0x000C, "E66", "Debug Probe", "/dev/ttyACM5")
    stlink = Device(0x0483, 0x374B, "066DFF", "ST-LINK", "/dev/ttyACM1")
    assert usb.console_port(load("pico"), (own,)) == ""  # another firmware's port
    assert usb.console_port(load("pico"), (own, probe)) == "/dev/ttyACM5"
    assert usb.console_port(load("nucleo-f401re"), (stlink,)) == "/dev/ttyACM1"
    assert usb.console_port(load("disco-f407vg"), (stlink,)) == ""  # wired by hand


def test_boards_lists_all_and_shows_one() -> None:
    listed = {board["name"]: board for board in result("boards")["boards"]}
    assert sorted(listed) == sorted(names())
    assert listed["pico"]["flash_methods"] == ["uf2", "picotool", "openocd", "pyocd"]
    assert listed["nucleo-l4r5zi"]["validated"]["error"] == 0.05
    assert listed["mps2-an386"]["flash_methods"] == []
    shown = thumbnet("boards", "pico").stdout
    for text in ("0x10000000", "BOOTSEL", "2e8a:0003 (bootloader)", "GP0"):
        assert text in shown


def test_doctor_sees_tools_and_gives_advice(tmp_path: Path) -> None:
    for name, says in {"openocd": "Open On-Chip Debugger 0.12.0", "st-flash": "v1.8.0"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{says}' >&2\n")
        (tmp_path / name).chmod(0o755)
    found = result("doctor", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert found["flashers"]["openocd"] == "0.12.0"
    assert found["flashers"]["st-flash"] == "1.8.0"
    assert found["ok"] is True
    assert isinstance(found["advice"], list)


def test_doctor_names_the_boards_that_are_attached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "INFO_UF2.TXT").write_text("Board-ID: RP2350\n")
    port = tmp_path / "tty"
    port.write_text("")
    port.chmod(0)
    boards = (
        Device(0x0D28, 0x0204, "9904360259", "DAPLink", str(port)),
        Device(0x1D6B, 0x0002, "0000", "root hub"),
        Device(0x067B, 0x2303, "", "an adapter", "/dev/ttyUSB0"),
    )
    monkeypatch.setattr(usb, "attached", lambda: boards)
    monkeypatch.setattr(usb, "lists_everything", lambda: True)
    monkeypatch.setattr(drives, "_places", lambda: iter((tmp_path,)))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    found = doctor.doctor()
    microbit, adapter = found["devices"]
    assert (microbit["boards"], microbit["role"]) == (["microbit-v2"], "probe")
    assert (adapter["boards"], adapter["role"]) == ([], None)
    assert [(d["kind"], d["boards"]) for d in found["drives"]] == [("uf2", ["pico2"])]
    assert any("dialout" in line and str(port) in line for line in found["advice"])


def test_every_flashable_board_says_how() -> None:
    for name in names():
        hardware = load(name).hardware
        for method in ("uf2", "daplink", "bossac", "teensy"):
            assert method not in hardware.flashers or hardware.bootloader, name
