"""A build's figures as node data for Model Explorer: load the ONNX file there, then these files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

Found = Mapping[str, Any]
GRADIENT = (
    {"stop": 0, "bgColor": "#ffffff", "textColor": "#000000"},
    {"stop": 1, "bgColor": "#d55e00", "textColor": "#000000"},
)
FIGURES: Mapping[str, Callable[[Found], int | None]] = {
    "cycles": lambda layer: layer.get("cycles"),
    "instructions": lambda layer: layer.get("instructions"),
    "flash_bytes": lambda layer: layer["weight_bytes"] + layer["constant_bytes"],
    "arena_bytes": lambda layer: layer["arena_bytes"] + layer["scratch"],
}


def files(found: Found) -> dict[str, bytes]:
    """One JSON file per figure that the build has.

    Keys are the names of ONNX nodes. A layer's figure stands at its first node; the nodes that were
    folded into it cost nothing of their own and have 0. A node that became several layers has their sum.
    """
    written = {}
    for figure, read in FIGURES.items():
        values: dict[str, int] = {}
        for layer in found["layers"]:
            value = read(layer)
            for place, node in enumerate(layer["nodes"] if value is not None else ()):
                values[node] = values.get(node, 0) + (int(value or 0) if place == 0 else 0)
        if values:
            data = {
                "name": f"{found['model']} {figure}",
                "results": {node: {"value": value} for node, value in values.items()},
                "gradient": list(GRADIENT),
            }
            written[f"{figure}.json"] = (json.dumps(data, indent=2) + "\n").encode()
    return written
