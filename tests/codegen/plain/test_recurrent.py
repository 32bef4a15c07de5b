"""Recurrent layers: the same bytes everywhere, and what onnxruntime computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen.ops.recurrent import Recurrent
from codegen.recurrences import GATES, Activation, Cell
from targets.errors import UnsupportedModel
from tests.codegen.plain.against import compared, imported
from tests.codegen.plain.network import Case, agreed
from tests.codegen.plain.numbers import reals
from tests.codegen.tiny_models import Net, node

STEPS, BATCH, INPUTS, SIZE = 4, 2, 3, 5
USUAL: dict[Cell, tuple[Activation, ...]] = {
    "rnn": (("tanh", ()),),
    "gru": (("sigmoid", ()), ("tanh", ())),
    "lstm": (("sigmoid", ()), ("tanh", ()), ("tanh", ())),
}


def case(cell: Cell, given: str, keep: str, reverse: tuple[bool, ...], **more: Any) -> Case:
    directions, gates = len(reverse), GATES[cell]
    operands = {
        "x": reals(1, STEPS, BATCH, INPUTS),
        "w": reals(1, directions, gates * SIZE, INPUTS),
        "r": reals(1, directions, gates * SIZE, SIZE),
        "b": reals(1, directions, 2 * gates * SIZE),
        "h": reals(1, directions, BATCH, SIZE),
        "c": reals(1, directions, BATCH, SIZE),
        "p": reals(1, directions, 3 * SIZE),
    }
    activations = more.pop("activations", (USUAL[cell],) * directions)
    op = Recurrent(cell, given, keep, reverse, activations, **more)
    constants = tuple(i for i, letter in enumerate(given) if letter in "wrbp")
    return Case(op, tuple(operands[letter] for letter in given), constants)


def test_the_same_bytes_everywhere(tmp_path: Path) -> None:
    both = (False, True)
    mixed = ((("sigmoid", ()), ("tanh", ())), (("hard_sigmoid", (0.3, 0.4)), ("relu", ())))
    agreed(
        {
            "rnn": case("rnn", "xwr", "y", (False,)),
            "rnn both": case("rnn", "xwrbh", "yh", both, clip=0.4),
            "gru": case("gru", "xwrb", "h", (True,)),
            "gru linear": case("gru", "xwrbh", "yh", both, linear_before_reset=True),
            "gru functions": case("gru", "xwrb", "h", both, activations=mixed, lengths=(4, 0)),
            "lstm": case("lstm", "xwr", "yhc", (False,)),
            "lstm peepholes": case("lstm", "xwrbhcp", "yc", both, lengths=(2, 4), clip=0.7),
            "lstm coupled": case("lstm", "xwrbc", "c", (False,), input_forget=True),
        },
        tmp_path,
    )


def net(op: str, present: str, outputs: str, directions: int = 1, **attributes: Any) -> Net:
    """A layer with random weights; `present` are the letters of its operands behind x."""
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    constants = {
        "w": reals(directions, gates * SIZE, INPUTS),
        "r": reals(directions, gates * SIZE, SIZE),
        "b": reals(directions, 2 * gates * SIZE),
        "n": np.array([2, 4], np.int32),
        "h": reals(directions, BATCH, SIZE),
        "c": reals(directions, BATCH, SIZE),
        "p": reals(directions, 3 * SIZE),
    }
    order = "wrbnh" if op != "LSTM" else "wrbnhcp"
    names = " ".join(["x", *(letter if letter in present else "-" for letter in order)])
    layer = node(op, names, outputs, hidden_size=SIZE, **attributes)
    wanted = tuple(name for name in outputs.split() if name)
    used = {letter: constants[letter] for letter in order if letter in present}
    return Net([layer], [(STEPS, BATCH, INPUTS)], used, 14, wanted)


NETS = {
    "rnn": lambda: net("RNN", "wrb", "y z"),
    "rnn functions": lambda: net(
        "RNN", "wrbh", "y z", 2, direction="bidirectional", activations=["Relu", "Affine"],
        activation_alpha=[0.5], activation_beta=[0.25],
    ),
    "gru": lambda: net("GRU", "wrbh", "y z"),
    "gru linear": lambda: net("GRU", "wrbn", "y z", linear_before_reset=1, direction="reverse"),
    "gru clip": lambda: net("GRU", "wrb", "y z", clip=0.3),
    "gru functions": lambda: net("GRU", "wrb", "y", activations=["HardSigmoid", "Softsign"]),
    "lstm": lambda: net("LSTM", "wr", "y z c1"),
    "lstm peepholes": lambda: net("LSTM", "wrbnhcp", "y z c1", 2, direction="bidirectional"),
    "lstm clip": lambda: net("LSTM", "wrbp", "y z c1", clip=0.5),
    "lstm coupled": lambda: net("LSTM", "wrb", "y z c1", input_forget=1),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_against_onnxruntime(tmp_path: Path, name: str) -> None:
    compared(NETS[name](), tmp_path)


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({"direction": "sideways"}, "direction"),
        ({"activations": ["Tanh"]}, "activation functions"),
        ({"activations": ["Cosine", "Tanh"]}, "Cosine"),
    ],
)
def test_refusals(tmp_path: Path, attributes: dict[str, Any], why: str) -> None:
    with pytest.raises(UnsupportedModel, match=why):
        imported(net("GRU", "wrb", "y", **attributes), tmp_path)
