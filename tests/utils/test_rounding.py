"""Rounded parts add up to the rounded total, and none is off by more than one unit."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from llmrec.utils.rounding import round_to_total


@given(values=st.lists(st.floats(-1e6, 1e6), max_size=30), decimals=st.integers(0, 6))
def test_parts_add_up(values: list[float], decimals: int) -> None:
    total = math.fsum(values)
    rounded = round_to_total(values, total, decimals)
    units = [round(value * 10**decimals) for value in rounded]
    if values:
        assert sum(units) == round(total * 10**decimals)
    assert all(abs(new - old) <= 1.001 / 10**decimals for new, old in zip(rounded, values, strict=True))


@given(value=st.floats(-1e6, 1e6))
def test_a_zero_stays_zero(value: float) -> None:
    assert round_to_total([0.0, value, -value], 0.0, 2)[0] == 0.0
