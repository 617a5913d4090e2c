"""Scores are read in their unit."""

from __future__ import annotations

import math

import pytest

from llmrec.inference.score_units import NumberFormat, format_score


def test_scores_are_read_in_their_unit() -> None:
    assert format_score(math.log(0.25), "log_probability") == "25.00%"
    assert format_score(math.log(0.25), "logit") == format_score(math.log(0.25), "cosine") == "-1.386"


@pytest.mark.parametrize(
    ("chance", "shown"),
    [
        (1.0, "100.00%"),
        (0.001, "0.10%"),
        (0.000123, "0.012%"),
        (4.5e-6, "0.00045%"),
        (1e-12, "0.000000%"),
        (0.0, "0.00%"),
    ],
)
def test_small_chances_show_two_digits(chance: float, shown: str) -> None:
    assert NumberFormat.from_total(chance, "log_probability").format(chance) == shown
