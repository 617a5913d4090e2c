"""Train, validation and test parts of a log; cold items and users stay in and are marked."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llmrec.config.split import SplitConfig, SplitName
from llmrec.data.interactions import Interactions, Ties
from llmrec.errors import ConfigError, DataError
from llmrec.utils.arrays import Mask, Rows

TRAIN, VALID, TEST = 0, 1, 2
UNUSED = 3  # neither trained on nor a target, but part of the histories
HIDDEN = 4  # neither trained on, nor a target, nor part of a history


@dataclass(frozen=True, slots=True)
class Split:
    """Log whose events each belong to one part."""

    name: SplitName
    """Kind of split."""
    interactions: Interactions
    """Events in time order, E of them."""
    part: NDArray[np.int8]
    """TRAIN, VALID, TEST, UNUSED or HIDDEN for each event, (E,) int8."""
    n_users: int
    """Number of users."""
    n_items: int
    """Number of items of the catalog."""
    valid_start: int
    """Start of the validation part in seconds; but by_time, the time of its earliest event."""
    test_start: int
    """Start of the test part in seconds; but by_time, the time of its earliest event."""

    @property
    def train(self) -> Interactions:
        """Training events."""
        return self.interactions.take(self.part == TRAIN)

    @property
    def valid(self) -> Interactions:
        """Validation events."""
        return self.interactions.take(self.part == VALID)

    @property
    def test(self) -> Interactions:
        """Test events."""
        return self.interactions.take(self.part == TEST)

    @property
    def is_visible(self) -> Mask:
        """True for events that histories and counts over time may show, (E,); of item_cold, those to learn from."""
        if self.name != "item_cold":
            return np.ones(len(self.part), dtype=np.bool_)
        return np.isin(self.part, (TRAIN, UNUSED))

    @property
    def visible(self) -> Interactions:
        """Events that histories and counts over time may show."""
        return self.interactions.take(self.is_visible) if self.name == "item_cold" else self.interactions

    def merge_validation(self) -> Split:
        """Return the split with the validation part added to training, for a last fit before the test."""
        part = np.where(self.part == VALID, TRAIN, self.part).astype(np.int8)
        return Split(self.name, self.interactions, part, self.n_users, self.n_items, self.test_start, self.test_start)

    def subsample_users(self, share: float, seed: int = 0) -> Split:
        """Keep the training events of a random share of the users; those of others become UNUSED.

        Args:
            share: Share of users to keep, 0 to 1.
            seed: Seed of the draw.

        Returns:
            The split with fewer training events.
        """
        kept = np.random.default_rng(seed).random(self.n_users) < share
        dropped = (self.part == TRAIN) & ~kept[self.interactions.user]
        return replace(self, part=np.where(dropped, UNUSED, self.part).astype(np.int8))

    def cold_item_mask(self) -> Mask:
        """Return True for items without a training event, (N,)."""
        return _find_absent_rows(self.interactions.item[self.part == TRAIN], self.n_items)

    def cold_user_mask(self) -> Mask:
        """Return True for users without a training event, (U,)."""
        return _find_absent_rows(self.interactions.user[self.part == TRAIN], self.n_users)


def make_split(
    name: SplitName, interactions: Interactions, n_users: int, n_items: int, *, config: SplitConfig
) -> tuple[Split, Ties]:
    """Make the configured split of a log and return the rule for ties that applies to it.

    Args:
        name: Kind of split.
        interactions: Events in time order.
        n_users: Number of users.
        n_items: Number of items of the catalog.
        config: Fractions, ties, held-out items and held-out users.

    Returns:
        The split and its rule for ties.
    """
    valid, test, ties = config.valid_fraction, config.test_fraction, config.ties
    if name == "leave_one_out":
        split, ties = leave_one_out(interactions, n_users, n_items), config.leave_one_out_ties
    elif name == "item_cold":
        split, ties = hold_out_items(interactions, n_users, n_items, config=config), config.leave_one_out_ties
    else:
        split = split_by_time(interactions, n_users, n_items, valid_fraction=valid, test_fraction=test)
    return split.subsample_users(1 - config.held_out_user_fraction) if config.held_out_user_fraction else split, ties


def split_by_time(
    interactions: Interactions,
    n_users: int,
    n_items: int,
    *,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.1,
) -> Split:
    """Split globally by time: the last events are the test part, those before them the validation part.

    Events of the same time stay together, so a part can be a little larger than its fraction.

    Args:
        interactions: Events in time order.
        n_users: Number of users.
        n_items: Number of items of the catalog.
        valid_fraction: Fraction of events in the validation part.
        test_fraction: Fraction of events in the test part.

    Returns:
        The split.

    Raises:
        ConfigError: If a fraction is outside (0, 1) or their sum is 1 or more.
        DataError: If the log is too short or too concentrated in time for three parts.
    """
    if not (min(valid_fraction, test_fraction) > 0 and valid_fraction + test_fraction < 1):
        fractions = f"valid_fraction={valid_fraction} and test_fraction={test_fraction}"
        raise ConfigError(f"{fractions}: out of range. Set each above 0 and their sum below 1.")
    time = interactions.time
    n_events = len(time)
    first_valid = int(n_events * (1 - valid_fraction - test_fraction))
    first_test = int(n_events * (1 - test_fraction))
    if n_events < 3:
        raise DataError("split_by_time", [f"{n_events} event(s) cannot make three parts. Give a longer log."])
    valid_start, test_start = int(time[first_valid]), int(time[first_test])
    part = np.full(n_events, TRAIN, dtype=np.int8)
    part[time >= valid_start] = VALID
    part[time >= test_start] = TEST
    _require_every_part("split_by_time", part, "Change the fractions; events share too few distinct times.")
    return Split("by_time", interactions, part, n_users, n_items, valid_start, test_start)


def leave_one_out(interactions: Interactions, n_users: int, n_items: int) -> Split:
    """Split as papers often do: a user's last event is the test, the one before it the validation.

    Users with fewer than three events are only in training. The split lets training see the future of other users:
    report
    it next to `split_by_time`.

    Args:
        interactions: Events in time order.
        n_users: Number of users.
        n_items: Number of items of the catalog.

    Returns:
        The split.

    Raises:
        DataError: If no user has three events.
    """
    later, n_events = _count_later_events(interactions.user, n_users)
    held_out = n_events >= 3
    part = np.full(len(later), TRAIN, dtype=np.int8)
    part[(later == 1) & held_out] = VALID
    part[(later == 0) & held_out] = TEST
    _require_every_part("leave_one_out", part, "Use split by_time; no user has three events.")
    return _make_user_split("leave_one_out", interactions, part, n_users=n_users, n_items=n_items)


def hold_out_items(interactions: Interactions, n_users: int, n_items: int, *, config: SplitConfig) -> Split:
    """Split so that a share of the items has no event in training: half of the targets are such new items.

    Two shares of the catalog are drawn by `config.seed` alone: new items of the test, and others of the validation.
    Training has no event of either, and none of a user's tail (the last `config.item_cold_last_events` events of a user
    with more). The test has every new item in a tail as a target, and as many warm items of tails. Validation has its
    own new items in tails, before the user's first test query, and as many warm ones. Histories show training
    events alone, so that a new item is neither learned from nor read as an input, and users without a training event
    have no query. Like leave_one_out, the split lets training see the future of other users.

    Args:
        interactions: Events in time order.
        n_users: Number of users.
        n_items: Number of items of the catalog.
        config: Seed, shares of items and length of the tail.

    Returns:
        The split.

    Raises:
        DataError: If training, validation or test has no event.
    """
    user, item = interactions.user, interactions.item
    new_test, new_valid = draw_new_items(n_items, config)
    later, n_events = _count_later_events(user, n_users)
    tail = (later < config.item_cold_last_events) & (n_events > config.item_cold_last_events)
    train = ~tail & ~(new_test | new_valid)[item]
    warm, rng = ~_find_absent_rows(item[train], n_items)[item], np.random.default_rng((config.seed, 1))
    tail &= ~_find_absent_rows(user[train], n_users)[user]
    test = _add_as_many(tail & new_test[item], tail & warm, rng)
    first_test = np.full(n_users, -1)  # of each user, as a number of later events
    np.maximum.at(first_test, user[test], later[test])
    tail &= later > first_test[user]
    valid = _add_as_many(tail & new_valid[item], tail & warm, rng)
    part = np.full(len(user), HIDDEN, dtype=np.int8)
    part[train], part[valid], part[test] = TRAIN, VALID, TEST
    _require_every_part("item_cold", part, "Give a longer log, or change split.item_cold_fraction.")
    return _make_user_split("item_cold", interactions, part, n_users=n_users, n_items=n_items)


def draw_new_items(n_items: int, config: SplitConfig) -> tuple[Mask, Mask]:
    """Draw the new items of item_cold; items that are appended to a catalog do not change the draw of others.

    Args:
        n_items: Number of items of the catalog.
        config: Seed and shares.

    Returns:
        Masks of the new items of the test and of the validation, (N,) each.
    """
    draw = np.random.default_rng(config.seed).random(n_items)
    test = draw < config.item_cold_fraction
    return test, ~test & (draw < config.item_cold_fraction + config.item_cold_valid_fraction)


def _count_later_events(user: Rows, n_users: int) -> tuple[Rows, Rows]:
    """Return for each event the number of later events of its user, and of all events of its user, (E,)."""
    by_user = np.argsort(user, kind="stable")
    counts, later = np.bincount(user, minlength=n_users), np.empty(len(user), dtype=np.int64)
    later[by_user] = np.cumsum(counts)[user[by_user]] - 1 - np.arange(len(user))
    return later, counts[user]


def _add_as_many(cold: Mask, warm: Mask, rng: np.random.Generator) -> Mask:
    """Add as many events of a mask as another has, at random, (E,)."""
    chosen = cold.copy()
    chosen[rng.permutation(np.flatnonzero(warm))[: cold.sum()]] = True
    return chosen


def _make_user_split(
    name: SplitName, interactions: Interactions, part: NDArray[np.int8], *, n_users: int, n_items: int
) -> Split:
    valid_start, test_start = (int(interactions.time[part == which].min()) for which in (VALID, TEST))
    return Split(name, interactions, part, n_users, n_items, valid_start, test_start)


def _require_every_part(place: str, part: NDArray[np.int8], remedy: str) -> None:
    sizes = np.bincount(part, minlength=3)[:3]
    if sizes.min() == 0:
        raise DataError(place, [f"train, validation and test have {sizes.tolist()} events. {remedy}"])


def _find_absent_rows(rows: NDArray[np.int64], n_rows: int) -> Mask:
    absent = np.ones(n_rows, dtype=np.bool_)
    absent[rows] = False
    return absent
