"""Profile of how preferences move in a log, as a fitted drift head sees it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from llmrec.config.drift import MAX_HISTORY
from llmrec.data.histories import Histories
from llmrec.drift.head import DriftHead
from llmrec.drift.interest_metrics import (
    Numbers,
    half_life_from_curve,
    jensen_shannon_divergence,
    mean_interest_by_period,
    order_by_similarity,
    shuffled_divergence,
    similarity_by_lag,
    transition_lift,
)
from llmrec.drift.stream import ReplayStream
from llmrec.drift.terms.gate import N_CONTEXT
from llmrec.drift.terms.latent_chain import ChainTables
from llmrec.drift.terms.term_inputs import RecentEvents
from llmrec.utils.arrays import Rows
from llmrec.utils.timing import timer
from llmrec.utils.units import SECONDS_PER_DAY

TITLES = 3  # titles that name a state
KNOWN_PAIRS = 10.0  # assumed for the last item of the history whose shares are shown
MAX_PERIODS, MIN_EVENTS = 60, 30  # max of a log, and min of a period that is shown
GAPS_DAYS = (0.0, 0.25, 1.0, 2.0, 4.0, 7.0, 14.0, 30.0, 60.0, 90.0, 180.0, 365.0)


@dataclass(frozen=True)
class MixtureShares:
    """Shares of the mixture by days since the last event."""

    n_events: int
    """Events of the history."""
    span_days: float
    """Days from its first to its last event."""
    known_pairs: float
    """Pairs known of its last item."""
    gap_days: list[float]
    """Days since the last event, (G,)."""
    parts: dict[str, list[float]]
    """Shares of each part, (G,), summing to one over the parts."""


@dataclass(frozen=True)
class InterestStates:
    """K states of the chain, ordered so that similar ones are next to each other."""

    titles: list[list[str]]
    """Items whose text is most typical of each state."""
    share: list[float]
    """Share of each state in all events."""
    lift: list[list[float]]
    """Lift of the moves from each state to each other, (K, K)."""


@dataclass(frozen=True)
class InterestByPeriod:
    """Mean interest of all users by period."""

    months: int
    """Months in a period."""
    start: list[str]
    """First month of each period, (P,)."""
    n_events: list[int]
    """Events of each period, (P,)."""
    interest: list[list[float]]
    """Mean of p(k|j) over the events, (P, K)."""
    divergence: list[float]
    """Divergence between each period and the previous one in bits, (P - 1,)."""
    by_chance: list[float]
    """Mean divergence if events were assigned to periods at random."""
    by_chance_high: list[float]
    """95th percentile of the divergence by chance."""


@dataclass(frozen=True)
class InterestDecay:
    """Similarity in states of two events of a user by lag, beyond that of two users' events."""

    lag_days: list[float]
    """Mean lag of each bin in days."""
    excess: list[float]
    """Similarity beyond that of events of two users at these times."""
    n_pairs: list[int]
    """Pairs of events in each bin."""
    half_life_days: float | None
    """Days after which the excess is half of its first value; None if it does not fall so far."""


