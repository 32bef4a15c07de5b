"""TOML tables with exactly the keys that are declared, of exactly their types; else a helpful error."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from targets.errors import UsageError

Table = Mapping[str, object]
Keys = Mapping[str, type]

MAX_BYTES = 1 << 20  # of a file that people write
_TYPE_NAMES = {
    str: "a string",
    int: "an integer",
    float: "a number with a decimal point",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


def read(path: Path) -> Table:
    """The tables of a TOML file."""
    try:
        return parse(path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


def parse(path: Path) -> Table:
    """The tables of a TOML file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no TOML, no UTF-8, too long or too deep.
    """
    found: Table = parsed(path, MAX_BYTES, tomllib.loads)
    return found


def parsed(path: Path, most: int, loads: Callable[[str], Any]) -> Any:
    """What a parser makes of a file of text.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no UTF-8, longer than `most` bytes or too deep; or what the parser raises.
    """
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"longer than {most} bytes")
    try:
        return loads(content.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def check(path: Path, where: str, table: object, keys: Keys, optional: Keys | None = None) -> Table:
    """The table itself, when it has all of `keys`, perhaps some of `optional`, and nothing else.

    Args:
        path: the file, for messages.
        where: the table's place in it, like "regions[0].", for messages.
        table: what to check.
        keys: types of the keys that it must have.
        optional: types of those that it may have.
    """
    known = {**keys, **(optional or {})}
    if not isinstance(table, dict):
        raise UsageError(f"{path}: {where or 'file'} must be a table")
    for key in table:
        if key not in known:
            raise UsageError(f"{path}: unknown key '{where}{key}'", hint=closest(key, tuple(known)))
    for key, kind in known.items():
        if key not in table:
            if key in keys:
                raise UsageError(f"{path}: missing key '{where}{key}'")
        elif type(table[key]) is not kind:  # a bool is no integer here
            raise UsageError(f"{path}: '{where}{key}' must be {_TYPE_NAMES[kind]}")
    return table


def rows(
    path: Path, name: str, table: Table, keys: Keys, optional: Keys | None = None
) -> Iterator[Table]:
    """The checked tables of an array of tables; none when it is left out."""
    for i, row in enumerate(cast(list[object], table.get(name, []))):
        yield check(path, f"{name}[{i}].", row, keys, optional)


def integers(path: Path, where: str, table: Table, key: str) -> tuple[int, ...]:
    """A list of integers."""
    values = cast(list[object], table[key])
    if not all(type(value) is int for value in values):
        raise UsageError(f"{path}: '{where}{key}' must be a list of integers")
    return tuple(cast(list[int], values))


def closest(wrong: str, known: tuple[str, ...]) -> str:
    """A hint: the known word most like a wrong one, or all of them."""
    close = difflib.get_close_matches(wrong, known, n=1)
    return f"did you mean '{close[0]}'?" if close else "known: " + ", ".join(known)
