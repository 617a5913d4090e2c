"""Settings of differential privacy and of membership attacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmrec.errors import ConfigError

MIN_EPSILON = 0.1


@dataclass(frozen=True)
class PrivacyConfig:
    """Differential privacy of users for all trained weights."""

    epsilon: float | None = 8.0
    """Privacy budget of the whole run; null clips users and adds no noise, without a guarantee."""
    delta: float | None = None
    """Probability with which the guarantee may fail; null: number of users ** -1.1."""
    users_per_step: int = 64
    """Users of a step, on average; each takes part by chance (Poisson sampling)."""
    max_grad_norm: float = 1.0
    """Norm at which one user's gradient in a step is clipped."""
    windows_per_user: int = 4
    """Maximum number of windows, of at most model.max_history events each, that a step takes of a user."""
    frozen_prefixes: tuple[str, ...] = ()
    """Prefixes of the names of weights that are not trained, such as items.adaptor."""
    text_similarity_strength: float = 0.0
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
        if min(self.users_per_step, self.windows_per_user) < 1 or not 0 < self.max_grad_norm < float("inf"):
            raise ConfigError("privacy: users_per_step, windows_per_user and max_grad_norm must be above 0")
        if self.text_similarity_strength < 0:
            raise ConfigError(
                f"privacy.text_similarity_strength={self.text_similarity_strength}: a strength is 0 or more"
            )


@dataclass(frozen=True)
class MembershipConfig:
    """Attacks that distinguish training users from those that split.held_out_user_fraction left out."""

    reference: bool = False
    """Also fit a reference model on half of the left-out users, and compare losses with its own."""
    max_users: int = 1000
    """Users of each kind, drawn at random."""

    def __post_init__(self) -> None:
        if self.max_users < 2:
            raise ConfigError(f"membership.max_users={self.max_users}: give 2 or more")
