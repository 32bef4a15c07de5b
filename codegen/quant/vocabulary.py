"""What users can choose when weights and activations become integers, by name.

Without the code behind the names: the command line lists them and stays quick. A test holds that the code
knows just these.
"""

from __future__ import annotations

from typing import Literal

Method = Literal["minmax", "ema", "percentile", "mse", "kl", "octav"]
Correction = Literal["auto", "on", "off"]
Activations = Literal["int8", "int4", "binary"]

METHODS: tuple[Method, ...] = ("minmax", "ema", "percentile", "mse", "kl", "octav")
ROUNDING_NAMES = ("nearest", "stochastic", "gptq", "adaround")
CLIPS = ("minmax", "percentile", "mse", "kl", "octav", "output", "auto")
CORRECTIONS: tuple[Correction, ...] = ("auto", "on", "off")
ACTIVATIONS: tuple[Activations, ...] = ("int8", "int4", "binary")
GRANULARITIES = ("channel", "tensor")
STEP_SIZES = ("free", "pow2")
ACTIVATION_GRIDS = ("asymmetric", "symmetric")
WEIGHTS = ("int8", "int4", "int3", "int2", "ternary", "binary")
SCHEME_NAMES: tuple[str, ...] = (
    "uniform",
    "group32",
    "vsq16",
    "mx4",
    "mx6",
    "mx9",
    "mxint8",
    "mxfp4",
)
SCHEME_NAMES += ("codebook16", "codebook4", "log2", "apot", "ternary", "ttq", "binary")
