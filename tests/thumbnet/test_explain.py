"""--explain: every candidate of a layer, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen import plan
from codegen.ops import KERNELS
from targets.errors import UsageError
from targets.target import load
from tests.codegen.test_select import network
from thumbnet import explain


def planned(target: str = "generic-m4") -> plan.Plan:
    return plan.make(network(), load(target).core)


@pytest.mark.parametrize("target", ["generic-m4", "generic-m3", "generic-m0plus"])
def test_every_variant_serves_or_says_why_not(target: str) -> None:
    made = planned(target)
    for index in explain.layers(made, "all"):
        step = made.steps[index]
        rows = explain.candidates(made, step, "balanced", named=False)
        kind = step.layer.node.op.kind
        assert {row["kernel"] for row in rows} == {kernel.name for kernel in KERNELS[kind]}
        assert [row["kernel"] for row in rows if row["chosen"]] == [step.kernel.name]
        for row in rows:
            (kernel,) = (k for k in KERNELS[kind] if k.name == row["kernel"])
            assert row["serves"] == kernel.serves(step.layer)
            assert row["reason"]


def test_reasons_name_the_proof() -> None:
    made = planned()
    reasons = {
        row["kernel"]: row["reason"]
        for row in explain.candidates(made, made.steps[5], "balanced", named=False)
    }
    assert "3x3" in reasons["conv2d.winograd"]
    assert "depthwise" in reasons["conv2d.depthwise_strips"]
    assert "SMLAD" in reasons["conv2d.pairs"]


def test_a_layer_by_its_name(tmp_path: Path) -> None:
    made = planned()
    assert explain.layers(made, made.steps[1].name) == [1]
    with pytest.raises(UsageError) as error:
        explain.layers(made, made.steps[1].name + "x")
    assert made.steps[1].name in error.value.hint
