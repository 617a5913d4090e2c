"""Text about drift: the section of a report, and the lines of `llmrec drift`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from llmrec.drift.profile import DriftProfile, InterestByPeriod, InterestDecay, InterestStates, MixtureShares
from llmrec.drift.terms import SWITCHES, get_caption
from llmrec.drift.user_profile import AHEAD_DAYS, InterestOverTime, UserDriftProfile
from llmrec.utils.text import format_duration, format_table, truncate
from llmrec.utils.units import SECONDS_PER_DAY

SHOWN_STATES, SHOWN_TRANSITIONS, SHOWN_GAPS = 8, 5, (0.0, 1.0, 7.0, 30.0, 365.0)
NAME_WIDTH = 48
MIN_AGO_SECONDS = 60  # seconds; less is now
PERIODS = {1: "months", 3: "quarters", 12: "years"}


def render_drift_section(profile: DriftProfile) -> str:
    """Render the drift section of a report, with links to the figures of `plot_drift_profile`.

    Args:
        profile: Drift of a log.

    Returns:
        Markdown.
    """
    learned = [*describe_drift_head(profile), _format_shares_line(profile.shares)]
    blocks = ["## Preferences that move", "\n".join(f"* {line}" for line in learned)]
    blocks += [
        _format_shares_table(profile.shares),
        _format_figure("shares of the mixture by gap", "drift_shares.png"),
    ]
    if profile.decay is not None:
        blocks += ["### How long interest lasts", _format_decay(profile.decay)]
    if profile.states is not None and profile.periods is not None:
        blocks += ["### What people were interested in", *_format_periods(profile.states, profile.periods)]
    if profile.states is not None:
        blocks += ["### Where interest moves on to", _format_transitions(profile.states)]
        blocks += [_format_figure("moves between states", "drift_moves.png")]
    return "\n\n".join(blocks)


def format_user_drift(user: UserDriftProfile) -> list[str]:
    """Format the lines of `llmrec drift`.

    Args:
        user: Drift of one user.

    Returns:
        Lines for the terminal: half-lives, interest over time, shares and recent transitions of other users.
    """
    lines = [f"user {user.user}: {len(user.event_times):,} events before {user.at}"]
    lines.append(f"what an event says of this user's next one halves in {format_duration(user.half_life_days)}")
    if user.chain_half_lives_days:
        slow, fast = map(format_duration, user.chain_half_lives_days)
        lines.append(f"half of a lasting interest has moved on after {slow}, half of a passing one after {fast}")
    if user.interest is not None:
        lines += ["", *_format_interest_columns(user.interest)]
    lines += ["", *_format_share_columns(user.shares), ""]
    for move in user.moves:
        people = "1 person" if move.n_people == 1 else f"{move.n_people:,} people"
        source, target = truncate(move.source, NAME_WIDTH), truncate(move.target, NAME_WIDTH)
        lines.append(f"because of {source} -> {target}: {people} in the last {move.recent_days} days")
    return (
        lines
        if user.moves
        else [*lines, "no recent transitions of other people from this user's last items to new ones"]
    )


def describe_drift_head(profile: DriftProfile) -> list[str]:
    """Describe the weights of a head, one sentence for each of its terms.

    Args:
        profile: Drift of a log, with what the head learned.

    Returns:
        Sentences, in the order of the terms.
    """
    n_states = 0 if profile.states is None else len(profile.states.titles)
    learned, names = profile.learned | {"n_states": n_states}, profile.learned["terms"]
    found = [SWITCHES[name].format_learned(learned) for name in SWITCHES if name in names]
    return [sentence for sentence in found if sentence is not None]


def _format_shares_line(shares: MixtureShares) -> str:
    return (
        f"What the gate leaves to each part, after {shares.n_events} events over {format_duration(shares.span_days)} "
        f"as the median user has them, the last with an item of which {shares.known_pairs:.0f} pairs are known, by the "
        "time since then:"
    )


def _format_shares_table(shares: MixtureShares) -> str:
    rows = [shares.gap_days.index(gap) for gap in SHOWN_GAPS]
    lines = ["| part | " + " | ".join(_format_gap(gap) for gap in SHOWN_GAPS) + " |", "| --- |" + " --- |" * len(rows)]
    for name, of_part in shares.parts.items():
        lines.append(f"| {get_caption(name)} | " + " | ".join(f"{of_part[row]:.0%}" for row in rows) + " |")
    return "\n".join(lines)


def _format_decay(decay: InterestDecay) -> str:
    fell = "does not fall to half of that within this log"
    if decay.half_life_days is not None:
        fell = f"is half of that after {format_duration(decay.half_life_days)}"
    if not decay.excess:
        return "Too few users have more than one event to measure this."
    measured = (
        f"The chance that two events a short time apart speak for the same state is {decay.excess[0]:.3f} greater for "
        f"one user than for two; it {fell}. This is measured on the log, and no weight of the head."
    )
    drawn = ["", _format_figure("similarity of events by lag", "drift_decay.png")] if len(decay.lag_days) > 1 else []
    return "\n".join([measured, *drawn])


def _format_periods(states: InterestStates, periods: InterestByPeriod) -> Iterator[str]:
    if not periods.start:
        yield "No period has enough events to compare it with others."
        return
    first, last = (np.array(periods.interest)[rows].mean(0) for rows in (slice(0, 4), slice(-4, None)))
    lines = ["| state, by the items whose text speaks most for it | all events | first 4 | last 4 |"]
    lines.append("| --- | --- | --- | --- |")
    for state in np.argsort(-np.array(states.share), kind="stable")[:SHOWN_STATES]:
        name = "; ".join(truncate(title, NAME_WIDTH) for title in states.titles[state]).replace("|", "/")
        lines.append(f"| {name} | {states.share[state]:.1%} | {first[state]:.1%} | {last[state]:.1%} |")
    unit = PERIODS[periods.months]
    yield "\n".join(lines)
    yield f"First and last: the first and last four {unit} with events enough."
    if len(periods.start) < 2:
        return
    moved, chance = np.array(periods.divergence), np.array(periods.by_chance)
    beyond = int((moved > np.array(periods.by_chance_high)).sum())
    yield (
        f"Successive {unit} lie {moved.mean():.4f} bits apart (Jensen-Shannon), {(moved - chance).mean():+.4f} beyond "
        f"what shuffled events give; {beyond} of {len(moved)} lie beyond the 95th percentile of that. It shows that "
        "the events differ, be it that people changed or that other people came."
    )
    yield _format_figure("interest over time", "drift_interest.png")
    yield _format_figure("change between periods", "drift_change.png")


def _format_transitions(states: InterestStates) -> str:
    table = np.array(states.lift)
    lines = ["A state's moves against those from all other states to the same one; the strongest:", ""]
    for place in np.argsort(-table, axis=None, kind="stable")[:SHOWN_TRANSITIONS]:
        source, target = divmod(int(place), len(table))
        names = [truncate(states.titles[state][0], NAME_WIDTH) for state in (source, target)]
        lines.append(
            f"* from {names[0]} ({source + 1}) to {names[1]} ({target + 1}): {table[source, target]:.1f} times"
        )
    return "\n".join(lines)


def _format_figure(what: str, name: str) -> str:
    return f"![{what}](figures/{name})"


def _format_interest_columns(interest: InterestOverTime) -> list[str]:
    """Format the top states at up to five moments with distinct labels, and in 30 days, as columns."""
    first, now = interest.moments[0], interest.moments[-1]
    moments = np.linspace(first, now, 5).astype(np.int64)
    named = {
        _format_age((now - moment) / SECONDS_PER_DAY): moment for moment in moments.tolist()
    }  # a short history has fewer
    course = np.array(interest.course)
    rows = np.searchsorted(interest.moments, list(named.values()), side="right") - 1
    columns, heads = [*course[rows], np.array(interest.ahead)], [*named, f"in {AHEAD_DAYS} days"]
    best = np.argsort(-np.maximum(columns[-2], course.mean(0)), kind="stable")[:SHOWN_STATES]
    best = best[np.argsort(-columns[-2][best], kind="stable")]
    table = [["interest in", *heads]]
    table += [[_format_state_name(interest.titles[state]), *(f"{of[state]:.0%}" for of in columns)] for state in best]
    return format_table(table)


def _format_age(days: float) -> str:
    return "now" if days * SECONDS_PER_DAY < MIN_AGO_SECONDS else f"-{format_duration(days)}"


def _format_state_name(titles: Sequence[str]) -> str:
    return " / ".join(truncate(title, NAME_WIDTH // 2) for title in titles[:2])


def _format_share_columns(shares: MixtureShares) -> list[str]:
    rows = [shares.gap_days.index(gap) for gap in SHOWN_GAPS]
    table = [["left to, after a gap of", *(_format_gap(gap) for gap in SHOWN_GAPS)]]
    for name, of_part in shares.parts.items():
        table.append([get_caption(name), *(f"{of_part[row]:.0%}" for row in rows)])
    return format_table(table)


def _format_gap(days: float) -> str:
    return format_duration(days) if days else "none"
