"""Ages in words, and sentences whose numbers are those of the total's unit."""

from __future__ import annotations

import pytest

from llmrec.inference.explanations.explanation import Explanation, ExplanationPart, PastEvent
from llmrec.inference.explanations.sentences import compose_sentence, format_age

DAY = 86_400
EVENTS = (PastEvent("a", "Alien", 0, 8.0), PastEvent("b", "Brazil", 14 * DAY, -3.0))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "just now"),
        (7200, "today"),
        (DAY, "yesterday"),
        (3 * DAY, "three days ago"),
        (7 * DAY, "a week ago"),
        (14 * DAY, "two weeks ago"),
        (30 * DAY, "a month ago"),
        (365 * DAY, "a year ago"),
        (20 * 365 * DAY, "20 years ago"),
    ],
)
def test_durations_in_words(seconds: int, words: str) -> None:
    assert format_age(seconds) == words


def test_log_odds_that_cancel_stay_readable() -> None:
    parts = (
        ExplanationPart("base", 0, 8.0, False),
        ExplanationPart("base", 1, -3.0, False),
        ExplanationPart("anyone", None, -5.00001, False),
    )
    found = Explanation("c", "Cube", 28 * DAY, 1.2, "logit", 1.2, 1.20001, parts, EVENTS, 0, 90)
    assert compose_sentence(found, {"anyone": "it suits most people"}) == (
        "0.000 log-odds above an average item: +8.000 because you took Alien four weeks ago"
    )


def test_a_chance_is_divided_in_percent() -> None:
    parts = (
        ExplanationPart("transitions", 1, 0.019, True),
        ExplanationPart("base", 0, 0.008, False),
        ExplanationPart("environment", None, 0.0064, False),
        ExplanationPart("anyone", None, -0.0014, False),
    )
    events = (PastEvent("a", "Alien", 0, 0.008), PastEvent("b", "Brazil", 14 * DAY, 0.019))
    found = Explanation("c", "Cube", 28 * DAY, -3.44, "log_probability", 0.032, 0.0, parts, events, 1, 90)
    reasons = {"anyone": "it suits most people", "environment": "it has been popular for months"}
    assert compose_sentence(found, reasons, moved_from=1) == (
        "3.20% chance of being next: +1.90% because you moved from Alien to Brazil two weeks ago "
        "(1 person went on from there to this in the last 90 days); +0.80% because you took Alien four weeks ago; "
        "+0.64% because it has been popular for months"
    )


def test_without_reasons_it_says_so() -> None:
    part = ExplanationPart("anyone", None, -0.5, False)
    found = Explanation("c", "Cube", 0, 0.5, "logit", 0.5, 1.0, (part,), (), 0, 0)
    assert compose_sentence(found, {}) == "0.500 log-odds below an average item: nothing speaks for it in particular"
