"""Operators: this folder is the registry.

Each module holds one operator class, named by its `OP`, whose `kind` is the file's name, and the
converters of the ONNX operators that become it, in `ONNX`. Adding a file adds an operator.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from codegen.build import Converter
from codegen.ir import Array, Op, Tensor
from codegen.kernel import Kernel


def modules(package: str, path: Iterable[str]) -> tuple[ModuleType, ...]:
    """The modules of a package, by name. One that fails to import stops the program."""
    names = sorted(info.name for info in pkgutil.iter_modules(path) if not info.ispkg)
    return tuple(import_module(f"{package}.{name}") for name in names)


def converters(found: Iterable[ModuleType]) -> dict[str, Converter]:
    """The ONNX operators that modules convert; each may be claimed once."""
    table: dict[str, Converter] = {}
    for module in found:
        for key, converter in module.ONNX.items():
            if key in table:
                raise RuntimeError(f"{module.__name__}: ONNX {key} has a converter already")
            table[key] = converter
    return table


def _operators(found: Iterable[ModuleType]) -> dict[str, type[Op]]:
    table: dict[str, type[Op]] = {}
    for module in found:
        kind, stem = module.OP.kind, module.__name__.rpartition(".")[2]
        if kind != stem:
            raise RuntimeError(f"{module.__name__}: its operator calls itself {kind}")
        table[kind] = module.OP
    return table


_MODULES = modules(__name__, __path__)
OPS: Mapping[str, Callable[..., Op]] = _operators(_MODULES)
CONVERTERS: Mapping[str, Converter] = converters(_MODULES)

Reference = Callable[[Any, tuple[Array, ...], tuple[Tensor, ...], Tensor], Array]
_BY_KIND = {module.OP.kind: module for module in _MODULES}
QUANTIZED: Mapping[str, Reference] = {kind: m.reference for kind, m in _BY_KIND.items()}
KERNELS: Mapping[str, tuple[Kernel, ...]] = {kind: m.KERNELS for kind, m in _BY_KIND.items()}
