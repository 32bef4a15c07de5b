"""Which of ONNX's own node tests matter on a microcontroller, and what of them is known at compile time."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

OPERATORS = frozenset(
    """
QLinearConv QLinearMatMul QuantizeLinear DequantizeLinear DynamicQuantizeLinear ConvInteger MatMulInteger
Conv ConvTranspose Gemm MatMul Add Sub Mul Div Max Min Neg Abs Sqrt Reciprocal Exp Log Pow Clip Relu
LeakyRelu PRelu Elu Selu HardSigmoid HardSwish Sigmoid Tanh Softplus Gelu Mish Swish Softmax LogSoftmax
AveragePool MaxPool GlobalAveragePool GlobalMaxPool BatchNormalization InstanceNormalization
LayerNormalization LRN Reshape Flatten Transpose Squeeze Unsqueeze Concat Split Slice Pad Expand Tile
Gather Where Identity Constant Cast Dropout DepthToSpace SpaceToDepth Resize Upsample ReduceMean ReduceSum
ReduceMax ReduceMin ArgMax ArgMin LSTM GRU RNN Mean Sum Erf Sign Floor Ceil Round Celu ThresholdedRelu
Softsign Hardmax LpPool GroupNormalization LpNormalization MeanVarianceNormalization RMSNormalization
GatherElements GatherND ScatterElements ScatterND ConstantOfShape Shape Size ReduceProd ReduceL1 ReduceL2
ReduceSumSquare ReduceLogSum ReduceLogSumExp TopK CumSum Equal Greater GreaterOrEqual Less LessOrEqual And
Or Xor Not Mod BitShift BitwiseAnd BitwiseOr BitwiseXor BitwiseNot Sin Cos DFT STFT HannWindow
HammingWindow BlackmanWindow MelWeightMatrix Einsum Trilu Range OneHot IsNaN IsInf
""".split()
)
TYPES = frozenset(
    {1, 2, 3, 4, 5, 6, 7, 9, 21, 22, 25, 26}
)  # float, 8 to 64 bits, bool, 4 and 2 bits
STRING, GRAPHS = 8, (5, 10)

ALL = tuple(range(8))
FROZEN: Mapping[str, tuple[int, ...]] = {
    "BlackmanWindow": ALL,
    "ConstantOfShape": ALL,
    "CumSum": (1,),
    "DFT": (1, 2),
    "Dropout": (1, 2),
    "Expand": (1,),
    "HammingWindow": ALL,
    "GRU": (4,),
    "HannWindow": ALL,
    "LSTM": (4,),
    "MelWeightMatrix": ALL,
    "OneHot": (1,),
    "Pad": (1, 3),
    "RNN": (4,),
    "Range": ALL,
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "STFT": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
    **dict.fromkeys(
        (
            "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
            "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
        ),
        (1,),
    ),
}  # fmt: skip
"""Operands that say a shape, an axis or a length: here they are inputs, in real models constants."""

ATOL: Mapping[str, float] = {"DFT": 1e-6}
"""Absolute tolerances where that of ONNX is finer than its own float32: it expects 1.9e-7 of a DFT's 0."""


@cache
def relevant() -> Mapping[str, Any]:
    """The cases by name: one operator of the list, numbers of a known type, shapes that are static."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = load_model_tests(kind="node")
    return {case.name: case for case in cases if _matters(case)}


def _matters(case: Any) -> bool:
    graph = case.model.graph
    values = [*graph.input, *graph.output]
    if any(value.type.WhichOneof("value") != "tensor_type" for value in values):
        return False
    if any(a.type in GRAPHS for node in graph.node for a in node.attribute):
        return False
    types = {value.type.tensor_type.elem_type for value in values}
    domains = {node.domain for node in graph.node}
    if not domains <= {"", "ai.onnx"} or not types <= TYPES or "_expanded" in case.name:
        return False
    sizes = [dim.dim_value for value in values for dim in value.type.tensor_type.shape.dim]
    return min(sizes, default=1) > 0 and all(node.op_type in OPERATORS for node in graph.node)


def operator(case: Any) -> str:
    """The operator that a case is about."""
    return str(case.model.graph.node[-1].op_type)


def array(value: Any) -> Any:
    """A case's tensor as an array; those of 2 and 4 bits are messages."""
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def frozen(case: Any) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The model with operands of `FROZEN` as constants, and the values of its remaining inputs."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    (inputs, _), *_ = case.data_sets
    given = {v.name: array(x) for v, x in zip(model.graph.input, inputs, strict=True)}
    fixed = {
        node.input[index]
        for node in model.graph.node
        for index in FROZEN.get(node.op_type, ())
        if index < len(node.input) and node.input[index] in given
    }
    kept = [value for value in model.graph.input if value.name not in fixed]
    types = {v.name: v.type.tensor_type.elem_type for v in model.graph.input}
    for name in sorted(fixed):
        tensor = numpy_helper.from_array(given[name], name)
        assert tensor.data_type == types[name]
        model.graph.initializer.append(tensor)
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return model, {value.name: given[value.name] for value in kept}
