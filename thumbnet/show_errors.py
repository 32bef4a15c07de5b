"""What layers lose by quantization, on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from thumbnet import tables

Found = Mapping[str, Any]


def inspected(found: Found) -> None:
    """What `inspect` knows of errors: per layer on calibration data, and layers that would hurt."""
    from thumbnet import show

    layers = [layer for layer in found["layers"] if layer.get("sqnr_db") is not None]
    if layers:
        rows = [(tables.Code(layer["name"]), layer["sqnr_db"]) for layer in layers]
        show.table(tables.Table(("layer", "SQNR dB, int8"), rows))
    divergence(found)
    for one in found["warnings"]:
        show.out.print(Text(f"warning: {tables.printable(one['layer'])}: {one['text']}", "yellow"))


def layer(found: Found) -> None:
    """The error of one layer's output on calibration data."""
    from thumbnet import show

    error = found.get("error")
    if error is not None:
        noise = "exact" if error["sqnr_db"] is None else f"{error['sqnr_db']:.1f} dB"
        show.out.print(
            f"signal to quantization noise of its output: {noise}, against {error['against']}; "
            f"{error['clipped']:.3%} of the values cut off"
        )


def divergence(found: Found) -> None:
    """The first layer that loses much."""
    from thumbnet import show

    first = found.get("diverges_at")
    if first is not None:
        show.out.print(
            Text(
                f"first layer below {first['threshold_db']:g} dB: {tables.printable(first['layer'])}, "
                f"{first['sqnr_db']:.1f} dB",
                "yellow",
            )
        )
