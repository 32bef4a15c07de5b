"""Damaged models, by number: the same seed, the same bytes.

Half of the changes are to the structure, by reflection over the protobuf fields, so that they pass the parser
and reach what lies behind it; the others are to bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from math import prod
from random import Random
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import TensorProto

INTEGERS = (0, 1, -1, 2, 3, 7, 8, 16, 127, 128, 255, 1 << 15, (1 << 31) - 1, -(1 << 31), 1 << 31)
LARGE = (1 << 40, (1 << 63) - 1, -(1 << 63))
REALS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-38, 3e38, float("inf"), float("-inf"), float("nan"), 0.5)
TEXTS = ("", "x", "*/ int evil; /*", "..", "../w.bin", "/dev/zero", "Conv", "SAME_UPPER", "ai.onnx",
         "com.microsoft", "nearest", "\x1b[31m", "line\nbreak", "é\u202e", "a" * 5000)  # fmt: skip
OPERATORS = (
    "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape",
    "Conv", "ConvTranspose", "DequantizeLinear", "Div", "Einsum", "Expand", "Flatten", "Gather", "Gemm",
    "HardSigmoid", "Identity", "If", "LSTM", "LeakyRelu", "Loop", "MatMul", "Max", "MaxPool", "Mul", "PRelu",
    "Pad", "Pow", "QLinearConv", "QuantizeLinear", "Range", "ReduceMean", "ReduceSum", "Relu", "Reshape",
    "Resize", "Shape", "Sign", "Slice", "Softmax", "Split", "Squeeze", "Sub", "Tile", "Transpose",
    "Unsqueeze", "Where",
)  # fmt: skip

Change = Callable[[Random, onnx.ModelProto], None]


def mutant(number: int, seeds: Mapping[str, onnx.ModelProto]) -> bytes:
    """The bytes of the mutant with this number."""
    random = Random(number)
    model = onnx.ModelProto()
    model.CopyFrom(seeds[random.choice(tuple(seeds))])
    kind = random.randrange(10)
    if kind:
        for _ in range(random.choice((1, 1, 1, 2, 3, 5))):
            random.choice(CHANGES)(random, model)
    content: bytes = model.SerializeToString(deterministic=True)
    if kind < 2:
        content = _damaged(random, content)
    return content


def _damaged(random: Random, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(random.randint(1, 4)):
        at, size = random.randrange(len(data) + 1), random.randint(1, 9)
        kind = random.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            data[at:at] = random.randbytes(size)
        elif kind == 2:
            del data[at : at + size]
        elif kind == 3:
            data[at : at + 1] = b"\xff" * random.randint(1, 9) + b"\x01"
        else:
            other = random.randrange(len(data) + 1)
            data[at:at] = data[other : other + random.randint(1, 200)]
    return bytes(data if random.random() < 0.9 else data[: random.randrange(len(data) + 1)])


def messages(message: Message) -> Iterator[Message]:
    """A message and all within it."""
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for one in value if _is_list(field) else (value,):
                yield from messages(one)


def _is_list(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def _value(random: Random, field: FieldDescriptor, texts: tuple[str, ...]) -> Any:
    """Something for a field that is no message."""
    kind = FieldDescriptor
    if field.type == kind.TYPE_ENUM:
        return random.choice([value.number for value in field.enum_type.values])
    if field.type == kind.TYPE_BYTES:
        return random.choice((b"", b"\xff\xfe", b"NOTSET", random.randbytes(random.randint(1, 40))))
    choices: Mapping[int, tuple[Any, ...]] = {
        kind.TYPE_FLOAT: REALS,
        kind.TYPE_DOUBLE: REALS,
        kind.TYPE_STRING: texts,
        kind.TYPE_INT64: INTEGERS + LARGE,
        kind.TYPE_UINT64: tuple(map(abs, INTEGERS + LARGE)),
    }
    narrow = tuple(value for value in INTEGERS if -(1 << 31) <= value < 1 << 31)
    return random.choice(choices.get(field.type, narrow))


def _names(model: onnx.ModelProto) -> tuple[str, ...]:
    """The values that the graph speaks of."""
    graph = model.graph
    names = [one.name for one in (*graph.input, *graph.initializer)]
    return tuple(names + [name for node in graph.node for name in (*node.input, *node.output)])


def _any_field(random: Random, model: onnx.ModelProto) -> None:
    """Another value, one more, one less, or another order in any field of any message."""
    message = random.choice(list(messages(model)))
    field = random.choice(list(message.DESCRIPTOR.fields))
    if _is_list(field):
        _change_list(random, message, field, TEXTS + _names(model))
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        if random.random() < 0.5:
            message.ClearField(field.name)
        else:
            getattr(message, field.name).SetInParent()
    elif random.random() < 0.2:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _value(random, field, TEXTS + _names(model)))


def _change_list(
    random: Random, message: Message, field: FieldDescriptor, texts: tuple[str, ...]
) -> None:
    values = getattr(message, field.name)
    kind = random.randrange(4)
    if kind == 0 and len(values):
        del values[random.randrange(len(values))]
    elif kind == 1 and len(values):
        values.extend([values[random.randrange(len(values))]])
    elif kind == 2 and len(values) > 1:
        order = list(values)
        random.shuffle(order)
        copies = [type(one).FromString(one.SerializeToString()) if isinstance(one, Message) else one
                  for one in order]  # fmt: skip
        del values[:]
        values.extend(copies)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        values.add()
    elif len(values) and random.random() < 0.7:
        values[random.randrange(len(values))] = _value(random, field, texts)
    else:
        values.append(_value(random, field, texts))


def _rewire(random: Random, model: onnx.ModelProto) -> None:
    """A node reads or writes another value: cycles, dangling and doubled names among them."""
    node = random.choice(list(model.graph.node) or [model.graph.node.add()])
    names = random.choice((node.input, node.output))
    name = random.choice((*_names(model), "", "nowhere"))
    if len(names) and random.random() < 0.9:
        names[random.randrange(len(names))] = name
    else:
        names.append(name)


def _operator(random: Random, model: onnx.ModelProto) -> None:
    """A node becomes another operator."""
    for node in random.choices(list(model.graph.node), k=1) if len(model.graph.node) else ():
        node.op_type = random.choice(OPERATORS)
        if random.random() < 0.1:
            node.domain = random.choice(("", "ai.onnx", "com.microsoft", "unknown"))


def _attribute(random: Random, model: onnx.ModelProto) -> None:
    """An attribute that a node has, or might have, gets another value, mostly of its type."""
    node = random.choice(list(model.graph.node) or [model.graph.node.add()])
    known = _attributes(node.op_type)
    if not known:
        return
    name, kind = random.choice(known)
    kept = [entry for entry in node.attribute if entry.name != name]
    value: object = random.choice(list(VALUES.values()))(random)
    if kind in VALUES and random.random() < 0.8:
        value = VALUES[kind](random)
    empty = onnx.AttributeProto.INTS if value == [] else None
    kept.append(onnx.helper.make_attribute(name, value, attr_type=empty))
    del node.attribute[:]
    node.attribute.extend(kept)


@cache
def _attributes(op_type: str) -> tuple[tuple[str, int], ...]:
    """Names and types of the attributes that a standard operator may have."""
    if not onnx.defs.has(op_type):
        return ()
    found: Any = onnx.defs.get_schema(op_type).attributes
    return tuple((name, int(found[name].type.value)) for name in sorted(found))


def _few(random: Random) -> list[int]:
    """A list of integers, most of them small, as for axes, pads and shapes."""
    length = random.choice((0, 1, 1, 2, 2, 3, 4, 4, 8))
    small = (-2, -1, 0, 1, 1, 2, 3, 4)
    return [random.choice(small if random.random() < 0.9 else LARGE) for _ in range(length)]


VALUES: Mapping[int, Callable[[Random], object]] = {
    int(onnx.AttributeProto.INT): lambda random: random.choice(INTEGERS + LARGE),
    int(onnx.AttributeProto.FLOAT): lambda random: random.choice(REALS),
    int(onnx.AttributeProto.STRING): lambda random: random.choice(TEXTS),
    int(onnx.AttributeProto.INTS): _few,
    int(onnx.AttributeProto.FLOATS): lambda random: random.choices(REALS, k=random.randint(1, 4)),
    int(onnx.AttributeProto.TENSOR): lambda random: onnx.helper.make_tensor(
        "t", TensorProto.FLOAT, [2], random.choices(REALS, k=2)
    ),
}


def _tensor(random: Random, model: onnx.ModelProto) -> None:
    """Weights of another shape, type or length, or with strange numbers; or said to lie elsewhere."""
    if model.graph.initializer:
        tensor = random.choice(list(model.graph.initializer))
        random.choice((_shape, _shape, _type, _length, _number, _number, _place))(random, tensor)


def _shape(random: Random, tensor: onnx.TensorProto) -> None:
    dims = list(tensor.dims)
    if dims and random.random() < 0.5:  # as many elements as before
        random.shuffle(dims)
        dims = random.choice((dims, [1, *dims], [prod(dims)], [*dims, 1]))
    else:
        dims = random.choices((0, 1, 2, 3, 4, -1, 1 << 40), k=random.randrange(6))
    del tensor.dims[:]
    tensor.dims.extend(dims)


def _type(random: Random, tensor: onnx.TensorProto) -> None:
    kinds = tuple(TensorProto.DataType.values())
    tensor.data_type = random.choice(kinds)


def _length(random: Random, tensor: onnx.TensorProto) -> None:
    tensor.raw_data = tensor.raw_data[: random.randrange(len(tensor.raw_data) + 1)]


def _number(random: Random, tensor: onnx.TensorProto) -> None:
    """One or all of the numbers become a strange one of their type."""
    if tensor.data_type == TensorProto.INT64:
        word = struct.pack("<q", random.choice((*range(-3, 9), *INTEGERS, *LARGE)))
    elif tensor.data_type == TensorProto.FLOAT:
        word = struct.pack("<f", random.choice(REALS))
    else:
        word = random.choice((b"\0", b"\x7f", b"\x80", b"\xff"))
    count = len(tensor.raw_data) // len(word)
    at = len(word) * random.randrange(count + 1)
    tensor.raw_data = tensor.raw_data[:at] + word + tensor.raw_data[at + len(word) :]
    if random.random() < 0.3:
        tensor.raw_data = word * count


def _place(random: Random, tensor: onnx.TensorProto) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=random.choice(TEXTS))


def _sizes(random: Random, model: onnx.ModelProto) -> None:
    """An input or output of another shape or type."""
    ports = (*model.graph.input, *model.graph.output)
    if not ports:
        return
    kind = random.choice(ports).type.tensor_type
    dims = list(kind.shape.dim)
    if random.random() < 0.2:
        kind.elem_type = random.choice(tuple(TensorProto.DataType.values()))
    elif dims and random.random() < 0.8:
        random.choice(dims).dim_value = random.choice((*range(1, 12), 0, -1, 64, 1 << 40))
    else:
        kind.shape.dim.add().dim_value = random.choice((1, 2, 3))


def _nodes(random: Random, model: onnx.ModelProto) -> None:
    """Nodes lost, doubled, moved, or nested in a subgraph."""
    nodes = model.graph.node
    if not len(nodes):
        return
    at, kind = random.randrange(len(nodes)), random.randrange(4)
    if kind == 0:
        del nodes[at]
    elif kind == 1:
        nodes.append(nodes[at])
    elif kind == 2:
        nodes.append(nodes[at])
        del nodes[at]
    else:
        graph = nodes[at].attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g
        graph.CopyFrom(onnx.GraphProto(node=list(nodes[:2])))


def _versions(random: Random, model: onnx.ModelProto) -> None:
    """Operator sets unknown, doubled or missing."""
    imports = model.opset_import
    if len(imports) and random.random() < 0.7:
        random.choice(list(imports)).version = random.choice((*range(1, 30), *INTEGERS, *LARGE))
    elif len(imports) and random.random() < 0.3:
        del imports[:]
    else:
        imports.add(domain=random.choice(TEXTS), version=random.choice((1, 7, 13, 22, 1 << 40)))


CHANGES: tuple[Change, ...] = (
    _any_field,
    _any_field,
    _rewire,
    _operator,
    _attribute,
    _attribute,
    _attribute,
    _tensor,
    _tensor,
    _sizes,
    _nodes,
    _versions,
)
