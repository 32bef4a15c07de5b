"""conv2d in portable C, for int8 weights: one output pixel at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from codegen import window
from codegen.ir import Array
from codegen.kernel import BOTH_ORDERS, Constant, Footprint, Instance, Kernel, Layer, channel_block
from codegen.requantize import Scaling
from codegen.spatial import Window
from codegen.tuned.lanes import folded_bias

Sliding = Callable[[Layer], tuple[Window, window.Shape, window.Shape]]
Groups = Callable[[Layer], int]
Scalings = Callable[[Layer], Scaling]


def kernels(sliding: Sliding, groups: Groups, scaling: Scalings) -> tuple[Kernel, ...]:
    """The variants, the most special first; the last one serves every layer.

    Args:
        sliding: a layer's window, and shapes of input and output.
        groups: how many groups a layer has.
        scaling: how a layer's sums become int8.
    """

    def pointwise(layer: Layer) -> bool:
        slides = sliding(layer)[0]
        one = slides.kernel == slides.stride == (1, 1)
        return one and groups(layer) == 1 and not any(slides.pads)

    return (
        _in_c(
            sliding,
            "pointwise",
            pointwise,
            lambda layer: _pointwise(layer, sliding, scaling(layer)),
            lambda layer: layer.dot_cycles(macs(layer)),
        ),
        _in_c(
            sliding,
            "depthwise",
            lambda layer: is_depthwise(layer, groups(layer)),
            lambda layer: _depthwise(layer, sliding, scaling(layer)),
            lambda layer: 18.0 * macs(layer) + 32.0 * layer.output.size,
        ),
        replace(
            _in_c(
                sliding,
                "window",
                lambda layer: groups(layer) == 1,
                lambda layer: _window(layer, sliding, scaling(layer)),
                lambda layer: (
                    layer.dot_cycles(macs(layer)) + 8.0 * _copied_bytes(layer) * pixels(layer)
                ),
            ),
            footprints=_footprints(sliding, reads_first=True),
            scratch=_copied_bytes,
        ),
        replace(
            _in_c(
                sliding,
                "direct",
                lambda layer: True,
                lambda layer: _direct(layer, sliding, scaling(layer), groups(layer)),
                lambda layer: 20.0 * macs(layer) + 40.0 * layer.output.size,
            ),
            template="ops/conv2d.c.j2",
        ),
    )


def _in_c(
    sliding: Sliding,
    name: str,
    serves: Callable[[Layer], bool],
    instance: Callable[[Layer], Instance],
    cycles: Callable[[Layer], float],
) -> Kernel:
    return Kernel(
        name=f"conv2d.{name}",
        template=f"ops/conv2d.{name}.c.j2",
        serves=serves,
        instance=instance,
        cycles=cycles,
        footprints=_footprints(sliding, reads_first=False),
        passes=pixels,
        orders=BOTH_ORDERS,
    )


def is_depthwise(layer: Layer, groups: int) -> bool:
    """Whether every channel has its own window."""
    return groups == layer.inputs[0].shape[3] == layer.output.shape[3]


def macs(layer: Layer) -> int:
    """Multiply-accumulates, those on padding too."""
    weights = layer.inputs[1]
    return layer.output.size * (weights.size // weights.shape[0])


def pixels(layer: Layer) -> float:
    """Output pixels: how often kernels that take one at a time read all weights."""
    return float(layer.output.shape[1] * layer.output.shape[2])


def _copied_bytes(layer: Layer) -> int:
    """Bytes of one window."""
    return layer.inputs[1].size // layer.inputs[1].shape[0]


def _footprints(
    sliding: Sliding, reads_first: bool
) -> Callable[[Layer], tuple[Footprint | None, ...]]:
    return lambda layer: (window.footprint(*sliding(layer), reads_first),)


def _constants(
    layer: Layer, slides: Window, scaling: Scaling, stored: Array, folded: bool
) -> tuple[tuple[Constant, ...], dict[str, object]]:
    """Weights as stored, biases, multipliers; and the params that every variant shares.

    A folded bias holds -zp * sum(w) too, so that the kernel multiplies raw inputs.
    """
    x, w, b = layer.inputs
    bias = folded_bias(x, w, b) if folded else b.values.astype(np.int64)
    weights = Constant("weights", "int8_t", stored, stored.size)
    constants = (weights, Constant("bias", "int32_t", bias), *scaling.constants())
    params = window.params(slides, x.shape, layer.output.shape) | {
        "channels": layer.output.shape[3],
        "zero_point": x.grid.zero_point,
        "length": w.size // w.shape[0],
        "block": channel_block(layer.core),
        "q": scaling.q,
    }
    return constants, params


def _window(layer: Layer, sliding: Sliding, scaling: Scaling) -> Instance:
    slides, x, y = sliding(layer)
    constants, params = _constants(layer, slides, scaling, layer.inputs[1].values, folded=True)
    return Instance(window.label(slides, x, y), params, constants)


def _pointwise(layer: Layer, sliding: Sliding, scaling: Scaling) -> Instance:
    whole = _window(layer, sliding, scaling)
    kept = {key: whole.params[key] for key in ("depth", "channels", "block", "q")}
    return Instance(whole.label, {"pixels": int(pixels(layer)), **kept}, whole.constants)


def _depthwise(layer: Layer, sliding: Sliding, scaling: Scaling) -> Instance:
    slides, x, y = sliding(layer)
    by_tap = np.moveaxis(layer.inputs[1].values[..., 0], 0, -1)
    constants, params = _constants(layer, slides, scaling, by_tap, folded=False)
    return Instance(f"depthwise_{window.label(slides, x, y)}", params, constants)


def _direct(layer: Layer, sliding: Sliding, scaling: Scaling, groups: int) -> Instance:
    slides, x, y = sliding(layer)
    constants, params = _constants(layer, slides, scaling, layer.inputs[1].values, folded=False)
    grouped = {"group_depth": layer.inputs[1].shape[3], "group_channels": y[3] // groups}
    return Instance(f"direct_{window.label(slides, x, y)}", params | grouped, constants)
