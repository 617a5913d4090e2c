"""Current popularity: counts of events that decay, at several half-lives at once.

    c_h,i(t) = sum over events e of item i with time_e < t of 2^(-(t - time_e) / h)

The sums are kept as of a reference time, as 2^((time_e - reference) / h), so that an event costs O(H) and nothing else
changes; they move to a later reference before a number grows too large.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmrec.config.drift import NO_DECAY_DAYS, TermName
from llmrec.drift.terms.protocol import DriftTerm
from llmrec.drift.terms.term_inputs import Counts, Events, ExplainTarget, Head, RecentEvents, Stream, TermContext
from llmrec.errors import DataError
from llmrec.utils.arrays import EPS, MAX_EXPONENT, NO_TIME, ROUNDING, Arrays
from llmrec.utils.text import format_duration
from llmrec.utils.units import SECONDS_PER_DAY

NAME: TermName = "environment"
POPULARITY_PHRASES = (  # by maximum half-life in days
    (10.0, "is popular this week"),
    (45.0, "is popular this month"),
    (200.0, "has been popular for some months"),
    (800.0, "has been popular this year"),
)
ALWAYS = "is popular at all times"


class Environment:
    """Decaying counts of N items at H half-lives; events may arrive late or out of order.

    Attributes:
        half_lives_days: The H half-lives.
        rate: (H,) halvings per second.
        sums: (H, N) counts as of `reference`.
        reference: Seconds, None before the first event.
        newest: Time of the newest event in seconds, None before the first one.
    """

    def __init__(self, n_items: int, half_lives_days: tuple[float, ...]) -> None:
        self.half_lives_days = half_lives_days
        self.rate = np.array([1 / (days * SECONDS_PER_DAY) for days in half_lives_days])
        self.sums: NDArray[np.float64] = np.zeros((len(half_lives_days), n_items))
        self.reference: int | None = None
        self.newest: int | None = None

    def observe(self, events: Events) -> None:
        """Count events in any order; an event given twice counts twice.

        Args:
            events: Events, as rows of users and items.
        """
        if not len(events.time):
            return
        newest = int(events.time.max())
        self.newest = newest if self.newest is None else max(self.newest, newest)
        self.reference = self._rebase_time(newest)
        for half_life, rate in enumerate(self.rate):
            np.add.at(self.sums[half_life], events.item, np.exp2((events.time - self.reference) * rate))

    def subtract(self, events: Events) -> None:
        """Subtract events that were counted, to rounding, and to zero where no others are left.

        The newest time stays the newest.

        Args:
            events: All counted events of the user, in order of time.
        """
        if self.reference is None:
            return
        for sums, rate in zip(self.sums, self.rate, strict=True):
            removed = np.bincount(events.item, np.exp2((events.time - self.reference) * rate), len(sums))
            sums -= removed
            sums[sums <= ROUNDING * removed] = 0

    def with_events(self, events: Events) -> Environment:
        """Return a copy that has counted more events.

        Args:
            events: Events to add.

        Returns:
            Copy with these events counted.
        """
        other = copy(self)
        other.sums = self.sums.copy()
        other.observe(events)
        return other

    def forget(self, user: int) -> None:
        """Keep all counts: they hold nothing of a single user."""

    def grow_users(self, n_users: int) -> None:
        """Keep all counts: they hold nothing of a single user."""

    def grow_items(self, n_items: int) -> None:
        """Add items without events, up to `n_items`."""
        self.sums = np.pad(self.sums, ((0, 0), (0, n_items - self.sums.shape[1])))

    def counts_at(self, time: int) -> NDArray[np.float64]:
        """Return the counts as of a time.

        Args:
            time: Seconds, later than every counted event.

        Returns:
            Decayed counts, (H, N).

        Raises:
            DataError: If an event at or after `time` was counted: the answer would know the future.
        """
        if self.newest is None or self.reference is None:
            return self.sums.copy()
        if time <= self.newest:
            raise DataError(
                NAME,
                [f"counts as of {time} were requested, but events up to {self.newest} are counted. Use a later time"],
            )
        decayed: NDArray[np.float64] = self.sums * np.exp2(-(time - self.reference) * self.rate)[:, None]
        return decayed

    def export_state(self) -> Arrays:
        """Return the arrays that `restore` continues from to the bit, without copies.

        Returns:
            Arrays by name.
        """
        times = [NO_TIME if time is None else time for time in (self.reference, self.newest)]
        return {"sums": self.sums, "times": np.array(times, dtype=np.int64)}

    def export_counts(self) -> Arrays:
        """Return `export_state`, which holds nothing of a single user.

        Returns:
            Arrays by name.
        """
        return self.export_state()

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from the arrays of `export_state`, of as many items and the same half-lives.

        Args:
            state: Arrays of `export_state`.

        Raises:
            LookupError: If an array is missing.
        """
        self.sums = state["sums"].copy()
        self.reference, self.newest = (None if time == NO_TIME else int(time) for time in state["times"])

    def restore_counts(self, state: Mapping[str, NDArray[Any]], n_items: int) -> None:
        """Continue from the arrays of `export_counts`, of `n_items` items or fewer.

        Args:
            state: Arrays of `export_counts`, of `n_items` items or fewer.
            n_items: Number of items to have.

        Raises:
            LookupError: If an array is missing.
            ValueError: If the half-lives differ or there are more items.
        """
        if state["sums"].shape[0] != len(self.rate) or state["sums"].shape[1] > n_items:
            raise ValueError(f"sums of shape {state['sums'].shape} do not fit {n_items} items")
        self.restore(state)
        self.grow_items(n_items)

    def _rebase_time(self, newest: int) -> int:
        """Return the reference time: `newest` at the start and before numbers grow too large."""
        if self.reference is None:
            return newest
        if (newest - self.reference) * self.rate.max() <= MAX_EXPONENT:
            return self.reference
        self.sums *= np.exp2(-(newest - self.reference) * self.rate)[:, None]
        return newest


