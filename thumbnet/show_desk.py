"""Boards, tools and what is attached, as tables for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from thumbnet import views
from thumbnet.show import fact, kib, out, table


def boards(found: dict[str, Any]) -> None:
    """The targets; of a single one all that is known."""
    table(views.boards(found))
    if len(found["boards"]) == 1:
        _board(found["boards"][0])


def _board(board: dict[str, Any]) -> None:
    fact("Board", board["description"])
    for region in board["regions"]:
        text = f"0x{region['base']:08x}  {kib(region['size'])}  {region['kind']}"
        fact(region["name"], text)
    fact("USB", ", ".join(f"{x['id']} ({x['role']})" for x in board["usb"]) or "-")
    for name, key in (("Loader", "bootloader"), ("Console", "wiring"), ("Page", "link")):
        if board[key]:
            fact(name, board[key])
    for source in board["sources"]:
        commit = source["commit"][:8]
        fact("Source", f"{source['repository']} {source['path']} at {commit}")


def flashed(found: dict[str, Any]) -> None:
    """What `flash` did, or would do."""
    if found["dry_run"]:
        out.print(Text(found["command"]), soft_wrap=True)
        return
    out.print(f"[bold]{found['model']}[/] is on {found['target']} ({found['method']})")
    if found["confirmed"]:
        fact("Build id", f"{found['build_id'][:16]}, confirmed by the board")
    else:
        fact("Build id", "not confirmed: no serial port of the board is known; --port names one")


def doctor(found: dict[str, Any]) -> None:
    """What is installed and attached."""
    out.print(f"Python {found['python']} on {found['system']}")
    table = Table("what", "version", box=None, pad_edge=False)
    optional = {**found["optional"], **found["flashers"]}
    for name, version in {**found["packages"], **found["compilers"], **optional}.items():
        missing = "not installed (optional)" if name in optional else "missing"
        table.add_row(name, version or Text(missing, "yellow"))
    out.print(table)
    fact("Host compiler", found["host_compiler"])
    fact("Emulator", "works" if found["emulator"] else "does not load")
    _attached(found)
    for line in found["advice"]:
        fact("Advice", line)
    out.print(Text("all well", "green") if found["ok"] else Text("something is missing", "red"))


def _attached(found: dict[str, Any]) -> None:
    for device in found["devices"]:
        boards = ", ".join(device["boards"]) or "no board that is known"
        where = device["port"] or "no serial port"
        fact("Device", f"{where}  {device['usb']} {device['description']}: {boards}")
    for drive in found["drives"]:
        boards = ", ".join(drive["boards"]) or f"no board that is known ({drive['id']})"
        fact("Drive", f"{drive['path']}: {boards}")
    if not found["devices"] and not found["drives"]:
        fact("Boards", "none attached")
