"""conv2d.bits: three pixels by four channels with weights of one or two bits (codegen.tuned.bit_lanes).

Windows are widened as for codegen.tuned.gemm, three of them interleaved. A word of flash makes four or eight
lane words; each is multiplied with the inputs of three pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codegen import window
from codegen.ir import IntArray
from codegen.kernel import Constant, Footprint, Instance, Kernel, Layer, unmet
from codegen.requantize import Scaling
from codegen.spatial import Window
from codegen.tuned import bit_lanes, gemm
from codegen.tuned.bit_lanes import Packing, Rule
from codegen.tuned.lanes import folded_bias
from codegen.tuned.raw8 import BLOCK

PIXELS = 3
GROUPS = BLOCK // 2  # channels that share a halfword
MOST_STEPS = {1: 12, 2: 14}  # without a loop, by the bits of weights
LEAST_STEPS = 2
CONSTANTS = 2 * BLOCK  # words of biases and multipliers behind a block's weights
TOTALLED = (16, 8, 4)  # pairs of a pass that sums inputs


@dataclass(frozen=True, slots=True)
class Shape:
    """A layer's geometry with the packing of its weights.

    Attributes:
        size: windows.
        packing: of the weights.
        chunk: steps after which lower lanes are read.
        signs: 1 or -1 for each odd channel: what its weights, bias and multiplier are multiplied with.
    """

    size: gemm.Geometry
    packing: Packing
    chunk: int
    signs: tuple[int, ...] = ()

    @property
    def step_pairs(self) -> int:
        """Pairs of inputs of a word."""
        return len(self.packing.turns) // GROUPS

    @property
    def padded(self) -> int:
        """Pairs of a window, zeros included."""
        return padded_pairs(self.size.pairs)

    @property
    def steps(self) -> int:
        """Words of a block."""
        return self.padded // self.step_pairs

    @property
    def loop(self) -> tuple[int, int, int]:
        """Passes of the inner loop, steps of a pass, steps after the last one."""
        if self.chunk >= self.steps:
            return 0, 0, self.steps
        passes = (self.steps - 1) // self.chunk  # lanes are read behind the last steps anyway
        return passes, self.chunk, self.steps - passes * self.chunk

    @property
    def totalled(self) -> int:
        """Pairs of a pass that sums inputs."""
        return next(count for count in TOTALLED if self.padded % count == 0)

    @property
    def scratch(self) -> int:
        """Bytes of scratch: copied rows, three widened windows."""
        return self.size.line_bytes + PIXELS * 4 * self.padded


def padded_pairs(pairs: int) -> int:
    """Pairs of a window that fill the passes that sum inputs, and so whole words."""
    return -(-pairs // TOTALLED[-1]) * TOTALLED[-1]


def _ordered(layer: Layer, size: gemm.Geometry) -> IntArray:
    """Weights (channels, elements of a widened window); zeros where there is none."""
    _, w, _ = layer.inputs
    rows = w.values.astype(np.int64).reshape(w.shape[0], -1)
    return np.pad(rows, ((0, 0), (0, 1)))[:, size.order()]


def shape(layer: Layer, size: gemm.Geometry) -> Shape | None:
    """How the kernel runs a layer; None where the lower lane has no room."""
    w = layer.inputs[1].values.astype(np.int64).reshape(layer.inputs[1].shape[0], -1)
    held = bit_lanes.packing(w)
    if held is None:
        return None
    made = Shape(size, held, 1)
    lower, step = _ordered(layer, size)[1::2], 2 * made.step_pairs
    limit = MOST_STEPS[held.bits]
    chunk, signs = bit_lanes.longest_signed(lower, held, 2 * made.padded, step, limit)
    if chunk < min(LEAST_STEPS, made.steps):
        return None
    return Shape(size, held, chunk, tuple(signs.tolist()))


def stream(layer: Layer, multipliers: IntArray, made: Shape, lift: int) -> IntArray:
    """Per block of four channels: words, then for each two channels bias and multiplier, the lower first."""
    x, w, b = layer.inputs
    held, channels = made.packing, w.shape[0]
    count = -(-channels // BLOCK) * BLOCK
    # Channels that fill up the last block have codes of zero.
    rows = np.full((count, 2 * made.size.pairs), -held.offset, np.int64)
    rows[:channels] = _ordered(layer, made.size)
    signs = np.array(made.signs, np.int64)
    rows[1:channels:2] *= signs[:, None]
    halves = held.halves(rows[0::2], rows[1::2])
    halves = np.pad(halves, ((0, 0), (0, 2 * (made.padded - made.size.pairs))))
    lanes = halves[:, 0::2] | halves[:, 1::2] << 16
    lanes = lanes.reshape(-1, GROUPS, made.steps, made.step_pairs).transpose(0, 2, 3, 1)
    words = held.words(lanes.reshape(len(lanes), made.steps, -1))
    ends = np.zeros((count, 2), np.int64)
    ends[:channels, 0], ends[:channels, 1] = folded_bias(x, w, b) << lift, multipliers
    ends[1:channels:2] *= signs[:, None]
    ends = ends.reshape(-1, GROUPS, 2, 2)[:, :, ::-1].reshape(len(words), -1)
    found: IntArray = np.concatenate([words, ends], axis=1).ravel()
    return found


def instance(layer: Layer, scales: Scaling, made: Shape, rule: Rule) -> Instance:
    """Template params, and everything in flash."""
    x, w, _ = layer.inputs
    blocks = stream(layer, scales.multipliers, made, rule.lift)
    words = np.concatenate([np.array([rule.addend]), blocks])
    size, held = made.size, made.packing
    passes, unrolled, rest = made.loop
    count = -(-w.shape[0] // BLOCK)
    channels = w.shape[0]
    params = gemm.numbers(size, scales, x.grid.zero_point) | {
        "elements": tuple(size.order()),
        "twin": "bits",
        "together": PIXELS,
        "alone": False,
        "between": 4 * PIXELS,
        "passes": passes,
        "unrolled": unrolled,
        "rest": rest,
        "padding": made.padded,
        "totalled": made.totalled,
        "steps": made.steps,
        "bits": held.bits,
        "split": held.split,
        "negative": held.negative,
        "offset": held.offset,
        "turns": held.turns,
        "mask": held.mask,
        "doubling": held.doubling,
        "lift": rule.lift,
        "shift": rule.shift,
        "next_out": PIXELS * channels - channels // BLOCK * BLOCK,
        "stream_bytes": count * 4 * (CONSTANTS + made.steps),
    }
    label = window.label(size.slides, x.shape, layer.output.shape)
    weights = Constant("weights", "int32_t", words, 4 * count * made.steps)
    return Instance(f"bits{held.bits}_{label}", params, (weights,))


def footprint(size: gemm.Geometry) -> Footprint:
    """One event per three output pixels, raster order."""
    pixels = window.footprint(size.slides, size.x, size.y, reads_first=True)
    first = np.arange(0, len(pixels.read_low), PIXELS)
    last = np.minimum(first + PIXELS - 1, len(pixels.read_low) - 1)
    low: IntArray = np.minimum.reduceat(pixels.read_low, first)
    high: IntArray = np.maximum.reduceat(pixels.read_high, first)
    return Footprint(low, high, pixels.write_low[first], pixels.write_high[last], True)


def cycles(made: Shape, limits: tuple[int, int]) -> float:
    """Predicted, counted from the template; m4-simple."""
    size = made.size
    pixels, channels = size.y[1] * size.y[2], size.y[3]
    groups, blocks = -(-pixels // PIXELS), -(-channels // BLOCK)
    passes, _, _ = made.loop
    limiting = 8 * (limits[0] > -128) + 8 * (limits[1] < 127)
    step = 1 + 12 * made.step_pairs
    sums = 20 if made.packing.bits == 1 else 0
    block = made.steps * step + 38 * passes + 112 + limiting + sums
    totals = 26 * made.padded // 4 + 4 * made.padded // made.totalled + 25
    widening = (4 if size.flat else 17) + gemm.widening_cycles(size)
    rows = 0.0
    if size.lined:
        line = 14 + 0.85 * size.x[2] * size.x[3]
        rows = size.y[1] * (20 + size.slides.kernel[0] * line) + 5 * size.line_bytes / 4
    return groups * (blocks * block + totals + 20) + pixels * widening + rows + 60


def kernel(
    sliding: Callable[[Layer], tuple[Window, window.Shape, window.Shape]],
    groups: Callable[[Layer], int],
    scaling: Callable[[Layer], Scaling],
    limits: Callable[[Layer], tuple[int, int]],
) -> Kernel:
    """The variant.

    Args:
        sliding: window, input and output shape of a layer.
        groups: of a layer.
        scaling: how its sums become int8.
        limits: least and largest result.
    """

    def size(layer: Layer) -> gemm.Geometry:
        return gemm.geometry(*sliding(layer))

    def made(layer: Layer) -> Shape:
        found = shape(layer, size(layer))
        assert found is not None
        return found

    def refusal(layer: Layer) -> str:
        pixels = layer.output.shape[1] * layer.output.shape[2]
        return (
            gemm.unfit(layer, lambda: size(layer), groups(layer))
            or unmet((lambda: pixels >= PIXELS, f"fewer than {PIXELS} pixels"))
            or bit_lanes.refusal(layer, scaling(layer))
            or unmet((lambda: shape(layer, size(layer)) is not None, bit_lanes.NO_CHUNK))
        )

    def make(layer: Layer) -> Instance:
        rule = bit_lanes.rule(scaling(layer))
        assert rule is not None
        return instance(layer, scaling(layer), made(layer), rule)

    return Kernel(
        name="conv2d.bits",
        template="ops/conv2d.gemm.c.j2",
        assembly="ops/conv2d.bits.S.j2",
        serves=lambda layer: not refusal(layer),
        refusal=refusal,
        instance=make,
        cycles=lambda layer: cycles(made(layer), limits(layer)),
        passes=lambda layer: layer.output.shape[1] * layer.output.shape[2] / PIXELS,
        footprints=lambda layer: (footprint(size(layer)),),
        scratch=lambda layer: made(layer).scratch,
    )
