"""Predicted bytes of instructions of a kernel's function, from its compile-time constants.

Rules are linear in what a template unrolls or leaves out. Their numbers are fitted to functions that
arm-none-eabi-gcc -O2 made of the tests' layers and the reference models' (tests/codegen/test_code_size.py
holds them). Assembly is known within 16 %, C within a half: compilers differ, and C is small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from codegen.kernel import Instance, Kernel
from targets.target import Core

Params = Mapping[str, Any]
Rule = Callable[[Params], float]
UNKNOWN_C = 250
UNKNOWN_ASSEMBLY = 1_500
EXACT_ROUNDING = 400
CALLS = 184  # of the model itself: init, run, predict
CALL = 24  # of each step
CHAIN_STAGE = 230  # of a chain's driver, for each of its layers


def code_bytes(kernel: Kernel, instance: Instance, core: Core) -> int:
    """Predicted bytes of instructions of an instance.

    Args:
        kernel: the variant.
        instance: its constants for a layer.
        core: Armv6-M has other C than the cores with Thumb-2.
    """
    rule = _ASSEMBLY.get(kernel.name) or (_C if core.thumb2 else _C_ARMV6M).get(kernel.name)
    if rule is not None:
        denser = _DENSER.get(kernel.name, 1.0) if core.thumb2 else 1.0
        return round(denser * rule(instance.params))
    if kernel.assembly is not None:
        return UNKNOWN_ASSEMBLY
    exact = _is_exact(instance.params)
    return _SMALL.get(kernel.name, UNKNOWN_C) + EXACT_ROUNDING * exact


def _is_exact(params: Params) -> bool:
    """Whether results are rounded as float32 is, which takes a function of its own."""
    q = params.get("q")
    return isinstance(q, Mapping) and bool(q.get("float"))


def _limits(params: Params, *names: str) -> int:
    """How many limits of results take instructions."""
    return sum(params[name] is not None for name in names)


def _gemm(p: Params) -> float:
    runs = p["runs"]
    widening = 19 * sum(sum(run.groups) for run in runs) + 10 * sum(run.tail for run in runs)
    widening += 56 * sum(run.looped > 0 for run in runs)
    pairs = p["unrolled"] + p["rest"]
    ends = 35 * (p["tail"] > 0) + _alone(p) - 43 * (p["pixels"] == 1)
    flat = (26 + 3.1 * pairs) * p["flat"]
    return float(
        315 + flat + 63.5 * pairs + 90 * (p["passes"] > 0) + 135 * p["lined"] + widening + ends
    )


def _gemm_factors(p: Params) -> float:
    pair = (56 + 8 * (p["factor_bytes"] > 0)) if p["levels"] else 52
    expanding = pair * (p["group_pairs"] * (p["whole_groups"] > 0) + p["rest_pairs"])
    starts = 60 * (p["factor_bytes"] > 0) * ((p["whole_groups"] > 0) + (p["rest_pairs"] > 0))
    table = 50 + 9 * p["levels"] if p["levels"] else 0
    return float(_gemm(p) + 84 + expanding + starts + table)


def _alone(p: Params) -> int:
    """A last pixel alone: passes of eight pairs, and the rest."""
    if not p["alone"]:
        return 23 * int(p["pixels"] > 1 and p["pixels"] % 2 == 1)
    passes = 300 if p["pairs"] >= 8 else 0
    rest = 36 * int(p["pairs"] % 8)
    return 146 + passes + rest + 16 * _limits(p, "low_bytes", "high_bytes")


def _gemm_staged(p: Params) -> float:
    alone = (60 + 9.4 * p["pairs"]) * p["alone"]
    return float(424 + 78 * (p["unrolled"] + p["rest"]) + 110 * (p["passes"] > 0) + alone)


def _winograd(base: float) -> Rule:
    def rule(p: Params) -> float:
        borders = 70 * p["outside"] + 35 * len(p["borders"])
        clamps = 98 * _limits(p, "low_bytes", "high_bytes")
        return float(base + 106 * p["unrolled"] + 28.5 * p["depth"] + borders + clamps)

    return rule


def _strips(p: Params) -> float:
    straight = 84 * ((p["columns"] or 0) + (p["used"] or 0))
    body = (891 if p["looped"] else straight) + 117 * p["ends_outside"] + 159 * p["tail"]
    return float((42 if p["stride"] == 1 else 76) + body + 10 * p["before"] + 99 * _clamps(p))


def _rows(p: Params) -> float:
    straight = 124 * ((p["columns"] or 0) + (p["used"] or 0))
    limits = 197 * _clamps(p)
    return float(340 + ((1690 if p["stride"] == 1 else 1290) if p["looped"] else straight) + limits)


def _clamps(p: Params) -> int:
    return sum(p["lane"].get(name) is not None for name in ("low", "high"))


def _depthwise_dsp(p: Params) -> float:
    inside, border = p["interior"], p["border"]
    taps = p["taps"] * (36.5 * inside + 42 * border)
    clamps = 34 * _clamps(p) * (inside + border)
    return float(67 + taps + 120 * inside + 229 * border + clamps + 19 * (p["overlap"] > 0))


def _dense_dsp(p: Params) -> float:
    kept = min(p["width"], p["channels"])
    products = 8.5 * p["width"] * (p["pass_pairs"] + p["rest_pairs"]) + 22 * (p["passes"] > 0)
    widening = 108 * (p["words16"] > 0) + 36 * p["words"] + 9 * len(p["tail"])
    clamps = 47 * _limits(p, "low_byte", "high_byte")
    return float(
        100 + products + 3.5 * p["width"] + widening + 13 * kept + clamps + 51 * (p["rows"] > 1)
    )


def _dense_int4(p: Params) -> float:
    kept = min(p["width"], p["channels"])
    products = 9.5 * p["width"] * (p["pass_pairs"] + p["rest_pairs"]) + 22 * (p["passes"] > 0)
    widening = 140 * (p["words16"] > 0) + 44 * p["words"] + 13 * len(p["tail"])
    clamps = 62 * _limits(p, "low_byte", "high_byte")
    return float(
        60 + products + 9 * p["width"] + widening + 13 * kept + clamps + 51 * (p["rows"] > 1)
    )


def _gemm_bits(p: Params) -> float:
    runs = p["runs"]
    widening = 19 * sum(sum(run.groups) for run in runs) + 10 * sum(run.tail for run in runs)
    widening += 100 * sum(run.looped > 0 for run in runs)
    steps = (180 if p["bits"] == 1 else 92) * (p["unrolled"] + p["rest"])
    walk = 135 * p["lined"] + 50 * (not p["flat"]) + 12 * (p["padding"] - p["pairs"])
    ends = 60 * (p["tail"] > 0) + 24 * (p["pixels"] % 3 > 0)
    clamps = 32 * _limits(p, "low_bytes", "high_bytes")
    base = 584 + 14 * p["totalled"] + 48 * p["doubling"] + 48 * (p["bits"] == 2)
    return float(base + steps + 125 * (p["passes"] > 0) + widening + walk + ends + clamps)


def _dense_bits(p: Params) -> float:
    kept = min(p["width"], p["channels"])
    words = (p["pass_pairs"] + p["rest_pairs"]) // (2 if p["bits"] == 1 else 1)
    products = (76 if p["bits"] == 1 else 40) * words + 62 * (p["passes"] > 0)
    widening = 140 * (p["words16"] > 0) + 44 * p["words"] + 13 * len(p["tail"])
    clamps = 62 * _limits(p, "low_byte", "high_byte")
    return float(215 + products + widening + 17 * kept + clamps + 51 * (p["rows"] > 1))


def _taps(p: Params, each: int) -> int:
    """Taps of a pool's window behind the first; a base that moves takes 8 bytes at most."""
    found = [tap for batch in p["batches"] for tap in batch]
    return each * len(found) + 8 * sum(tap.advance is not None for tap in found)


