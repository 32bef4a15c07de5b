"""A chain as one layer with one kernel, so that the planner places it like any other step.

The rings between members and the sums of a closing average are bytes of the arena that live for the
step; a gathered window and the kernels' own scratch are its scratch (docs/memory.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from codegen import pixel
from codegen.chain import Member, Simulation, Source, Traffic, simulate
from codegen.ir import Array, Node, Tensor
from codegen.kernel import Constant, Footprint, Instance, Kernel, Layer
from codegen.ops import KERNELS
from codegen.ops.mean import KERNELS as MEAN
from codegen.pixel import WORD, Pixel
from targets.errors import UsageError

SUM_BYTES = 4
STATE_BYTES = 16  # struct pixel
STAGE_CYCLES = 70  # of a driver, for every pixel: cursors, calls
ROW_CYCLES = 35  # for every row of a window
COPY_CYCLES = 1.1  # for every byte of a window


def _reshaped_mean(layer: Layer) -> Instance:
    return MEAN[0].instance(layer)


COLLECT = Kernel(
    name="mean.collect",
    template="ops/mean.collect.c.j2",
    serves=lambda layer: True,
    instance=_reshaped_mean,
    cycles=lambda layer: 7.0 * layer.output.size,
    footprints=lambda layer: (None,),
)
FINISH = Kernel(
    name="mean.finish",
    template="ops/mean.finish.c.j2",
    serves=lambda layer: True,
    instance=_reshaped_mean,
    cycles=lambda layer: 14.0 * layer.output.size,
    footprints=lambda layer: (None,),
)


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """A layer on its way into a chain: its name, its pixel form, and what its tensors are called."""

    name: str
    pixel: Pixel
    operands: tuple[str, ...]

    @property
    def output(self) -> str:
        """The tensor that it writes."""
        return self.pixel.layer.output.name

    @property
    def member(self) -> Member:
        """The layer as the simulation sees it."""
        reads = self.pixel.reads(self.operands)
        return Member(self.output, reads, self.pixel.firings, self.pixel.step, self.pixel.collects)


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A member of a chain.

    Attributes:
        kernels: what makes a pixel; a closing average has a second one, which ends it.
        ring: pixels of its output that exist at a time; 0 for the chain's output, which exists whole.
        offset: where its ring, or its sums, lie among the chain's rings.
        gathers: whether its window is copied to scratch first.
        asks: outputs of members that make as many pixels before it does.
    """

    link: Link
    kernels: tuple[Kernel, ...]
    instances: tuple[Instance, ...]
    ring: int
    offset: int
    gathers: bool
    asks: tuple[str, ...]

    @property
    def patch(self) -> int:
        """Bytes of scratch for a gathered window, on words."""
        return _words(self.link.pixel.patch) if self.gathers else 0

    @property
    def scratch(self) -> int:
        """Bytes that the kernel needs besides the window."""
        return self.kernels[0].scratch(self.link.pixel.one)

    @property
    def cycles(self) -> float:
        """Predicted, of all pixels."""
        form = self.link.pixel
        each = self.kernels[0].cycles(form.one) + STAGE_CYCLES
        if self.gathers and form.window is not None:
            each += ROW_CYCLES * form.window.kernel[0] + COPY_CYCLES * form.patch
        return form.firings * each + sum(kernel.cycles(form.one) for kernel in self.kernels[1:])


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """The operator of a fused step: its stages, in execution order.

    Attributes:
        rings: bytes of all rings and sums.
        outside: the tensors that it reads from outside, in the order of the layer's inputs.
        traffic: how it reads them.
        source: the network input that is pushed row by row; its ring lies first. None where there is none.
    """

    kind: ClassVar[str] = "chain"
    stages: tuple[Stage, ...]
    rings: int
    outside: tuple[str, ...]
    traffic: Mapping[str, Traffic]
    source: Source | None = None

    @property
    def state(self) -> int:
        """Bytes that say where every member stands; kept from push to push where rows are pushed."""
        return 0 if self.source is None else STATE_BYTES * (len(self.stages) + 1)

    @property
    def cycles(self) -> float:
        """Predicted, of all members and of copying the rows that are pushed."""
        found = sum(stage.cycles for stage in self.stages)
        if self.source is None:
            return found
        calls = ROW_CYCLES + STAGE_CYCLES * len(self.stages)
        return found + self.source.rows * (calls + COPY_CYCLES * self.source.row_bytes)

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The shape of the last member's output."""
        return self.stages[-1].link.pixel.layer.output.shape

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The members one after the other."""
        names = self.outside if self.source is None else (self.source.tensor, *self.outside)
        values: dict[str, Array] = dict(zip(names, inputs, strict=True))
        for stage in self.stages:
            layer, operands = stage.link.pixel.layer, iter(stage.link.operands)
            found = tuple(
                values[next(operands)] if tensor.data is None else tensor.data
                for tensor in layer.inputs
            )
            values[stage.link.output] = layer.node.op.evaluate(found)
        return values[self.stages[-1].link.output]


def link(layer: Layer, name: str, roots: Mapping[str, str]) -> Link | None:
    """A layer as a possible member; None where it has no pixel form."""
    form = pixel.of(layer)
    if form is None:
        return None
    return Link(name, form, tuple(roots[tensor.name] for tensor in layer.activations))


def run(links: Sequence[Link], source: Source | None = None) -> Simulation:
    """The simulated chain; a streamed input is among its rings."""
    return _arranged(links, source)[1]


def _arranged(
    links: Sequence[Link], source: Source | None
) -> tuple[tuple[Member, ...], Simulation]:
    """The members and their simulation, with early shortcuts where that makes the rings smaller."""
    plain = tuple(one.member for one in links)
    first = () if source is None else (source.member,)
    found = plain, simulate((*first, *plain))
    early = tuple(
        replace(member, asks=_shortcuts(one, links, source))
        for one, member in zip(links, plain, strict=True)
    )
    if any(member.asks for member in early):
        other = early, simulate((*first, *early))
        if rings_bytes(links, other[1], source) < rings_bytes(links, found[1], source):
            return other
    return found


def rings_bytes(links: Sequence[Link], found: Simulation, source: Source | None) -> int:
    """Bytes of all rings and sums, with the rows of a streamed input."""
    return source_bytes(found, source) + sum(ring_bytes(one, found) for one in links)


def source_bytes(found: Simulation, source: Source | None) -> int:
    """Bytes of a streamed input's ring; 0 where there is none."""
    return 0 if source is None else _words(found.rings[source.tensor] * source.depth)


