"""Operators that are refused with advice rather than with the list of supported ones."""

from __future__ import annotations

from collections.abc import Mapping

from codegen.build import Builder, Converter, OnnxNode
from codegen.lowering.qonnx import DOMAINS


def _refusal(why: str, hint: str) -> Converter:
    def refuse(node: OnnxNode, b: Builder) -> None:
        raise node.unsupported(why, hint)

    return refuse


_DYNAMIC = _refusal(
    "scales computed at run time are not supported",
    "quantize statically with calibration data, or give the float model to thumbnet",
)
_CONTROL = _refusal("control flow is not supported", "export the model without control flow")

_TRUNC = _refusal(
    "low bits cut off a sum are not supported", "use an average pool followed by Quant"
)
_FLOAT_QUANT = _refusal("minifloats are not supported", "quantize to integers")

ONNX: Mapping[str, Converter] = {
    "ConvInteger": _DYNAMIC,
    "DynamicQuantizeLinear": _DYNAMIC,
    "If": _CONTROL,
    "Loop": _CONTROL,
    "MatMulInteger": _DYNAMIC,
    "Scan": _CONTROL,
    "com.microsoft::DynamicQuantizeLinear": _DYNAMIC,
    "com.microsoft::DynamicQuantizeMatMul": _DYNAMIC,
    "com.microsoft::MatMulIntegerToFloat": _DYNAMIC,
    **{f"{domain}::Trunc": _TRUNC for domain in DOMAINS},
    **{f"{domain}::FloatQuant": _FLOAT_QUANT for domain in DOMAINS},
}
