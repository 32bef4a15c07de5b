"""Networks of one operator and kind each: every operator and variant, in the shapes where they differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from codegen.ir import Array, Graph, Quant, per_tensor
from codegen.ops import OPS
from tests.codegen import later_cases
from tests.codegen.networks import (
    BITS,
    INT8,
    binary,
    constant,
    in_nibbles,
    network,
    stored,
    weighted,
)


@dataclass(frozen=True)
class Case:
    name: str
    graph: Graph

    def __str__(self) -> str:
        return self.name


def cases() -> Iterator[Case]:
    """Every operator in the forms that its kernels treat differently."""
    for family in (
        _convolutions,
        _winograd,
        _dense,
        _float_rounding,
        _means,
        _elementwise,
        _lookups,
        _pools,
        _moves,
        _softmaxes,
        _low_bit,
        _binary,
    ):
        yield from family(np.random.default_rng(7))
    for more in (later_cases.recurrent, later_cases.copies):
        yield from (Case(name, graph) for name, graph in more(np.random.default_rng(7)))


def _convolutions(g: np.random.Generator) -> Iterator[Case]:
    conv = OPS["conv2d"]
    yield Case("conv-1x1", weighted(conv(), (1, 5, 4, 8), (6, 1, 1, 8), g))
    yield Case("conv-1x1-many", weighted(conv(), (1, 7, 5, 12), (8, 1, 1, 12), g))
    yield Case("conv-3x3-same", weighted(conv(pads=(1, 1, 1, 1)), (1, 6, 5, 3), (4, 3, 3, 3), g))
    same = conv(stride=(2, 2), pads=(0, 0, 1, 1))
    yield Case("conv-same-stride2", weighted(same, (1, 8, 8, 4), (5, 3, 3, 4), g))
    kws = conv(stride=(2, 2), pads=(4, 1, 5, 1), clamp=(0.0, inf))
    yield Case("conv-10x4", weighted(kws, (1, 21, 10, 1), (7, 10, 4, 1), g))
    yield Case("conv-even", weighted(conv(pads=(0, 1, 1, 0)), (1, 5, 6, 2), (3, 2, 2, 2), g))
    yield Case("conv-dilated", weighted(conv(dilation=(2, 3)), (1, 9, 11, 3), (4, 3, 3, 3), g))
    yield Case("conv-relu6", weighted(conv(clamp=(0.0, 6.0)), (1, 4, 4, 5), (3, 3, 3, 5), g))
    strided = conv(stride=(3, 2))
    yield Case("conv-1x1-strided", weighted(strided, (1, 7, 6, 4), (3, 1, 1, 4), g))
    deep = conv(pads=(1, 1, 1, 1), groups=6)
    yield Case("depthwise", weighted(deep, (1, 7, 5, 6), (6, 3, 3, 1), g))
    deep2 = conv(stride=(2, 2), pads=(0, 0, 1, 1), groups=4, clamp=(0.0, inf))
    yield Case("depthwise-stride2", weighted(deep2, (1, 8, 8, 4), (4, 3, 3, 1), g))
    tall = conv(groups=5)
    yield Case("depthwise-kx1", weighted(tall, (1, 9, 1, 5), (5, 5, 1, 1), g))
    yield from _depthwise(g)
    multiplied = conv(pads=(1, 1, 1, 1), groups=3)
    yield Case("depthwise-multiplier", weighted(multiplied, (1, 5, 5, 3), (6, 3, 3, 1), g))
    grouped = conv(pads=(1, 0, 1, 0), groups=2)
    yield Case("conv-grouped", weighted(grouped, (1, 5, 5, 6), (4, 3, 3, 3), g))
    for value in (-127, 127):
        extreme = weighted(conv(), (1, 2, 2, 64), (3, 1, 1, 64), g, extreme=value)
        yield Case(f"conv-all{value}", extreme)
    yield from _products(g)
    yield from _depthwise(g)
    coarse = ((0.5, -128), (0.02, 127))  # multipliers of one and more: the pre-shifted form
    yield Case("conv-gain", weighted(conv(), (1, 3, 3, 4), (4, 1, 1, 4), g, coarse))
    fine = ((1e-4, 127), (40.0, -128))
    yield Case("conv-tiny-multiplier", weighted(conv(), (1, 3, 3, 4), (4, 1, 1, 4), g, fine))


def _products(g: np.random.Generator) -> Iterator[Case]:
    """Convolutions of one group: window shapes, ends of blocks, limits of the packed arithmetic."""
    conv, wide = OPS["conv2d"], ((0.05, 3), (3.0, -11))
    same = (1, 1, 1, 1)
    for depth, channels in ((1, 4), (2, 5), (3, 8), (5, 7), (7, 1)):
        graph = weighted(conv(pads=same), (1, 5, 7, depth), (channels, 3, 3, depth), g, wide)
        yield Case(f"conv-3x3-{depth}-{channels}", graph)
    for value in (-127, 127):
        graph = weighted(conv(pads=same), (1, 3, 5, 33), (6, 3, 3, 33), g, wide, value)
        yield Case(f"conv-3x3-all{value}", graph)
        graph = weighted(conv(), (1, 3, 3, 700), (5, 1, 1, 700), g, wide, value)
        yield Case(f"conv-1x1-long{value}", graph)
    yield Case("conv-1x1-one-pixel", weighted(conv(), (1, 1, 1, 72), (9, 1, 1, 72), g, wide))
    yield Case("conv-loop", weighted(conv(pads=same), (1, 4, 3, 86), (4, 3, 3, 86), g, wide))
    grid = ((0.05, 3), (0.2, -100))
    limited = conv(pads=same, clamp=(0.0, 6.0))
    yield Case("conv-relu6-same", weighted(limited, (1, 5, 5, 4), (8, 3, 3, 4), g, grid))
    least = conv(clamp=(0.0, inf))
    yield Case("conv-relu-odd", weighted(least, (1, 3, 3, 6), (10, 1, 1, 6), g, grid))
    thin = conv(stride=(1, 2), pads=(0, 4, 0, 3), dilation=(1, 2))
    yield Case("conv-1d-dilated", weighted(thin, (1, 1, 31, 6), (5, 1, 5, 6), g, wide))
    far = conv(stride=(2, 1), pads=(3, 0, 2, 5), dilation=(2, 2))
    yield Case("conv-far-borders", weighted(far, (1, 6, 4, 3), (6, 3, 2, 3), g, wide))
    tall = conv(stride=(2, 2))
    yield Case("conv-wide-rows", weighted(tall, (1, 5, 40, 60), (4, 3, 3, 60), g, wide))
    graph = weighted(conv(), (1, 3, 3, 8), (6, 1, 1, 8), g, wide)
    fixed = np.array([2**30, -(2**30), 5, 2**30, -7, -(2**30)], np.int32)
    scales = np.array(graph.tensors["w"].grid.scales)
    scales[[0, 1, 3, 5]] = 1e-9  # what quantizing weights of almost zero leaves
    yield Case("conv-constant-channels", _with_weight_scales(graph, tuple(scales.tolist()), fixed))


def _winograd(g: np.random.Generator) -> Iterator[Case]:
    """3x3 windows of stride 1: sizes that tiles do not divide, borders, extremes, limits."""
    conv, wide = OPS["conv2d"], ((0.05, 3), (3.0, -11))
    for name, size, channels, pads in (
        ("even", (6, 8, 8), 8, (1, 1, 1, 1)),
        ("odd", (7, 9, 4), 12, (1, 1, 1, 1)),
        ("valid", (5, 7, 12), 4, (0, 0, 0, 0)),
        ("one-tile", (2, 4, 8), 4, (1, 1, 1, 1)),
        ("far-borders", (3, 4, 4), 4, (3, 0, 1, 2)),
        ("wide", (4, 30, 16), 4, (0, 1, 0, 1)),
        ("deep", (3, 5, 64), 8, (1, 1, 1, 1)),
        ("wide-rows", (4, 36, 4), 112, (1, 1, 1, 1)),
    ):
        graph = weighted(conv(pads=pads), (1, *size), (channels, 3, 3, size[2]), g, wide)
        yield Case(f"winograd-{name}", graph)
    for value in (-128, 127):
        graph = weighted(conv(pads=(1, 1, 1, 1)), (1, 4, 5, 16), (4, 3, 3, 16), g, wide, value)
        yield Case(f"winograd-all{value}", graph)
    limited = conv(pads=(1, 1, 1, 1), clamp=(0.0, 6.0))
    grids = ((0.05, 127), (0.2, -100))
    yield Case("winograd-relu6", weighted(limited, (1, 4, 6, 8), (8, 3, 3, 8), g, grids))


def _depthwise(g: np.random.Generator) -> Iterator[Case]:
    """Sizes that are no multiple of four; windows with no, few and many pixels inside the image."""
    conv = OPS["conv2d"]
    for name, size, kernel, settings in (
        ("5x1", (9, 1, 8), (5, 1), {"pads": (2, 0, 2, 0)}),
        ("10x1", (23, 1, 12), (10, 1), {"stride": (2, 1)}),
        ("1x4", (1, 9, 5), (1, 4), {"pads": (0, 1, 0, 2)}),
        ("dilated", (9, 8, 7), (3, 3), {"pads": (2, 3, 2, 3), "dilation": (2, 3)}),
        ("same-stride2", (9, 7, 16), (3, 3), {"stride": (2, 2), "pads": (1, 1, 1, 1)}),
        ("small-image", (2, 3, 8), (5, 5), {"pads": (2, 2, 2, 2)}),
        ("wide-rows", (4, 300, 8), (3, 3), {"pads": (1, 1, 1, 1)}),
        ("far-rows", (5, 300, 9), (3, 3), {"stride": (1, 3)}),
        ("one-pixel", (3, 3, 4), (3, 3), {}),
        ("relu6", (6, 5, 10), (3, 3), {"pads": (1, 1, 1, 1), "clamp": (-1.0, 6.0)}),
    ):
        op = conv(groups=size[2], **settings)
        graph = weighted(op, (1, *size), (size[2], *kernel, 1), g)
        yield Case(f"depthwise-{name}", graph)
    many = conv(groups=16, pads=(4, 3, 4, 3))  # on Armv6-M: multipliers of more than two limbs
    own = np.random.default_rng(11)
    graph = weighted(many, (1, 5, 4, 16), (16, 9, 7, 1), own, ((0.05, 3), (3.0, -11)), 127)
    yield Case("depthwise-many-taps", graph)
    for value in (-127, 127):
        op = conv(groups=8, pads=(1, 1, 1, 1))
        grids = ((0.05, -128), (0.4, 127))
        extreme = weighted(op, (1, 4, 4, 8), (8, 3, 3, 1), g, grids, value)
        yield Case(f"depthwise-all{value}", extreme)


def _dense(g: np.random.Generator) -> Iterator[Case]:
    dense = OPS["dense"]
    yield Case("dense", weighted(dense(), (1, 37), (11, 37), g))
    yield Case("dense-relu", weighted(dense(clamp=(0.0, inf)), (1, 16), (3, 16), g))
    yield Case("dense-rows", weighted(dense(), (1, 5, 8), (6, 8), g))
    for length, channels in ((64, 12), (640, 16), (5, 1), (23, 3), (130, 17), (48, 5)):
        yield Case(
            f"dense-{length}x{channels}", weighted(dense(), (1, length), (channels, length), g)
        )
    for value in (-127, 127):
        extreme = weighted(dense(), (1, 64), (9, 64), g, extreme=value)
        yield Case(f"dense-all{value}", extreme)
    long = weighted(dense(), (1, 640), (8, 640), g, extreme=127)  # beyond 23 bits
    yield Case("dense-long-all127", long)
    clamped = dense(clamp=(-2.0, 3.0))
    yield Case("dense-clamped", weighted(clamped, (1, 3, 40), (10, 40), g))
    wide = ((1.0, 0), (1e-4, 0))  # 64-bit form: the accumulator cannot be pre-shifted
    yield Case("dense-wide", weighted(dense(), (1, 4000), (2, 4000), g, wide))


FEW = (("ternary", "ternary"), ("binary", "binary"))


def _low_bit(g: np.random.Generator) -> Iterator[Case]:
    """Weights of few bits: fast int4 kernels where there are some, expanded rows otherwise."""
    conv, dense = OPS["conv2d"], OPS["dense"]
    same, relu = conv(pads=(1, 1, 1, 1)), conv(clamp=(0.0, inf))
    for weights, scheme in (("int4", "uniform"), ("int4", "vsq16"), ("int4", "mx4"), *FEW):
        for name, op, x, shape in (
            ("1x1", relu, (1, 5, 5, 24), (10, 1, 1, 24)),
            ("3x3", same, (1, 5, 4, 3), (6, 3, 3, 3)),
            ("one-pixel", conv(), (1, 1, 1, 72), (4, 1, 1, 72)),
            ("long", conv(), (1, 3, 3, 86), (5, 1, 1, 86)),
            ("dense", dense(), (1, 37), (11, 37)),
            ("dense-rows", dense(clamp=(-2.0, 3.0)), (1, 3, 40), (10, 40)),
            ("dense-large", dense(), (1, 640), (16, 640)),
        ):
            graph = stored(op, x, shape, g, weights, scheme)
            yield Case(f"{weights}-{scheme}-{name}", graph)
    for code in (0, 15):
        for length in (64, 640):
            graph = stored(dense(), (1, length), (8, length), g, "int4", "uniform", code)
            yield Case(f"int4-dense-{length}-all{code}", graph)
            graph = stored(conv(), (1, 3, 3, length), (8, 1, 1, length), g, "int4", "uniform", code)
            yield Case(f"int4-conv-{length}-all{code}", graph)
    for stride in (1, 2):
        deep = conv((stride, stride), (1, 1, 1, 1), groups=5)
        graph = weighted(deep, (1, 7, 6, 5), (5, 3, 3, 1), g, ((0.05, 3), (0.4, -11)))
        yield Case(f"int4-depthwise-s{stride}", in_nibbles(graph, stride))
    graph = weighted(same, (1, 6, 5, 8), (8, 3, 3, 8), g, ((0.05, 3), (1.5, -11)))
    yield Case("int4-winograd", in_nibbles(graph, 1))


def _float_rounding(g: np.random.Generator) -> Iterator[Case]:
    """ONNX's rounding, with scales that a multiplier fits and with ones whose ties none fits."""
    conv = OPS["conv2d"](pads=(1, 1, 1, 1), rounding="float32")
    yield Case("conv-float-fitted", weighted(conv, (1, 6, 5, 3), (4, 3, 3, 3), g))
    for name, op, shape in (
        ("dense", OPS["dense"](rounding="float32"), (5, 8)),
        ("conv", OPS["conv2d"](rounding="float32"), (5, 1, 1, 8)),
        ("depthwise", OPS["conv2d"](groups=5, rounding="float32"), (5, 2, 2, 1)),
    ):
        x = (1, 8) if name == "dense" else (1, 3, 3, 5 if name == "depthwise" else 8)
        graph = weighted(op, x, shape, g, ((0.5, 3), (0.25, -11)))
        yield Case(f"{name}-float-dyadic", _with_weight_scales(graph, 2.0**-7))


