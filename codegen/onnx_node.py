"""One ONNX node as plain data, so that operators never see the onnx package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from targets.errors import UnsupportedModel


@dataclass(frozen=True, slots=True)
class OnnxNode:
    """A node of the file with typed attributes.

    Attributes:
        domain: "" for the standard operators.
        inputs: names in the file; "" where an optional operand is absent.
        attributes: numbers, strings, tuples of them, or arrays.
        opset: version of the node's domain that the model declares.
    """

    op_type: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, object] = field(default_factory=dict)
    opset: int = 13

    @property
    def key(self) -> str:
        """The name that converters are filed under: `Conv`, or `com.microsoft::QGemm`."""
        return f"{self.domain}::{self.op_type}" if self.domain else self.op_type

    @property
    def label(self) -> str:
        """What to call the node in messages."""
        return self.name or next(filter(None, self.outputs), self.op_type)

    @property
    def sources(self) -> tuple[str, ...]:
        """The label as `Node.sources` wants it."""
        return (self.label,)

    def has(self, index: int) -> bool:
        """Whether an optional operand is present."""
        return index < len(self.inputs) and self.inputs[index] != ""

    def integer(self, key: str, default: int) -> int:
        """An integer attribute."""
        value = self.attributes.get(key, default)
        if not isinstance(value, int):
            raise self._mistyped(key, "an integer")
        return value

    def real(self, key: str, default: float) -> float:
        """A number attribute."""
        value = self.attributes.get(key, default)
        if not isinstance(value, int | float):
            raise self._mistyped(key, "a number")
        return float(value)

    def text(self, key: str, default: str) -> str:
        """A string attribute."""
        value = self.attributes.get(key, default)
        if not isinstance(value, str):
            raise self._mistyped(key, "a string")
        return value

    def integers(self, key: str) -> tuple[int, ...] | None:
        """A list-of-integers attribute; None when absent."""
        value = self.attributes.get(key)
        if value is None:
            return None
        if not isinstance(value, tuple | np.ndarray):
            raise self._mistyped(key, "a list of integers")
        return tuple(int(item) for item in value)

    def reals(self, key: str) -> tuple[float, ...] | None:
        """A list-of-numbers attribute; None when absent."""
        value = self.attributes.get(key)
        if value is None:
            return None
        if not isinstance(value, tuple | np.ndarray):
            raise self._mistyped(key, "a list of numbers")
        return tuple(float(item) for item in value)

    def unsupported(self, why: str, hint: str = "") -> UnsupportedModel:
        """The error to raise when this node cannot be compiled."""
        message = f"{self.op_type} {self.label!r}: {why}"
        return UnsupportedModel(message, hint=hint, node=self.label)

    def _mistyped(self, key: str, wanted: str) -> UnsupportedModel:
        return self.unsupported(f"attribute {key} is not {wanted}")
