"""Train, validation and test parts of a log; cold items and users stay in and are marked."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llmrec.config.split import SplitConfig, SplitName
from llmrec.data.interactions import Interactions, Ties
from llmrec.errors import ConfigError, DataError
from llmrec.utils.arrays import Mask

TRAIN, VALID, TEST = 0, 1, 2
UNUSED = 3  # neither trained on nor a target, but part of the histories


@dataclass(frozen=True, slots=True)
class Split:
    """Log whose events each belong to one part."""

    name: SplitName
    """Kind of split."""
    interactions: Interactions
    """Events in time order, E of them."""
    part: NDArray[np.int8]
    """TRAIN, VALID, TEST or UNUSED for each event, (E,) int8."""
    n_users: int
    """Number of users."""
    n_items: int
    """Number of items of the catalog."""
    valid_start: int
    """Start of the validation part in seconds; for leave_one_out, the time of its earliest event."""
    test_start: int
    """Start of the test part in seconds; for leave_one_out, the time of its earliest event."""

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
        config: Fractions, ties and held-out users.

    Returns:
        The split and its rule for ties.
    """
    valid, test, ties = config.valid_fraction, config.test_fraction, config.ties
    if name == "leave_one_out":
        split, ties = leave_one_out(interactions, n_users, n_items), config.leave_one_out_ties
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
    by_user = np.argsort(interactions.user, kind="stable")
    user = interactions.user[by_user]
    counts = np.bincount(user, minlength=n_users)
    from_end = np.repeat(np.cumsum(counts), counts) - 1 - np.arange(len(user))  # 0 for a user's last event
    held_out = np.repeat(counts >= 3, counts)
    part = np.full(len(user), TRAIN, dtype=np.int8)
    part[by_user[(from_end == 1) & held_out]] = VALID
    part[by_user[(from_end == 0) & held_out]] = TEST
    _require_every_part("leave_one_out", part, "Use split by_time; no user has three events.")
    valid_start = int(interactions.time[part == VALID].min())
    test_start = int(interactions.time[part == TEST].min())
    return Split("leave_one_out", interactions, part, n_users, n_items, valid_start, test_start)


def _require_every_part(place: str, part: NDArray[np.int8], remedy: str) -> None:
    sizes = np.bincount(part, minlength=3)
    if sizes.min() == 0:
        raise DataError(place, [f"train, validation and test have {sizes.tolist()} events. {remedy}"])


def _find_absent_rows(rows: NDArray[np.int64], n_rows: int) -> Mask:
    absent = np.ones(n_rows, dtype=np.bool_)
    absent[rows] = False
    return absent
