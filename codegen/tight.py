"""Least SRAM: which layers become chains, and the fastest kernels that take no byte more.

1. Kernels that overlap best, no chains; then every partition that `groups.offered` names is placed.
   The smallest total of tensors, rings and scratch wins; ties go to the smaller arena, then shorter chains.
2. Convolutions in chains make two pixels at once where that is faster, and arena and total grow by at most a
   sixteenth of the arena in all, scratch apart: larger rings for weights that are loaded once for both.
3. Layers outside chains get the fastest kernel that leaves the arena as small. Their scratch may lift the
   total to where it was, or a quarter above the arena, at most `SCRATCH_ALLOWANCE` bytes.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from codegen import arrange, fused, groups
from codegen.arena import Buffer, Problem
from codegen.arena_bound import step_bound
from codegen.arrange import ALIGNMENT, Space
from codegen.ir import Graph
from codegen.kernel import Kernel, Layer
from codegen.ops import KERNELS
from targets.errors import UsageError

SCRATCH_ALLOWANCE = 1_024
PAIRS_SHARE = 16
TRIED = 12  # kernels that are tried one by one, each with a placement of its own

Chooser = Callable[[Layer, str | None], Kernel]


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Layers in execution order.

    Attributes:
        roots: the tensor whose bytes each activation's are.
        wanted: kernel variants by layer name, from a recipe.
        streamed: the input that arrives row by row; None where inputs are whole.
    """

    graph: Graph
    layers: tuple[Layer, ...]
    names: tuple[str, ...]
    roots: Mapping[str, str]
    wanted: Mapping[str, str]
    streamed: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The steps: single layers and chains, with their kernels."""

    layers: tuple[Layer, ...]
    names: tuple[str, ...]
    kernels: tuple[Kernel, ...]


def with_groups(network: Network, chosen: groups.Groups, choose: Chooser) -> Choice:
    """Steps where these runs of layers are chains."""
    layers: list[Layer] = []
    names: list[str] = []
    kernels: list[Kernel] = []
    ends = dict(chosen)
    index = 0
    while index < len(network.layers):
        end = ends.get(index, index + 1)
        if index in ends:
            found = (_link(network, at) for at in range(index, end))
            links = [link for link in found if link is not None]
            source = None
            if network.streamed is not None and index == 0:
                source = fused.source_of(links, network.streamed)
            layers.append(fused.fuse(links, network.wanted, source))
            kernels.append(fused.KERNEL)
            names.append(_label(network.names[index:end]))
        else:
            layers.append(network.layers[index])
            names.append(network.names[index])
            kernels.append(choose(layers[-1], network.wanted.get(names[-1])))
        index = end
    return Choice(tuple(layers), tuple(names), tuple(kernels))


def _label(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} .. {names[-1]}"


def streamed(network: arrange.Network) -> str:
    """The network's input, if there is one that can arrive row by row.

    Raises:
        UsageError: there are several.
    """
    ports = network.graph.inputs
    if len(ports) != 1:
        raise UsageError(
            f"--stream-input: the model has {len(ports)} inputs",
            hint="rows of one input can be pushed; leave the option out",
        )
    return network.roots[ports[0].tensor]


def streaming(network: Network) -> groups.Groups:
    """The shortest run that streams the input.

    Raises:
        UsageError: there is none.
    """
    analysed = _analysed(network, [0] * len(network.layers))
    for end in range(1, len(network.layers) + 1):
        if groups.is_chain(analysed, 0, end):
            return ((0, end),)
    raise cannot_stream(network)


def cannot_stream(network: Network) -> UsageError:
    """That no chain can start at the input."""
    first = network.names[0] if network.names else "none"
    return UsageError(
        f"--stream-input: no chain of layers can start at the input (first layer: {first})",
        hint="it takes an image, NHWC or NCHW, that convolutions, pools or elementwise operators read",
    )


def named_groups(network: Network, chains: Sequence[Sequence[str]]) -> groups.Groups:
    """The runs that a recipe names.

    Raises:
        UsageError: no such layer, layers that do not follow each other, or ones that cannot be fused.
    """
    analysed = _analysed(replace(network, wanted={}), [0] * len(network.layers))
    found = []
    for names in chains:
        for name in names:
            if name not in network.names:
                close = difflib.get_close_matches(name, network.names, 1)
                hint = f"did you mean {close[0]!r}?" if close else "see the layers of recipe.toml"
                raise UsageError(f"recipe: chains: the model has no layer {name!r}", hint=hint)
        first = network.names.index(names[0]) if names else 0
        end = first + len(names)
        if tuple(names) != network.names[first:end] or not groups.is_chain(analysed, first, end):
            raise UsageError(
                f"recipe: layers {', '.join(map(repr, names))} cannot be a chain",
                hint="a chain is a run of layers that work pixel by pixel; others read its last tensor only",
            )
        found.append((first, end))
    found.sort()
    if network.streamed is not None and not any(first == 0 for first, _ in found):
        raise UsageError(
            "recipe: with --stream-input a chain must start at the first layer",
            hint=f'for example chains = [["{network.names[0]}"]]',
        )
    if any(end > start for (_, end), (start, _) in pairwise(found)):
        raise UsageError("recipe: chains: a layer can be part of one chain only")
    return tuple(found)


def overlapping(serving: Sequence[Kernel], layer: Layer) -> Kernel:
    """The kernel that overlaps best: C that runs in both orders, and needs little scratch."""
    return min(serving, key=lambda k: (len(k.orders) == 1, bool(k.assembly), k.cycles(layer)))


def smallest(network: Network, choose: Chooser) -> Choice:
    """The steps that need the least SRAM, from kernels that overlap well."""
    best: tuple[Choice, Space] | None = None
    for chosen in _offered(network, choose):
        tried = with_groups(network, chosen, choose)
        placed = _layout(network, tried)
        if best is None or (placed.size, placed.arena) < (best[1].size, best[1].arena):
            best = tried, placed
    if best is None:
        raise cannot_stream(network)
    found = _in_pairs(network, *best)
    return _faster(network, found, _layout(network, found))


def _offered(network: Network, choose: Chooser) -> Iterator[groups.Groups]:
    plain = with_groups(network, (), choose)
    return groups.offered(_analysed(network, _alone(network, plain.kernels)))


def partitions(network: Network, choose: Chooser) -> Iterator[tuple[tuple[str, ...], ...]]:
    """The partitions into chains that are worth placing, as names of layers."""
    for chosen in _offered(network, choose):
        if chosen:
            yield tuple(network.names[first:end] for first, end in chosen)


def _most(found: Space) -> int:
    """Bytes that the total may reach for the sake of speed."""
    return max(found.size, found.arena + min(SCRATCH_ALLOWANCE, found.arena // 4))


def _in_pairs(network: Network, choice: Choice, found: Space) -> Choice:
    """The same steps with members that make two pixels at once, as long as arena and total allow it."""
    extra = found.arena // PAIRS_SHARE
    for index, layer in enumerate(choice.layers):
        if not isinstance(layer.node.op, fused.Chain):
            continue
        links = [stage.link for stage in layer.node.op.stages]
        taken = dict(network.wanted)
        for name, kernel in _paired(layer.node.op, network.wanted):
            tried = fused.fuse(links, {**taken, name: kernel}, layer.node.op.source)
            changed = replace(
                choice, layers=(*choice.layers[:index], tried, *choice.layers[index + 1 :])
            )
            if _within(_layout(network, changed), found.arena + extra, _most(found) + extra):
                choice, taken[name] = changed, kernel
    return choice


def _paired(chain: fused.Chain, wanted: Mapping[str, str]) -> list[tuple[str, str]]:
    """Members that gain by making pairs of pixels, with the kernels for it; the largest gain first."""
    found = []
    for stage in chain.stages[:-1]:
        gain = fused.faster_in_pairs(stage) if stage.link.name not in wanted else None
        if gain is not None:
            found.append((gain[0], stage.link.name, gain[1]))
    return [(name, kernel) for _, name, kernel in sorted(found, reverse=True)]


def _layout(network: Network, choice: Choice) -> Space:
    return arrange.arranged(_steps(network, choice.layers, choice.names), choice.kernels)


def _steps(network: Network, layers: Sequence[Layer], names: Sequence[str]) -> arrange.Network:
    return arrange.of_layers(network.graph, layers, names)


def _link(network: Network, index: int) -> fused.Link | None:
    return fused.link(network.layers[index], network.names[index], network.roots)


def _analysed(network: Network, alone: Sequence[int]) -> groups.Network:
    buffers = _steps(network, network.layers, network.names).buffers
    outputs = frozenset(network.roots[port.tensor] for port in network.graph.outputs)
    links = tuple(_allowed(network, index) for index in range(len(network.layers)))
    lives = {b.name: b for b in buffers}
    return groups.Network(links, lives, outputs, tuple(alone), network.streamed)


def _allowed(network: Network, index: int) -> fused.Link | None:
    """A layer's form as a member, unless a recipe wants a kernel that cannot make single pixels."""
    link = _link(network, index)
    wanted = network.wanted.get(network.names[index])
    if link is None or wanted is None:
        return link
    able = KERNELS[link.pixel.one.node.op.kind]
    return link if any(k.name == wanted and k.serves(link.pixel.one) for k in able) else None


