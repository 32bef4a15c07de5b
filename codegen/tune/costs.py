"""What every layer costs in every format, from the planner's own candidates and predictions.

The network is quantized and planned once per format, all layers in it; a layer's candidates depend on its
own weights alone. Shapes are those of the pruned network with wide weights, for every format.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from codegen import arrange, plan, prune
from codegen.code_size import CALL
from codegen.ir import Graph
from codegen.quant import lower, quantize, schemes
from codegen.quant.clipping import Range
from codegen.quant.lower import Format
from codegen.select import Candidate, candidate
from codegen.tune.problem import Option, Problem
from codegen.tune.sensitivity import Rounded
from targets.target import Core
from targets.timing import FlashTiming

INT8 = Format("int8")


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """Candidates of every layer.

    Attributes:
        names: of all layers, as recipes and reports have them.
        outputs: of the layers whose format can be chosen: name of the tensor by name of the layer.
        rows: by layer and format; None is the format of layers without weights.
    """

    names: tuple[str, ...]
    outputs: Mapping[str, str]
    rows: Mapping[tuple[str, Format | None], tuple[Candidate, ...]]


def costs(
    graph: Graph,
    ranges: Mapping[str, Range],
    formats: Sequence[Format],
    outputs: Collection[str],
    core: Core,
    flash: FlashTiming | None = None,
) -> Costs:
    """Candidates of every layer in every format.

    Args:
        graph: a float graph.
        ranges: calibrated, of its activations.
        formats: to choose from.
        outputs: of the layers whose weights may have them.
        core: what kernels may use.
        flash: of the board, None where there are no waits.
    """
    names, rows = tuple[str, ...](), dict[tuple[str, Format | None], tuple[Candidate, ...]]()
    free: dict[str, str] = {}
    for chosen in formats:
        quantized = in_format(graph, ranges, chosen, outputs)
        network = arrange.network(quantized, core)
        names = tuple(network.names)
        for index, (name, layer) in enumerate(zip(names, network.layers, strict=True)):
            is_free = layer.node.output in outputs
            if is_free:
                free[name] = layer.node.output
            key = name, chosen if is_free else None
            if key not in rows:
                rows[key] = tuple(
                    candidate(kernel, layer, arrange.live(network, index, kernel), flash)
                    for kernel in plan.serving(layer)
                )
    return Costs(names, free, rows)


def in_format(
    graph: Graph, ranges: Mapping[str, Range], chosen: Format, outputs: Collection[str]
) -> Graph:
    """The quantized graph with all these layers in one format, rounded to nearest: for shapes and sizes."""
    found = schemes.find(chosen.weights, chosen.scheme)
    if found is None:
        return prune.prune(quantize.quantize(graph, ranges, False))
    wide = prune.prune(quantize.quantize(graph, ranges, False, outputs))
    kept = {node.output for node in wide.nodes} & set(outputs)
    return lower.lower(wide, dict.fromkeys(kept, found), force=True)


def problem(found: Costs, losses: Mapping[tuple[str, Format], Rounded]) -> Problem:
    """Options of every layer: its candidates in every format that it was measured in."""
    formats = {chosen for _, chosen in losses}
    rows: list[tuple[Option, ...]] = []
    for name in found.names:
        if name not in found.outputs:
            rows.append(tuple(_option(one, None, 0.0) for one in found.rows[name, None]))
            continue
        output = found.outputs[name]
        rows.append(
            tuple(
                _option(one, chosen, losses[output, chosen].loss)
                for chosen in sorted(formats, key=str)
                for one in found.rows[name, chosen]
            )
        )
    return Problem(found.names, tuple(rows))


def _option(one: Candidate, chosen: Format | None, loss: float) -> Option:
    return Option(
        format=chosen,
        kernel=one.kernel.name,
        loss=loss,
        cycles=one.total,
        flash=one.constants + CALL,
        part=one.function,
        part_flash=one.code,
        sram=one.live,
    )
