"""The passes between import and quantization, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from codegen.ir import Graph, verify
from codegen.passes.absorb_qdq import absorb_qdq
from codegen.passes.binarize import binarize
from codegen.passes.dead_code import dead_code
from codegen.passes.drop_identity import drop_identity
from codegen.passes.drop_round_trips import drop_round_trips
from codegen.passes.fold_affine import fold_affine
from codegen.passes.fuse_clamp import fuse_clamp
from codegen.passes.fuse_pad import fuse_pad
from codegen.passes.lift_moves import lift_moves
from codegen.passes.lift_signs import lift_signs
from codegen.passes.lift_tables import lift_tables
from codegen.passes.sink_transposes import sink_transposes

Pass: TypeAlias = Callable[[Graph], Graph]

PASSES: tuple[Pass, ...] = (
    lift_tables,
    lift_moves,
    drop_round_trips,
    dead_code,
    absorb_qdq,
    drop_identity,
    sink_transposes,
    fuse_pad,
    fold_affine,
    fuse_clamp,
    drop_identity,
    lift_signs,
    binarize,
    dead_code,
)


def run(graph: Graph, passes: Sequence[Pass] = PASSES, dump: Path | None = None) -> Graph:
    """The graph after all passes, verified after each; `dump` is a folder for their text forms."""
    _write(dump, 0, "import", graph)
    for number, transform in enumerate(passes, 1):
        graph = verify(transform(graph))
        _write(dump, number, transform.__name__, graph)
    return graph


def _write(dump: Path | None, number: int, name: str, graph: Graph) -> None:
    if dump is not None:
        dump.mkdir(parents=True, exist_ok=True)
        (dump / f"{number:02}-{name}.txt").write_text(f"{graph}\n", encoding="utf-8")
