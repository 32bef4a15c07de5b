"""What comes of one model file, and whether it may."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from codegen import importer, pipeline
from codegen.ir import Graph
from targets.errors import MOST_TEXT, ThumbnetError
from thumbnet import compiler
from thumbnet.options import CompileOptions

ROOT = Path(__file__).resolve().parents[2]
MOST_SECONDS = (
    5.0  # of processor time; what the promise of 2 s allows is far above what mutants take
)
MOST_ELEMENTS = 1 << 16  # of all activations of what is compiled whole
BUGS = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NameError,
    TypeError,
    ZeroDivisionError,
)
"""What a library or we ourselves raise where something went wrong that nobody thought of."""

Outcome = Literal["refused", "imported", "compiled", "unclear", "traceback", "hang"]


class Hang(BaseException):
    """Out of time. No Exception: whoever catches those must not hide it."""


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a file; `says` is the message, or where the code failed."""

    outcome: Outcome
    says: str


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises Hang after so much processor time, as soon as Python runs again."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def attempt(path: Path, whole: bool) -> Found:
    """Imports and simplifies a model; compiles it to C if that is asked for, and it is small."""
    outcome: Outcome = "imported"
    try:
        with limited(MOST_SECONDS):
            graph = pipeline.run(importer.load(path))
            if whole and _elements(graph) <= MOST_ELEMENTS:
                compiler.compile_model(path, CompileOptions(calib="random"))
                outcome = "compiled"
    except ThumbnetError as error:
        return _refusal(error)
    except Hang:
        return Found("hang", "")
    except Exception as error:  # a traceback for users: what must never be
        return Found("traceback", _place(error))
    return Found(outcome, "")


def _refusal(error: ThumbnetError) -> Found:
    cause = error.__cause__
    if isinstance(cause, BUGS) and _is_ours(cause):
        return Found("unclear", _place(cause))
    said = str(error)
    clear = 0 < len(said) <= MOST_TEXT + 3 and all(
        c.isprintable() or c == "\n" for c in said + error.hint
    )
    return Found("refused" if clear else "unclear", said)


def _is_ours(error: BaseException) -> bool:
    """Whether an error began in our code."""
    place = traceback.extract_tb(error.__traceback__)[-1].filename
    return place.startswith(f"{ROOT}/") and "site-packages" not in place


def _place(error: BaseException) -> str:
    """Type of an error, and the last of our functions that it came through."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(f"{ROOT}/")
    ]
    last = frames[-1]
    return (
        f"{type(error).__name__} in {Path(last.filename).relative_to(ROOT)}: {last.name}, {error}"
    )


def _elements(graph: Graph) -> int:
    return sum(tensor.size for tensor in graph.tensors.values() if tensor.data is None)
