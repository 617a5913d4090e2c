"""Text of the audit of a log and of the size of a pretraining corpus."""

from __future__ import annotations

from llmrec.data.audit import TOP, Audit
from llmrec.data.log import describe_period
from llmrec.data.pii import format_counts
from llmrec.data.times.timestamps import format_iso
from llmrec.errors import missing_extra
from llmrec.training.pretraining.corpus import PretrainCorpus


def format_audit(audit: Audit) -> list[str]:
    """Format the findings of an audit, one line each.

    Args:
        audit: Findings on a log and its catalog.

    Returns:
        Lines for the terminal.
    """
    f = audit.facts
    lines = [
        f"{f.source}: {f.n_events:,} events, {f.n_users:,} users, {f.n_items_with_events:,} of {f.n_items:,} items",
        f"times: {f.first_time} to {f.last_time}, resolution {f.resolution}" if f.has_times else describe_period(f),
        *(f"times: {line}" for line in f.odd_times),
        f"dropped: {f.n_repeats_dropped:,} repeats, {f.n_unknown_items_dropped:,} events on unknown items, "
        f"{f.n_dropped_by_k_core:,} by k-core" + "".join(f", {n:,} faulty {what}" for what, n in f.n_faulty.items()),
        f"ties: {audit.tie_share:.1%} of a user's consecutive events have the same time",
        f"repeats: {audit.repeated_pair_share:.1%} of events are on an item the user had before",
        f"texts: {audit.n_duplicate_texts:,} items share one, {audit.n_short_texts:,} say next to nothing",
        f"twins: {audit.n_twin_users:,} users have exactly the item sequence of another",
        _format_details(audit),
        f"cold ({audit.split}): {audit.cold_item_share:.1%} of test events are on items, "
        f"{audit.cold_user_share:.1%} by users that training never saw",
    ]
    lines += [f"  week of {w.start}: {w.cold_item_share:.1%} cold of {w.n_events:,}" for w in audit.cold_by_week]
    if not f.has_times:
        return lines
    overlap = f"of the first half and of the last tenth overlap by {audit.top_items_kept:.1%}"
    lines.append(f"popularity: the top {TOP} {overlap}")
    if audit.leave_one_out is None:
        return [*lines, "leave-one-out: not possible, no user has three events"]
    hidden = audit.leave_one_out
    return [
        *lines,
        f"leave-one-out would train on the future: {hidden.train_after_first_test:.1%} of its training events are "
        f"later than its first test event, {hidden.item_only_later:.1%} of its test events are on items that "
        f"training has from later only",
    ]


def _format_details(audit: Audit) -> str:
    if audit.details is None:
        return f"personal details in item texts: not searched for. {missing_extra('scrub')}"
    out = f", {format_counts(audit.facts.n_scrubbed)} taken out" if audit.facts.n_scrubbed else ""
    remedy = "; data.pii takes them out" if audit.details else ""
    return f"personal details in item texts: {format_counts(audit.details)}{out}{remedy} (names are not looked for)"


def format_corpus(corpus: PretrainCorpus) -> list[str]:
    """Format the size of a corpus for pretraining, one line for each kind of content.

    Args:
        corpus: Texts and pairs to train on, and those held out.

    Returns:
        Lines for the terminal.
    """
    return [
        f"{corpus.n_events:,} training events until {format_iso(corpus.last_time)}, on {len(corpus.known):,} items",
        f"{len(corpus.texts):,} distinct texts to train on, {len(corpus.held_texts):,} held out",
        f"{len(corpus.pairs):,} pairs to train on, {len(corpus.held_pairs):,} later ones held out",
    ]
