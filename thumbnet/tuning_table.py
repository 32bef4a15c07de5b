"""The table that `tune` searches: what every layer loses and costs in every format."""

from __future__ import annotations

from dataclasses import dataclass

from codegen import recipe
from codegen.quant import quantize, schemes
from codegen.quant.lower import Format
from codegen.tune import costs
from codegen.tune.front import Point
from codegen.tune.problem import Problem
from codegen.tune.sensitivity import Outcome, Sensitivity, weighted
from targets.errors import UsageError
from targets.target import Target
from thumbnet import compiler
from thumbnet.compiler import Calibrated, Progress, silent
from thumbnet.options import CompileOptions, TuneOptions


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Everything that the search looks at."""

    found: costs.Costs
    losses: Sensitivity
    problem: Problem
    formats: tuple[Format, ...]

    def formats_of(self, point: Point) -> dict[str, Format]:
        """Format by name of the layer."""
        picked = zip(self.problem.names, self.problem.picked(point[0]), strict=True)
        return {name: option.format for name, option in picked if option.format is not None}

    def combined(self, point: Point) -> Outcome:
        """What all layers in their formats do together, on calibration data."""
        chosen = {self.found.outputs[name]: f for name, f in self.formats_of(point).items()}
        return self.losses.combined(chosen)

    def joint(self, point: Point) -> Outcome:
        """The same where layers make up for the errors of those before them, as in a build."""
        chosen = {self.found.outputs[name]: f for name, f in self.formats_of(point).items()}
        return self.losses.joint(chosen)

    def recipe(self, point: Point) -> str:
        """The choice as a recipe."""
        chosen = self.formats_of(point)
        picked = zip(self.problem.names, self.problem.picked(point[0]), strict=True)
        kernels = {name: option.kernel for name, option in picked}
        return recipe.of_layers(chosen, kernels, any(map(is_forced, chosen.values())))


def measured_table(
    known: Calibrated,
    target: Target,
    options: CompileOptions,
    wishes: TuneOptions,
    progress: Progress = silent,
) -> Table:
    """Losses and costs of every layer in every format."""
    if known.imported or not known.samples:
        raise UsageError(
            "the model brings integer weights of its own", hint="tune takes float models"
        )
    outputs = weighted(known.graph)
    if not outputs:
        raise UsageError("no layer of the model has weights", hint="there is nothing to tune")
    formats = tuple(dict.fromkeys(_format(text) for text in wishes.formats))
    losses = Sensitivity(
        known.graph,
        quantize.activation_grids(known.graph, known.ranges),
        known.samples,
        compiler.rounding_of(options),
        wishes.measure,
        options.seed,
    )
    advance = progress("sensitivity", len(outputs) * len(formats))
    losses.measure_all(outputs, formats, advance)
    priced = costs.costs(
        known.graph, known.ranges, formats, outputs, target.core, target.flash_timing
    )
    return Table(priced, losses, costs.problem(priced, losses.table), formats)


def _format(text: str) -> Format:
    """A format as a user writes it: WEIGHTS or WEIGHTS:SCHEME."""
    weights, _, scheme = text.partition(":")
    schemes.find(weights, scheme or None)
    return Format(weights, scheme or None)


def format_name(chosen: Format) -> str:
    """A format as a user writes it."""
    return f"{chosen.weights}:{chosen.scheme}" if chosen.scheme else str(chosen.weights)


def is_forced(chosen: Format) -> bool:
    """Whether a format is of little use without training, as a rule."""
    found = schemes.find(chosen.weights, chosen.scheme)
    return found is not None and found[0] in found[1].needs_training
