"""The verb `finetune`: training a float model for weights of few bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from codegen.quant.vocabulary import WEIGHTS
from thumbnet.cli import command, print_result, read_shapes
from thumbnet.cli_options import seed_option, stacked

TRAINING = ("epochs", "batch", "rate", "distill", "held_out", "patience", "shift", "flip")
training_options = stacked(
    click.option(
        "--epochs", default=20, show_default=True, type=click.IntRange(1), help="At most."
    ),
    click.option(
        "--max-minutes",
        type=click.FloatRange(0, min_open=True),
        help="Stop training after this time. [default: no limit]",
    ),
    click.option(
        "--patience",
        default=8,
        show_default=True,
        type=click.IntRange(1),
        help="Stop after so many epochs without a better held-out loss.",
    ),
    click.option(
        "--held-out",
        default=0.1,
        show_default=True,
        type=click.FloatRange(0, 0.9, min_open=True),
        help="Share of the data that is not trained on, but judges when to stop.",
    ),
    click.option("--batch", default=32, show_default=True, type=click.IntRange(1), help="Samples."),
    click.option(
        "--rate",
        default=1e-3,
        show_default=True,
        type=click.FloatRange(0, 1, min_open=True),
        help="Learning rate of weights; falls along a cosine.",
    ),
    click.option(
        "--distill",
        default=0.7,
        show_default=True,
        type=click.FloatRange(0, 1),
        help="Share of the float model's answers in the loss; labels have the rest.",
    ),
    click.option(
        "--shift",
        default=0,
        show_default=True,
        type=click.IntRange(0),
        help="Move images by so many pixels at most, to vary them.",
    ),
    click.option("--flip", is_flag=True, help="Mirror half of the images, to vary them."),
    click.option(
        "--binarize",
        type=click.Choice(["deterministic", "stochastic"]),
        default="deterministic",
        show_default=True,
        help="How binary weights take their signs while training.",
    ),
)


@command("finetune")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--data", required=True, metavar="TRAIN.npz[:KEY]", help="Training samples; labels help."
)
@click.option(
    "--calib",
    metavar="FILE[:KEY]",
    help="Calibration data. [default: calib_x of --data, else samples of it]",
)
@click.option("--calib-samples", default=256, show_default=True, type=click.IntRange(1))
@click.option(
    "--weights",
    type=click.Choice([*WEIGHTS, "float"]),
    help="Weights of all layers but depthwise ones and small ends; float: nothing is quantized, the model is "
    "suited to the data first. [default: int8]",
)
@click.option(
    "--scheme", type=click.Choice(["uniform", "ternary", "ttq", "binary"]), help="Of these weights."
)
@click.option(
    "--activations",
    type=click.Choice(["int8", "int4", "binary"]),
    default="int8",
    show_default=True,
    help="int4: sixteen values between layers. binary: signs before layers with binary weights.",
)
@click.option(
    "--recipe", type=click.Path(path_type=Path), metavar="FILE.toml", help="Per-layer weights."
)
@training_options
@seed_option
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="NAME=1,3,96,96",
    help="Shape of an input with dynamic dimensions.",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep checkpoints here, and go on from one that is there.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="OUT",
    help="Folder for the trained model (QDQ) and its recipe.",
)
def finetune(
    model: Path,
    output: Path,
    as_json: bool,
    quiet: bool,
    shapes: tuple[str, ...],
    binarize: str,
    max_minutes: float | None,
    **options: Any,
) -> None:
    """Train a float model for weights of few bits; needs PyTorch (extra qat)."""
    from thumbnet import finetuning, show, show_training

    how = {key: options.pop(key) for key in TRAINING}
    how |= {"minutes": max_minutes, "stochastic": binarize == "stochastic"}
    chosen = finetuning.FinetuneOptions(**options, shapes=read_shapes(shapes))
    with show.progress(quiet or as_json) as progress:
        found = finetuning.finetune(model, chosen, how, output, progress)
    print_result(found, as_json, lambda found: show_training.finetuned(found, output))
