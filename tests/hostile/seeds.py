"""Small sound models, made in code: what mutants begin with. Together they use most converters."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import onnx
from onnx import TensorProto

from codegen.ir import Array
from tests.codegen import dialect_models
from tests.codegen.tiny_models import Net, node

Constants = dict[str, Array | np.generic]


def _reals(seed: int, **shapes: tuple[int, ...]) -> Constants:
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def _integers(**values: list[int]) -> Constants:
    return {name: np.asarray(value, np.int64) for name, value in values.items()}


def images() -> Net:
    """A convolutional network: normalized, depthwise, pooled, residual, concatenated."""
    nodes = [
        node("Conv", "x w b", "c", pads=[1, 1, 1, 1], strides=[1, 1], kernel_shape=[3, 3]),
        node("BatchNormalization", "c g o m v", "n", epsilon=1e-3),
        node("Relu", "n", "r"),
        node("Conv", "r d", "e", group=4, auto_pad="SAME_UPPER"),
        node("Clip", "e low high", "f"),
        node("Add", "f r", "h"),
        node("MaxPool", "h", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("AveragePool", "h", "q", kernel_shape=[2, 2], strides=[2, 2]),
        node("Concat", "p q", "k", axis=1),
        node("GlobalAveragePool", "k", "a"),
        node("Flatten", "a", "l", axis=1),
        node("Gemm", "l u t", "z", transB=1, alpha=1.0, beta=1.0),
        node("Softmax", "z", axis=1),
    ]
    constants = _reals(
        1, w=(4, 2, 3, 3), b=(4,), g=(4,), o=(4,), m=(4,), d=(4, 1, 3, 3), u=(3, 8), t=(3,)
    )
    constants["v"] = np.full(4, 0.5, np.float32)
    limits: Constants = {"low": np.float32(0), "high": np.float32(6)}
    return Net(nodes, [(1, 2, 6, 6)], constants | limits)


def shapes() -> Net:
    """Shapes that are computed, folded and moved."""
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "first", axis=0),
        node("Unsqueeze", "first axis0", "one"),
        node("Concat", "one rest", "target", axis=0),
        node("Transpose", "x", "t", perm=[0, 2, 3, 1]),
        node("Slice", "t begin end axes step", "u"),
        node("Transpose", "u", "v", perm=[0, 3, 1, 2]),
        node("Pad", "v pads", "w", mode="constant"),
        node("Resize", "w - scales", "z", mode="nearest"),
        node("ReduceMean", "z", "m", axes=[2, 3], keepdims=1),
        node("Sigmoid", "m", "g"),
        node("Mul", "z g", "k"),
        node("HardSwish", "k", "l"),
        node("Reshape", "l target", "f"),
        node("MatMul", "f matrix", "o"),
        node("Add", "o bias", "p"),
        node("Tanh", "p"),
    ]
    integers = _integers(
        axis0=[0],
        rest=[72],
        begin=[0],
        end=[3],
        axes=[1],
        step=[1],
        pads=[0, 0, 0, 0, 0, 0, 0, 1],
    )
    constants: Constants = {
        "zero": np.asarray(0, np.int64),
        "scales": np.array([1, 1, 2, 1], np.float32),
    }
    return Net(
        nodes,
        [(1, 3, 4, 3)],
        {**integers, **constants, **_reals(2, matrix=(72, 5), bias=(5,))},
        14,
    )


def integers() -> Net:
    """Operators of the QOperator form."""
    nodes = [
        node("QuantizeLinear", "x s z", "a"),
        node("QLinearConv", "a s z w ws wz s z b", "c", pads=[1, 1, 1, 1]),
        node("QLinearAdd", "c s z a s z s z", "d", domain="com.microsoft"),
        node("QLinearGlobalAveragePool", "d s z s z", "e", domain="com.microsoft"),
        node("DequantizeLinear", "e s z", "f"),
        node("Flatten", "f"),
    ]
    generator = np.random.default_rng(3)
    constants: Constants = {
        "s": np.float32(0.05),
        "z": np.uint8(120),
        "w": generator.integers(-127, 128, (4, 4, 3, 3)).astype(np.int8),
        "ws": np.linspace(0.01, 0.02, 4, dtype=np.float32),
        "wz": np.zeros(4, np.int8),
        "b": generator.integers(-500, 500, 4).astype(np.int32),
    }
    return Net(nodes, [(1, 4, 5, 5)], constants, domains=("com.microsoft",))


def signs() -> Net:
    """Binary layers of QONNX."""
    nodes = [
        node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c g o m v", "n"),
        node("BipolarQuant", "n one", "s", domain="qonnx.custom_op.general"),
        node("BipolarQuant", "q one", "k", domain="qonnx.custom_op.general"),
        node("Conv", "s k", "e", pads=[1, 1, 1, 1]),
        node("Quant", "e step zero bits", "f", domain="qonnx.custom_op.general",
             signed=1, narrow=0, rounding_mode="ROUND"),
        node("Flatten", "f"),
    ]  # fmt: skip
    constants = _reals(4, w=(8, 1, 3, 3), g=(8,), o=(8,), m=(8,), q=(2, 8, 3, 3))
    numbers: Constants = {
        "v": np.ones(8, np.float32),
        "one": np.float32(1),
        "step": np.float32(0.5),
    }
    grid: Constants = {"zero": np.float32(0), "bits": np.float32(8)}
    domains = ("qonnx.custom_op.general",)
    return Net(nodes, [(1, 1, 4, 4)], {**constants, **numbers, **grid}, domains=domains)


@cache
def seeds() -> Mapping[str, onnx.ModelProto]:
    """The models by name. They are shared: copy before changing one."""
    int4 = dialect_models.Weights(TensorProto.INT4, block=16, multiples=True)
    found = {
        "images": images().model(),
        "shapes": shapes().model(),
        "integers": integers().model(),
        "signs": signs().model(),
        "grids": dialect_models.network(dialect_models.Weights(zero=0)),
        "nibbles": dialect_models.dense(int4, 32),
    }
    for name, model in found.items():
        _decorate(model, name)
    return found


def _decorate(model: onnx.ModelProto, name: str) -> None:
    """Fills the fields that only describe, so that mutants change them too."""
    model.producer_name, model.producer_version, model.domain = "maker", "1", "example"
    model.doc_string, model.graph.doc_string, model.graph.name = "a model", "a graph", name
    model.metadata_props.add(key="author", value="someone")
    for index, one in enumerate(model.graph.node):
        one.name = one.name or f"{one.op_type}_{index}"
    shape = model.graph.value_info.add(name=model.graph.node[0].output[0]).type.tensor_type
    shape.elem_type = TensorProto.FLOAT
    shape.shape.dim.add(dim_param="N")
