"""Every error a user may meet. Each carries its exit code, what to do about it, and its node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class ThumbnetError(Exception):
    """A valid request failed (exit code 1). The base of all errors shown without a traceback.

    Args:
        message: what is wrong, naming the node, file or option.
        hint: what the user can do about it; empty when there is nothing to add.
        node: name of the ONNX node concerned, when there is one.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", node: str | None = None) -> None:
        """Keeps the parts, for a terminal and for --json alike."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.node = node

    @property
    def details(self) -> Mapping[str, object]:
        """Facts for --json beyond the message, by key."""
        return {}


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
