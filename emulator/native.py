"""Compiles counters in C once per user, and hooks the block counter into Unicorn without a callback."""

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
