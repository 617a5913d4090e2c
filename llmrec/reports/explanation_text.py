"""Explanations as text."""

from __future__ import annotations

from llmrec.inference.explanations.explanation import Explanation, ExplanationTerm

SHOWN_EVENTS, SHOWN_WORDS = 5, 8
TERMS: dict[ExplanationTerm, str] = {
    "anyone": "what anybody would be offered",
    "base": "what the model makes of the history",
    "environment": "what is popular now",
    "transitions": "where people went on to from there",
    "chain": "latent interests",
}


def format_explanation(told: Explanation) -> list[str]:
    """An explanation for people: why, by term, by event and by word."""
    shares = sorted(told.term_shares().items(), key=lambda share: -share[1])
    lines = [f"{told.label}, score {told.score:.3f}", told.sentence, ""]
    lines += [f"{share:6.1%}  {TERMS[term]}" for term, share in shares]
    if told.events:
        lines += ["", "by what was done:"]
    for place in told.rank_events()[:SHOWN_EVENTS]:
        event = told.events[place]
        lines.append(f"{event.share:6.1%}  {event.label}  [{event.item}]")
    if told.tokens:
        strongest = sorted(told.tokens, key=lambda token: -abs(token.value))[:SHOWN_WORDS]
        lines += ["", "words: " + ", ".join(f"{token.token} {token.value:+.2f}" for token in strongest)]
    return lines
