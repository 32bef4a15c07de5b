"""docs/quantization-results.md from the rows of `python -m benchmarks.quantization`."""

from __future__ import annotations

from typing import Any

from benchmarks.models import ROOT

PAGE = ROOT / "docs" / "quantization-results.md"
TITLES = {"goals": "## Defaults, whole test sets", "methods": "## Every method"}
INTRODUCTION = """# Quantization, measured

Written by `python -m benchmarks.quantization`; figures are kept in benchmarks/results/quantization.json.
ic-jpeg is ic's network on the 10,000 CIFAR-10 test images that went through JPEG, calibrated on 512
training images. Calibration data of the others are what the data file sets apart. No method saw a label.
One standard error is about 0.4 points for ic-jpeg, 1 for kws and vww, 2.5 for ic: less means nothing.
"""
NOTES = {
    "goals": """
Device: the host build of the emitted C, whole test set; 20 samples (ic-jpeg: 2) in the emulator and 200 by
the reference are compared byte for byte. onnxruntime: its own static quantization, min-max, per channel, QDQ,
all layers in the same types, run by onnxruntime; it has no 3 bits. Ours keeps depthwise layers, small ends
and tiny layers in int8 ([Low-bit weights](low-bit.md)); saved: weight bytes in int8 over weight bytes.
The kernels chosen here hold 3 bits in 4; `--optimize flash` packs them.
""",
    "methods": """
Accuracy of the integer reference, whose every byte the emitted C gives (the table above, and tests). Without
another word: weights per channel, bias correction as usual for the width.
""",
}
HEADS = {
    "goals": (
        "model",
        "weights",
        "n",
        "metric",
        "float",
        "device",
        "difference",
        "onnxruntime",
        "weights B",
        "saved",
        "mismatched bytes",
    ),
    "methods": ("model", "", "n", "float", "device", "difference"),
}


def write(rows: list[dict[str, Any]]) -> None:
    """Writes the page."""
    PAGE.write_text(page(rows))


def page(rows: list[dict[str, Any]]) -> str:
    """The document."""
    whole = {f["model"]: f["weight_bytes"] for f in rows if f["text"] == "int8"}
    text = INTRODUCTION
    for group, title in TITLES.items():
        text += f"\n{title}\n{NOTES[group]}\n" + _line(HEADS[group])
        text += "|---" * len(HEADS[group]) + "|\n"
        text += "".join(_line(_cells(f, whole)) for f in rows if f["group"] == group)
    return text


def _cells(found: dict[str, Any], whole: dict[str, int]) -> tuple[object, ...]:
    accuracy = (
        f"{found['float']:.4f}",
        f"{found['device']:.4f}",
        f"{found['device'] - found['float']:+.4f}",
    )
    if found["group"] == "methods":
        return (found["model"], found["text"], found["samples"], *accuracy)
    beside = found.get("onnxruntime")
    saved = whole.get(found["model"], 0) / found["weight_bytes"]
    return (
        *(found[key] for key in ("model", "text", "samples", "metric")),
        *accuracy,
        "" if beside is None else f"{beside:.4f} ({beside - found['float']:+.4f})",
        f"{found['weight_bytes']:,}",
        f"{saved:.2f}",
        found["mismatched_bytes"],
    )


def _line(cells: tuple[object, ...]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |\n"
