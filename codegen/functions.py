"""The C functions of a network: one per kernel variant and constants, shared by the steps that need it."""

from __future__ import annotations

from dataclasses import dataclass

from codegen.fused import Chain
from codegen.kernel import Instance, Kernel, Layer, Order
from codegen.select import function_key


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A C function: one kernel variant with its constants, shared by the steps that need exactly it."""

    name: str
    kernel: Kernel
    order: Order
    instance: Instance
    inputs: int
    has_scratch: bool


class Functions:
    """Collects functions; equal ones once."""

    def __init__(self, prefix: str) -> None:
        """None so far; names start with `prefix`."""
        self._prefix = prefix
        self._indices: dict[tuple[object, ...], int] = {}
        self._found: list[Function] = []

    @property
    def found(self) -> tuple[Function, ...]:
        """All so far."""
        return tuple(self._found)

    def add(self, layer: Layer, kernel: Kernel, instance: Instance, order: Order) -> int:
        """Index of the function that runs a layer."""
        inputs = len(layer.activations)
        key = (function_key(kernel, instance), order, inputs)
        if key not in self._indices:
            way = "_down" if order == "descending" else ""
            kind = layer.node.op.kind
            name = self._unique(f"{self._prefix}_{kind}_{instance.label}{way}")
            self._indices[key] = len(self._found)
            has_scratch = kernel.scratch(layer) > 0
            self._found.append(Function(name, kernel, order, instance, inputs, has_scratch))
        return self._indices[key]

    def of_chain(self, chain: Chain) -> tuple[int, ...]:
        """Indices of the functions of all members, in order."""
        return tuple(
            self.add(stage.link.pixel.one, kernel, instance, "ascending")
            for stage in chain.stages
            for kernel, instance in zip(stage.kernels, stage.instances, strict=True)
        )

    def _unique(self, name: str) -> str:
        taken = {function.name for function in self._found}
        if name not in taken:
            return name
        number = 2
        while f"{name}_{number}" in taken:
            number += 1
        return f"{name}_{number}"
