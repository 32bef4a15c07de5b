"""Many networks as one program for this machine, which runs and compares them by itself."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from codegen import reference
from codegen.plan import Plan
from tests.analysis import matrix
from tests.codegen import networks

HERE = Path(__file__).parent
GLUE = """#include "driver.h"
#include "{name}.h"

static {name}_ctx_t {name}_ctx;
static const size_t {name}_sizes[] = {{{sizes}}};
static const struct area {name}_areas[] = {{{areas}}};
static int {name}_start(void *arena) {{ return {name}_init(&{name}_ctx, arena, {arena}); }}
static int8_t *{name}_in(int i) {{ return {name}_input(&{name}_ctx, i); }}
static const int8_t *{name}_out(int i) {{ return {name}_output(&{name}_ctx, i); }}
static int {name}_step(unsigned step) {{ return {name}_run_step(&{name}_ctx, step); }}
static int {name}_crc(void) {{ return {name}_check_weights(); }}
extern const struct model {name}_model;
const struct model {name}_model = {{
    "{name}", {arena}, {steps}, {inputs}, {outputs}, {name}_sizes, {name}_areas,
    sizeof {name}_areas / sizeof {name}_areas[0], {name}_start, {name}_in, {name}_out,
    {name}_step, {name}_crc,
}};
"""


def glue(plans: Sequence[Plan]) -> str:
    """What the driver must know of the networks: C."""
    names = [made.graph.name for made in plans]
    return "".join(_glue(made) for made in plans) + _table(names)


def _glue(made: Plan) -> str:
    graph = made.graph
    tensors = [graph.tensors[port.tensor] for port in (*graph.inputs, *graph.outputs)]
    areas = [
        f"{{{step.index}, {slot.offset}, {slot.size}}}"
        for step in made.steps
        for slot in (*step.inputs, step.output, step.scratch, step.rings)
        if slot is not None
    ]
    return GLUE.format(
        name=graph.name,
        sizes=", ".join(str(tensor.bytes) for tensor in tensors),
        areas=", ".join(areas),
        arena=max(made.size, 4),
        steps=len(made.steps),
        inputs=len(graph.inputs),
        outputs=len(graph.outputs),
    )


def samples(made: Plan, count: int = 2) -> bytes:
    """Inputs and the reference's outputs, as the driver reads them."""
    graph = made.graph
    inputs = networks.samples(graph, np.random.default_rng(8), count)
    outputs = reference.run(graph, inputs)
    total = len(inputs[0])
    rows = [values.reshape(total, -1) for values in (*inputs, *outputs)]
    data = b"".join(row[sample].tobytes() for sample in range(total) for row in rows)
    return total.to_bytes(4, "little") + data


def prepare(folder: Path, plans: Sequence[Plan], target: str) -> list[str]:
    """Writes the networks, the driver and the samples into a folder; the names of the C sources."""
    project = matrix.together(plans, target)
    matrix.write(folder, project)
    for name in ("driver.h", "driver.c"):
        (folder / name).write_text((HERE / name).read_text())
    (folder / "glue.c").write_text(glue(plans))
    (folder / "samples").write_bytes(b"".join(samples(made) for made in plans))
    return [name for name in project.host_sources if name != "app.c"] + ["driver.c", "glue.c"]


def _table(names: Sequence[str]) -> str:
    rows = "".join(f"    &{name}_model,\n" for name in names)
    declared = "const struct model *const models[]"
    return f"\nextern {declared};\n{declared} = {{\n{rows}    NULL,\n}};\n"


def build(folder: Path, command: Sequence[str], sources: Sequence[str]) -> Path:
    program = folder / "driver"
    done = subprocess.run(
        (*command, "-o", str(program), *sources),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return program


def run(program: Path) -> tuple[int, str]:
    """Exit status of the driver, and what it printed."""
    command = (str(program), "samples")
    done = subprocess.run(
        command, cwd=program.parent, capture_output=True, text=True, check=False, timeout=300
    )
    return done.returncode, done.stdout + done.stderr