def _limbs(p: Params, third: float, fourth: float) -> float:
    """Requantization in more than two limbs."""
    return float(third * (p["limbs"] > 2) + fourth * (p["limbs"] > 3))


def _conv_pairs(p: Params) -> float:
    window = 0 if p["flat"] else 54 + 220 * p["border"] + 28 * p["interior"]
    ends = 15 * (p["passes"] > 1) + 30 * (p["tail"] > 0) + 81 * (p["patches"] > 0)
    return float(319 + window + 68 * p["pass_words"] + ends + _limbs(p, 220, 68))


def _signed_sums(p: Params) -> float:
    window = 0 if p["flat"] else 54 + 220 * p["border"] + 28 * p["interior"]
    tables = (172 if p["radix"] == 2 else 206) + 44 * p["groups"] + 50 * (p["segments"] > 1)
    ends = 30 * (p["tail"] > 0) + 81 * (p["patches"] > 0)
    return float(285 + window + tables + ends + _limbs(p, 220, 68))


def _depthwise_pairs(p: Params) -> float:
    rows = 16 * p["kernel_rows"] + 55 * p["edge"]
    return float(299 + 12 * p["taps"] + rows + 52 * p["excess"] + _limbs(p, 64, 0))


def _dense_pairs(p: Params) -> float:
    loop = p["pass_chunks"] * (18 + 11 * p["chunk"]) + 36 * (p["passes"] > 1)
    ends = 27 * (p["channels"] % p["block"] > 0) + 48 * (p["rows"] > 1)
    return float(190 + loop + ends + _limbs(p, 232, 48))


