"""Which kernels run which scheme of weights: found by asking every kernel about a small layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.table import Table

from codegen.ir import Array, Node, Op, Quant, Storage, Tensor, per_tensor
from codegen.kernel import Kernel, Layer
from codegen.ops import KERNELS, OPS
from codegen.quant.quantize import BITS
from codegen.quant.scheme import Scheme
from targets import target as targets
from thumbnet import views

CORES = {"DSP": "generic-m4", "Armv7-M": "generic-m3", "Armv6-M": "generic-m0plus"}
_LENGTH, _CHANNELS = 16, 8
_X, _Y, _WEIGHTS = per_tensor(0.02, 3), per_tensor(1.0, 0), 0.01


def kernels(scheme: Scheme, weights: str) -> dict[str, dict[str, str]]:
    """By operator and kind of core, "tuned" where a kernel in assembly serves, else "portable"."""
    return {
        name: {
            core: _kind(_serving(_layer(op, x, w, _stored(scheme, weights, w), target)))
            for core, target in CORES.items()
        }
        for name, op, x, w in _layers()
    }


def binary_activations() -> dict[str, Any]:
    """The row of layers whose inputs are bits too; depthwise ones stay int8."""
    x, w = (1, 4, 4, 64), (_CHANNELS, 1, 1, 64)
    op = OPS["binary_conv2d"](binary=True)
    one, found = per_tensor(1.0, 0, 32), {}
    operands = (
        Tensor("x", x, BITS),
        Tensor("w", w, per_tensor(1.0, 0), np.ones(w, np.int8)),
        Tensor("t", (_CHANNELS,), one, np.zeros(_CHANNELS, np.int32)),
    )
    node = Node(op, ("x", "w", "t"), "y", ("layer",))
    output = Tensor("y", op.infer((x, w)), BITS)
    for core, target in CORES.items():
        layer = Layer(node, operands, output, targets.load(target).core)
        found[core] = _kind(_serving(layer))
    return {
        "scheme": "xnor",
        "weights": "binary",
        "activations": "binary",
        "summary": "signs times signs, 32 to a word",
        "needs_training": True,
        "kernels": {
            "conv2d": found,
            "depthwise": dict.fromkeys(CORES, "none"),
            "dense": found,
        },
    }


def _kind(serving: list[Kernel]) -> str:
    return "tuned" if any(kernel.assembly for kernel in serving) else "portable"


def _layers() -> list[tuple[str, Op, tuple[int, ...], tuple[int, ...]]]:
    conv = OPS["conv2d"]
    image = (1, 4, 4)
    return [
        ("conv2d", conv(), (*image, _LENGTH), (_CHANNELS, 1, 1, _LENGTH)),
        ("depthwise", conv(groups=_CHANNELS), (*image, _CHANNELS), (_CHANNELS, 3, 3, 1)),
        ("dense", OPS["dense"](), (1, _LENGTH), (_CHANNELS, _LENGTH)),
    ]


def _stored(scheme: Scheme, weights: str, shape: tuple[int, ...]) -> Storage:
    count = int(np.prod(shape[1:]))
    rows = np.linspace(-1, 1, shape[0] * count).reshape(shape[0], count)
    return scheme.quantize(rows, np.zeros(shape[0]), weights).storage


def _layer(op: Op, x: tuple[int, ...], w: tuple[int, ...], storage: Storage, target: str) -> Layer:
    integers: Array = storage.expanded().reshape(w)
    width = 8 if np.abs(integers).max() <= 127 else 16
    grid = Quant((_WEIGHTS,) * w[0], (0,) * w[0], 0, width)
    biases = Quant((_WEIGHTS * _X.scale,) * w[0], (0,) * w[0], 0, 32)
    operands = (
        Tensor("x", x, _X),
        Tensor("w", w, grid, integers.astype(f"int{width}"), storage),
        Tensor("b", (w[0],), biases, np.zeros(w[0], np.int32)),
    )
    shape = op.infer((x, w, (w[0],)))
    node = Node(op, ("x", "w", "b"), "y", ("layer",))
    return Layer(node, operands, Tensor("y", shape, _Y), targets.load(target).core)


def _serving(layer: Layer) -> list[Kernel]:
    return [kernel for kernel in KERNELS[layer.node.op.kind] if kernel.serves(layer)]


def show(found: dict[str, Any]) -> None:
    """The table for people."""
    from thumbnet.show import out

    table = Table("scheme", "weights", "activations", box=None, pad_edge=False)
    for operator in found["schemes"][0]["kernels"]:
        table.add_column(operator)
    table.add_column("what it is")
    for row in found["schemes"]:
        cells = [views.cell(cores) for cores in row["kernels"].values()]
        trained = " (for models trained so)" if row["needs_training"] else ""
        table.add_row(
            row["scheme"], row["weights"], row["activations"], *cells, row["summary"] + trained
        )
    out.print(table)
    out.print("Every scheme runs on every core; where no tuned kernel serves, portable C does.")
