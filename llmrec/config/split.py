"""Settings of splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from llmrec.config.validation import COUNT_FROM_1, PART, Bounds
from llmrec.errors import ConfigError

SplitName = Literal["by_time", "leave_one_out", "item_cold"]


@dataclass(frozen=True)
class SplitConfig:
    """Division of the log into training, validation and test."""

    names: tuple[SplitName, ...] = ("by_time",)
    """Splits to train and report on; the model of the first goes into the bundle. leave_one_out goes next to by_time;
    item_cold can stand alone. Where data.times is order_only, the default is [leave_one_out, item_cold].
    """
    valid_fraction: Annotated[float, PART] = 0.1
    """Share of the events of by_time for validation, before the test part."""
    test_fraction: Annotated[float, PART] = 0.1
    """Share of the events of by_time for the test, at the end."""
    ties: Literal["strict", "file_order"] = "strict"
    """Events of the same moment: strict keeps them out of each other's histories, file_order does not."""
    leave_one_out_ties: Literal["strict", "file_order"] = "strict"
    """The same for leave_one_out and item_cold."""
    item_cold_fraction: Annotated[float, PART] = 0.2
    """Share of the items of item_cold that have no event before the test."""
    item_cold_valid_fraction: Annotated[float, PART] = 0.1
    """Share of the items of item_cold that are new in its validation; no event of them is trained on either."""
    item_cold_last_events: Annotated[int, COUNT_FROM_1] = 3
    """Last events of each user of which item_cold makes queries; none of them is trained on."""
    seed: Annotated[int, Bounds(0, 2**32 - 1)] = 0
    """Seed of the items and queries that item_cold draws; the seeds of the fits do not change them."""
    held_out_user_fraction: Annotated[float, Bounds(0, 0.999)] = 0.0
    """Share of users whose training events are left out, to measure membership."""

    def __post_init__(self) -> None:
        if not self.names:
            raise ConfigError("split.names is empty; give at least one, such as [by_time]")
        if self.item_cold_fraction + self.item_cold_valid_fraction >= 1:
            shares = f"{self.item_cold_fraction} and item_cold_valid_fraction={self.item_cold_valid_fraction}"
            raise ConfigError(f"split.item_cold_fraction={shares}: no item is left to train on; keep their sum below 1")
