"""What a board's memory costs in cycles, and how far predictions for it were checked on silicon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from targets import tables
from targets.errors import UsageError

_FLASH_KEYS: Mapping[str, type] = {
    "wait_states": int,
    "sector": int,
    "line": int,
    "instruction_lines": int,
    "data_lines": int,
    "random_fetch": float,
    "sequential_fetch": float,
    "data_read": float,
}
_FLASH_OPTIONAL: Mapping[str, type] = {"clock_limits_hz": list}
_VALIDATED_KEYS: Mapping[str, type] = {"error": float, "against": str}
KEPT = 4096  # bytes of data cache that spare most reads of weights
MAX_LINE = 64 * 8  # sectors of a line are bits of a word


@dataclass(frozen=True, slots=True)
class FlashTiming:
    """Flash behind its accelerator or caches.

    Attributes:
        wait_states: at the board's clock.
        clock_limits_hz: highest clock for 0, 1, 2 ... wait states; empty when unknown.
        sector: bytes that one read of the flash array gives.
        line: bytes of a cache line.
        instruction_lines: lines of the instruction cache; 0 = none.
        data_lines: lines of the data cache; 0 = none, every read goes to the array.
        random_fetch: stall per missed sector behind a jump, in wait states.
        sequential_fetch: stall per missed sector behind the one before, in wait states; 0 with prefetch.
        data_read: stall per missed sector read as data, in wait states.
    """

    wait_states: int
    clock_limits_hz: tuple[int, ...]
    sector: int
    line: int
    instruction_lines: int
    data_lines: int
    random_fetch: float
    sequential_fetch: float
    data_read: float

    @property
    def wait_per_byte(self) -> float:
        """Cycles per byte that is read as data; 0 where a cache holds the weights of a few channels."""
        if self.data_lines * self.line >= KEPT:
            return 0.0
        return self.data_read * self.wait_states / self.sector

    def at(self, clock_hz: int, wait_states: int | None = None) -> FlashTiming:
        """The same flash at another clock; wait states as the limits say, unless given."""
        if wait_states is not None:
            return replace(self, wait_states=wait_states)
        if not self.clock_limits_hz:
            return self
        enough = (n for n, limit in enumerate(self.clock_limits_hz) if clock_hz <= limit)
        found = next(enough, None)
        if found is None:
            fastest = self.clock_limits_hz[-1]
            raise UsageError(
                f"the flash allows no clock above {fastest:,} Hz", hint="give ws=N as well"
            )
        return replace(self, wait_states=found)


@dataclass(frozen=True, slots=True)
class Validation:
    """Evidence for predicted latencies: the largest error seen, and on what."""

    error: float  # of whole networks, relative
    against: str


def flash_timing(path: Path, table: object) -> FlashTiming:
    """The [flash_timing] table of a board."""
    fields = dict(tables.check(path, "flash_timing.", table, _FLASH_KEYS, _FLASH_OPTIONAL))
    limits = tables.integers(
        path, "flash_timing.", {"clock_limits_hz": [], **fields}, "clock_limits_hz"
    )
    fields["clock_limits_hz"] = limits
    timing = FlashTiming(**fields)  # type: ignore[arg-type]  # checked above
    for key, size in (("sector", timing.sector), ("line", timing.line)):
        if size < 1 or size & (size - 1):
            raise UsageError(f"{path}: 'flash_timing.{key}' must be a power of two")
    if not timing.sector <= timing.line <= min(MAX_LINE, 64 * timing.sector):
        raise UsageError(f"{path}: 'flash_timing.line' must be one to 64 sectors")
    for key, value in fields.items():
        if isinstance(value, int | float) and value < 0:
            raise UsageError(f"{path}: 'flash_timing.{key}' must not be negative")
    if list(limits) != sorted(limits):
        raise UsageError(f"{path}: 'flash_timing.clock_limits_hz' must rise")
    return timing


def validation(path: Path, table: object) -> Validation:
    """The [validated] table of a board."""
    fields = tables.check(path, "validated.", table, _VALIDATED_KEYS)
    error = cast(float, fields["error"])
    if not 0 < error < 1:
        raise UsageError(f"{path}: 'validated.error' must be between 0 and 1")
    return Validation(error, str(fields["against"]))
