"""Every error a user may meet. Each carries its exit code, what to do about it, and its node."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

MOST_TEXT = 4000  # characters of a message; names of models may be of any length


class ThumbnetError(Exception):
    """A valid request failed (exit code 1). The base of all errors shown without a traceback.

    Args:
        message: what is wrong, naming the node, file or option. What would drive a terminal becomes "?",
            as names come from files.
        hint: what the user can do about it; empty when there is nothing to add.
        node: name of the ONNX node concerned, when there is one.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", node: str | None = None) -> None:
        """Keeps the parts, for a terminal and for --json alike."""
        self.message = _plain(message)
        self.hint = _plain(hint)
        super().__init__(self.message)
        self.node = node

    @property
    def details(self) -> Mapping[str, object]:
        """Facts for --json beyond the message, by key."""
        return {}


def _plain(text: str) -> str:
    """Text without control characters but line breaks, its longest words and itself cut short."""
    cut = re.sub(
        r"\S{300,}", lambda word: f"{word[0][:200]}...", text[: 2 * MOST_TEXT].expandtabs(4)
    )
    cut = cut if len(cut) <= MOST_TEXT else f"{cut[:MOST_TEXT]}..."
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in cut)


class UnsupportedModel(ThumbnetError):
    """The model holds something that cannot be compiled (exit code 1)."""


class BuildFailed(ThumbnetError):
    """The C compiler or linker refused the sources (exit code 1)."""


class UsageError(ThumbnetError):
    """An option, file or configuration is wrong (exit code 2)."""

    exit_code = 2


class DoesNotFit(ThumbnetError):
    """A budget or a board's memory is exceeded (exit code 3)."""

    exit_code = 3


class Mismatch(ThumbnetError):
    """Outputs differ from the reference (exit code 4)."""

    exit_code = 4


class DeviceError(ThumbnetError):
    """A board, probe or port failed (exit code 5)."""

    exit_code = 5


class ToolMissing(ThumbnetError):
    """A compiler or an optional package is not installed (exit code 6)."""

    exit_code = 6
