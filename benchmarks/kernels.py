"""Single kernels beside their goals: `python -m benchmarks.kernels [--target NAME] [--toolchain NAME]`.

Every layer of kernels.toml as a network of its own, planned for speed; results are held against the reference
before anything is counted. Writes benchmarks/results/kernels-TARGET-TOOLCHAIN.md and .json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import tomllib
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any, get_args

import numpy as np

from benchmarks.models import RESULTS, Toolchain
from codegen import bits, check_plan, emit, plan, reference
from codegen.ir import (
    Graph,
    Node,
    Op,
    Port,
    Quant,
    Storage,
    Tensor,
    per_tensor,
    verify_quantized,
)
from codegen.ops import OPS
from codegen.quant import schemes
from codegen.quant.binary import scaling
from codegen.quant.quantize import BITS
from emulator.cortex_m import CortexM
from emulator.model import EmulatedModel
from targets import load, toolchain
from targets.machine import ModelImage

LIST = Path(__file__).with_name("kernels.toml")
SOURCES = ("startup.c", "main.c")
HEAD = (
    "| layer | kernel | per | instructions | cycles | each | goal | met | peer, each | ratio |\n"
    "|---|---|---|---:|---:|---:|---:|---|---:|---:|"
)
TEXT = """# Kernels on {target}, {compiler}

Written by `python -m benchmarks.kernels`. Cycles are those of m4-simple (no wait states), whole kernels.
`each` is cycles per product of an input and a weight, or per element of the (first) input. Peers are CMSIS-NN
kernels and TFLM operators at -O2, counted by the same model; "-" where there is no figure.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One kernel's figures; `each` per product or per input element."""

    name: str
    kernel: str
    per: str
    instructions: int
    cycles: int
    each: float
    goal: float | None
    peer: float | None

    def line(self) -> str:
        """As a row of the table."""
        met = "-" if self.goal is None else ("yes" if self.each <= self.goal else "no")
        cells = [self.name, self.kernel, self.per, f"{self.instructions:,}", f"{self.cycles:,}"]
        cells += [f"{self.each:.3f}", _number(self.goal), met, _number(self.peer)]
        cells.append("-" if self.peer is None else f"{self.peer / self.each:.1f}")
        return "| " + " | ".join(cells) + " |"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def network(layer: dict[str, Any]) -> Graph:
    """A layer of the list with random weights, as a network."""
    generator = np.random.default_rng(7)
    if layer["op"] == "binary_conv2d":
        return _binary(layer, generator)
    x = Tensor("x0", (1, *layer["input"]), per_tensor(0.05, 3))
    inputs = [x] + [Tensor("x1", x.shape, per_tensor(0.07, -8))] * (layer.get("operands", 1) - 1)
    constants = _weights(layer, generator) if "weights" in layer else ()
    op = _operator(layer)
    shape = op.infer(tuple(t.shape for t in (*inputs, *constants)))
    y = Tensor("y", shape, _output_grid(layer, x))
    names = tuple(t.name for t in (*inputs, *constants))
    tensors = {t.name: t for t in (*inputs, *constants, y)}
    node = Node(op, names, "y", ("layer",))
    ports = tuple(_port(t) for t in inputs)
    return verify_quantized(Graph("net", tensors, (node,), ports, (_port(y),)))


def _binary(layer: dict[str, Any], generator: np.random.Generator) -> Graph:
    """A layer of signs with random weights; results are bits if the list says so, else int8."""
    x = Tensor("x0", (1, *layer["input"]), BITS)
    shape = tuple(layer["weights"])
    one, channels, length = per_tensor(1.0, 0, 32), shape[0], prod(shape[1:])
    w = generator.choice([-1, 1], shape).astype(np.int8)
    constants = [Tensor("w", shape, per_tensor(1.0, 0), w)]
    shift, out = 0, BITS
    if layer["bits"]:
        edges = generator.integers(-20, 20, channels).astype(np.int32)
        constants.append(Tensor("t", edges.shape, one, edges))
    else:
        out = per_tensor(0.4, -11)
        scales = generator.uniform(0.5, 2.0, channels) * 60 / np.sqrt(length)
        multipliers, addends, shift = scaling(scales, np.zeros(channels), length, "layer")
        for name, values in (("m", multipliers), ("a", addends)):
            constants.append(Tensor(name, values.shape, one, values.astype(np.int32)))
    pads = tuple(layer.get("pads", (0, 0, 0, 0)))
    op = OPS["binary_conv2d"](pads=pads, binary=layer["bits"], shift=shift)
    y = Tensor("y", op.infer((x.shape, shape)), out)
    node = Node(op, ("x0", *(t.name for t in constants)), "y", ("layer",))
    tensors = {t.name: t for t in (x, *constants, y)}
    return verify_quantized(Graph("net", tensors, (node,), (_port(x),), (_port(y),)))


