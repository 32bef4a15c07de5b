"""How weights become integers where a user or their width asks for more than rounding to nearest.

Integers of 8 bits are rounded to the nearest level of the largest magnitude unless a user chooses. Evenly
spaced levels of fewer bits come from codegen.quant.ptq: second-order rounding, scales tried per channel,
biases corrected where that helps. Tables and factors (codegen.quant.schemes) round as they are made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from codegen.ir import Array, Graph
from codegen.quant import lower, ptq
from codegen.quant.clipping import Range
from codegen.quant.quantize import USUAL, GridStyle, activation_grids
from codegen.quant.scheme import BITS
from codegen.quant.vocabulary import Activations, Correction


@dataclass(frozen=True, slots=True)
class Choices:
    """What a user chose; None = the usual for the weights' width.

    Attributes:
        rounding: a method of codegen.quant.rounding.
        clip: scales of weights: a method of codegen.quant.weight_scales, or "auto" to try some.
        bias_correction: of every layer, of none, or where it lowers the loss.
        activations: "int4" for 16 levels between layers (codegen.quant.few_levels); usually 256.
        granularity: of scales of weights: one per output "channel", or one per "tensor".
        scales: "pow2" rounds all scales up to powers of two.
        activation_grid: whether zero points of activations are 0 ("symmetric").
        equalize: whether channels between layers are given ranges alike beforehand.
    """

    rounding: str | None = None
    clip: str | None = None
    bias_correction: Correction | None = None
    activations: Activations | None = None
    granularity: str | None = None
    scales: str | None = None
    activation_grid: str | None = None
    equalize: bool | None = None

    def over(self, other: Choices) -> Choices:
        """These, and the other's where there is none."""
        merged = {f.name: getattr(self, f.name) or getattr(other, f.name) for f in fields(self)}
        return Choices(**merged)

    def style(self) -> GridStyle:
        """Of grids of activations."""
        return GridStyle(self.activation_grid == "symmetric", self.scales == "pow2")

    def rule(self, width: int, scales: str, rounding: str) -> ptq.WeightRule:
        """Of weights so wide: the methods that are usual for them, and what was chosen."""
        return ptq.WeightRule(
            width,
            self.clip or scales,
            self.rounding or rounding,
            self.granularity != "tensor",
            self.scales == "pow2",
        )


def rounded_here(chosen: lower.Chosen, force: bool = False) -> dict[str, int]:
    """Bits of the layers, by output, whose integers of few bits come from codegen.quant.ptq.

    With `force` also those that are of little use without training.
    """
    return {
        output: BITS[weights]
        for output, (weights, scheme) in chosen.items()
        if scheme.name == "uniform" and (force or weights not in scheme.needs_training)
    }


def settings(
    graph: Graph, chosen: lower.Chosen, choices: Choices, seed: int = 0, force: bool = False
) -> ptq.Settings | None:
    """Rules for a network; None where every layer is rounded in the usual way of 8 bits.

    Args:
        graph: the float graph.
        chosen: the layers with weights of few bits.
        choices: what the user chose.
        seed: of stochastic rounding.
        force: whether weights are rounded even to what is of little use without training.
    """
    few = rounded_here(chosen, force)
    rules = {
        node.output: choices.rule(few[node.output], ptq.AUTO, "gptq")
        for node in graph.nodes
        if node.output in few
    }
    usual = choices.rule(8, "minmax", "nearest")
    correction = choices.bias_correction or ("auto" if few else "off")
    if not rules and usual == ptq.WeightRule() and correction == "off":
        return None
    left = frozenset(chosen) - frozenset(few)
    return ptq.Settings(usual, rules, correction, seed, left)


def rounded(
    graph: Graph,
    found: Mapping[str, Range],
    samples: tuple[Array, ...],
    rules: ptq.Settings,
    progress: Callable[[str, int], Callable[[int], None]],
    style: GridStyle = USUAL,
) -> Graph:
    """The float graph with weights on grids.

    Args:
        graph: a float graph.
        found: calibrated ranges of its activations.
        samples: one array per input, device layout, float32.
        rules: how.
        progress: starts a progress bar (text, total) and returns what moves it on.
        style: of the grids of activations.
    """
    advance = progress("rounding weights", ptq.steps(graph, rules))
    return ptq.quantize_weights(
        graph, activation_grids(graph, found, style), samples, rules, advance
    )