def source_of(links: Sequence[Link], tensor: str) -> Source | None:
    """An input as rows for a chain, if its members read it and all see the same rows; else None."""
    shapes = {
        seen.shape[1:]
        for one in links
        for operand, seen in zip(one.operands, one.pixel.layer.activations, strict=True)
        if operand == tensor
    }
    return Source(tensor, *shapes.pop()) if len(shapes) == 1 else None


def _shortcuts(one: Link, links: Sequence[Link], source: Source | None) -> tuple[str, ...]:
    """Outputs of 1x1 convolutions beside a member: they read what it reads, at the same places."""
    window = one.pixel.window
    inner = {other.output for other in links} | ({source.tensor} if source else set())
    if window is None or window.kernel == (1, 1) or one.operands[0] not in inner:
        return ()
    return tuple(
        other.output
        for other in links[:-1]
        if other.operands == one.operands
        and other.pixel.window is not None
        and other.pixel.window.kernel == (1, 1)
        and other.pixel.layer.output.shape[1:3] == one.pixel.layer.output.shape[1:3]
    )


def ring_bytes(one: Link, found: Simulation) -> int:
    """Bytes between a member and its readers: its ring, or the sums of a closing average."""
    channels = one.pixel.layer.output.shape[-1]
    if one.pixel.collects:
        return SUM_BYTES * channels
    return _words(found.rings.get(one.output, 0) * channels)


def footprint(traffic: Traffic, pixel_bytes: int, out_bytes: int) -> Footprint:
    """An outside tensor's events: everything read since the pixel before, then one pixel written."""
    write = out_bytes * (traffic.end * 0 + 1).cumsum()
    return Footprint(
        read_low=traffic.first * pixel_bytes,
        read_high=traffic.end * pixel_bytes,
        write_low=write - out_bytes,
        write_high=write,
        reads_first=True,
    )


def fuse(links: Sequence[Link], wanted: Mapping[str, str], source: Source | None = None) -> Layer:
    """One layer that runs others pixel by pixel.

    Args:
        links: the members in execution order; outputs of all but the last are read by later ones only.
        wanted: kernel variants by layer name, from a recipe.
        source: the network input that is pushed row by row.

    Raises:
        UsageError: a recipe asks for a kernel that makes neither single pixels nor pairs of them.
    """
    links = [*(_as_wanted(one, wanted.get(one.name)) for one in links[:-1]), links[-1]]
    members, found = _arranged(links, source)
    outside = {name: _outside(links, name) for name in found.traffic}
    stages, offset = [], source_bytes(found, source)
    source = source and replace(source, ring=found.rings[source.tensor])
    for one, member in zip(links, members, strict=True):
        place = found.rings.get(one.output, 0), offset
        overwrites = one is links[-1] and any(name in outside for name in one.operands)
        stages.append(_stage(one, place, member.asks, wanted.get(one.name), overwrites))
        offset += ring_bytes(one, found)
    last = links[-1].pixel.layer
    sources = tuple(dict.fromkeys(s for one in links for s in one.pixel.layer.node.sources))
    op = Chain(tuple(stages), offset, tuple(outside), found.traffic, source)
    node = Node(op, tuple(t.name for t in outside.values()), last.output.name, sources)
    return Layer(node, tuple(outside.values()), last.output, last.core)