def _alone(network: Network, kernels: Sequence[Kernel]) -> list[int]:
    """Bytes that live while each layer runs by itself."""
    steps = _steps(network, network.layers, network.names)
    return [_step_bytes(steps, index, kernel) for index, kernel in enumerate(kernels)]


def _step_bytes(steps: arrange.Network, index: int, kernel: Kernel) -> int:
    """Bytes that live at a step, with the best overlap that a kernel allows."""
    live = tuple(
        Buffer(b.name, b.size, index, index) for b in steps.buffers if b.first <= index <= b.last
    )
    return step_bound(Problem(live, tuple(arrange.overlaps(steps, index, kernel)), ALIGNMENT))


def _faster(network: Network, choice: Choice, found: Space) -> Choice:
    """The same steps with faster kernels where they cost nothing."""
    size = _most(found)
    steps = _steps(network, choice.layers, choice.names)
    swaps = []
    for index, (layer, kernel) in enumerate(zip(choice.layers, choice.kernels, strict=True)):
        if kernel is fused.KERNEL or choice.names[index] in network.wanted:
            continue
        for other in _by_cycles(layer):
            if other.cycles(layer) >= kernel.cycles(layer):
                break
            own = _step_bytes(steps, index, other)
            if own <= found.arena and own + other.scratch(layer) <= size:
                swaps.append((index, other))
                break
    every = _swapped(choice, dict(swaps))
    if _within(_layout(network, every), found.arena, size):
        return every
    return _one_by_one(network, choice, swaps, found.arena, size)


def _by_cycles(layer: Layer) -> list[Kernel]:
    serving = [k for k in KERNELS[layer.node.op.kind] if k.serves(layer)]
    return sorted(serving, key=lambda kernel: kernel.cycles(layer))


def _one_by_one(
    network: Network, choice: Choice, swaps: list[tuple[int, Kernel]], arena: int, size: int
) -> Choice:
    """Takes the swaps that save the most first, each if the placement stays as small."""

    def gain(swap: tuple[int, Kernel]) -> float:
        layer = choice.layers[swap[0]]
        return choice.kernels[swap[0]].cycles(layer) - swap[1].cycles(layer)

    for index, kernel in sorted(swaps, key=gain, reverse=True)[:TRIED]:
        tried = _swapped(choice, {index: kernel})
        if _within(_layout(network, tried), arena, size):
            choice = tried
    return choice


def _swapped(choice: Choice, swaps: Mapping[int, Kernel]) -> Choice:
    kernels = [swaps.get(index, kernel) for index, kernel in enumerate(choice.kernels)]
    return replace(choice, kernels=tuple(kernels))


def _within(found: Space, arena: int, size: int) -> bool:
    return found.arena <= arena and found.size <= size
