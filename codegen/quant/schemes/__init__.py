"""Ways to store weights: this folder is the registry. A file adds what its `SCHEMES` lists."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module

from codegen.quant.scheme import BITS, Scheme
from targets.errors import UsageError

_MODULES = [import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
SCHEMES: Mapping[str, Scheme] = {s.name: s for module in _MODULES for s in module.SCHEMES}
PLAIN = {"ternary": "ternary", "binary": "binary"}
"""The scheme that weights have unless the user names one; "uniform" for the others."""


def find(weights: str | None, scheme: str | None) -> tuple[str, Scheme] | None:
    """Weights and scheme that a user asks for; None when they are int8 as they are.

    Raises:
        UsageError: an unknown name, or a scheme that cannot store such weights.
    """
    if weights is not None and weights not in BITS:
        raise UsageError(f"unknown weights {weights!r}", hint=f"known: {', '.join(BITS)}")
    if scheme is None:
        if weights in (None, "int8"):
            return None
        scheme = PLAIN.get(str(weights), "uniform")
    if scheme not in SCHEMES:
        raise UsageError(f"unknown scheme {scheme!r}", hint=f"known: {', '.join(SCHEMES)}")
    found = SCHEMES[scheme]
    if weights is not None and weights not in found.weights:
        raise UsageError(
            f"scheme {scheme!r} cannot store {weights} weights",
            hint=f"it stores {', '.join(found.weights)}",
        )
    return weights or found.weights[0], found
