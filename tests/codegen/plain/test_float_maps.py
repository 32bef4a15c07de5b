"""Elementwise operators on reals as ones on float32 numbers: what they compute stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from codegen import execute
from codegen.floats import all_floats
from codegen.floats.maps import TABLES
from codegen.ir import Array, Graph, Node, Op, Port, Tensor
from codegen.ops.add import Add
from codegen.ops.lookup import FUNCTIONS, Lookup
from codegen.ops.mean import Mean
from codegen.ops.mul import Mul
from codegen.ops.softmax import Softmax

SHAPE = (1, 3, 4)
X = np.concatenate([np.zeros(1), np.linspace(-8, 8, 71)]).astype(np.float32).reshape(6, 3, 4)
K = np.linspace(-2, 2, 4, dtype=np.float32).reshape(1, 1, 4)


def graph(op: Op, operands: int = 1) -> Graph:
    """One operator; a second operand is a constant that broadcasts."""
    names = ("x", "k")[:operands]
    tensors = {"x": Tensor("x", SHAPE), "k": Tensor("k", K.shape, None, K)}
    shape = op.infer(tuple(tensors[name].shape for name in names))
    tensors["y"] = Tensor("y", shape)
    ports = (Port("x", "x", SHAPE, (0, 1, 2)),), (Port("y", "y", shape, tuple(range(len(shape)))),)
    kept = {name: tensors[name] for name in (*names, "y")}
    return Graph("net", kept, (Node(op, names, "y", ("node",)),), *ports)


def both(op: Op, operands: int = 1) -> tuple[Array, Array]:
    """The results of an operator on reals and of what it becomes."""
    real = graph(op, operands)
    plain = all_floats(real)
    assert {tensor.dtype for tensor in plain.tensors.values()} == {"float32"}
    return execute.run_float(real, (X,))[0], execute.run_float(plain, (X,))[0]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions(function: str) -> None:
    parameters = {"clip": (-1.5, 2.5), "sign": (1.0, 0.0)}.get(function, (0.3, 0.6))
    wanted, found = both(Lookup(function, *parameters))
    np.testing.assert_allclose(np.float64(found), np.float64(wanted), rtol=2e-6, atol=2e-6)


def test_every_function_has_a_lowering() -> None:
    assert TABLES.keys() | {"identity"} == FUNCTIONS.keys()


@pytest.mark.parametrize("clamp", [None, (0.0, np.inf), (-np.inf, 1.0), (-0.5, 1.25)])
@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_signed_sums(signs: tuple[int, int], clamp: tuple[float, float] | None) -> None:
    wanted, found = both(Add(signs, clamp), 2)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    "op", [Mul(), Mul((0.0, 6.0)), Softmax(), Mean((1,)), Mean((1, 2)), Mean((2,), keepdims=False)]
)
def test_other_operators(op: Op) -> None:
    wanted, found = both(op, 2 if isinstance(op, Mul) else 1)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(np.float64(found), np.float64(wanted), rtol=1e-6, atol=1e-6)


def test_parts_get_names_of_their_own() -> None:
    """A tensor of the model may be called as a part would be."""
    one = graph(Softmax())
    named = replace(one, tensors={**one.tensors, "y.most": Tensor("y.most", K.shape, None, K)})
    assert len(all_floats(named).nodes) == 4
