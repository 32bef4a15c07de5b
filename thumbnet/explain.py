"""Why a layer runs the kernel that it runs: all variants of its operator with their predictions, as JSON."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from codegen.ops import KERNELS
from codegen.plan import Plan, Step
from codegen.select import Candidate, Objective
from targets.errors import UsageError

EVERY = "all"
_GOALS: dict[Objective, str] = {
    "speed": "fewest cycles of the network",
    "balanced": "least cycles + 40 per byte of flash + 10 per byte of SRAM, all layers together",
    "flash": "least flash of the network, and 4,000 bytes where each saves 1,000 cycles",
    "sram": "least SRAM of the network, a byte for up to 50,000 cycles",
}


def layers(plan: Plan, wanted: str) -> list[int]:
    """Indices of the steps that a user asks about: a layer's name, an ONNX node's, or "all".

    Raises:
        UsageError: no layer has the name.
    """
    found = [s.index for s in plan.steps if wanted in (EVERY, s.name, *s.layer.node.sources)]
    if found or wanted == EVERY:
        return found
    close = difflib.get_close_matches(wanted, [step.name for step in plan.steps], 1)
    hint = f"did you mean {close[0]!r}?" if close else "--explain all lists every layer"
    raise UsageError(f"--explain: the model has no layer {wanted!r}", hint=hint)


def candidates(plan: Plan, step: Step, objective: Objective, named: bool) -> list[dict[str, Any]]:
    """Every variant of a layer's operator: those that serve by cycles, then the others.

    Args:
        plan: the plan.
        step: the layer's step.
        objective: what the plan saves.
        named: whether a recipe names the kernel.
    """
    row = sorted(plan.candidates[step.index], key=lambda one: one.total)
    why = "named by the recipe" if named else _GOALS[objective]
    served = [_served(plan, step, one, why) for one in row]
    return [*served, *_refused(step, {one.kernel.name for one in row})]


def _served(plan: Plan, step: Step, one: Candidate, why: str) -> dict[str, Any]:
    chosen = one.kernel is step.kernel
    sharing = [
        other.name
        for other in plan.steps
        if other is not step and other.predicted.function == one.function
    ]
    return {
        "kernel": one.kernel.name,
        "serves": True,
        "chosen": chosen,
        "reason": why if chosen else _difference(one, step.predicted),
        "cycles": round(one.cycles),
        "wait_cycles": round(one.waits),
        "flash": one.constants + one.code,
        "constants": one.constants,
        "code": one.code,
        "code_shared_with": sharing,
        "scratch": one.scratch,
        "step_sram": one.live,
    }


def _difference(one: Candidate, chosen: Candidate) -> str:
    """What another choice would change for this layer by itself."""
    parts = (
        (one.total - chosen.total, "cycles"),
        (one.constants + one.code - chosen.constants - chosen.code, "B flash"),
        (one.live - chosen.live, "B SRAM in this step"),
    )
    return (
        ", ".join(f"{round(more):+,} {what}" for more, what in parts if round(more)) or "the same"
    )


def _refused(step: Step, served: set[str]) -> Iterator[dict[str, Any]]:
    for kernel in KERNELS.get(step.layer.node.op.kind, ()):  # none: a chain
        if kernel.name in served:
            continue
        reason = "another kernel is named by the recipe"
        if not kernel.serves(step.layer):
            text = kernel.refusal(step.layer) if kernel.refusal else ""
            reason = text or "not for layers of this form"
        yield {"kernel": kernel.name, "serves": False, "chosen": False, "reason": reason}