def _means(g: np.random.Generator) -> Iterator[Case]:
    """Averages on one grid: their exact halves round to even."""
    grid = per_tensor(0.1, -7)
    image = [((1, 8, 8, 3), grid)]
    pool = OPS["average_pool"]
    yield Case("average-float", network(pool((4, 4), (4, 4), rounding="float32"), image, grid))
    padded = pool((3, 3), (2, 2), (1, 1, 1, 1), rounding="float32")
    yield Case("average-float-padded", network(padded, image, grid))
    yield Case("mean-float", network(OPS["mean"]((1, 2), rounding="float32"), image, grid))
    pair = [((1, 6), per_tensor(0.5, 3)), ((1, 6), per_tensor(0.25, -4))]
    product = OPS["mul"](rounding="float32")
    yield Case("mul-float", network(product, pair, per_tensor(0.25, 1)))


def _elementwise(g: np.random.Generator) -> Iterator[Case]:
    a, b, y = per_tensor(0.1, 5), per_tensor(0.07, -128), per_tensor(0.15, 20)
    shape = (1, 3, 4, 5)
    for name, signs in (("add", (1, 1)), ("sub", (1, -1)), ("sub-reversed", (-1, 1))):
        yield Case(name, network(OPS["add"](signs), [(shape, a), (shape, b)], y))
    relu = OPS["add"](clamp=(0.0, inf), bits=21)
    yield Case("add-relu-21bits", network(relu, [(shape, a), (shape, b)], y))
    longer = ((1, 2, 2, 10), a), ((1, 2, 2, 10), b)
    yield Case("add-eights", network(OPS["add"](), longer, y))
    limited = OPS["add"](clamp=(0.0, 2.0))
    yield Case("add-limited", network(limited, longer, y))
    flat = per_tensor(900.0, 100)  # the shift is large: the zero point leaves 32 bits
    yield Case("add-flat", network(OPS["add"](), longer, flat))
    wide = OPS["add"](bits=31)
    yield Case("add-31bits", network(wide, [(shape, a), (shape, b)], y))
    per_channel = constant("c", g.integers(-128, 128, (1, 1, 1, 5)).astype(INT8), b)
    yield Case("add-constant", network(OPS["add"](), [(shape, a)], y, (per_channel,)))
    yield Case("mul", network(OPS["mul"](), [(shape, a), (shape, b)], per_tensor(0.09, 0)))
    gate = [(shape, a), ((1, 1, 1, 5), b)]
    yield Case("mul-gate", network(OPS["mul"](clamp=(0.0, 1.0)), gate, per_tensor(0.01, -128)))
    yield Case("mul-constant", network(OPS["mul"](), [(shape, a)], y, (per_channel,)))
    rows = [((1, 3, 1, 5), a), ((1, 1, 4, 1), b)]
    yield Case("add-outer", network(OPS["add"](), rows, y))


