"""Compiles the block counter once per user, and hooks it into Unicorn without a Python callback."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import unicorn
from unicorn import Uc

from targets.errors import ThumbnetError
from targets.toolchain import build_host

SOURCE = Path(__file__).with_name("block_counter.c")
CLOCK_SOURCE = Path(__file__).with_name("block_clock.c")


@cache
def counter_library() -> Any | None:
    """The counter's library, or None where it cannot be had: Python counts then."""
    return _library(SOURCE, _declare)


@cache
def clock_library() -> Any | None:
    """The clock's library, or None where it cannot be had: Python keeps the time then."""
    return _library(CLOCK_SOURCE, _declare_clock)


def _library(source: Path, declare: Callable[[ctypes.CDLL], ctypes.CDLL]) -> Any | None:
    try:
        path = _cached(source)
        if not path.exists():
            build_host(source.parent, (source.name,), path)
        return declare(ctypes.CDLL(str(path)))
    except (OSError, RuntimeError, ThumbnetError):  # no compiler, no home, no room, not loadable
        return None


def hook_adder(uc: Uc) -> Callable[[int, Any, Any], None] | None:
    """A function (kind, C function, user data) that hooks C code; None in an unknown binding."""
    try:
        from unicorn.unicorn_py3.unicorn import uclib  # noqa: PLC0415  (private: may be absent)
    except ImportError:
        return None
    engine = getattr(uc, "_uch", None)
    if engine is None:
        return None

    def add(kind: int, function: Any, user: Any) -> None:
        handle = ctypes.c_size_t()
        pointer = ctypes.cast(function, ctypes.c_void_p)
        first, last = ctypes.c_uint64(1), ctypes.c_uint64(0)  # an empty range: everywhere
        status = uclib.uc_hook_add(engine, ctypes.byref(handle), kind, pointer, user, first, last)
        if status:
            raise ThumbnetError(f"Unicorn refused a hook: error {status}")

    return add


def engine_function(name: str) -> int | None:
    """Address of a C function of Unicorn; None in an unknown binding."""
    try:
        from unicorn.unicorn_py3.unicorn import uclib  # noqa: PLC0415  (private: may be absent)
    except ImportError:
        return None
    return ctypes.cast(getattr(uclib, name), ctypes.c_void_p).value


def _cached(source: Path) -> Path:
    """Where the library lies: named by all that it depends on, so that it is never stale."""
    versions = f"{unicorn.__version__} {platform.system()} {platform.machine()}"
    key = hashlib.sha256(source.read_bytes() + versions.encode()).hexdigest()[:16]
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


def _declare_clock(library: ctypes.CDLL) -> ctypes.CDLL:
    library.clock_new.argtypes = [ctypes.c_void_p] * 3
    library.clock_new.restype = ctypes.c_void_p
    library.clock_free.argtypes = [ctypes.c_void_p]
    library.clock_free.restype = None
    library.clock_arrive.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    library.clock_arrive.restype = None
    return library
