"""What `finetune` prints for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thumbnet.show import out


def finetuned(found: dict[str, Any], output: Path) -> None:
    """Losses and accuracies on held-out samples, and what to do next."""
    held = found["held_out"]
    out.print(
        f"{found['model']}: {', '.join(found['weights'])} weights, {found['epochs']} epochs "
        f"(best: {found['best_epoch']}) of {found['samples']:,} samples"
    )
    out.print(
        f"held-out loss    before {held['loss']['before']:.4f}   after {held['loss']['after']:.4f}"
    )
    accuracy = held["accuracy"]
    if accuracy["float"] is not None:
        parts = (f"{key} {accuracy[key]:.2%}" for key in ("float", "before", "after"))
        out.print(f"held-out top-1   {'   '.join(parts)}   ({held['samples']} samples)")
    model = output / f"{found['model']}.onnx"
    recipe = "" if found["weights"] == ["float"] else f" --recipe {output}/recipe.toml"
    out.print(f"wrote {output}/ - next: thumbnet run {model}{recipe}")
