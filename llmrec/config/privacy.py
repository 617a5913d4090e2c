"""The configuration of differential privacy, and of how well a model's training users can be told from others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmrec.errors import ConfigError

MIN_EPSILON = 0.1


@dataclass(frozen=True)
class PrivacyConfig:
    """Differential privacy of users for all that trains: one user more or less hardly changes what comes out.

    epsilon: spent over the whole run, from which the noise follows; null: users are clipped and no noise is added,
        which guarantees nothing and is there for comparison.
    delta: null: number of users ** -1.1.
    users_per_step: on average; each user takes part in a step by chance, independently of all others (Poisson
        sampling). An epoch has as many steps as make that one part for each user.
    max_grad_norm: the most that one user's gradient, all targets together, can weigh in a step.
    windows_per_user: stretches of at most `model.max_history` events that a step asks of a user, drawn anew each time.
    frozen_prefixes: beginnings of the names of weights that stay as they start, such as `items.adaptor`: noise grows
        with the
        number of those that train.
    text_similarity_strength: its strength, where `model.text_similarity` is on: validation, which usually sets it, is
        the same users'.
    accountant: of Opacus; `prv` (Gopi et al. 2021, arXiv:2106.02848) is tighter than `rdp` (Mironov et al. 2019,
        arXiv:1908.10530).
    secure_rng: users and noise are drawn from the operating system's secrets. `false` draws them from the seed, so that
        a
        run can be repeated to the bit: whoever knows the seed can take the noise off, and nothing is guaranteed.
    """

    epsilon: float | None = 8.0
    delta: float | None = None
    users_per_step: int = 64
    max_grad_norm: float = 1.0
    windows_per_user: int = 4
    frozen_prefixes: tuple[str, ...] = ()
    text_similarity_strength: float = 0.0
    accountant: Literal["prv", "rdp"] = "prv"
    secure_rng: bool = True

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
    """Whether it can be told from a model's losses who was in its training.

    Told from users whose training events `split.held_out_user_fraction` has left out.

    reference: also fit a model on half of those, and look at how much lower a user's loss is than that
        model's.
    max_users: of either kind, drawn at random.
    """

    reference: bool = False
    max_users: int = 1000

    def __post_init__(self) -> None:
        if self.max_users < 2:
            raise ConfigError(f"membership.max_users={self.max_users}: give 2 or more")
