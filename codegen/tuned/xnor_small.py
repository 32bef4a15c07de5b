"""Products of signs for Armv6-M: the adders of codegen.tuned.adders with six registers that can compute.

Values that wait lie in high registers or on the stack. What moves when is decided here, for every number
of words, and so is how the counts of what is left are added up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from codegen import bits
from codegen.kernel import HAS_DSP, Instance, Kernel, Layer
from codegen.quant.fixed import INT8_MAX, INT8_MIN
from codegen.tuned import xnor
from codegen.tuned.adders import MOST_CHUNK, chunks
from codegen.tuned.xnor import Products

LOW = tuple(f"r{i}" for i in range(2, 8))
PARKS = ("r8", "r9", "40", "44", "48", "52", "56")  # numbers are places on the stack
MOST = 16  # words of a chunk
MOST_CODE = 900  # instructions of a channel: a branch reaches 2 KB
REACH = 32  # words that a load's offset can name


COSTS = {
    "move": 1, "advance": 1, "load": 2, "load2": 3, "differ": 1, "full": 7, "half": 3, "mask": 1,
    "pairs": 3, "nibbles": 4, "join": 2, "bytes": 4, "gather": 2, "total": 7,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to registers, and a number that it needs: a word, or a shift."""

    kind: str
    registers: tuple[str, ...]
    number: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Words that are counted together.

    Attributes:
        steps: in order.
        total: the register that the count is in.
        spare: three registers that are free in the end.
    """

    steps: tuple[Step, ...]
    total: str
    spare: tuple[str, ...]

    @property
    def instructions(self) -> int:
        """How many instructions it takes."""
        return sum(COSTS[step.kind] for step in self.steps)


@dataclass(eq=False)
class _Value:
    """A register's worth of bits, and where it is."""

    place: str


@dataclass(eq=False)
class _Machine:
    """Registers, what they hold, and the steps so far."""

    low: list[str] = field(default_factory=lambda: list(LOW))
    parks: list[str] = field(default_factory=lambda: list(PARKS))
    levels: list[list[_Value]] = field(default_factory=lambda: [[]])
    steps: list[Step] = field(default_factory=list)

    def step(self, kind: str, *registers: str, number: int = 0) -> None:
        self.steps.append(Step(kind, registers, number))

    def free(self, place: str) -> None:
        (self.low if place in LOW else self.parks).append(place)

    def need(self, count: int, kept: tuple[_Value, ...] = ()) -> None:
        """Makes so many low registers free: values of the greatest weight wait elsewhere."""
        held = [v for level in reversed(self.levels) for v in level if v not in kept]
        for value in held:
            if len(self.low) >= count:
                return
            if value.place in LOW:
                park, place = self.parks.pop(0), value.place
                self.step("move", park, place)
                value.place = park
                self.low.append(place)

    def take(self, kept: tuple[_Value, ...] = ()) -> str:
        self.need(1, kept)
        return self.low.pop(0)

    def bring(self, value: _Value, kept: tuple[_Value, ...] = ()) -> str:
        """A value's register, once it is one that can compute."""
        if value.place not in LOW:
            register = self.take((*kept, value))
            self.step("move", register, value.place)
            self.free(value.place)
            value.place = register
        return value.place

    def add(self, word: int, count: int) -> None:
        """One or two words of input and weights."""
        if word and word % REACH == 0:
            self.step("advance")
        self.need(2 * count)
        registers = sorted(self.low.pop(0) for _ in range(2 * count))
        inputs, weights = registers[:count], registers[count:]
        kind = "load2" if count == 2 else "load"
        self.step(kind, *inputs, *weights, number=word % REACH)
        for x, w in zip(inputs, weights, strict=True):
            self.step("differ", x, w)
            self.free(w)
            self.levels[0].append(_Value(x))
        level = 0
        while level < len(self.levels):
            while len(self.levels[level]) > 2:
                self._full(level)
            level += 1

    def _full(self, level: int) -> None:
        held = self.levels[level]
        operands = (held[-3], held[-2], held[-1])
        y, z = held.pop(-2), held.pop(-1)
        places = [self.bring(value, operands) for value in operands]
        spare = self.take(operands)
        self.step("full", *places, spare)
        self.free(spare)
        self.free(z.place)
        if level + 1 == len(self.levels):
            self.levels.append([])
        self.levels[level + 1].append(y)

    def groups(self) -> list[tuple[_Value, _Value | None, int]]:
        """What is left: pairs of neighbouring weights, and the shift of the lower."""
        found: list[tuple[_Value, _Value | None, int]] = []
        for bank in range(max(map(len, self.levels))):
            for low in range(0, len(self.levels), 2):
                pair = [level[bank:][:1] for level in self.levels[low : low + 2]]
                values = [value for held in pair for value in held]
                if values:
                    high = values[1] if len(values) > 1 else None
                    found.append((values[0], high, low if pair[0] else low + 1))
        return found

    def count(self) -> str:
        """Adds the counts of everything up; the register of the sum."""
        groups = self.groups()
        self.need(len(LOW))
        fives, threes, spare = (self.low.pop(0) for _ in range(3))
        self.step("mask", fives, "r10")
        self.step("mask", threes, "r11")
        total = ""
        for low, high, shift in groups:
            register = self._narrowed(low, spare, fives, threes)
            if high is not None:
                other = self._narrowed(high, spare, fives, threes)
                self.step("join", register, other)
                self.low.append(other)
            mask = self.low.pop(0)
            self.step("mask", mask, "r12")
            self.step("bytes", register, spare, mask)
            self.low.append(mask)
            if total:
                self.step("gather", total, register, number=shift)
                self.low.append(register)
            total = total or register
        self.step("mask", fives, "lr")
        self.step("total", total, spare, fives)
        self.low += [fives, threes, spare]
        return total

    def _narrowed(self, value: _Value, spare: str, fives: str, threes: str) -> str:
        """Counts of four bits each."""
        for level in self.levels:
            if value in level:
                level.remove(value)
        if value.place not in LOW:
            register = self.low.pop(0)
            self.step("move", register, value.place)
            value.place = register
        self.step("pairs", value.place, spare, fives)
        self.step("nibbles", value.place, spare, threes)
        return value.place