def _inputs(graph: Graph) -> tuple[reference.Stored, ...]:
    """A random sample as the device holds it."""
    generator = np.random.default_rng(3)
    tensors = [graph.tensors[port.tensor] for port in graph.inputs]
    values = [generator.integers(-128, 128, t.shape).astype(np.int8) for t in tensors]
    return tuple(
        bits.pack(x) if t.grid.width == 1 else x for t, x in zip(tensors, values, strict=True)
    )


def _port(tensor: Tensor) -> Port:
    return Port(tensor.name, tensor.name, tensor.shape, tuple(range(len(tensor.shape))))


def _operator(layer: dict[str, Any]) -> Op:
    kind = layer["op"]
    if kind == "conv2d":
        deep = layer["weights"][3] == 1 < layer["input"][2]
        return OPS[kind](
            stride=tuple(layer.get("stride", (1, 1))),
            pads=tuple(layer.get("pads", (0, 0, 0, 0))),
            groups=layer["input"][2] if deep else 1,
        )
    if "window" in layer:
        return OPS[kind](tuple(layer["window"]), tuple(layer["window"]))
    arguments: dict[str, tuple[object, ...]] = {"mean": ((1, 2),), "lookup": ("sigmoid",)}
    return OPS[kind](*arguments.get(kind, ()))


def _weights(layer: dict[str, Any], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    shape = layer["weights"]
    channels = shape[0]
    scales = tuple(generator.uniform(0.001, 0.004, channels).tolist())
    zeros = (0,) * channels
    w, storage = generator.integers(-127, 128, shape).astype(np.int8), None
    if "stored" in layer:
        storage = _stored(layer["stored"], shape, generator)
        scales = tuple(40 * scale for scale in scales)
        w = storage.expanded().reshape(shape).astype(np.int8)
    b = generator.integers(-5000, 5000, channels).astype(np.int32)
    bias_grid = Quant(tuple(0.05 * scale for scale in scales), zeros, 0, 32)
    weights = Tensor("w", tuple(shape), Quant(scales, zeros, 0), w, storage)
    return weights, Tensor("b", b.shape, bias_grid, b)


def _stored(weights: str, shape: list[int], generator: np.random.Generator) -> Storage:
    """Gaussian weights, rounded to what the list asks for."""
    found = schemes.find(weights, None)
    assert found is not None
    rows = generator.normal(size=(shape[0], prod(shape[1:])))
    return found[1].quantize(rows, np.zeros(shape[0]), weights).storage


def _output_grid(layer: dict[str, Any], x: Tensor) -> Quant:
    if layer["op"] == "max_pool":
        return x.grid
    if layer["op"] == "softmax":
        return per_tensor(1 / 256, -128)
    return per_tensor(0.4 if "weights" in layer else 0.09, -11)


def measure(layer: dict[str, Any], target: str, compiler: toolchain.Toolchain, folder: Path) -> Row:
    """Builds and runs one layer. SystemExit when a byte differs from the reference."""
    graph = network(layer)
    board = load(target)
    made = check_plan.check(plan.make(graph, board.core, "speed"))
    project = emit.emit(made, board, "0" * 64)
    for name, text in project.files.items():
        (folder / name).write_text(text)
    program = folder / "net.elf"
    sources = (*SOURCES, *project.sources)
    toolchain.build_firmware(compiler, board, folder, sources, "link.ld", program)
    inputs = _inputs(graph)
    sizes = tuple(x.size for x in inputs)
    image = ModelImage("net", 1, sizes, (graph.tensors["y"].bytes,), max(made.size, 4))
    with EmulatedModel(CortexM(board, program, count=True), image) as model:
        run = model.infer(tuple(x.tobytes() for x in inputs))
    if run.outputs[0] != reference.run(graph, inputs)[0].tobytes():
        raise SystemExit(f"{layer['name']}: bytes differ from the reference")
    (step,) = run.steps
    count, per = _units(graph, layer)
    return Row(
        layer["name"],
        made.steps[0].kernel.name,
        per,
        step.instructions,
        step.cycles,
        round(step.cycles / count, 4),
        layer.get("goal"),
        layer.get("peer"),
    )


def _units(graph: Graph, layer: dict[str, Any]) -> tuple[int, str]:
    if "weights" not in layer:
        return prod(layer["input"]), "element"
    return graph.tensors["y"].size * prod(layer["weights"][1:]), "product"


def main() -> None:
    """Measures all layers of the list."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", default="generic-m4")
    parser.add_argument("--toolchain", default="gcc", choices=get_args(Toolchain))
    chosen = parser.parse_args()
    compiler = toolchain.find(chosen.toolchain)
    rows = []
    for layer in tomllib.loads(LIST.read_text())["layers"]:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(layer, chosen.target, compiler, Path(folder)))
    lines = [TEXT.format(target=chosen.target, compiler=compiler.version), HEAD]
    text = "\n".join([*lines, *(row.line() for row in rows), ""])
    stem = RESULTS / f"kernels-{chosen.target}-{chosen.toolchain}"
    stem.with_suffix(".md").write_text(text)
    stem.with_suffix(".json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print(text, end="")


if __name__ == "__main__":
    main()
