"""What operators with two broadcast operands share: parameter names and footprints."""

from __future__ import annotations

from codegen.kernel import Constant, Footprint, Layer, elementwise


def operand_names(layer: Layer) -> tuple[tuple[str, str], tuple[Constant, ...]]:
    """C parameter names of both operands, and those of them that are constants in flash."""
    arena = len(layer.activations)
    names, constants, seen = [], [], 0
    for tensor, name in zip(layer.inputs, ("a", "b"), strict=True):
        if tensor.data is not None:
            names.append(name)
            constants.append(Constant(name, "int8_t", tensor.data))
        else:
            names.append("x" if arena == 1 else f"x{seen}")
            seen += 1
    return (names[0], names[1]), tuple(constants)


def elementwise_footprints(layer: Layer) -> tuple[Footprint | None, ...]:
    """Operands of the output's shape may be overwritten in place; repeated ones may not."""
    return tuple(
        elementwise(layer.output.size) if tensor.size == layer.output.size else None
        for tensor in layer.activations
    )
