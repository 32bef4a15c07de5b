"""Which instructions a core has. Unicorn is laxer than silicon: a Cortex-M3 of its runs DSP code."""

from __future__ import annotations

import re

from emulator.timing.instruction import Instruction
from targets.target import Core

# Armv6-M: DDI 0419E, A5.3; all else of 32 bits came with Armv7-M.
_ARMV6M_WIDE = frozenset(("bl", "mrs", "msr", "dmb", "dsb", "isb", "udf"))
_ARMV7M_NARROW = re.compile(r"cbn?z|it[te]{0,3}")
# Armv7-M's DSP extension: DDI 0403E, A5.3 ("Armv7E-M").
_DSP = re.compile(
    r"smla([bt][bt]|w[bt]|dx?)|smul([bt][bt]|w[bt])|smlal([bt][bt]|dx?)|sml(sd|sld)x?|sm(uad|usd)x?"
    r"|smml[as]r?|smmulr?|umaal|qd?(add|sub)|[suq]h?(add|sub)(8|16)|uq(add|sub)(8|16)"
    r"|(s|u|q|sh|uh|uq)(asx|sax)|sel|usada?8|pkh(bt|tb)|[su]xta(b|b16|h)|[su]xtb16|[su]sat16"
)


def violation(instruction: Instruction, core: Core) -> str:
    """Why a core refuses an instruction; empty when it does not."""
    mnemonic = instruction.mnemonic
    if not core.thumb2:
        wide = instruction.size == 4 and mnemonic and mnemonic not in _ARMV6M_WIDE
        if wide or _ARMV7M_NARROW.fullmatch(mnemonic):
            return f"{mnemonic} is not in Armv6-M, the instruction set of {core.name}"
    if not core.dsp and _DSP.fullmatch(mnemonic):
        return f"{mnemonic} needs the DSP extension, which {core.name} has not"
    if not core.fpu and instruction.is_float:
        return f"{mnemonic} needs a floating-point unit, which {core.name} has not"
    return ""
