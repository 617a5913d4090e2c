"""Text of an explanation."""

from __future__ import annotations

from llmrec.drift.terms import BY_NAME
from llmrec.inference.explanations.explanation import Explanation

SHOWN_EVENTS, SHOWN_WORDS = 5, 8


def format_explanation(found: Explanation) -> list[str]:
    """Format an explanation: reason, shares by term and by event, and the strongest words.

    Args:
        found: Explanation of one recommended item.

    Returns:
        Lines for the terminal; shares in percent.
    """
    shares = sorted(found.term_shares().items(), key=lambda share: -share[1])
    lines = [f"{found.label}, score {found.score:.3f}", found.sentence, ""]
    lines += [f"{share:6.1%}  {BY_NAME[term].caption}" for term, share in shares]
    if found.events:
        lines += ["", "by what was done:"]
    for position in found.rank_events()[:SHOWN_EVENTS]:
        event = found.events[position]
        lines.append(f"{event.share:6.1%}  {event.label}  [{event.item}]")
    if found.tokens:
        strongest = sorted(found.tokens, key=lambda token: -abs(token.value))[:SHOWN_WORDS]
        lines += ["", "words: " + ", ".join(f"{token.token} {token.value:+.2f}" for token in strongest)]
    return lines