def chunk(first: int, words: int) -> Chunk:
    """The plan for words `first` and on; `first` is even."""
    if words > MOST_CHUNK:
        raise ValueError("the counts of a byte would not fit a byte")
    machine = _Machine()
    for at in range(0, words, 2):
        machine.add(first + at, min(2, words - at))
    total = machine.count()
    spare = [register for register in machine.low if register != total]
    return Chunk(tuple(machine.steps), total, tuple(spare[:3]))


def stalls(found: Chunk) -> int:
    """Cycles beyond one per instruction: loads and stores take two, of two words three."""
    extra = {"load": 2, "load2": 3}
    places = [place for s in found.steps if s.kind == "move" for place in s.registers]
    on_stack = sum(place.isdigit() for place in places)
    return on_stack + sum(extra.get(step.kind, 0) for step in found.steps)


def cut(found: Products) -> list[Chunk]:
    """The chunks of a channel."""
    return [chunk(*one) for one in chunks(found.row_words, MOST)]


def channel_instructions(found: Products) -> int:
    """How many instructions a channel takes."""
    counted = cut(found)
    joined = 3 * (len(counted) - 1)
    clamps = sum(a != b for a, b in zip(found.limits, (INT8_MIN, INT8_MAX), strict=True))
    result = 10 if found.binary else 16 + 3 * clamps
    table = (4 if found.binary else 7) * found.tabled
    return sum(one.instructions for one in counted) + joined + result + table + 1


def cycles(found: Products) -> float:
    """Predicted cycles of a layer."""
    pixels = found.y[1] * found.y[2]
    taps = xnor.runs(found)
    tap = 11 + 5 * taps["tap_words"] + 7 * any(found.slides.pads)
    copying = 90 + 25 * found.tabled + taps["tap_rows"] * (14 + taps["tap_columns"] * tap)
    groups = 25 * bits.words(found.channels) if found.binary else 8
    waits = sum(map(stalls, cut(found))) + 3 * (len(cut(found)) - 1) + (5 if found.binary else 9)
    each = channel_instructions(found) + waits + 4 * found.tabled
    return float(60 + pixels * (copying + groups + found.channels * each))


def kernel(products: Callable[[Layer], Products]) -> Kernel:
    """The variant for cores without SMLAD."""

    def why(layer: Layer) -> str:
        if layer.core.dsp:
            return HAS_DSP
        found = products(layer)
        far = "windows of too many words for a branch"
        return xnor.refusal(found) or (far if channel_instructions(found) > MOST_CODE else "")

    def made(layer: Layer) -> Instance:
        found = products(layer)
        return xnor.instance(found, cut(found))

    return Kernel(
        name="binary_conv2d.xnor_small",
        template="ops/binary_conv2d.xnor.c.j2",
        assembly="ops/binary_conv2d.xnor_small.S.j2",
        serves=lambda layer: not why(layer),
        refusal=why,
        instance=made,
        cycles=lambda layer: cycles(products(layer)),
        passes=lambda layer: float(np.prod(layer.output.shape[1:3])),
        footprints=lambda layer: xnor.footprints(products(layer)),
        scratch=lambda layer: bits.WORD_BYTES * products(layer).row_words,
    )
