"""RNN, GRU and LSTM."""

from __future__ import annotations

from collections.abc import Mapping

from codegen.build import Builder, Converter, OnnxNode
from codegen.lowering.plain.copies import part, transpose
from codegen.lowering.plain.shapes import reshape
from codegen.ops.recurrent import Recurrent
from codegen.recurrences import Activation, Cell

Parameters = tuple[float, ...]
FUNCTIONS: Mapping[str, tuple[str, Parameters]] = {
    "affine": ("affine", (1.0, 0.0)),
    "elu": ("elu", (1.0,)),
    "hardsigmoid": ("hard_sigmoid", (0.2, 0.5)),
    "leakyrelu": ("leaky_relu", (0.01,)),
    "relu": ("relu", ()),
    "scaledtanh": ("scaled_tanh", (1.0, 1.0)),
    "sigmoid": ("sigmoid", ()),
    "softplus": ("softplus", ()),
    "softsign": ("softsign", ()),
    "tanh": ("tanh", ()),
    "thresholdedrelu": ("thresholded_relu", (1.0,)),
}
"""Activation functions by ONNX's names: that of codegen.scalar, and alpha and beta where nothing is said."""
USUAL: Mapping[Cell, tuple[str, ...]] = {
    "rnn": ("Tanh",),
    "gru": ("Sigmoid", "Tanh"),
    "lstm": ("Sigmoid", "Tanh", "Tanh"),
}
LETTERS = ("x", "w", "r", "b", "", "h", "c", "p")
DIRECTIONS: Mapping[str, tuple[bool, ...]] = {
    "forward": (False,),
    "reverse": (True,),
    "bidirectional": (False, True),
}


def _activations(node: OnnxNode, cell: Cell, directions: int) -> tuple[tuple[Activation, ...], ...]:
    usual = USUAL[cell]
    names = node.attributes.get("activations") or usual * directions
    if not isinstance(names, tuple) or len(names) != len(usual) * directions:
        raise node.unsupported(f"{len(usual)} activation functions per direction are expected")
    alphas = list(node.reals("activation_alpha") or ())
    betas = list(node.reals("activation_beta") or ())
    found = []
    for name in names:
        text = name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)
        if text.lower() not in FUNCTIONS:
            raise node.unsupported(f"activation function {text} is unknown")
        function, parameters = FUNCTIONS[text.lower()]
        # Functions that have a parameter take the next number of the list.
        given = list(parameters)
        if given and alphas:
            given[0] = alphas.pop(0)
        if len(given) > 1 and betas:
            given[1] = betas.pop(0)
        found.append((function, tuple(given)))
    return tuple(tuple(found[i : i + len(usual)]) for i in range(0, len(found), len(usual)))


def _lengths(node: OnnxNode, b: Builder, steps: int) -> tuple[int, ...]:
    value = b.static(node, 4)
    if value is None or (value == steps).all():
        return ()
    return tuple(int(length) for length in value.reshape(-1))


def _recurrent(cell: Cell) -> Converter:
    def convert(node: OnnxNode, b: Builder) -> None:
        reverse = DIRECTIONS.get(node.text("direction", "forward"))
        if reverse is None:
            raise node.unsupported("direction is none of forward, reverse, bidirectional")
        batch_first = bool(node.integer("layout", 0))
        present = [i for i, letter in enumerate(LETTERS) if letter and node.has(i)]
        names = {LETTERS[i]: b.plain(node, i) for i in present}
        if len(b.plain_shape(names["x"])) != 3:
            raise node.unsupported("the operand has not three axes")
        if batch_first:
            for letter in names.keys() & {"x", "h", "c"}:
                names[letter] = transpose(b, names[letter], (1, 0, 2), node.sources)
        steps = b.plain_shape(names["x"])[0]
        wanted = [i for i, name in enumerate(node.outputs[:3]) if name]
        op = Recurrent(
            cell,
            "".join(names),
            "".join("yhc"[i] for i in wanted),
            reverse,
            _activations(node, cell, len(reverse)),
            node.real("clip", 0.0) if "clip" in node.attributes else None,
            _lengths(node, b, steps),
            bool(node.integer("linear_before_reset", 0)),
            bool(node.integer("input_forget", 0)),
        )
        made = b.emit(op, list(names.values()), node.sources)
        _results(node, b, made, wanted, batch_first)

    return convert


def _results(node: OnnxNode, b: Builder, made: str, wanted: list[int], batch_first: bool) -> None:
    """The rows of the result: Y, the last state, the last cell."""
    rows, *rest = b.plain_shape(made)
    steps = rows - sum(1 for i in wanted if i > 0)
    begin = 0
    for index in wanted:
        count = 1 if index else steps
        spans = (range(begin, begin + count), *map(range, rest))
        found = part(b, made, spans, node.sources)
        begin += count
        if index:
            found = reshape(b, found, tuple(rest), node.sources)
        if batch_first:
            found = transpose(b, found, (1, 0, 2) if index else (2, 0, 1, 3), node.sources)
        b.set(node.outputs[index], found)


ONNX: Mapping[str, Converter] = {
    "GRU": _recurrent("gru"),
    "LSTM": _recurrent("lstm"),
    "RNN": _recurrent("rnn"),
}
