"""Writes the models of this folder: python -m tests.codegen.dialects.export

It needs torch and brevitas, which the tests do not. Weights are random: forms matter, not results.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import onnx

FOLDER = Path(__file__).parent
SHAPE = (1, 3, 4, 4)
CLASSES = 5


def network(torch: Any, qnn: Any, weights: dict[str, Any], activation_bits: int) -> Any:
    """Two convolutions and a dense layer with fake-quantized weights and activations."""
    from brevitas import quant as kinds

    def act(bits: int = 8) -> Any:
        return qnn.QuantIdentity(act_quant=kinds.Int8ActPerTensorFloat, bit_width=bits)

    return torch.nn.Sequential(
        act(),
        qnn.QuantConv2d(3, 8, 3, padding=1, bias=True, **weights),
        qnn.QuantReLU(bit_width=activation_bits),
        qnn.QuantConv2d(8, 8, 1, bias=True, **weights),
        qnn.QuantReLU(bit_width=8),
        torch.nn.Flatten(),
        qnn.QuantLinear(8 * SHAPE[2] * SHAPE[3], CLASSES, bias=False, **weights),
        act(),
    )


def brevitas(name: str, ternary: bool, form: str) -> None:
    """One model; form is "qcdq" or "qonnx"."""
    import brevitas.nn as qnn
    import torch
    from brevitas import quant as kinds
    from brevitas.export import export_onnx_qcdq, export_qonnx

    torch.manual_seed(1)
    weights = {"weight_quant": kinds.Int8WeightPerChannelFloat, "weight_bit_width": 4}
    if ternary:
        weights = {"weight_quant": kinds.SignedTernaryWeightPerTensorConst}
        weights |= {"weight_scaling_init": 0.1}
    model = network(torch, qnn, weights, 4)
    for _ in range(20):
        model(torch.randn(8, *SHAPE[1:]))
    model.eval()
    path = FOLDER / f"{name}.onnx"
    export = export_onnx_qcdq if form == "qcdq" else export_qonnx
    export(model, torch.zeros(SHAPE), export_path=str(path))
    shrink(path)


def shrink(path: Path) -> None:
    """Puts the tensors into the file, and drops what names files of the machine that exported."""
    model = onnx.load(path)  # with the external data
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.graph.value_info[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)
    onnx.save(model, path)


def main() -> None:
    """Writes every model, or those that are named."""
    made = {
        "brevitas_qcdq_w4": (False, "qcdq"),
        "brevitas_qcdq_ternary": (True, "qcdq"),
        "brevitas_qonnx_w4": (False, "qonnx"),
        "brevitas_qonnx_ternary": (True, "qonnx"),
    }
    for name in sys.argv[1:] or made:
        brevitas(name, *made[name])


if __name__ == "__main__":
    main()
