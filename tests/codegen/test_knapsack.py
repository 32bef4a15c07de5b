"""The exact choice of kernels against all choices."""

from __future__ import annotations

from itertools import product
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.knapsack import Item, Limits, cheapest, totals

ITEMS = st.builds(
    Item,
    cycles=st.integers(1, 50).map(float),
    flash=st.integers(0, 20),
    part=st.sampled_from("abcde"),
    part_flash=st.just(0),
)
PART_FLASH = {"a": 3, "b": 30, "c": 12, "d": 0, "e": 7}


@st.composite
def problems(draw: st.DrawFn) -> list[list[Item]]:
    layers = draw(st.lists(st.lists(ITEMS, min_size=1, max_size=4), min_size=1, max_size=5))
    return [
        [Item(i.cycles, i.flash, i.part, PART_FLASH[str(i.part)]) for i in items]
        for items in layers
    ]


@settings(max_examples=300, deadline=None)
@given(
    layers=problems(),
    price=st.sampled_from([0.0, 0.5, 1.0, 40.0]),
    share=st.floats(0, 1),
    which=st.sampled_from(["cycles", "flash", "both", "none"]),
)
def test_nothing_is_cheaper_within_the_limits(
    layers: list[list[Item]], price: float, share: float, which: str
) -> None:
    everything = list(product(*(range(len(items)) for items in layers)))
    costs = [totals(layers, chosen) for chosen in everything]
    cycles, flash = ([cost[axis] for cost in costs] for axis in (0, 1))
    limits = Limits(
        min(cycles) + share * (max(cycles) - min(cycles)) if which != "flash" else inf,
        min(flash) + share * (max(flash) - min(flash)) if which in ("flash", "both") else inf,
    )
    limits = Limits() if which == "none" else limits
    allowed = [c + price * f for c, f in costs if c <= limits.cycles and f <= limits.flash]
    found = cheapest(layers, price, limits)
    if not allowed:
        assert found is None
        return
    assert found is not None
    spent = totals(layers, found)
    assert spent[0] <= limits.cycles
    assert spent[1] <= limits.flash
    assert spent[0] + price * spent[1] == min(allowed)


def test_a_shared_part_is_paid_once() -> None:
    own = Item(10.0, 0, "own", 10)
    shared = Item(10.0, 0, "shared", 15)
    layers = [[Item(10.0, 0, f"own {i}", 10), shared] for i in range(2)]
    assert cheapest(layers, 1.0) == (1, 1)
    assert cheapest([[own, shared]], 1.0) == (0,)
    assert totals(layers, (1, 1)) == (20.0, 15)


def test_many_layers_take_little_time() -> None:
    layers = [
        [
            Item(float(1 + (7 * i + 3 * j) % 90), (5 * i * j) % 70 + j, (i % 6, j), 40)
            for j in range(5)
        ]
        for i in range(60)
    ]
    most = totals(layers, cheapest(layers, 0.0) or ())[1]
    found = cheapest(layers, 0.0, Limits(flash=most * 0.6))
    assert found is not None
    assert totals(layers, found)[1] <= most * 0.6