def _lookups(g: np.random.Generator) -> Iterator[Case]:
    grids = per_tensor(0.05, 10), per_tensor(0.03, -20)
    for function in ("sigmoid", "tanh", "hard_swish", "relu", "identity"):
        op = OPS["lookup"](function)
        yield Case(f"lookup-{function}", network(op, [((1, 3, 7), grids[0])], grids[1]))
    leaky = OPS["lookup"]("leaky_relu", 0.1)
    yield Case("lookup-leaky", network(leaky, [((1, 40), grids[0])], grids[1]))


def _pools(g: np.random.Generator) -> Iterator[Case]:
    x, y = per_tensor(0.1, 7), per_tensor(0.08, -3)
    image = [((1, 7, 6, 3), x)]
    most = OPS["max_pool"]
    yield Case("max-pool", network(most((2, 2), (2, 2)), image, x))
    yield Case("max-pool-padded", network(most((3, 3), (2, 2), (1, 1, 1, 1)), image, x))
    words = [((1, 7, 9, 8), x)]
    yield Case("max-words", network(most((3, 2), (2, 2)), words, x))
    mean = OPS["average_pool"]
    yield Case("average-pool", network(mean((2, 2), (2, 2)), image, y))
    yield Case("average-pool-padded", network(mean((3, 3), (2, 2), (1, 1, 1, 0)), image, y))
    counted = mean((3, 3), (1, 1), (1, 1, 1, 1), count_include_pad=True)
    yield Case("average-pool-counted", network(counted, image, y))
    yield Case("average-pool-global", network(mean((7, 6)), image, y))
    for name, shape, zero_point in (("", (1, 8, 8, 12), 7), ("-odd", (1, 3, 5, 4), -128)):
        all_of = [(shape, per_tensor(0.1, zero_point))]
        yield Case(f"average-pool-whole{name}", network(mean(shape[1:3]), all_of, y))
    largest = [((1, 16, 16, 4), per_tensor(0.1, 127))]
    yield Case("average-pool-256", network(mean((16, 16)), largest, y))
    yield Case("mean-spatial", network(OPS["mean"]((1, 2)), image, y))
    yield Case("mean-channels", network(OPS["mean"]((3,), keepdims=False), image, y))


