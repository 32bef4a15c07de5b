"""Block counts and events -> instructions and cycles. A run is priced afterwards, by any number of models.

Instructions that an IT block skips are counted: a real core spends a cycle on each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from emulator.blocks import BlockCount
from emulator.monitor import Events
from emulator.timing import armv6m, armv7m, m7, m33, simple
from emulator.timing.block_cost import BlockCost, CycleModel
from emulator.timing.instruction import Instruction, decode
from targets.errors import UsageError
from targets.target import Target
from targets.timing import FlashTiming

Code = Callable[[int, int], bytes]
NO_EVENTS = Events()

MODELS: Mapping[str, CycleModel] = {
    "m4-simple": simple.M4_SIMPLE,
    "cortex-m0": armv6m.M0,
    "cortex-m0plus": armv6m.M0PLUS,
    "cortex-m3": armv7m.M3,
    "cortex-m4": armv7m.M4,
    "cortex-m7": m7.M7,
    "cortex-m33": m33.M33,
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run took, by what it waited for. All but the instructions are cycles.

    Attributes:
        instructions: executed, those that IT skips included.
        core: issue and interlocks, the core alone.
        branch: refills after taken branches, calls and returns.
        alignment: wide instructions at odd halfwords.
        fetch: waits for instructions from flash.
        data: waits for data from flash, and unaligned accesses.
    """

    instructions: int = 0
    core: float = 0
    branch: float = 0
    alignment: float = 0
    fetch: float = 0
    data: float = 0

    @property
    def total(self) -> float:
        """Cycles before rounding, to add up and to divide."""
        return self.core + self.branch + self.alignment + self.fetch + self.data

    @property
    def cycles(self) -> int:
        """Cycles of the whole."""
        return round(self.total)

    def __add__(self, other: Cost) -> Cost:
        """Both, one after the other."""
        return Cost(
            self.instructions + other.instructions,
            self.core + other.core,
            self.branch + other.branch,
            self.alignment + other.alignment,
            self.fetch + other.fetch,
            self.data + other.data,
        )


@dataclass(frozen=True, slots=True)
class Pricing:
    """A cycle model and the memory around the core; no flash = no wait states."""

    model: CycleModel
    flash: FlashTiming | None = None

    def block(
        self, count: BlockCount, code: bytes, events: Events = NO_EVENTS
    ) -> tuple[Cost, tuple[float, ...]]:
        """What all executions of a block cost, and the share of each of its instructions."""
        instructions, cost = _block_cost(code, count.address % _ALIGNMENT, self.model)
        runs = count.executions
        core = sum(cost.core) * runs + self._divisions(cost, instructions, events, runs)
        branch = count.taken * self.model.taken
        total = Cost(
            runs * len(instructions),
            core,
            branch,
            sum(cost.alignment) * runs,
            self._fetch(events),
            self._data(events),
        )
        return total, _shares(total, cost, runs)

    def run(
        self, blocks: Iterable[BlockCount], code: Code, events: Mapping[int, Events] | None = None
    ) -> Cost:
        """Totals of a run.

        Args:
            blocks: what was counted.
            code: reads memory: (address, size) -> bytes.
            events: what a monitored run of the same code saw, by block.
        """
        found = dict(events or {})
        total = Cost()
        for block in blocks:
            # Blocks of one address and two lengths share their events: they count once.
            seen = found.pop(block.address, NO_EVENTS)
            total += self.block(block, code(block.address, block.size), seen)[0]
        return total

    def _divisions(
        self, cost: BlockCost, instructions: tuple[Instruction, ...], events: Events, runs: int
    ) -> float:
        """What the divisions took by their operands, less what the model's table says."""
        if not events.divisions or not self.model.data_dependent_division:
            return 0
        priced = zip(instructions, cost.core, strict=True)
        return events.divide_cycles - runs * sum(c for i, c in priced if i.kind == "divide")

    def _fetch(self, events: Events) -> float:
        if self.flash is None:
            return 0
        missed = (
            events.fetch_random * self.flash.random_fetch
            + events.fetch_sequential * self.flash.sequential_fetch
        )
        return missed * self.flash.wait_states

    def _data(self, events: Events) -> float:
        unaligned = events.unaligned * self.model.unaligned
        if self.flash is None:
            return unaligned
        return unaligned + events.data * self.flash.data_read * self.flash.wait_states


def pricing(model: str, flash: FlashTiming | None = None) -> Pricing:
    """The model of a name."""
    if model not in MODELS:
        raise UsageError(f"unknown cycle model '{model}'", hint="known: " + ", ".join(MODELS))
    return Pricing(MODELS[model], flash)


def calibrated(target: Target) -> Pricing:
    """The model of a board: its core, and its flash where that is known."""
    return pricing(target.core.cycle_model, target.flash_timing)


_ALIGNMENT = 4  # what the models see of an address


@lru_cache(maxsize=1 << 16)
def _block_cost(
    code: bytes, alignment: int, model: CycleModel
) -> tuple[tuple[Instruction, ...], BlockCost]:
    instructions = decode(code)
    return instructions, model.block(instructions, alignment)


def _shares(total: Cost, cost: BlockCost, runs: int) -> tuple[float, ...]:
    """Cycles of each instruction: its own; fetches fall on the first, data evenly, branches on the last."""
    length = len(cost.core)
    alignment = cost.alignment or (0.0,) * length
    even = (total.data + total.core - sum(cost.core) * runs) / length
    shares = [(c + a) * runs + even for c, a in zip(cost.core, alignment, strict=True)]
    shares[0] += total.fetch
    shares[-1] += total.branch
    return tuple(shares)