@dataclass(frozen=True)
class DriftProfile:
    """Content of a report on a drift head."""

    learned: dict[str, Any]
    """Values of `DriftHead.describe`, with terms and half-lives."""
    shares: MixtureShares
    """Shares of the mixture by gap."""
    states: InterestStates | None
    """Interest states; None without a chain."""
    periods: InterestByPeriod | None
    """Interest by period; None without a chain."""
    decay: InterestDecay | None
    """Decay of interest by lag; None without a chain."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> DriftProfile:
        """Read the profile that report.json holds under run["drift"]."""
        states, periods, decay = (record[name] for name in ("states", "periods", "decay"))
        return cls(
            record["learned"],
            MixtureShares(**record["shares"]),
            InterestStates(**states) if states else None,
            InterestByPeriod(**periods) if periods else None,
            InterestDecay(**decay) if decay else None,
        )


@timer.section("profile")
def build_drift_profile(head: DriftHead, stream: ReplayStream, label: Callable[[int], str]) -> DriftProfile:
    """Describe a head on the log of a stream.

    Args:
        head: Fitted weights.
        stream: The log and the tables.
        label: Returns the words for the item of a row.

    Returns:
        Profile of the log.
    """
    config = stream.config
    learned = {"terms": list(config.terms), "half_lives_days": list(config.half_lives_days)}
    learned |= {"transition_half_life_days": stream.transition_half_life_days} | head.describe()
    shares = mixture_shares_by_gap(head, *median_history_length(stream))
    if stream.chain is None:
        return DriftProfile(learned, shares, None, None, None)
    order = order_states(stream.chain)
    states = _build_states(stream, stream.chain, order, label)
    return DriftProfile(
        learned, shares, states, _build_periods(stream, stream.chain, order), _build_decay(stream, stream.chain)
    )


def order_states(tables: ChainTables) -> list[int]:
    """Order the states so that similar ones are next to each other."""
    return order_by_similarity(_to_numbers(tables.chain.direction))


def label_states(tables: ChainTables, item: Rows, label: Callable[[int], str]) -> list[list[str]]:
    """Choose items that are typical of each state.

    Args:
        tables: Of the chain.
        item: Item rows to choose from.
        label: Returns the words for the item of a row.

    Returns:
        Three titles for each of the K states, by the highest w_k . x_i; first those that are evidence of no other state
        more, none twice.
    """
    rows = np.unique(item)
    emission = tables.emission[:, torch.from_numpy(rows)]  # (K, R)
    strongest = tables.evidence[torch.from_numpy(rows)].argmax(1)  # (R,)
    titles = []
    for state in range(len(emission)):
        best = emission[state].argsort(descending=True)
        own = strongest[best] == state
        titles.append(
            _make_distinct((label(int(rows[row])) for row in torch.cat([best[own], best[~own]]).tolist()), TITLES)
        )
    return titles


def median_history_length(stream: ReplayStream) -> tuple[int, float]:
    """Compute the events of the median user, at most `MAX_HISTORY`, and the median days they span.

    Args:
        stream: Stream whose log is measured.

    Returns:
        Number of events, and days.
    """
    histories = Histories.from_interactions(stream.log, stream.n_users)
    counts = np.diff(histories.offset)
    end = histories.offset[1:][counts > 0]
    length = np.minimum(counts[counts > 0], MAX_HISTORY)
    span = (histories.time[end - 1] - histories.time[end - length]) / SECONDS_PER_DAY
    return int(np.median(length)), float(np.median(span))


@torch.no_grad()
def mixture_shares_by_gap(
    head: DriftHead, n_events: int, span_days: float, *, gap_days: Sequence[float] = GAPS_DAYS
) -> MixtureShares:
    """Compute the shares of the parts after a history, by days since its last event.

    Args:
        head: Fitted weights.
        n_events: Events of the history, at least 1.
        span_days: Days from its first to its last event.
        gap_days: (G,) days since its last event.

    Returns:
        Shares by gap.
    """
    one = torch.zeros(len(gap_days), 1)
    stale = 0.0  # days since the training of the model
    context = [
        [1.0, math.log1p(gap), math.log1p(n_events), float(gap == 0), math.log1p(span_days), stale] for gap in gap_days
    ]
    recent = RecentEvents(one.long(), one == 0, one, one, torch.tensor(context).view(-1, N_CONTEXT))
    known = torch.full_like(one, KNOWN_PAIRS)
    shares = head.log_mixture_shares(recent, known).exp().T.double().numpy().round(4).tolist()
    parts: dict[str, list[float]] = {part.name: of_part for part, of_part in zip(head.parts, shares, strict=True)}
    return MixtureShares(n_events, round(span_days, 2), KNOWN_PAIRS, list(gap_days), parts)


def assign_periods(time: Rows) -> tuple[Rows, list[str], int]:
    """Divide events into periods of 1, 3 or 12 months, at most 60 of them where years allow it.

    Args:
        time: Seconds of each event, (E,).

    Returns:
        Period of each event, (E,), -1 in periods with fewer than 30 events; the first month of each period; and the
        months in a period.
    """
    month = time.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)
    n_months = int(month.max() - month.min()) + 1
    months = next((months for months in (1, 3) if n_months <= months * MAX_PERIODS), 12)
    number = month // months
    kept, counts = np.unique(number, return_counts=True)
    kept = kept[counts >= MIN_EVENTS]
    position = np.searchsorted(kept, number).clip(max=max(len(kept) - 1, 0))
    period = np.where(kept[position] == number, position, -1) if len(kept) else np.full(len(number), -1)
    return period, [str(start) for start in (kept * months).astype("datetime64[M]")], months


def _build_states(
    stream: ReplayStream, tables: ChainTables, order: list[int], label: Callable[[int], str]
) -> InterestStates:
    share = _to_numbers(tables.evidence)[stream.log.item].mean(0)
    titles = label_states(tables, stream.log.item, label)
    moves = transition_lift(_to_numbers(tables.chain.chain.transition), share)[np.ix_(order, order)]
    return InterestStates([titles[state] for state in order], share[order].round(4).tolist(), moves.round(3).tolist())


def _build_periods(stream: ReplayStream, tables: ChainTables, order: list[int]) -> InterestByPeriod:
    period, start, months = assign_periods(stream.log.time)
    shown = period >= 0
    item, period, n_periods = stream.log.item[shown], period[shown], len(start)
    evidence = _to_numbers(tables.evidence)[:, order]
    interest = mean_interest_by_period(item, period, n_periods, evidence)
    moved, chance, high = np.zeros((3, max(n_periods - 1, 0)))
    if n_periods > 1:
        moved, null = (
            jensen_shannon_divergence(interest[:-1], interest[1:]),
            shuffled_divergence(item, period, n_periods, evidence),
        )
        chance, high = null.mean(0), np.quantile(null, 0.95, axis=0)
    return InterestByPeriod(
        months,
        start,
        np.bincount(period, minlength=n_periods).tolist(),
        interest.round(5).tolist(),
        *(bits.round(6).tolist() for bits in (moved, chance, high)),
    )


def _build_decay(stream: ReplayStream, tables: ChainTables) -> InterestDecay:
    found = similarity_by_lag(Histories.from_interactions(stream.log, stream.n_users), _to_numbers(tables.evidence))
    half_life = half_life_from_curve(found.lag_days, found.excess)
    lag, excess = found.lag_days.round(2).tolist(), found.excess.round(5).tolist()
    return InterestDecay(lag, excess, found.n_pairs.tolist(), None if half_life is None else round(half_life, 1))


def _to_numbers(tensor: torch.Tensor) -> Numbers:
    numbers: Numbers = tensor.detach().double().numpy()
    return numbers


def _make_distinct(titles: Any, most: int) -> list[str]:
    kept: dict[str, str] = {}
    for title in titles:
        kept.setdefault(" ".join(title.casefold().split()), " ".join(title.split()))
        if len(kept) == most:
            break
    return list(kept.values())
