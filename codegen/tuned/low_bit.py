"""The kernels of conv2d for weights of few bits."""

from __future__ import annotations

from collections.abc import Callable

from codegen import expand
from codegen.kernel import Kernel, Layer
from codegen.requantize import Scaling
from codegen.tuned import gemm_bits, gemm_factors, gemm_int4


def conv_kernels(
    sliding: expand.Sliding,
    groups: Callable[[Layer], int],
    scaling: Callable[[Layer], Scaling],
    limits: Callable[[Layer], tuple[int, int]],
) -> tuple[Kernel, ...]:
    """The variants; arguments as for each of them."""
    return (
        gemm_bits.kernel(sliding, groups, scaling, limits),
        gemm_int4.kernel(sliding, groups, scaling, limits),
        gemm_factors.kernel(sliding, groups, scaling, limits),
        expand.conv_kernel(sliding, groups, scaling),
    )
