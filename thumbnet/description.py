"""A compiled model as JSON: the manifest, and what `generate --json` prints."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

from codegen import __version__, advice, emit, plan
from codegen.ir import Graph, macs, node_macs, per_tensor
from targets import Target
from thumbnet import memory_map, project, weights


def describe(
    planned: plan.Plan, graph: Graph, target: Target, sha256: str, sources: dict[str, bytes]
) -> dict[str, Any]:
    """The manifest: what `generate --json` prints.

    Args:
        planned: the plan.
        graph: the float graph.
        target: the board.
        sha256: of the ONNX file.
        sources: the project's files.
    """
    figures, peak = emit.figures(planned), advice.peak(planned)
    digests = {name: hashlib.sha256(text).hexdigest() for name, text in sources.items()}
    inputs = sum(planned.graph.tensors[p.tensor].bytes for p in planned.graph.inputs)
    return {
        "schema_version": project.SCHEMA_VERSION,
        "thumbnet": __version__,
        "model": planned.graph.name,
        "model_sha256": sha256,
        "target": target.name,
        "toolchain": None,
        "weights": weights.of_plan(planned),
        "macs": macs(graph),
        "macs_executed": figures["macs"],
        "params": _parameters(graph),
        "arena_size": figures["arena"],
        "sram": {
            "arena": planned.arena,
            "arena_bound": planned.bound,
            "input_counted": planned.source is None,
            "input": inputs,
            "scratch": planned.scratch,
            "total_static": figures["arena"],
            "total_bound": planned.size_bound,
            "peak": None if peak is None else asdict(peak),
        },
        "flash": {
            "weights": figures["weights"],
            "constants": figures["constants"],
            "code": None,
            "predicted": planned.predicted_flash,
        },
        "stream_input": _rows(planned),
        "predicted_cycles": round(planned.predicted_cycles),
        "states": [list(pair) for pair in planned.graph.states],
        "inputs": [_port(planned, port) for port in planned.graph.inputs],
        "outputs": [_port(planned, port) for port in planned.graph.outputs],
        "layers": [_layer(planned, step) for step in planned.steps],
        "memory_map": memory_map.entries(planned),
        "files": digests,
    }


def _rows(planned: plan.Plan) -> dict[str, int] | None:
    """How the input is pushed; None where it lies in the arena."""
    source = planned.source
    if source is None:
        return None
    return {
        "rows": source.rows,
        "row_bytes": source.row_bytes,
        "ring_rows": source.ring // source.columns,
        "ring_bytes": source.ring * source.depth,
    }


def _parameters(graph: Graph) -> int:
    return sum(tensor.size for tensor in graph.tensors.values() if tensor.data is not None)


def _port(planned: plan.Plan, port: Any) -> dict[str, Any]:
    tensor = planned.graph.tensors[port.tensor]
    quant = tensor.quant or per_tensor(1.0, 0)
    return {
        "name": port.name,
        "shape": list(tensor.shape),
        "onnx_shape": list(port.shape),
        "perm": list(port.perm),
        "size": tensor.bytes,
        "type": tensor.dtype or "int8",
        "scale": quant.scale,
        "zero_point": quant.zero_point,
        "area": memory_map.area_of(planned, port.tensor),
    }


def _layer(planned: plan.Plan, step: plan.Step) -> dict[str, Any]:
    members = _members(planned, step)
    return {
        "name": step.name,
        "op": step.layer.node.op.kind,
        "kernel": step.kernel.name,
        "function": f"step{step.index}_run" if members else planned.functions[step.function].name,
        "macs": sum(member["macs"] for member in members)
        or node_macs(planned.graph, step.layer.node),
        "members": members,
        "rings": step.rings.size if step.rings else 0,
        **weights.describe(weights.layers(step), step.weight_bytes),
        "arena_bytes": step.arena_bytes,
        "scratch": step.scratch.size if step.scratch else 0,
        "weight_bytes": step.weight_bytes,
        "constant_bytes": step.constant_bytes,
        "output": step.layer.output.name,
        **memory_map.accesses(planned, step),
        "output_offset": step.output.offset,
        "output_shape": list(step.layer.output.shape),
        "nodes": list(step.layer.node.sources),
    }


def _members(planned: plan.Plan, step: plan.Step) -> list[dict[str, Any]]:
    """The layers of a chain; none for a single layer."""
    if step.chain is None:
        return []
    return [
        {
            "name": stage.link.name,
            "op": stage.link.pixel.layer.node.op.kind,
            "kernel": stage.kernels[0].name,
            "macs": node_macs(planned.graph, stage.link.pixel.layer.node),
            "weight_bytes": sum(c.weight_bytes for i in stage.instances for c in i.constants),
            "weights": weights.member(stage.link.pixel.layer),
            "output": stage.link.output,
            "output_shape": list(stage.link.pixel.layer.output.shape),
            "ring_pixels": stage.ring,
            "ring_bytes": stage.ring * stage.link.pixel.layer.output.shape[-1],
            "nodes": list(stage.link.pixel.layer.node.sources),
        }
        for stage in step.chain.stages
    ]