class EnvironmentTerm(DriftTerm):
    """Current popularity; the view is the counts (H, C) of items as of the moment."""

    optional = False

    def describe(self, head: Head) -> dict[str, Any]:
        """Return the weight of log counts at each half-life."""
        return {"eta": [round(eta, 3) for eta in head.eta.tolist()]}

    def format_learned(self, learned: Mapping[str, Any]) -> str:
        """Format the weights by half-life."""
        pairs = zip(learned["half_lives_days"], learned["eta"], strict=True)
        return (
            "Popularity that fades moves the model's scores by its logarithm times "
            + ", ".join(f"{eta:+.2f} ({format_decay(days)})" for days, eta in pairs)
            + f"; the scores themselves count {learned['sharpness']:.2f} times."
        )

    def identify(self, head: Head, stream: Stream) -> dict[str, Any]:
        """Return the half-lives."""
        return {"half_lives_days": stream.config.half_lives_days}

    def new_counts(self, stream: Stream) -> Environment:
        """Return empty counts; the chain and explanations read them too, so that every head has them."""
        return Environment(stream.n_items, stream.config.half_lives_days)

    def is_counted(self, terms: frozenset[TermName]) -> bool:
        """Return True: every head reads these counts."""
        return True

    def resize_state(self, state: Arrays, more: int) -> Arrays:
        """Return the sums with new items without events."""
        return {"sums": np.pad(state["sums"], ((0, 0), (0, more)))}

    def read(self, stream: Stream, counts: Counts, recent: RecentEvents, state: Tensor | None) -> Tensor:
        """Return the counts as of the moment, (H, N)."""
        return read_popularity(counts)

    def logits(self, head: Head, view: Tensor) -> Tensor:
        """Return the weighted log counts, (C,)."""
        return head.eta @ torch.log(view + EPS)

    def select_items(self, view: Tensor, rows: Tensor | list[int] | None, *, n_items: int = 1) -> Tensor:
        """Return the counts of items, zero for those outside the catalog."""
        return view.new_zeros(len(view), n_items) if rows is None else view[:, rows]

    def gather(self, view: Tensor, recent: RecentEvents, columns: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the counts of the sampled columns (H, C) and of the targets (H, B)."""
        return view[:, columns], view[:, target]

    def give_reason(self, context: TermContext | None, target: ExplainTarget) -> str | None:
        """Return in words how long the item has been popular."""
        if context is None:
            return None
        counts: Tensor = context.views[NAME]
        own = counts[:, target.row] if target.row is not None else counts[:, 0] * 0
        return f"it {describe_popularity(context.head.eta, counts, own, context.config.half_lives_days)}"


def read_popularity(counts: Counts) -> Tensor:
    """Read decayed item counts as of the moment of all counts.

    Args:
        counts: Counts of all terms.

    Returns:
        Counts, (H, N).
    """
    environment: Environment = counts.counts[NAME]
    return torch.from_numpy(environment.counts_at(counts.require_moment())).float()


def add_popularity(head: Head, logits: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Add weighted log counts to logits, where the head has this term.

    Args:
        head: Its terms decide.
        logits: (..., C).
        weight: Of each half-life, (H,).
        counts: Of C items, (H, C).

    Returns:
        Logits, (..., C).
    """
    return logits + weight @ torch.log(counts + EPS) if NAME in head.terms else logits


def describe_popularity(eta: Tensor, counts: Tensor, own: Tensor, half_lives_days: Sequence[float]) -> str:
    """Describe an item's popularity by the half-life at which it is most above the others.

    Args:
        eta: (H,) weights of log counts.
        counts: (H, N) of all items.
        own: (H,) of the item.
        half_lives_days: The H half-lives.

    Returns:
        Words that follow "it".
    """
    above = eta * ((own + EPS).log() - (counts + EPS).log().mean(1))
    days = half_lives_days[int(np.argmax(above.numpy()))]
    return next((words for most, words in POPULARITY_PHRASES if days <= most), ALWAYS)


def format_decay(half_life_days: float) -> str:
    """Format a half-life.

    Args:
        half_life_days: Half-life in days.

    Returns:
        Text, such as "half after 30 days".
    """
    return "for ever" if half_life_days >= NO_DECAY_DAYS else f"half after {format_duration(half_life_days)}"
