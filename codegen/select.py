"""Which kernel runs each layer: an exact choice by predicted cycles and flash, under limits of SRAM.

Cycles and flash add up over layers (codegen.knapsack). SRAM is a maximum over steps: a cap on the bytes that
a step needs takes candidates away; then all tensors are placed, and the placement decides. The cap is
lowered below what the last choice needed, until nothing can get better.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Literal

from codegen.code_size import CALL, CALLS, CHAIN_STAGE, code_bytes
from codegen.fused import Chain
from codegen.kernel import Instance, Kernel, Layer
from codegen.knapsack import Item, Limits, cheapest, totals
from targets.errors import DoesNotFit
from targets.timing import FlashTiming

Objective = Literal["speed", "sram", "flash", "balanced"]
MOST_PLACEMENTS = 64
WORD = 4


@dataclass(frozen=True, slots=True)
class Price:
    """What an objective counts beside cycles.

    Attributes:
        flash: cycles that a byte of flash is worth.
        sram: cycles that a byte of SRAM is worth.
        usual: bytes of a function's code that have no price.
        cycles_share: most cycles, as a multiple of the fewest.
        flash_spare: most bytes of flash above the fewest.
    """

    flash: float = 0
    sram: float = 0
    usual: int = 0
    cycles_share: float = inf
    flash_spare: float = inf


PRICES: dict[Objective, Price] = {
    "speed": Price(),
    "balanced": Price(flash=40, sram=10, usual=1_000, cycles_share=1.15),
    "flash": Price(flash=1_000, flash_spare=4_000),
    "sram": Price(sram=50_000),
}
_OPTIONS = {"sram": "--sram", "flash": "--flash", "cycles": "--cycles"}
_LEAST_FLASH = Price(flash=1e6)


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper limits in bytes and cycles; None = no limit. `limits` says where each comes from."""

    sram: int | None = None
    flash: int | None = None
    cycles: int | None = None
    limits: Mapping[str, str] = field(default_factory=lambda: dict(_OPTIONS))


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A variant that serves a layer, and what it is predicted to take.

    Attributes:
        kernel: the variant.
        instance: its constants for the layer.
        cycles: of the core, m4-simple.
        waits: cycles that it waits for constants from flash.
        constants: bytes of weights, biases and tables in flash.
        code: bytes of its function, which other layers may share.
        scratch: bytes of it.
        live: bytes of SRAM that the step needs: tensors, overlaps counted once, and scratch.
    """

    kernel: Kernel
    instance: Instance
    cycles: float
    waits: float
    constants: int
    code: int
    scratch: int
    live: int

    @property
    def total(self) -> float:
        """Cycles with waits."""
        return self.cycles + self.waits

    def item(self, usual: int = 0) -> Item:
        """What the knapsack knows of it; so much code is free."""
        code = max(0, self.code - usual)
        return Item(self.total, self.constants + CALL, self.function, code)

    @property
    def function(self) -> Hashable:
        """Equal for layers that can share a function, in one order."""
        return function_key(self.kernel, self.instance)


@dataclass(frozen=True, slots=True)
class Placed:
    """What a choice takes once its tensors are placed.

    Attributes:
        sram: bytes of tensors and scratch.
        flash: predicted bytes.
        ends: the byte after each step's scratch, 0 where it has none.
    """

    sram: int
    flash: int
    ends: tuple[int, ...]


Table = Sequence[Sequence[Candidate]]
Needs = Sequence[
    Sequence[tuple[Candidate, int]]
]  # with the bytes that a candidate is known to need
Chosen = tuple[int, ...]
Verdict = Callable[[list[Candidate]], Placed]


def function_key(kernel: Kernel, instance: Instance) -> Hashable:
    """Equal for instances that make the same C function."""
    params = tuple(sorted((k, repr(v)) for k, v in instance.params.items()))
    constants = tuple((c.name, c.ctype) for c in instance.constants)
    return kernel.template, params, constants


def candidate(
    kernel: Kernel, layer: Layer, live: int = 0, flash: FlashTiming | None = None
) -> Candidate:
    """A variant's predictions for a layer that it serves.

    Args:
        kernel: the variant.
        layer: the layer.
        live: bytes of tensors while it runs.
        flash: of the board, None where there are no waits.
    """
    instance = kernel.instance(layer)
    constants = sum(c.bytes for c in instance.constants)
    scratch = kernel.scratch(layer)
    return Candidate(
        kernel=kernel,
        instance=instance,
        cycles=kernel.cycles(layer),
        waits=waits(constants, kernel.passes(layer), flash),
        constants=constants,
        code=_code(kernel, instance, layer),
        scratch=scratch,
        live=live + scratch,
    )


def _code(kernel: Kernel, instance: Instance, layer: Layer) -> int:
    op = layer.node.op
    if not isinstance(op, Chain):
        return code_bytes(kernel, instance, layer.core)
    parts = {
        function_key(part, of): code_bytes(part, of, layer.core)
        for stage in op.stages
        for part, of in zip(stage.kernels, stage.instances, strict=True)
    }
    return sum(parts.values()) + CHAIN_STAGE * len(op.stages)


def waits(constants: int, passes: float, flash: FlashTiming | None) -> float:
    """Predicted cycles that a kernel waits for its constants.

    A pass over more than the data cache holds misses every sector; a shorter one hits from the second on.
    Without a data cache every load of a word waits.

    Args:
        constants: bytes that a pass reads.
        passes: how often.
        flash: of the board, None where there are no waits.
    """
    if flash is None:
        return 0.0
    cached = flash.data_lines * flash.line
    missed = constants / (flash.sector if cached else WORD)
    repeated = passes if constants > cached else min(passes, 1.0)
    return missed * repeated * flash.data_read * flash.wait_states


def select(table: Table, objective: Objective, budget: Budget, placed: Verdict) -> Chosen:
    """The candidate of each layer.

    Args:
        table: candidates of each layer, at least one.
        objective: what to save.
        budget: limits that the choice must keep.
        placed: what a choice takes once its tensors lie in the arena.

    Raises:
        DoesNotFit: no choice keeps the budget; says by how much the nearest one misses.
    """
    if not table:
        return ()
    price = PRICES[objective]
    for limits in (_narrowed(table, price, budget, placed), budget):
        proposals = [_search(table, price, limits, placed)]
        if objective == "sram":
            proposals.append(_overlapping(table, limits, placed))
        found = [one for one in proposals if one is not None]
        if found:
            return min(found, key=lambda one: _cost(table, price, one, placed))
    raise _missed(table, budget, placed)


def _cost(table: Table, price: Price, chosen: Chosen, placed: Verdict) -> float:
    flash, sram = _flash(table, chosen, price.usual), placed(_picked(table, chosen)).sram
    return _cycles(table, chosen) + price.flash * flash + price.sram * sram


def _overlapping(table: Table, budget: Budget, placed: Verdict) -> Chosen | None:
    """Kernels in C that run in both orders overlap best; then faster ones where SRAM stays the same."""
    chosen = [min(range(len(row)), key=lambda i: _overlap_rank(row[i])) for row in table]
    least = placed(_picked(table, tuple(chosen)))
    slowest = sorted(range(len(table)), key=lambda at: -table[at][chosen[at]].total)
    for at in slowest:
        for index in sorted(range(len(table[at])), key=lambda i: table[at][i].total):
            if index == chosen[at]:
                break
            tried = [*chosen[:at], index, *chosen[at + 1 :]]
            if placed(_picked(table, tuple(tried))).sram <= least.sram:
                chosen = tried
                break
    found = tuple(chosen)
    sizes = placed(_picked(table, found))
    fits = (
        budget.sram is None or sizes.sram <= budget.sram,
        budget.flash is None or sizes.flash <= budget.flash,
        budget.cycles is None or _cycles(table, found) <= budget.cycles,
    )
    return found if all(fits) else None


def _overlap_rank(one: Candidate) -> tuple[bool, bool, float]:
    return len(one.kernel.orders) == 1, one.kernel.assembly is not None, one.total


def _narrowed(table: Table, price: Price, budget: Budget, placed: Verdict) -> Budget:
    """A budget within an objective's own limits."""
    cycles, flash = budget.cycles, budget.flash
    if price.cycles_share < inf:
        most = int(price.cycles_share * _cycles(table, _solve(table, Price(), Limits())))
        cycles = most if cycles is None else min(most, cycles)
    if price.flash_spare < inf:
        least = _search(table, _LEAST_FLASH, replace(budget, flash=None), placed)
        if least is not None:
            most = int(placed(_picked(table, least)).flash + price.flash_spare)
            flash = most if flash is None else min(most, flash)
    return replace(budget, cycles=cycles, flash=flash)


