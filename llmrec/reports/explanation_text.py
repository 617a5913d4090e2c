"""Text of an explanation."""

from __future__ import annotations

from collections.abc import Sequence

from llmrec.inference.explanations.breakdown import BreakdownRow, break_down_by_event, break_down_by_term
from llmrec.inference.explanations.explanation import Explanation

SHOWN_WORDS = 8


def format_explanation(found: Explanation) -> list[str]:
    """Format an explanation: reasons, points by term and by event that add up as printed, and the strongest words.

    Args:
        found: Explanation of one recommended item.

    Returns:
        Lines for the terminal.
    """
    lines = [found.label, found.sentence, "", "by term:", *_format_rows(break_down_by_term(found))]
    if found.events:
        lines += ["", "by event:", *_format_rows(break_down_by_event(found))]
    if found.tokens:
        strongest = sorted(found.tokens, key=lambda token: -abs(token.value))[:SHOWN_WORDS]
        lines += ["", "words: " + ", ".join(f"{token.token} {token.value:+.2f}" for token in strongest)]
    return lines


def _format_rows(rows: Sequence[BreakdownRow]) -> list[str]:
    width = max(len(row.text) for row in rows)
    return [f"{row.text:>{width}}  {row.label}" for row in rows]
