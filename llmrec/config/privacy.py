"""Settings of differential privacy and of membership attacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from llmrec.config.validation import COUNT, COUNT_FROM_1, POSITIVE, Bounds
from llmrec.errors import ConfigError

MIN_EPSILON = 0.1


@dataclass(frozen=True)
class PrivacyConfig:
    """Differential privacy of users for all trained weights."""

    epsilon: float | None = 8.0
    """Privacy budget of the whole run; null clips users and adds no noise, without a guarantee."""
    delta: float | None = None
    """Probability with which the guarantee may fail; null: number of users ** -1.1."""
    users_per_step: Annotated[int, COUNT_FROM_1] = 64
    """Users of a step, on average; each takes part by chance (Poisson sampling)."""
    max_grad_norm: Annotated[float, POSITIVE] = 1.0
    """Norm at which one user's gradient in a step is clipped."""
    windows_per_user: Annotated[int, COUNT_FROM_1] = 4
    """Maximum number of windows, of at most model.max_history events each, that a step takes of a user."""
    frozen_prefixes: tuple[str, ...] = ()
    """Prefixes of the names of weights that are not trained, such as items.adaptor."""
    text_similarity_strength: Annotated[float, Bounds(0)] = 0.0
    """Strength of model.text_similarity, which validation would set otherwise."""
    accountant: Literal["prv", "rdp"] = "prv"
    """Accountant of Opacus: prv (arXiv:2106.02848) is tighter than rdp (arXiv:1908.10530)."""
    secure_rng: bool = True
    """Draw users and noise from the operating system; false draws them from the seed, without a guarantee."""

    def __post_init__(self) -> None:
        if self.epsilon is not None and not MIN_EPSILON <= self.epsilon < float("inf"):
            raise ConfigError(
                f"privacy.epsilon={self.epsilon}: give {MIN_EPSILON} or more, since accountants are wrong by .01, or "
                "null for no noise at all"
            )
        if self.delta is not None and not 0 < self.delta < 1:
            raise ConfigError(f"privacy.delta={self.delta}: give less than 1 / number of users, and more than 0")


@dataclass(frozen=True)
class MembershipConfig:
    """Attacks that distinguish training users from those that split.held_out_user_fraction left out."""

    reference: bool = False
    """Also fit a reference model on half of the left-out users, and compare losses with its own."""
    max_users: Annotated[int, Bounds(2, COUNT)] = 1000
    """Users of each kind, drawn at random."""