def _search(table: Table, price: Price, budget: Budget, placed: Verdict) -> Chosen | None:
    """Lowers the cap on bytes of a step until no choice within it can be better."""
    best, best_cost = None, inf
    cap = inf if budget.sram is None else float(budget.sram)
    needs = {one: one.live for row in table for one in row}
    floor = max((min(one.live for one in row) for row in table), default=0)
    for _ in range(MOST_PLACEMENTS):
        found = _within_flash(
            [[(one, needs[one]) for one in row] for row in table], price, cap, budget, placed
        )
        if found is None:
            break
        chosen, sizes = found
        cost = _cycles(table, chosen) + price.flash * _flash(table, chosen, price.usual)
        fits = budget.sram is None or sizes.sram <= budget.sram
        if fits and cost + price.sram * sizes.sram < best_cost:
            best, best_cost = chosen, cost + price.sram * sizes.sram
        if (fits and not price.sram) or cost + price.sram * floor >= best_cost:
            break
        picked = _picked(table, chosen)
        needs |= {one: max(needs[one], end) for one, end in zip(picked, sizes.ends, strict=True)}
        cap = max(needs[one] for one in picked) - 1
    return best


def _within_flash(
    table: Needs, price: Price, cap: float, budget: Budget, placed: Verdict
) -> tuple[Chosen, Placed] | None:
    """The cheapest choice under a cap. Functions may split by order: then flash is limited further."""
    most = inf if budget.flash is None else float(budget.flash)
    cycles = inf if budget.cycles is None else float(budget.cycles)
    kept = [[i for i, (_, need) in enumerate(row) if need <= cap] for row in table]
    candidates = [[one for one, _ in row] for row in table]
    limit = most - CALLS
    while all(kept):
        chosen = _solve(candidates, price, Limits(cycles, limit), kept)
        if chosen is None:
            break
        sizes = placed(_picked(candidates, chosen))
        if sizes.flash <= most:
            return chosen, sizes
        limit = min(limit, _flash(candidates, chosen)) - (sizes.flash - most)
    return None


