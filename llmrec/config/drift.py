"""The configuration of what moves with time beside a fitted model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmrec.errors import ConfigError

NO_DECAY_DAYS = 36_500.0  # days
MAX_HISTORY = 50
TermName = Literal["interest", "environment", "transitions", "chain", "gate"]
ExplanationTerm = Literal["anyone", "base"] | TermName
ANSWERING: frozenset[TermName] = frozenset({"environment", "transitions", "chain"})  # a head needs one of them
CONTROL: tuple[TermName, ...] = ("interest", "environment", "transitions")  # of the freshness control of `ablations`


@dataclass(frozen=True)
class DriftConfig:
    """What moves with time beside a fitted model: a few weights, fitted on the validation window.

    terms: `interest`, how much each of a user's last events still says (without it all say the same); `environment`,
        popularity that fades at `half_lives_days` (a century: all events alike); `transitions`, what people went on to
        lately; `chain`, interest in `n_states` latent states that moves on between events; `gate`, what is left to
        each depends on the history and the time since (without it: one number each).
    window, gap_decay_days, backward_weight: events of a user that a new one is paired with, how a pair counts less with
        the days
        between, and how much it counts against its order.
    transition_half_lives_days: how fast pairs fade; the one that suits the validation window best is kept.
    n_text_neighbors: items of like text that an item without transitions leads to.
    refresh_days: how often counts are brought up to date during the test, each a row of the report beside `frozen`.
    ablations: also a row for each term alone, for each term left out, and for a control that is as fresh but learns no
        drift: environment and transitions that never fade, and a constant gate.
    keep_counts: the bundle holds what everyone did by the end of the log, as sums of items and of pairs of items, so
        that it knows the day wherever it is sent. It names no user, but a rare pair can be one user's.
    """

    terms: tuple[TermName, ...] = ("interest", "environment", "transitions", "chain", "gate")
    half_lives_days: tuple[float, ...] = (7.0, 30.0, 120.0, 480.0, NO_DECAY_DAYS)
    window: int = 10
    gap_decay_days: float = 180.0
    backward_weight: float = 0.1
    transition_half_lives_days: tuple[float, ...] = (30.0, 120.0, NO_DECAY_DAYS)
    n_text_neighbors: int = 30
    n_states: int = 32
    refresh_days: tuple[float, ...] = (1.0, 7.0, 30.0)
    ablations: bool = True
    keep_counts: bool = True

    def __post_init__(self) -> None:
        lengths = (*self.half_lives_days, self.gap_decay_days, *self.transition_half_lives_days, *self.refresh_days)
        if not ANSWERING & set(self.terms) or not self.transition_half_lives_days:
            raise ConfigError(
                "drift: name one of environment, transitions, chain, and one of transition_half_lives_days"
            )
        if self.n_states < 2:
            raise ConfigError(f"drift.n_states={self.n_states}: a chain needs at least 2 states")
        if min(*lengths, self.window, self.n_text_neighbors) <= 0:
            raise ConfigError("drift: days, window and n_text_neighbors must be above 0")
        if not 0 <= self.backward_weight <= 1:
            raise ConfigError(
                f"drift.backward_weight={self.backward_weight}: a pair counts 0 to 1 times as much against its order"
            )