def _as_wanted(one: Link, kernel: str | None) -> Link:
    """A member in the form that a kernel needs: pairs of pixels for those that make no single ones."""
    singles = (k.name for k in _able(one))
    pair = pixel.in_pairs(one.pixel)
    return one if kernel is None or kernel in singles or pair is None else replace(one, pixel=pair)


def faster_in_pairs(stage: Stage) -> tuple[float, str] | None:
    """Cycles that a member saves by making pairs of pixels, and the kernel for it; None if it saves none."""
    form = pixel.in_pairs(stage.link.pixel)
    if form is None:
        return None
    pair = replace(stage.link, pixel=form)
    kernel = min(_able(pair), key=lambda kernel: kernel.cycles(form.one))
    changed = replace(stage, link=pair, kernels=(kernel,), gathers=True)
    gain = stage.cycles - changed.cycles
    return (gain, kernel.name) if gain > 0 else None


def _outside(links: Sequence[Link], name: str) -> Tensor:
    """A tensor from outside, as the first of its readers sees it."""
    for one in links:
        for operand, tensor in zip(one.operands, one.pixel.layer.activations, strict=True):
            if operand == name:
                return tensor
    raise KeyError(name)


def _stage(
    one: Link, place: tuple[int, int], asks: tuple[str, ...], wanted: str | None, overwrites: bool
) -> Stage:
    """A member with its kernels.

    Args:
        one: the layer.
        place: pixels of its ring, and where that lies.
        asks: outputs of the shortcuts that run before it.
        wanted: the kernel that a recipe names.
        overwrites: whether its output may overlap what it reads: then windows must be read before it writes.
    """
    form = one.pixel
    gathers = form.window is not None and (not form.lies_ready or overwrites)
    kernels = (COLLECT, FINISH) if form.collects else (_kernel(one, gathers, wanted),)
    instances = tuple(kernel.instance(form.one) for kernel in kernels)
    return Stage(one, kernels, instances, *place, gathers, asks)


def _kernel(one: Link, gathers: bool, wanted: str | None) -> Kernel:
    """The fastest variant that makes a pixel; assembly only where operands and result lie on words."""
    layer = one.pixel.one
    able = _able(one)
    if not gathers and not one.pixel.lies_ready:
        able = [kernel for kernel in able if kernel.assembly is None]
    serving = [kernel for kernel in able if wanted in (None, kernel.name)]
    if not serving:
        names = ", ".join(kernel.name for kernel in able)
        raise UsageError(
            f"recipe: layer {one.name!r} is part of a chain and cannot run kernel {wanted!r}",
            hint=f"able, pixel by pixel: {names}; or leave the layer out of the recipe's chains",
        )
    return min(serving, key=lambda kernel: kernel.cycles(layer))


def _able(one: Link) -> list[Kernel]:
    """Variants that make a member's pixels; assembly only where results lie on words."""
    layer = one.pixel.one
    on_words = layer.output.shape[-1] % WORD == 0
    return [
        kernel
        for kernel in KERNELS[layer.node.op.kind]
        if kernel.serves(layer) and (on_words or kernel.assembly is None)
    ]


def _chain(layer: Layer) -> Chain:
    assert isinstance(layer.node.op, Chain)
    return layer.node.op


def _instance(layer: Layer) -> Instance:
    """The constants of all members, named by member."""
    constants = tuple(
        Constant(f"m{number}_{c.name}", c.ctype, c.data, c.weight_bytes)
        for number, stage in enumerate(_chain(layer).stages)
        for instance in stage.instances
        for c in instance.constants
    )
    return Instance("chain", {}, constants)


def _footprints(layer: Layer) -> tuple[Footprint | None, ...]:
    op = _chain(layer)
    channels = layer.output.shape[-1]
    return tuple(
        footprint(op.traffic[name], tensor.shape[-1], channels)
        for name, tensor in zip(op.outside, layer.inputs, strict=True)
    )


def _scratch(layer: Layer) -> int:
    chain = _chain(layer)
    return chain.state + max(stage.patch + stage.scratch for stage in chain.stages)


KERNEL = Kernel(
    name="chain",
    template="chain.c.j2",
    serves=lambda layer: layer.node.op.kind == Chain.kind,
    instance=_instance,
    cycles=lambda layer: _chain(layer).cycles,
    footprints=_footprints,
    scratch=_scratch,
    rings=lambda layer: _chain(layer).rings,
)


def _words(size: int) -> int:
    return -(-size // WORD) * WORD