def _solve(
    table: Table, price: Price, limits: Limits, kept: list[list[int]] | None = None
) -> Chosen | None:
    """The cheapest choice among some of the candidates, all of them by default."""
    kept = kept or [list(range(len(row))) for row in table]
    for usual, flash in ((price.usual, inf), (0, limits.flash)):
        # Where the limit of flash is missed without it, all code counts.
        items = [[row[i].item(usual) for i in left] for row, left in zip(table, kept, strict=True)]
        found = cheapest(items, price.flash, Limits(limits.cycles, flash))
        if found is None:
            return None
        chosen = tuple(left[i] for left, i in zip(kept, found, strict=True))
        if _flash(table, chosen) <= limits.flash:
            return chosen
    return None


def _picked(table: Table, chosen: Chosen) -> list[Candidate]:
    return [row[index] for row, index in zip(table, chosen, strict=True)]


def _cycles(table: Table, chosen: Chosen | None) -> float:
    assert chosen is not None
    return sum(one.total for one in _picked(table, chosen))


def _flash(table: Table, chosen: Chosen, usual: int = 0) -> int:
    return totals([[one.item(usual) for one in row] for row in table], chosen)[1]


def _without(budget: Budget, name: str) -> Budget:
    """A budget less one of its limits."""
    return Budget(
        sram=None if name == "sram" else budget.sram,
        flash=None if name == "flash" else budget.flash,
        cycles=None if name == "cycles" else budget.cycles,
    )


def _missed(table: Table, budget: Budget, placed: Verdict) -> DoesNotFit:
    """Which budget no choice keeps while it keeps the others, by how much, and what would help."""
    texts, given = [], {name: getattr(budget, name) for name in ("cycles", "flash", "sram")}
    for name, price in (("cycles", Price()), ("flash", _LEAST_FLASH), ("sram", PRICES["sram"])):
        if given[name] is None:
            continue
        nearest = _search(table, price, _without(budget, name), placed)
        if nearest is None:
            continue
        sizes = placed(_picked(table, nearest))
        needs = {"cycles": round(_cycles(table, nearest)), "flash": sizes.flash, "sram": sizes.sram}
        over = needs[name] - given[name]
        what = {"cycles": "cycles", "flash": "flash", "sram": "SRAM"}[name]
        where = budget.limits[name]
        texts.append(
            f"{what}: needs {needs[name]:,}, {where} allows {given[name]:,}: {over:,} too many"
        )
    limits = ", ".join(budget.limits[name] for name, limit in given.items() if limit is not None)
    if not texts:
        return DoesNotFit(f"no choice of kernels keeps {limits}", hint="raise two of them, or more")
    alone = len(texts) == 1
    return DoesNotFit(
        " (or, keeping the rest) ".join(texts),
        hint="a larger budget, a larger part, or a smaller network"
        if alone
        else f"raise one of {limits}",
    )
