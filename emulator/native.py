"""Compiles the C of this folder once per user, and hooks it into Unicorn without a Python callback."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import unicorn
from unicorn import Uc

from targets.errors import ThumbnetError
from targets.toolchain import build_host

FOLDER = Path(__file__).parent

_POINTER, _U64, _U32, _INT = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int
# Functions by library: (result, arguments).
Signatures = Mapping[str, tuple[Any, tuple[Any, ...]]]
_COUNTER: Signatures = {
    "counter_new": (_POINTER, ()),
    "counter_free": (None, (_POINTER,)),
    "counter_limit": (None, (_POINTER, _U64, _POINTER)),
    "counter_exhausted": (_INT, (_POINTER,)),
    "counter_finish": (None, (_POINTER, _U64)),
    "counter_used": (ctypes.c_size_t, (_POINTER,)),
    "counter_take": (_INT, (_POINTER, _POINTER)),
}
_CLOCK: Signatures = {
    "clock_new": (_POINTER, (_POINTER, _POINTER, _POINTER)),
    "clock_free": (None, (_POINTER,)),
    "clock_arrive": (None, (_POINTER, _U64)),
}
_MONITOR: Signatures = {
    "monitor_new": (_POINTER, (*((_POINTER,) * 6), _INT)),
    "monitor_free": (None, (_POINTER,)),
    "monitor_add_ram": (_INT, (_POINTER, _U64, _U64)),
    "monitor_set_flash": (_INT, (_POINTER, _U64, _U64, _U32, _U32, _U32, _U32)),
    "monitor_set_stack": (None, (_POINTER, _U64)),
    "monitor_mark": (None, (_POINTER, _U64, _U64, _INT, _INT)),
    "monitor_set_shadow": (_INT, (_POINTER, _U64, _U64)),
    "monitor_set_areas": (_INT, (_POINTER, _POINTER, _INT)),
    "monitor_paint": (None, (_POINTER, _POINTER)),
    "monitor_first_wrong": (_U64, (_POINTER, _POINTER)),
    "monitor_tags": (None, (_POINTER, _POINTER)),
    "monitor_used": (ctypes.c_size_t, (_POINTER,)),
    "monitor_take": (None, (_POINTER, _POINTER)),
    "monitor_violation": (_INT, (_POINTER, _POINTER)),
}


@cache
def counter_library() -> Any | None:
    """Counts blocks; None where C cannot be had: Python counts then."""
    return _library("block_counter", _COUNTER)


@cache
def clock_library() -> Any | None:
    """Keeps the time of whole firmware; None as above: Python keeps it then."""
    return _library("block_clock", _CLOCK)


@cache
def monitor_library() -> Any | None:
    """Watches accesses; None as above."""
    return _library("access_monitor", _MONITOR)


def available() -> bool:
    """Whether runs can be watched here; $THUMBNET_NO_NATIVE=1 says no."""
    return os.environ.get("THUMBNET_NO_NATIVE") != "1" and monitor_library() is not None


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


def engine_handle(uc: Uc) -> int | None:
    """What C functions of Unicorn take as the engine; None in an unknown binding."""
    handle = getattr(uc, "_uch", None)
    return None if handle is None else handle.value


def engine_function(name: str) -> int | None:
    """Address of a C function of Unicorn; None in an unknown binding."""
    try:
        from unicorn.unicorn_py3.unicorn import uclib  # noqa: PLC0415
    except ImportError:
        return None
    return ctypes.cast(getattr(uclib, name), ctypes.c_void_p).value


def _library(stem: str, signatures: Signatures) -> Any | None:
    path = compiled(FOLDER / f"{stem}.c")
    try:
        library = None if path is None else ctypes.CDLL(str(path))
    except OSError:  # not loadable
        return None
    for name, (result, arguments) in signatures.items() if library else ():
        function = getattr(library, name)
        function.restype, function.argtypes = result, list(arguments)
    return library


def _cached(source: Path, options: tuple[str, ...]) -> Path:
    """Where the library lies: named by all that it depends on, so that it is never stale."""
    depends = (unicorn.__version__, platform.system(), platform.machine(), *options)
    key = hashlib.sha256(source.read_bytes() + " ".join(depends).encode()).hexdigest()[:16]
    root = os.environ.get("XDG_CACHE_HOME")
    folder = Path(root) if root else Path.home() / ".cache"
    return folder / "thumbnet" / f"{source.stem}-{key}.so"
