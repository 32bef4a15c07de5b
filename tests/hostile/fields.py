"""A hostile text in every string field of a model at once, and in those alone that say what a model does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count

import numpy as np
import onnx
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from tests.codegen.tiny_models import Net, node
from tests.hostile.mutate import messages

# Names of values: the same name must stay the same.
VALUES = frozenset({
    "NodeProto.input", "NodeProto.output", "ValueInfoProto.name", "TensorProto.name",
    "TensorAnnotation.tensor_name", "ShardingSpecProto.tensor_name",
})  # fmt: skip


def _add_attribute(made: onnx.ModelProto, name: str, value: object) -> None:
    made.graph.node[0].attribute.append(onnx.helper.make_attribute(name, value))


def _add_function(made: onnx.ModelProto, text: str) -> None:
    found = made.functions.add(name=text, domain=text, doc_string=text, overload=text)
    for names in (found.input, found.output, found.attribute):
        names.append(text)


def _external(made: onnx.ModelProto, key: str, value: str) -> None:
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    tensor.external_data.add(key=key, value=value)


# What decides what is computed: set alone, as such a model is refused, or compiled as if it were not there.
Change = Callable[[onnx.ModelProto, str], None]
ALONE: Mapping[str, Change] = {
    "NodeProto.op_type": lambda m, text: setattr(m.graph.node[0], "op_type", text),
    "NodeProto.domain": lambda m, text: setattr(m.graph.node[0], "domain", text),
    "NodeProto.overload": lambda m, text: setattr(m.graph.node[0], "overload", text),
    "AttributeProto.name": lambda m, text: setattr(m.graph.node[0].attribute[0], "name", text),
    "AttributeProto.ref_attr_name": lambda m, text: setattr(
        m.graph.node[0].attribute[0], "ref_attr_name", text
    ),
    "AttributeProto.s": lambda m, text: _add_attribute(m, "auto_pad", text.encode()),
    "AttributeProto.strings": lambda m, text: _add_attribute(m, "auto_pad", [text.encode()]),
    "OperatorSetIdProto.domain": lambda m, text: setattr(m.opset_import[0], "domain", text),
    "TensorProto.string_data": lambda m, text: m.graph.initializer.add(
        name="text", data_type=onnx.TensorProto.STRING, dims=[1]
    ).string_data.append(text.encode()),
    "FunctionProto": _add_function,
    "Opaque.domain": lambda m, text: setattr(
        m.graph.input[0].type.opaque_type, "domain", text
    ),
    "Opaque.name": lambda m, text: setattr(m.graph.input[0].type.opaque_type, "name", text),
    "external_data.location": lambda m, text: _external(m, "location", text),
    "external_data.offset": lambda m, text: _external(m, "offset", text),
    "external_data.key": lambda m, text: _external(m, text, "w.bin"),
}  # fmt: skip


def model() -> onnx.ModelProto:
    """A small network with kernels in C and assembly, layers to chain, and every optional field."""
    nodes = [
        node("Conv", "x w b", "c", pads=[0, 0, 0, 0]),
        node("Relu", "c", "r"),
        node("Conv", "r v", "d", pads=[1, 1, 1, 1], group=12),
        node("Conv", "d z", "e"),
        node("MaxPool", "e", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "p", "f"),
        node("Gemm", "f u", "g"),
        node("Softmax", "g"),
    ]
    generator = np.random.default_rng(5)
    shapes = {"w": (12, 2, 1, 1), "b": (12,), "v": (12, 1, 3, 3), "z": (3, 12, 1, 1), "u": (48, 3)}
    constants = {n: generator.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    made = Net(nodes, [("batch", 2, 8, 8)], constants, 17).model()
    made.configuration.add(name="cluster").device.append("board")
    annotation = made.graph.quantization_annotation.add(tensor_name="c")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="b")
    made.graph.value_info.add(name="c").type.tensor_type.elem_type = 1
    made.graph.input[0].type.denotation = "IMAGE"
    made.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    placed = made.graph.node[0].device_configurations.add(configuration_id="cluster")
    sharded = placed.sharding_spec.add(tensor_name="c").sharded_dim.add()
    sharded.simple_sharding.add(dim_param="batch")
    for message in list(messages(made)):
        if "metadata_props" in message.DESCRIPTOR.fields_by_name:
            getattr(message, "metadata_props").add(key="key", value="value")  # noqa: B009
    return made


def everywhere(text: str) -> tuple[onnx.ModelProto, set[str]]:
    """The model with the text in every field but those of ALONE, and the names of these fields."""
    made, touched = model(), set[str]()
    names: dict[str, str] = {}
    numbers = count()
    for message, field in list(_strings(made)):
        key = f"{message.DESCRIPTOR.name}.{field.name}"
        if key in ALONE:
            continue
        is_list = bool(field.is_repeated)
        old = list(getattr(message, field.name)) if is_list else [getattr(message, field.name)]
        if key in VALUES:
            fresh = [names.setdefault(value, _numbered(text, len(names))) for value in old]
        else:
            fresh = [_numbered(text, next(numbers)) for _ in old]
        touched.add(key)
        if is_list:
            del getattr(message, field.name)[:]
            getattr(message, field.name).extend(fresh)
        else:
            setattr(message, field.name, fresh[0])
    return made, touched


def _numbered(text: str, number: int) -> str:
    """A text that differs from others by a number, in front and behind in turn."""
    return f"{text}{number}" if number % 2 else f"{number}{text}"


def alone(field: str, text: str) -> onnx.ModelProto:
    """The model with the text in one field of ALONE."""
    made = model()
    ALONE[field](made, text)
    return made


def all_fields() -> set[str]:
    """Every field of a model that holds text, as onnx declares them."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting: list[Descriptor] = [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        one = waiting.pop()
        if one.full_name in seen:
            continue
        seen.add(one.full_name)
        for field in one.fields:
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                waiting.append(field.message_type)
            elif field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
                found.add(f"{one.name}.{field.name}")
    return found - {"TensorProto.raw_data"}


def _strings(made: onnx.ModelProto) -> Iterator[tuple[Message, FieldDescriptor]]:
    """The fields of text that are set or can be: a dimension that is a number has no name."""
    for message in messages(made):
        for field in message.DESCRIPTOR.fields:
            group = field.containing_oneof
            taken = group is not None and message.WhichOneof(group.name) not in (None, field.name)
            if field.type == FieldDescriptor.TYPE_STRING and not taken:
                yield message, field
