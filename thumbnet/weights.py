"""How flash holds the weights of a plan's layers, as the manifest tells it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from codegen import plan
from codegen.kernel import Layer

WEIGHTED = ("binary_conv2d", "conv2d", "dense")


def layers(step: plan.Step) -> tuple[Layer, ...]:
    """The layers with weights that a step runs: more than one in a chain."""
    if step.chain is not None:
        found: Iterable[Layer] = (stage.link.pixel.layer for stage in step.chain.stages)
    else:
        found = (step.layer,)
    return tuple(layer for layer in found if layer.node.op.kind in WEIGHTED)


def stored_as(layer: Layer) -> str:
    """ "int8", "int4", "int4 vsq16", ...; "binary x bits" where inputs are bits too."""
    if layer.node.op.kind == "binary_conv2d":
        return "binary x bits"
    storage = layer.inputs[1].storage
    if storage is None:
        return "int8"
    plain = storage.scheme in ("uniform", storage.weights)
    return storage.weights if plain else f"{storage.weights} {storage.scheme}"


def describe(found: tuple[Layer, ...], weight_bytes: int) -> dict[str, Any]:
    """Keys of a layer of the manifest; all None without weights.

    Args:
        found: the layers with weights that a step or a member runs.
        weight_bytes: of them, in flash.
    """
    if not found:
        keys = ("weights", "weights_bits", "bits_per_weight", "weight_count")
        return dict.fromkeys(keys)
    operands = [layer.inputs[1] for layer in found]
    count = sum(w.size for w in operands)
    scales = 32 * sum(w.shape[0] for w in operands)
    return {
        "weights": ", ".join(sorted({stored_as(layer) for layer in found})),
        "weights_bits": max(_bits(layer) for layer in found),
        "bits_per_weight": round((8 * weight_bytes + scales) / count, 3),
        "weight_count": count,
    }


def _bits(layer: Layer) -> int:
    """Bits of a weight's code."""
    storage = layer.inputs[1].storage
    if layer.node.op.kind == "binary_conv2d":
        return 1
    return storage.bits if storage else 8


def member(layer: Layer) -> str | None:
    """How flash holds the weights of a layer of a chain; None without weights."""
    return stored_as(layer) if layer.node.op.kind in WEIGHTED else None


def of_plan(planned: plan.Plan) -> str:
    """What is not int8, or int8."""
    found = {stored_as(layer) for step in planned.steps for layer in layers(step)} - {"int8"}
    return ", ".join(sorted(found)) or "int8"
