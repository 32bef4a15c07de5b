"""The C of every kernel under AddressSanitizer and UndefinedBehaviorSanitizer, tensors apart from others.

Each inference runs on an arena of 0x00, 0xAA, 0xFF and noise, and must give the reference's bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from codegen.arrange import Slot
from codegen.plan import Plan
from tests.analysis import host, matrix
from tests.analysis.conftest import Require
from tests.golden.network import planned

SANITIZERS = (
    *("-std=c99", "-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"),
    "-fsanitize=address,undefined,float-cast-overflow,float-divide-by-zero",
)
FILLS = 4  # arenas of each sample, as in driver.c
FIXED_SAMPLES = 3  # beside random ones
IN_ONE = 150  # networks in one program


def inferences(plans: Sequence[Plan], target: str, folder: Path, gcc: str) -> int:
    """Builds and runs networks: how many inferences were right. Any finding is an error."""
    sources = host.prepare(folder, plans, target)
    status, printed = host.run(host.build(folder, (gcc, *SANITIZERS), sources))
    assert status == 0, printed[:3000]
    return int(printed)


@pytest.mark.parametrize("target", matrix.TARGETS)
def test_kernels(target: str, require: Require, tmp_path: Path) -> None:
    pairs = [pair for pair in matrix.different_pairs() if pair.target == target]
    plans = [matrix.spread(pair.plan(f"net{number}")) for number, pair in enumerate(pairs)]
    found = inferences(plans, target, tmp_path / "all", require("gcc"))
    assert found == FILLS * (2 + FIXED_SAMPLES) * len(plans)


@pytest.mark.sweep
@pytest.mark.parametrize("target", matrix.TARGETS)
def test_every_kernel_on_every_case(target: str, require: Require, tmp_path: Path) -> None:
    pairs = [pair for pair in matrix.pairs() if pair.target == target]
    for number in range(0, len(pairs), IN_ONE):
        group = pairs[number : number + IN_ONE]
        plans = [pair.plan(f"net{i}") for i, pair in enumerate(group)]
        for folder, chosen in (
            (f"apart{number}", [matrix.spread(made) for made in plans]),
            (f"planned{number}", plans),
        ):
            found = inferences(chosen, target, tmp_path / folder, require("gcc"))
            assert found == FILLS * (2 + FIXED_SAMPLES) * len(plans)


@pytest.mark.parametrize("name", ["generic-m4", "generic-m0plus", "generic-m4-chain"])
def test_whole_networks(name: str, require: Require, tmp_path: Path) -> None:
    target = name.removesuffix("-chain")
    assert inferences([planned(name)], target, tmp_path / "all", require("gcc")) == FILLS * 5


@pytest.mark.parametrize("kernel", ["conv2d.direct", "dense.portable", "softmax.portable"])
def test_a_byte_too_many_is_noticed(kernel: str, require: Require, tmp_path: Path) -> None:
    """The holes around tensors are where they should be: one byte less of a tensor is a finding."""
    pair = next(pair for pair in matrix.different_pairs() if pair.kernel.name == kernel)
    made = matrix.spread(pair.plan("net"))
    folder = tmp_path / "all"
    sources = host.prepare(folder, [made], pair.target)
    (step,) = made.steps
    for shorter in (
        replace(step, inputs=(_shorter(step.inputs[0]), *step.inputs[1:])),
        replace(step, output=_shorter(step.output)),
    ):
        (folder / "glue.c").write_text(host.glue([replace(made, steps=(shorter,))]))
        status, printed = host.run(host.build(folder, (require("gcc"), *SANITIZERS), sources))
        assert status != 0 and "use-after-poison" in printed


def _shorter(slot: Slot) -> Slot:
    return replace(slot, size=slot.size - 1)
