"""The kernel contract: what a variant declares so that the planner can choose, place and emit it.

A kernel is a template plus pure functions of a `Layer`. The planner needs nothing else: to add a
variant, write the template and one `Kernel` in the operator's module (docs/writing_an_operator.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from codegen.ir import Array, IntArray, Node, Tensor
from targets.target import Core

Order = Literal["ascending", "descending"]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One node of a quantized graph with its tensors: what a kernel is chosen for."""

    node: Node
    inputs: tuple[Tensor, ...]
    output: Tensor
    core: Core

    @property
    def label(self) -> str:
        """Name of the layer in messages."""
        return self.node.label

    @property
    def is_plain(self) -> bool:
        """Whether the result holds plain numbers (`Tensor.dtype`), not integers on a grid."""
        return self.output.dtype is not None

    @property
    def activations(self) -> tuple[Tensor, ...]:
        """The inputs that live in the arena."""
        return tuple(tensor for tensor in self.inputs if tensor.data is None)

    def dot_cycles(self, macs: int) -> float:
        """Predicted for portable dot products: Armv6-M runs out of registers, and needs more moves."""
        return (4.0 if self.core.thumb2 else 7.5) * macs + 34.0 * self.output.size


def channel_block(core: Core) -> int:
    """Output channels that a portable kernel computes at once: as many as registers allow.

    Each shares the load of an input value; Armv6-M has eight registers at hand, the others thirteen.
    """
    return 4 if core.thumb2 else 2


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """An array that a kernel reads from flash.

    Attributes:
        name: its parameter's name in the C kernel.
        ctype: element type in C.
        data: the values, flattened when emitted.
        weight_bytes: how much of it counts as weights (the rest as constants) in the flash figures.
    """

    name: str
    ctype: str
    data: Array
    weight_bytes: int = 0

    @property
    def bytes(self) -> int:
        """Bytes in flash."""
        return int(self.data.size) * ELEMENT_BYTES[self.ctype]


ELEMENT_BYTES: Mapping[str, int] = {
    "int8_t": 1,
    "uint8_t": 1,
    "int16_t": 2,
    "uint16_t": 2,
    "int32_t": 4,
    "uint32_t": 4,
    "int64_t": 8,
    "float": 4,
}


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """A variant with its compile-time constants: one C function.

    Attributes:
        label: short text for the function's name, e.g. "25x5x64_64_k1x1".
        params: numbers for the template; equal templates, params and parameter lists share a function.
        constants: the arrays of this layer, in the order of the C parameters.
    """

    label: str
    params: Mapping[str, object]
    constants: tuple[Constant, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Footprint:
    """Which bytes a kernel touches, event by event, in execution order.

    Event s reads input bytes from `read_low[s]` up to `read_high[s]` and writes output bytes from
    `write_low[s]` up to `write_high[s]` (ends exclusive, relative to the tensors' bases).

    Attributes:
        reads_first: whether an event has read all of its input before its first store.
    """

    read_low: IntArray
    read_high: IntArray
    write_low: IntArray
    write_high: IntArray
    reads_first: bool

    def reversed(self) -> Footprint:
        """The same events from the last to the first."""
        return Footprint(
            read_low=self.read_low[::-1],
            read_high=self.read_high[::-1],
            write_low=self.write_low[::-1],
            write_high=self.write_high[::-1],
            reads_first=self.reads_first,
        )

    def ascending_distance(self) -> int:
        """Least `base_in - base_out` for which no event destroys a byte that is still to be read.

        max over s of (write_high(s) - min of read_low(u) over u >= s, or u > s when reads come first).
        """
        still_read = np.minimum.accumulate(self.read_low[::-1])[::-1]
        written = self.write_high
        if self.reads_first:
            still_read, written = still_read[1:], written[:-1]
        return int((written - still_read).max()) if len(written) else _NO_LIMIT

    def descending_distance(self) -> int:
        """Least `base_out - base_in` for events that run from the last byte to the first."""
        still_read = np.maximum.accumulate(self.read_high[::-1])[::-1]
        written = self.write_low
        if self.reads_first:
            still_read, written = still_read[1:], written[:-1]
        return int((still_read - written).max()) if len(written) else _NO_LIMIT


BOTH_ORDERS: tuple[Order, ...] = ("ascending", "descending")
_NO_LIMIT = -(2**40)  # a single event that reads first may write anywhere


Check = tuple[Callable[[], bool], str]  # what must hold, and what to say where it does not


def unmet(*checks: Check) -> str:
    """The text of the first check that does not hold; later ones are not tried. Empty if all hold."""
    return next((text for holds, text in checks if not holds()), "")


NO_SMLAD = "the core has no SMLAD"
NOT_ALIGNED = "the core has no unaligned loads"
NO_LANE = "the requantization has no form of one shift in 32 bits"
NO_LIMBS = "a channel's requantization has no form in limbs"
NOT_GROUPED = "the layer has groups"
NOT_DEPTHWISE = "the layer is not depthwise"
HAS_DSP = "written for cores without SMLAD"


def elementwise(size: int) -> Footprint:
    """Byte p is written right after byte p was read, p ascending."""
    index = np.arange(size, dtype=np.int64)
    return Footprint(index, index + 1, index, index + 1, reads_first=True)


@dataclass(frozen=True, slots=True)
class Kernel:
    """One variant of an operator.

    Attributes:
        name: "conv2d.depthwise"; unique.
        template: the C, a file below templates/. Where there is assembly too, this is its twin: the same
            function on the same packed constants, for the host build.
        assembly: the instructions for the core, a file below templates/; None for kernels in C.
        serves: whether the variant can run a layer on its core.
        instance: compile-time constants and flash arrays of a layer.
        cycles: predicted cycles of a layer (the planner takes the cheapest variant that serves).
        footprints: per arena input, how it is read against the output's writes; None = must be disjoint.
        scratch: bytes of arena that the kernel needs besides its tensors.
        refusal: why the variant cannot run a layer, as text (`unmet`); None where there is no text.
        passes: how often a run reads its constants from end to end: what waits for flash cost.
        orders: the directions that the template can be rendered in.
        rings: bytes of arena that hold parts of tensors between the layers of a chain.
    """

    name: str
    template: str
    serves: Callable[[Layer], bool]
    instance: Callable[[Layer], Instance]
    cycles: Callable[[Layer], float]
    footprints: Callable[[Layer], tuple[Footprint | None, ...]]
    scratch: Callable[[Layer], int] = lambda layer: 0
    refusal: Callable[[Layer], str] | None = None
    passes: Callable[[Layer], float] = lambda layer: 1.0
    assembly: str | None = None
    rings: Callable[[Layer], int] = lambda layer: 0
    orders: tuple[Order, ...] = ("ascending",)
