"""Markdown of the deletion tests of explanations."""

from __future__ import annotations

from collections.abc import Sequence

from llmrec.evaluation.deletion_test import DeletionResult


def render_faithfulness(tests: Sequence[DeletionResult]) -> str:
    """Render the section of a report on deletion tests.

    Args:
        tests: Results, one for each number of deleted events.

    Returns:
        Markdown.
    """
    introduction = (
        "How far the score of an item falls that would be recommended first, to users who come back in the test "
        "window, without the events that its explanation puts first, without random ones, and without the newest; 95% "
        "intervals from a bootstrap of users."
    )
    return "\n\n".join(["## What explanations name", introduction, "\n".join(format_deletion_table(tests))])


def format_deletion_table(tests: Sequence[DeletionResult]) -> list[str]:
    """Format deletion tests as a Markdown table.

    Args:
        tests: Results, one for each number of deleted events.

    Returns:
        Lines of the table: falls of the score, and differences with 95% intervals.
    """
    lines = ["| events deleted | histories | named | random | newest | named - random | named - newest |",
             "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for test in tests:
        falls = [f"{fall.value:.3f}" for fall in (test.named, test.random, test.newest)]
        gains = [f"{gain.difference:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
                 for gain in (test.named_over_random, test.named_over_newest)]  # fmt: skip
        lines.append(f"| {' | '.join([str(test.n_deleted), f'{test.n_explained:,}', *falls, *gains])} |")
    return lines
