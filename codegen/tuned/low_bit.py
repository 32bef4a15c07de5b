"""The kernels of conv2d for weights of few bits."""

from __future__ import annotations

from collections.abc import Callable

from codegen import expand
from codegen.kernel import Kernel, Layer
from codegen.requantize import Scaling
from codegen.tuned import depthwise_rows, gemm_bits, gemm_factors, gemm_int4


def conv_kernels(
    sliding: expand.Sliding,
    groups: Callable[[Layer], int],
    deep: Callable[[Layer], bool],
    scaling: Callable[[Layer], Scaling],
    limits: Callable[[Layer], tuple[int, int]],
) -> tuple[Kernel, ...]:
    """The variants; arguments as for each of them."""
    return (
        depthwise_rows.kernel(sliding, deep, scaling, limits, depthwise_rows.INT4),
        gemm_bits.kernel(sliding, groups, scaling, limits),
        gemm_int4.kernel(sliding, groups, scaling, limits),
        *gemm_factors.conv_kernels(sliding, groups, scaling, limits),
        expand.conv_kernel(sliding, groups, scaling),
    )