def _moves(g: np.random.Generator) -> Iterator[Case]:
    x = per_tensor(0.1, 7)
    image = [((1, 4, 5, 3), x)]
    joined = [((1, 4, 5, 3), x), ((1, 4, 5, 2), x)]
    yield Case("concat-channels", network(OPS["concat"](3), joined, x))
    yield Case("concat-rows", network(OPS["concat"](1), [((1, 2, 3), x), ((1, 4, 3), x)], x))
    border = OPS["pad"](((0, 0), (1, 2), (0, 1), (0, 0)), 0.3)
    yield Case("pad", network(border, image, x))
    part = OPS["slice"]((0, 1, 0, 1), (1, 2, 3, 2), (1, 2, 2, 1))
    yield Case("slice", network(part, image, x))
    yield Case("transpose", network(OPS["transpose"]((0, 3, 1, 2)), image, x))
    yield Case("resize", network(OPS["resize"]((0, 0, 1, 2, 3), (0, 2, 4)), image, x))
    yield Case("reshape", network(OPS["reshape"]((1, 12, 5)), image, x))


def _softmaxes(g: np.random.Generator) -> Iterator[Case]:
    y = per_tensor(1 / 256, -128)
    op = OPS["softmax"]()
    yield Case("softmax", network(op, [((1, 12), per_tensor(0.2, 5))], y))
    yield Case("softmax-rows", network(op, [((1, 3, 4), per_tensor(0.02, -5))], y))
    yield Case("softmax-two", network(op, [((1, 2), per_tensor(0.5, 0))], y))
    yield Case("softmax-one", network(op, [((1, 1), per_tensor(0.5, 0))], y))
    coarse = per_tensor(0.0041, -120)
    yield Case("softmax-long", network(op, [((1, 1000), per_tensor(0.1, 0))], coarse))


