"""`thumbnet finetune`: a float model trained for weights of few bits, written as a QDQ model and a recipe.

With weights "float" the model stays one of float32: suited to other data, before it is quantized.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen import data, importer, onnx_save, pipeline, recipe
from codegen.ir import Graph, Quant
from codegen.names import identifier
from codegen.quant import calibrate, lower, ptq, quantize, sign_layers, trainable
from codegen.quant import weights as quant_weights
from codegen.quant.quantize import GridStyle
from targets.errors import ToolMissing, UsageError
from thumbnet import calibration, project
from thumbnet.compiler import Progress, silent
from thumbnet.options import CompileOptions

if TYPE_CHECKING:
    from codegen.train.fit import Trainer, Training

RESULT = "finetune.json"
RECIPE = "recipe.toml"
TRAINED_FOR = "The widths that these weights were trained for: pass with --recipe."
FLOAT = "float"
FEW = GridStyle(width=4)
ROUNDED_WIDTHS = {"int4": 4, "int3": 3, "int2": 2, "ternary": 2}


@dataclass(frozen=True, slots=True)
class FinetuneOptions:
    """What `finetune` is asked for.

    Attributes:
        data: training samples, `FILE.npz[:key]`; labels where it has them.
        calib: calibration samples; None = calib_x of `data`, else some of its samples.
        weights: of all layers but depthwise ones and small ends, unless the recipe names them; "float" for
            nothing quantized, activations neither.
        scheme: None = the plain one; "ttq" for ternary weights with two scales.
        activations: "int8"; "int4": sixteen values between layers; "binary": signs before the layers with
            binary weights.
        recipe: per-layer weights.
        resume: folder of checkpoints, made where there is none.
    """

    data: str
    calib: str | None = None
    weights: str | None = None
    scheme: str | None = None
    activations: str = "int8"
    recipe: Path | None = None
    resume: Path | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    calib_samples: int = 256
    seed: int = 0


def finetune(
    model: Path,
    options: FinetuneOptions,
    how: Mapping[str, Any],
    output: Path,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Trains a model and writes OUT/NAME.onnx, OUT/recipe.toml and OUT/finetune.json, all or nothing.

    Args:
        model: a float ONNX file; it is the teacher as well.
        options: what to train for.
        how: fields of codegen.train.fit.Training that differ from the usual.
        output: the folder OUT.
        progress: bars.

    Returns:
        the JSON object of `finetune`.

    Raises:
        ToolMissing: PyTorch is not installed.
        UnsupportedModel: an operator that cannot be trained.
        UsageError: a wrong option or data file, or a model that is quantized already.
    """
    need_torch()
    from codegen.train.fit import Samples, Trainer, Training, labels_of
    from codegen.train.network import LearningFloat, Network

    project.check_place(output, RESULT)
    graph, found = _loaded(model, options)
    training = Training(**how, seed=options.seed)
    start, chosen = (None, {}) if options.weights == FLOAT else begin(graph, options, progress)
    network = LearningFloat(graph) if start is None else Network(start)
    samples = Samples(network.graph, found, labels_of(network.graph, found))
    trainer = Trainer(network, samples, training, options.resume)
    trainer.run(progress("training", training.epochs))
    name = identifier(model.stem)
    weights = sorted({form.weights for form in start.forms.values()}) if start else [FLOAT]
    result = _result(name, trainer, training, weights)
    files = {RESULT: (json.dumps(result, indent=2) + "\n").encode()}
    if isinstance(network, LearningFloat):
        written = network.learned()
    else:
        written = trainable.trained(network.start, network.learned())
        layers = named(network.graph, chosen)
        files[RECIPE] = recipe.of_layers(layers, {}, False, TRAINED_FOR).encode()
    files[f"{name}.onnx"] = onnx_save.dump(written)
    project.write(output, files, RESULT)
    return result


def need_torch() -> None:
    """Raises ToolMissing without PyTorch."""
    if importlib.util.find_spec("torch") is None:
        raise ToolMissing(
            "fine-tuning needs PyTorch",
            hint='pip install "thumbnet[qat]"; everything else works without',
        )


