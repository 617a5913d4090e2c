"""Settings of the drift head on top of a fitted model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from llmrec.config.validation import POSITIVE, SHARE, WIDTH, Bounds
from llmrec.errors import ConfigError

NO_DECAY_DAYS = 36_500.0  # days
MAX_HISTORY = 50
TermName = Literal["interest", "environment", "transitions", "chain", "gate"]
ExplanationTerm = Literal["anyone", "base", "seen"] | TermName
ANSWERING: frozenset[TermName] = frozenset({"environment", "transitions", "chain"})  # a head needs one of them
CONTROL: tuple[TermName, ...] = ("interest", "environment", "transitions")  # of the freshness control of `ablations`


@dataclass(frozen=True)
class DriftConfig:
    """Drift head on top of a fitted model: a few weights, fitted on the validation part."""

    terms: tuple[TermName, ...] = ("interest", "environment", "transitions", "chain", "gate")
    """Terms of the drift head: weights of events, popularity, transitions, latent interests, and their gate."""
    half_lives_days: Annotated[tuple[float, ...], POSITIVE] = (7.0, 30.0, 120.0, 480.0, NO_DECAY_DAYS)
    """Half-lives of popularity, in days; 36500 is without decay."""
    window: Annotated[int, Bounds(1, WIDTH)] = 10
    """Number of events of a user that a new one is paired with."""
    gap_decay_days: Annotated[float, POSITIVE] = 180.0
    """Days between two events after which their pair counts less by a factor of e."""
    backward_weight: Annotated[float, SHARE] = 0.1
    """Weight of a pair against its order, from 0 to 1."""
    transition_half_lives_days: Annotated[tuple[float, ...], POSITIVE] = (30.0, 120.0, NO_DECAY_DAYS)
    """Half-lives of pairs to choose from on validation, in days."""
    n_text_neighbors: Annotated[int, Bounds(1, WIDTH)] = 30
    """Items of similar text that an item without transitions leads to."""
    n_states: Annotated[int, Bounds(2, WIDTH)] = 32
    """Number of latent interests of the chain."""
    refresh_days: Annotated[tuple[float, ...], POSITIVE] = (1.0, 7.0, 30.0)
    """Days between updates of counts during the test; each is a row of the report."""
    ablations: bool = True
    """Report each term alone, the head without each term, and a control that learns no drift."""
    keep_counts: bool = True
    """Keep the counts of all users at the end of the log in the bundle; they name no user."""

    def __post_init__(self) -> None:
        if not ANSWERING & set(self.terms) or not self.transition_half_lives_days:
            raise ConfigError(
                "drift: name one of environment, transitions, chain, and one of transition_half_lives_days"
            )