def _xnor(p: Params) -> float:
    """Loads, differences, adders and counts take 4 bytes each but for low registers."""
    words = sum(3.0 * p["length"] + chunk.counting + 4 for chunk in p["chunks"][:1])
    rest = sum(chunk.counting + 4 for chunk in p["chunks"][1:])
    copying = 4 * min(p["tap_words"], 8) + 28 * p["padded"]
    return float(210 + 3.5 * (words + rest) + copying + 40 * p["tabled"] + 24 * p["binary"])


def _xnor_small(p: Params) -> float:
    """Two bytes to an instruction."""
    products = sum(chunk.instructions for chunk in p["chunks"]) + 3 * (len(p["chunks"]) - 1)
    copying = 3 * min(p["tap_words"], 8) + 20 * p["padded"]
    return float(230 + 2 * products + copying + 40 * p["tabled"])


def _blocks(base: float, rest: float, alone: float, exact: float, window: float = 0) -> Rule:
    """C that computes a block of channels at once, and the channels that are left one by one.

    Args:
        base: with blocks alone.
        rest: more where channels are left.
        alone: where there are fewer channels than a block.
        exact: more for float32 rounding.
        window: more for windows of more than a pixel.
    """

    def rule(p: Params) -> float:
        some = p["channels"] >= p["block"]
        left = p["channels"] % p["block"] > 0
        wide = window * (p.get("kernel_rows", 1) * p.get("kernel_columns", 1) > 1)
        rounding = exact * (1 if some else 0.3) * _is_exact(p)
        return float((base + rest * left if some else alone) + wide + rounding)

    return rule


def _pixels(base: float, padded: float, exact: float) -> Rule:
    """C that computes one result at a time."""
    return lambda p: base + padded * p["padded"] + exact * _is_exact(p)


_ASSEMBLY: Mapping[str, Rule] = {
    "binary_conv2d.xnor": _xnor,
    "binary_conv2d.xnor_small": _xnor_small,
    "conv2d.gemm": _gemm,
    "conv2d.gemm_staged": _gemm_staged,
    "conv2d.bits": _gemm_bits,
    "conv2d.int4": lambda p: _gemm(p) + 135,
    "conv2d.factors": _gemm_factors,
    "conv2d.tables": _gemm_factors,
    "dense.factors": _gemm_factors,
    "dense.tables": _gemm_factors,
    "conv2d.winograd": _winograd(2588),
    "conv2d.winograd_small": _winograd(3485),
    "conv2d.winograd_int4": _winograd(3700),
    "conv2d.depthwise_strips": _strips,
    "conv2d.depthwise_rows": _rows,
    "conv2d.depthwise_bytes": lambda p: _rows(p) + 40,
    "conv2d.depthwise_int4": lambda p: _rows(p) + 40,
    "conv2d.depthwise_dsp": _depthwise_dsp,
    "dense.dsp": _dense_dsp,
    "dense.raw": _dense_dsp,
    "dense.bits": _dense_bits,
    "dense.int4": _dense_int4,
    "add.dsp": lambda p: (
        36 + p["words"] * p["repeats"] * (88 + 16 * _limits(p, "low_bytes", "high_bytes"))
    ),
    "average_pool.dsp": lambda p: 200,
    "average_pool.windows": lambda p: 166 + _taps(p, 12),
    "max_pool.dsp": lambda p: 74 + _taps(p, 12),
    "conv2d.pairs": _conv_pairs,
    "conv2d.signed_sums": _signed_sums,
    "conv2d.depthwise_pairs": _depthwise_pairs,
    "dense.pairs": _dense_pairs,
}
_DENSER: Mapping[str, float] = {  # written for Armv6-M, shorter with Thumb-2
    "conv2d.pairs": 0.94,
    "dense.pairs": 0.93,
}
_C: Mapping[str, Rule] = {
    "conv2d.depthwise": _pixels(138, 113, 612),
    "conv2d.direct": _pixels(170, 103, 540),
    "conv2d.pointwise": _blocks(335, 120, 146, 2_200),
    "conv2d.window": _blocks(395, 110, 215, 2_000, window=110),
    "dense.portable": _blocks(290, 130, 106, 2_200),
}
_C_ARMV6M: Mapping[str, Rule] = {
    "conv2d.depthwise": _pixels(200, 111, 742),
    "conv2d.direct": _pixels(222, 107, 663),
    "conv2d.pointwise": _blocks(300, 127, 170, 1_970),
    "conv2d.window": _blocks(360, 100, 250, 1_530, window=95),
    "dense.portable": _blocks(255, 110, 100, 2_100),
}
_SMALL: Mapping[str, int] = {  # C that hardly varies
    "add.portable": 90,
    "average_pool.portable": 110,
    "concat.portable": 50,
    "lookup.portable": 28,
    "max_pool.portable": 160,
    "mean.portable": 110,
    "mul.portable": 130,
    "pad.portable": 60,
    "resize.portable": 76,
    "slice.portable": 70,
    "softmax.portable": 150,
    "softmax.reciprocal": 180,
    "transpose.portable": 48,
}
