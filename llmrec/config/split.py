"""Settings of splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from llmrec.config.validation import PART, Bounds
from llmrec.errors import ConfigError

SplitName = Literal["by_time", "leave_one_out"]


@dataclass(frozen=True)
class SplitConfig:
    """Division of the log into training, validation and test."""

    names: tuple[SplitName, ...] = ("by_time",)
    """Splits to train and report on; the model of the first goes into the bundle."""
    valid_fraction: Annotated[float, PART] = 0.1
    """Share of the events of by_time for validation, before the test part."""
    test_fraction: Annotated[float, PART] = 0.1
    """Share of the events of by_time for the test, at the end."""
    ties: Literal["strict", "file_order"] = "strict"
    """Events of the same moment: strict keeps them out of each other's histories, file_order does not."""
    leave_one_out_ties: Literal["strict", "file_order"] = "strict"
    """The same for leave_one_out."""
    held_out_user_fraction: Annotated[float, Bounds(0, 0.999)] = 0.0
    """Share of users whose training events are left out, to measure membership."""

    def __post_init__(self) -> None:
        if "by_time" not in self.names:
            raise ConfigError(
                f"split.names={list(self.names)}: leave_one_out lets training see the future, so it is reported only "
                "in addition to by_time; add by_time"
            )
