"""Moving and picking reals in float32."""

from __future__ import annotations

from collections.abc import Mapping

from codegen.floats.rewrite import Lowering

LOWERINGS: Mapping[str, Lowering] = {}
