"""Explanations add up as they are printed."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.inference.explanations.explanation import AVERAGE_ITEM, Explanation, ExplanationPart, PastEvent
from llmrec.inference.score_units import ScoreUnit

POINTS = st.lists(st.floats(-1, 1), min_size=9, max_size=9)


def make_explanation(points: list[float], unit: ScoreUnit, start: float = 0.0) -> Explanation:
    """An explanation with a part for each of seven events, one for them together, and one for any user."""
    events = tuple(PastEvent(f"i{row}", f"Item {row}", row, value) for row, value in enumerate(points[:7]))
    parts = [ExplanationPart("base", place, value, False) for place, value in enumerate(points[:7])]
    parts += [ExplanationPart("base", None, points[7], False), ExplanationPart("anyone", None, points[8], False)]
    total = math.fsum([start, *points])
    score = math.log(total) if unit == "log_probability" else total
    return Explanation("x", "X", 0, score, unit, total, start, tuple(parts), events, 0, 0)


def check_printed_sums(found: Explanation) -> None:
    for rows in (found.by_term(), found.by_event()):
        *parts, total = [Decimal(row.text.removesuffix("%")) for row in rows]
        assert sum(parts) == total
        assert rows[-1].points == found.total


@given(points=POINTS, start=st.floats(-50, 50))
def test_log_odds_add_up_as_printed(points: list[float], start: float) -> None:
    found = make_explanation(points, "logit", start)
    check_printed_sums(found)
    assert found.by_term()[0].label == AVERAGE_ITEM


@given(points=POINTS, scale=st.floats(1e-9, 1.0))
def test_percents_of_a_chance_add_up_as_printed(points: list[float], scale: float) -> None:
    points[8] += abs(math.fsum(points)) + 0.5  # the chance is positive
    found = make_explanation([value * scale / 20 for value in points], "log_probability")
    check_printed_sums(found)


def test_rows_are_sorted_and_say_what_they_are() -> None:
    found = make_explanation([0.01 * place for place in range(7)] + [0.05, -0.03], "log_probability")
    assert [(row.text, row.label) for row in found.by_event()] == [
        ("+6.00%", "Item 6  [i6]"),
        ("+5.00%", "Item 5  [i5]"),
        ("+4.00%", "Item 4  [i4]"),
        ("+3.00%", "Item 3  [i3]"),
        ("+2.00%", "Item 2  [i2]"),
        ("+1.00%", "2 other events"),
        ("+2.00%", "no single event"),
        ("23.00%", "chance of being next"),
    ]
    terms = [(row.text, row.label) for row in found.by_term()]
    assert terms == [
        ("+26.00%", "what the model makes of the history"),
        ("-3.00%", "what suits most users"),
        ("23.00%", "chance of being next"),
    ]
    assert found.by_term()[0].points == pytest.approx(0.26)


def test_it_prints_as_its_reasons() -> None:
    found = make_explanation([0.01 * place for place in range(7)] + [0.05, -0.03], "log_probability")
    lines = repr(found).splitlines()
    assert lines[:5] == ["X", "", "", "by term:", "+26.00%  what the model makes of the history"]
    assert lines[-1] == "23.00%  chance of being next"
    page = found._repr_html_()
    assert page.startswith("<b>X</b><p></p><table><caption>by term</caption>")
    assert "<td>+6.00%</td><td>Item 6  [i6]</td>" in page
