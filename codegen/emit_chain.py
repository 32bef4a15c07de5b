"""What templates/chain.c.j2 is told of a chain: numbers, names and places."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

from codegen import window as sliding
from codegen.fused import Chain, Stage
from codegen.names import comment
from codegen.pixel import WORD
from codegen.plan import Plan, Step

BLOCK = 4 * WORD


def params(plan: Plan, step: Step, chain: Chain) -> dict[str, object]:
    """Of the whole chain."""
    stages = [_stage(plan, step, chain, index) for index in range(len(chain.stages))]
    return {
        "name": f"step{step.index}",
        "summary": f"Step {step.index}: {len(stages)} layers pixel by pixel.",
        "stages": stages,
        "pixels": chain.stages[-1].link.pixel.firings,
        "source": _source(step, chain),
    }


def _source(step: Step, chain: Chain) -> dict[str, object] | None:
    """The rows that are pushed, and where the members' state is kept from push to push."""
    source = chain.source
    if source is None:
        return None
    assert step.rings is not None and step.scratch is not None
    return {
        "row": source.row_bytes,
        "columns": source.columns,
        "ring": source.ring * source.depth,
        "base": step.rings.offset,
        "stage": len(chain.stages),
        "state": step.scratch.offset,
    }


def tools(drivers: str) -> dict[str, object]:
    """Which of the shared functions the drivers use."""
    return {
        "units": [unit for unit in ("words", "blocks") if f"_{unit}(" in drivers],
        "bytes": "move(" in drivers or "take(" in drivers,
        "takes": "take(" in drivers,
        "fills": "fill(" in drivers,
    }


def _unit(depth: int) -> str:
    """What windows of so many channels are copied by: the suffix of a function."""
    if depth % BLOCK == 0:
        return "_blocks"
    return "_words" if depth % WORD == 0 else ""


def _stage(plan: Plan, step: Step, chain: Chain, index: int) -> dict[str, object]:
    stage = chain.stages[index]
    form = stage.link.pixel
    assert step.rings is not None
    is_last = index == len(chain.stages) - 1
    patch = -1 if step.scratch is None else step.scratch.offset + chain.state
    functions = [plan.functions[i].name for i in _functions(step, chain, index)]
    shapes = " + ".join("x".join(map(str, t.shape[1:])) for t in form.layer.activations)
    result = "x".join(map(str, form.layer.output.shape[1:]))
    ring = "" if is_last else f", ring of {stage.ring} pixel{'s' if stage.ring > 1 else ''}"
    return {
        "index": index,
        "summary": f"{comment(stage.link.name)}: {stage.kernels[0].name} {shapes} -> {result}{ring}.",
        "window": _window(stage) if _moves(stage) else None,
        "gathers": stage.gathers,
        "unit": _unit(form.layer.activations[0].shape[-1]),
        "collects": form.collects,
        "fill": form.fill,
        "patch": patch,
        "scratch": patch + stage.patch if stage.scratch else None,
        "sums": step.rings.offset + stage.offset,
        "base": step.output.offset if is_last else step.rings.offset + stage.offset,
        "ring": stage.ring,
        "depth": form.layer.output.shape[-1],
        "columns": 0 if form.window is None else form.columns,
        "step": form.step,
        "asks": [index for index, one in enumerate(chain.stages) if one.link.output in stage.asks],
        "operands": _operands(step, chain, stage),
        "function": functions[0],
        "finish": functions[-1],
        "constants": [
            f"step{step.index}_m{index}_{c.name}" for i in stage.instances for c in i.constants
        ],
    }


def _functions(step: Step, chain: Chain, index: int) -> tuple[int, ...]:
    """Indices of a member's functions: a closing average has two."""
    before = sum(len(stage.kernels) for stage in chain.stages[:index])
    return step.functions[before : before + len(chain.stages[index].kernels)]


def _operands(step: Step, chain: Chain, stage: Stage) -> list[dict[str, object]]:
    assert step.rings is not None
    places = {name: slot.offset for name, slot in zip(chain.outside, step.inputs, strict=True)}
    makers = {
        one.link.output: (i, step.rings.offset + one.offset, one.ring)
        for i, one in zip(count(), chain.stages)
    }
    if chain.source is not None:
        rows = (len(chain.stages), step.rings.offset, chain.source.ring)
        makers[chain.source.tensor] = rows
    found: list[dict[str, object]] = []
    asked: set[str] = set()
    for name, tensor in zip(stage.link.operands, stage.link.pixel.layer.activations, strict=True):
        maker, base, ring = makers[name] if name in makers else (None, places[name], 0)
        found.append(
            {
                "stage": maker,
                "asks": maker is not None and name not in asked,
                "base": base,
                "ring": ring,
                "rows": tensor.shape[1],
                "columns": tensor.shape[2],
                "depth": tensor.shape[3],
            }
        )
        asked.add(name)
    return found


def _moves(stage: Stage) -> bool:
    """Whether a member keeps track of rows and columns: it gathers, or leaves pixels out."""
    window = stage.link.pixel.window
    return window is not None and (stage.gathers or window.stride != (1, 1))


def _window(stage: Stage) -> Mapping[str, object]:
    form = stage.link.pixel
    window, x, y = form.window, form.layer.activations[0].shape, form.layer.output.shape
    assert window is not None
    last = [(k - 1) * d for k, d in zip(window.kernel, window.dilation, strict=True)]
    counts = (y[1], form.columns)
    pads = [
        window.pads[axis] > 0
        or (counts[axis] - 1) * window.stride[axis] + last[axis] >= x[axis + 1]
        for axis in (0, 1)
    ]
    return {
        "columns": window.kernel[1],
        **sliding.moves(window),
        "last_row": last[0],
        "last_column": last[1],
        "pads_rows": pads[0],
        "pads_columns": pads[1],
    }
