"""Train, validation and test parts of a log. Cold items and users stay in, and are marked."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llmrec.config.split import SplitConfig, SplitName
from llmrec.data.interactions import Interactions, Ties
from llmrec.errors import ConfigError, DataError
from llmrec.utils.arrays import Mask

TRAIN, VALID, TEST = 0, 1, 2
UNUSED = 3  # neither learned from nor asked for, and in the histories all the same


@dataclass(frozen=True, slots=True)
class Split:
    """A log whose events each belong to one part.

    part: (E,) int8, TRAIN, VALID, TEST or UNUSED for each event of `interactions`.
    valid_start, test_start: seconds; the first time of each window (`by_time`), or of each part's earliest event.
    """

    name: SplitName
    interactions: Interactions
    part: NDArray[np.int8]
    n_users: int
    n_items: int
    valid_start: int
    test_start: int

    @property
    def train(self) -> Interactions:
        return self.interactions.take(self.part == TRAIN)

    @property
    def valid(self) -> Interactions:
        return self.interactions.take(self.part == VALID)

    @property
    def test(self) -> Interactions:
        return self.interactions.take(self.part == TEST)

    def merge_validation(self) -> Split:
        """The same split with the validation part given to training: for a last fit before the test."""
        part = np.where(self.part == VALID, TRAIN, self.part).astype(np.int8)
        return Split(self.name, self.interactions, part, self.n_users, self.n_items, self.test_start, self.test_start)

    def subsample_users(self, share: float, seed: int = 0) -> Split:
        """The same split with the training events of this share of the users, drawn at random; the rest UNUSED."""
        kept = np.random.default_rng(seed).random(self.n_users) < share
        dropped = (self.part == TRAIN) & ~kept[self.interactions.user]
        return replace(self, part=np.where(dropped, UNUSED, self.part).astype(np.int8))

    def cold_item_mask(self) -> Mask:
        """(N,) True for items without a training event."""
        return _find_absent_rows(self.interactions.item[self.part == TRAIN], self.n_items)

    def cold_user_mask(self) -> Mask:
        """(U,) True for users without a training event."""
        return _find_absent_rows(self.interactions.user[self.part == TRAIN], self.n_users)


def make_split(
    name: SplitName, interactions: Interactions, n_users: int, n_items: int, config: SplitConfig
) -> tuple[Split, Ties]:
    """The split `name` as configured, and the rule for ties that goes with it."""
    fractions, ties = (config.valid_fraction, config.test_fraction), config.ties
    if name == "leave_one_out":
        split, ties = leave_one_out(interactions, n_users, n_items), config.leave_one_out_ties
    else:
        split = split_by_time(interactions, n_users, n_items, *fractions)
    return split.subsample_users(1 - config.held_out_users) if config.held_out_users else split, ties


def split_by_time(
    interactions: Interactions,
    n_users: int,
    n_items: int,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.1,
) -> Split:
    """Global split: the last `test_fraction` of events, the `valid_fraction` before them, the rest.

    Events of one time stay together, so windows can be a little larger than asked.

    Raises:
        ConfigError: fractions outside (0, 1) or adding up to 1 or more.
        DataError: a log too short or too concentrated in time to have three parts.
    """
    if not (min(valid_fraction, test_fraction) > 0 and valid_fraction + test_fraction < 1):
        fractions = f"valid_fraction={valid_fraction} and test_fraction={test_fraction}"
        raise ConfigError(f"{fractions}: each must be above 0, their sum below 1")
    time = interactions.time
    n_events = len(time)
    first_valid = int(n_events * (1 - valid_fraction - test_fraction))
    first_test = int(n_events * (1 - test_fraction))
    if n_events < 3:
        raise DataError("split_by_time", [f"{n_events} event(s) cannot make three parts; give a longer log"])
    valid_start, test_start = int(time[first_valid]), int(time[first_test])
    part = np.full(n_events, TRAIN, dtype=np.int8)
    part[time >= valid_start] = VALID
    part[time >= test_start] = TEST
    _require_every_part("split_by_time", part, "events share too few distinct times; change the fractions")
    return Split("by_time", interactions, part, n_users, n_items, valid_start, test_start)


def leave_one_out(interactions: Interactions, n_users: int, n_items: int) -> Split:
    """The papers' split: a user's last event is the test, the one before it the validation.

    Users with fewer than three events are in training whole. It lets training see other users' future:
    report it beside `split_by_time`.

    Raises:
        DataError: no user has three events.
    """
    by_user = np.argsort(interactions.user, kind="stable")
    user = interactions.user[by_user]
    counts = np.bincount(user, minlength=n_users)
    from_end = np.repeat(np.cumsum(counts), counts) - 1 - np.arange(len(user))  # 0 for a user's last event
    held_out = np.repeat(counts >= 3, counts)
    part = np.full(len(user), TRAIN, dtype=np.int8)
    part[by_user[(from_end == 1) & held_out]] = VALID
    part[by_user[(from_end == 0) & held_out]] = TEST
    _require_every_part("leave_one_out", part, "no user has three events; use split by_time")
    valid_start = int(interactions.time[part == VALID].min())
    test_start = int(interactions.time[part == TEST].min())
    return Split("leave_one_out", interactions, part, n_users, n_items, valid_start, test_start)


def _require_every_part(place: str, part: NDArray[np.int8], remedy: str) -> None:
    sizes = np.bincount(part, minlength=3)
    if sizes.min() == 0:
        raise DataError(place, [f"train, validation and test have {sizes.tolist()} events: {remedy}"])


def _find_absent_rows(rows: NDArray[np.int64], n_rows: int) -> Mask:
    absent = np.ones(n_rows, dtype=np.bool_)
    absent[rows] = False
    return absent
