"""Compiles the C of this folder once per user, and hooks it into Unicorn without a Python callback."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import unicorn
from unicorn import Uc

from targets.errors import ThumbnetError
from targets.toolchain import build_host

SOURCE = Path(__file__).with_name("block_counter.c")


@cache
def counter_library() -> Any | None:
    """The counter's library, or None where it cannot be had: Python counts then."""
    path = compiled(SOURCE)
    try:
        return None if path is None else _declare(ctypes.CDLL(str(path)))
    except OSError:  # not loadable
        return None


def compiled(source: Path, options: tuple[str, ...] = ()) -> Path | None:
    """A library made of a C file, from the user's cache if it lies there; None if it cannot be made."""
    try:
        path = _cached(source, options)
        if not path.exists():
            build_host(source.parent, (source.name,), path, options)
    except (OSError, RuntimeError, ThumbnetError):  # no compiler, no home, no room
        return None
    return path


class AddHook(Protocol):
    """Hooks C code."""

    def __call__(self, kind: int, function: Any, user: Any, at: int | None = None) -> None:
        """Hooks a function with its user data everywhere, or at one address."""


def hook_adder(uc: Uc) -> AddHook | None:
    """Adds hooks to an engine; None in an unknown binding."""
    try:
        from unicorn.unicorn_py3.unicorn import uclib  # noqa: PLC0415  (private: may be absent)
    except ImportError:
        return None
    engine = getattr(uc, "_uch", None)
    if engine is None:
        return None

    def add(kind: int, function: Any, user: Any, at: int | None = None) -> None:
        handle = ctypes.c_size_t()
        pointer = ctypes.cast(function, ctypes.c_void_p)
        empty = (1, 0)  # an empty range: everywhere
        first, last = (ctypes.c_uint64(end) for end in (empty if at is None else (at, at)))
        status = uclib.uc_hook_add(engine, ctypes.byref(handle), kind, pointer, user, first, last)
        if status:
            raise ThumbnetError(f"Unicorn refused a hook: error {status}")

    return add


def engine_functions(uc: Uc) -> tuple[int, dict[str, int]] | None:
    """The engine's handle and the addresses of the functions that C code calls; None as above."""
    try:
        from unicorn.unicorn_py3.unicorn import uclib  # noqa: PLC0415
    except ImportError:
        return None
    handle = getattr(uc, "_uch", None)
    names = ("uc_reg_read", "uc_mem_read", "uc_emu_stop")
    addresses = {name: ctypes.cast(getattr(uclib, name), ctypes.c_void_p).value for name in names}
    if handle is None or None in addresses.values():
        return None
    return handle.value, {name: address or 0 for name, address in addresses.items()}


def _cached(source: Path, options: tuple[str, ...]) -> Path:
    """Where the library lies: named by all that it depends on, so that it is never stale."""
    depends = (unicorn.__version__, platform.system(), platform.machine(), *options)
    key = hashlib.sha256(source.read_bytes() + " ".join(depends).encode()).hexdigest()[:16]
    root = os.environ.get("XDG_CACHE_HOME")
    folder = Path(root) if root else Path.home() / ".cache"
    return folder / "thumbnet" / f"{source.stem}-{key}.so"


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    library.counter_new.restype = ctypes.c_void_p
    library.counter_free.argtypes = [ctypes.c_void_p]
    library.counter_free.restype = None
    library.counter_finish.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    library.counter_finish.restype = None
    library.counter_used.argtypes = [ctypes.c_void_p]
    library.counter_used.restype = ctypes.c_size_t
    library.counter_take.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    return library