def begin(
    graph: Graph, options: FinetuneOptions, progress: Progress = silent
) -> tuple[trainable.Start, lower.Chosen]:
    """Where training begins, and the layers with weights of few bits; needs no PyTorch.

    Args:
        graph: float, after all passes.
    """
    choices = recipe.load(options.recipe) if options.recipe else recipe.Recipe()
    usual = lower.Format(options.weights, options.scheme)
    chosen = lower.choose(graph, lower.Formats(usual, choices.weights), False)
    forms = trainable.forms(graph, chosen)
    calibrating = CompileOptions(
        calib=options.calib or _calibration_of(options.data),
        calib_samples=options.calib_samples,
        seed=options.seed,
    )
    graph, samples, _ = calibration.inputs(graph, calibrating, [])
    method = choices.calibration or "mse"
    teacher, layers = graph, frozenset[str]()
    if options.activations == "binary":
        layers = _binary_layers(graph, forms)
        graph = sign_layers.with_signs(graph, layers, samples)
    advance = progress("calibrating", len(samples[0]) * calibrate.passes(method))
    ranges = calibrate.ranges(graph, samples, method, advance)
    grids = quantize.activation_grids(graph, ranges)
    few: dict[str, Quant] = {}
    if options.activations == "int4":
        narrow = calibrate.ranges(graph, samples, "mse", width=FEW.width)
        few = {name: quantize.activation_grid(limit, FEW) for name, limit in narrow.items()}
    rules = ptq.Settings(
        layers={
            output: ptq.WeightRule(
                ROUNDED_WIDTHS[form.weights], choices.rounding.clip or ptq.AUTO, "gptq"
            )
            for output, form in forms.items()
            if form.kind == "uniform" and form.weights in ROUNDED_WIDTHS
        },
        left=frozenset(output for output, form in forms.items() if form.kind != "uniform"),
    )
    rounded = quant_weights.rounded(graph, ranges, samples, rules, progress)
    roots = trainable.sharing(graph, grids)
    activations = trainable.activation_forms(graph, grids, roots, few)
    free = sign_layers.without_grid(graph, layers, roots)
    start = trainable.Start(graph, rounded, forms, roots, activations, teacher, free)
    # Layers of signs are known by their numbers; a recipe has nothing to say about them.
    return start, {output: form for output, form in chosen.items() if output not in layers}


def _binary_layers(graph: Graph, forms: Mapping[str, trainable.WeightForm]) -> frozenset[str]:
    """Outputs of the layers that are to multiply signs with signs."""
    found = frozenset(
        node.output
        for node in graph.nodes
        if node.output in forms
        and forms[node.output].kind == "binary"
        and sign_layers.takes_signs(graph, node)
    )
    if not found:
        raise UsageError(
            "no layer has binary weights that signs could be multiplied with",
            hint="binary activations go with --weights binary, or a recipe that names such layers",
        )
    return found


def named(graph: Graph, chosen: lower.Chosen) -> dict[str, lower.Format]:
    """Weights by the layer names that the written model will have."""
    names = onnx_save.node_names(graph)
    return {
        names[output]: lower.Format(weights, scheme.name)
        for output, (weights, scheme) in chosen.items()
    }


def _loaded(model: Path, options: FinetuneOptions) -> tuple[Graph, data.DataSet]:
    graph = pipeline.run(importer.load(model, shapes=options.shapes))
    if any(tensor.quant for tensor in graph.tensors.values()):
        raise UsageError(
            f"{model} is quantized already", hint="fine-tuning begins with the float model"
        )
    onnx_save.refuse(graph)
    found = data.load(options.data, graph.inputs)
    if len(found) < 2:
        raise UsageError(f"{options.data}: training needs more than one sample")
    return graph, found


def _calibration_of(spec: str) -> str:
    """Where calibration data comes from unless the user says."""
    return f"{spec}:calib_x" if data.has_key(spec, "calib_x") else spec


def _result(
    name: str,
    trainer: Trainer,
    training: Training,
    weights: list[str],
) -> dict[str, Any]:
    """The JSON object of `finetune`."""
    done = trainer.progress
    return {
        "schema_version": project.SCHEMA_VERSION,
        "model": name,
        "weights": weights,
        "epochs": done.epoch,
        "best_epoch": done.best_epoch,
        "processor_minutes": round(done.seconds / 60, 2),
        "samples": len(trainer.rows),
        "held_out": {
            "samples": len(trainer.held_out),
            "accuracy": {
                "float": trainer.evaluate(trainer.held_out, teacher=True)[1],
                "before": done.accuracies[0],
                "after": done.accuracies[done.losses.index(done.best_loss)],
            },
            "loss": {"before": done.losses[0], "after": done.best_loss},
        },
        "training": asdict(training),
        "history": [
            {"loss": loss, "accuracy": accuracy}
            for loss, accuracy in zip(done.losses, done.accuracies, strict=True)
        ],
    }