def _binary(g: np.random.Generator) -> Iterator[Case]:
    """Layers of signs: word counts, borders of each kind, both kinds of results."""
    conv, same = OPS["binary_conv2d"], (1, 1, 1, 1)
    for channels in (5, 32, 70):
        thresholds = constant(
            "t", g.integers(-128, 129, channels).astype(np.int16), per_tensor(1.0, 0, 16)
        )
        flips = constant("f", g.integers(0, 2, channels).astype(INT8), per_tensor(1.0, 0))
        image = ((1, 3, 4, channels), per_tensor(0.1, 5))
        graph = network(OPS["binarize"](), [image], BITS, (thresholds, flips))
        yield Case(f"binarize-{channels}", graph)
    pool = OPS["bit_max_pool"]
    yield Case("bit-max-pool", network(pool((2, 2), (2, 2)), [((1, 6, 7, 40), BITS)], BITS))
    padded = pool((3, 3), (2, 2), same)
    yield Case("bit-max-pool-padded", network(padded, [((1, 7, 6, 3), BITS)], BITS))
    for binary_out in (False, True):
        kind = "bits" if binary_out else "int8"
        for name, op, x, w in (
            ("1x1", conv(), (1, 4, 5, 64), (33, 1, 1, 64)),
            ("3x3-zeros", conv(pads=same), (1, 5, 4, 32), (9, 3, 3, 32)),
            ("3x3-ones", conv(pads=same, pad_value=1), (1, 5, 4, 40), (8, 3, 3, 40)),
            ("3x3-minus", conv(pads=same, pad_value=-1), (1, 4, 5, 7), (35, 3, 3, 7)),
            ("strided", conv(stride=(2, 2), pads=(0, 0, 1, 1)), (1, 8, 8, 32), (64, 3, 3, 32)),
            ("dilated", conv(pads=(2, 1, 2, 3), dilation=(2, 2)), (1, 9, 6, 16), (4, 3, 2, 16)),
            ("whole", conv(), (1, 4, 4, 64), (10, 4, 4, 64)),
            ("one-word", conv(), (1, 3, 3, 20), (40, 1, 1, 20)),
            ("long", conv(), (1, 1, 1, 2500), (6, 1, 1, 2500)),
        ):
            graph = binary(replace(op, binary=binary_out), x, w, g)  # type: ignore[type-var]
            yield Case(f"binary-{kind}-{name}", graph)
        for length in (256, 576, 992, 1024, 2016, 2048):
            for extreme in ("ones", "minus"):
                op = conv(binary=binary_out)
                graph = binary(op, (1, 1, 2, length), (4, 1, 1, length), g, extreme)
                yield Case(f"binary-{kind}-{length}-{extreme}", graph)
    limited = conv(clamp=(0.0, 2.0), pads=same)
    yield Case("binary-clamped", binary(limited, (1, 4, 4, 32), (6, 3, 3, 32), g))


def _with_weight_scales(
    graph: Graph, scales: float | tuple[float, ...], bias: Array | None = None
) -> Graph:
    """The same layer with other weight scales (dyadic: many sums lie between two results), and bias."""
    w, b = graph.tensors["w"], graph.tensors["b"]
    count = w.shape[0]
    scales = scales if isinstance(scales, tuple) else (scales,) * count
    x_scale = graph.tensors["x0"].grid.scale
    products = tuple(x_scale * scale for scale in scales)
    return graph.with_tensors(
        replace(w, quant=Quant(scales, (0,) * count, 0)),
        replace(
            b,
            quant=Quant(products, (0,) * count, 0, 32),
            data=b.data if bias is None else bias,
        ),
    )
