"""The configuration of splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmrec.errors import ConfigError

SplitName = Literal["by_time", "leave_one_out"]


@dataclass(frozen=True)
class SplitConfig:
    """How the log is cut.

    names: every split the model is trained and reported on; the first one's model goes into the bundle.
    valid_fraction, test_fraction: of `by_time`'s events.
    ties, leave_one_out_ties: whether events of one moment are in each other's histories (`file_order`, the papers'
        habit) or not (`strict`), by split.
    held_out_user_fraction: share of the users, drawn at random, whose training events are left out, so that one can see
        whether
        the others are told from them (`membership`).
    """

    names: tuple[SplitName, ...] = ("by_time",)
    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    ties: Literal["strict", "file_order"] = "strict"
    leave_one_out_ties: Literal["strict", "file_order"] = "strict"
    held_out_user_fraction: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.held_out_user_fraction < 1:
            raise ConfigError(
                f"split.held_out_user_fraction={self.held_out_user_fraction}: give a share of the users from 0 to "
                "below 1"
            )
        if "by_time" not in self.names:
            raise ConfigError(
                f"split.names={list(self.names)}: leave_one_out lets training see the future, so it is reported only "
                "beside by_time; add by_time"
            )
