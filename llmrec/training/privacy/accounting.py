"""What a private run may spend, and the noise that this asks for, by Opacus' accountants.

User-level DP-SGD: Abadi et al. 2016, arXiv:1607.00133; McMahan et al. 2018, arXiv:1710.06963. Two logs are neighbours
if one has all training events of one user more. A step releases the sum over a Poisson sample of users of gradients of
norm `max_grad_norm` at most, with noise of standard deviation noise_multiplier * max_grad_norm in each weight.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.privacy import PrivacyConfig
from llmrec.data.splits import Split
from llmrec.errors import ConfigError, missing_extra

SUMMED = 4  # draws to one number of noise: their floats do not give away the sum's (Holohan & Braghin 2021, 5.1)


@dataclass(frozen=True)
class NoiseMechanism:
    """One run's noise. steps: of all its fits together. n_users: with training events, taken as public."""

    config: PrivacyConfig
    n_users: int
    steps_per_epoch: int
    steps: int
    delta: float
    noise_multiplier: float

    @classmethod
    def from_config(cls, config: FinetuneConfig, split: Split) -> NoiseMechanism | None:
        """None where the run is not private.

        Raises:
            ConfigError: no Opacus, an epsilon that no noise can give, or a delta that would allow to show a user whole.
        """
        privacy = config.privacy
        if privacy is None:
            return None
        n_users = int((~split.cold_user_mask()).sum())
        per_epoch = max(round(n_users / privacy.users_per_step), 1)
        tuned = config.backbone.strategy not in ("none", "frozen")
        steps = per_epoch * (config.train.epochs + (config.adapt.epochs if tuned else 0))
        delta = privacy.delta or n_users**-1.1
        if delta >= 1 / n_users:
            raise ConfigError(f"privacy.delta={delta:g}: give less than 1 / {n_users} users, or null")
        noise = 0.0
        if privacy.epsilon is not None and steps:
            noise = _compute_noise_multiplier(privacy, delta, _compute_rate(privacy, n_users), steps)
        return cls(privacy, n_users, per_epoch, steps, delta, noise)

    @property
    def sample_rate(self) -> float:
        """A user's chance to take part in a step."""
        return _compute_rate(self.config, self.n_users)

    @property
    def expected_users(self) -> float:
        """Of a step: what sums are divided by, whoever takes part."""
        return self.sample_rate * self.n_users

    def epsilon_after(self, steps: int) -> float | None:
        """What so many steps have spent; None without noise. The accountant's whole state is their number."""
        if self.noise_multiplier == 0:
            return None
        accountant = _make_accountant(self.config)
        accountant.history = [(self.noise_multiplier, self.sample_rate, steps)]
        with _silence_opacus():
            return float(accountant.get_epsilon(delta=self.delta))


def draw_noise(size: int, std: float, secret: int | None, step: tuple[int, ...]) -> Tensor:
    """(size,) float64 of standard deviation `std`: by the operating system's secrets, or by `secret` and the step."""
    if std == 0:
        return torch.zeros(size, dtype=torch.float64)
    if secret is not None:
        return std * torch.from_numpy(np.random.default_rng((secret, *step)).standard_normal(size))
    total = np.zeros(size)
    for _ in range(SUMMED):
        whole = np.frombuffer(os.urandom(8 * size), dtype=np.uint64) >> np.uint64(11)  # of 53 bits
        total += ndtri((whole + 0.5) / 2.0**53)
    return torch.from_numpy(std * total / SUMMED**0.5)


def _compute_rate(config: PrivacyConfig, n_users: int) -> float:
    return min(config.users_per_step / n_users, 1.0)


def _compute_noise_multiplier(config: PrivacyConfig, delta: float, rate: float, steps: int) -> float:
    _make_accountant(config)
    from opacus.accountants.utils import get_noise_multiplier

    try:
        with _silence_opacus():
            return float(
                get_noise_multiplier(
                    target_epsilon=config.epsilon,
                    target_delta=delta,
                    sample_rate=rate,
                    steps=steps,
                    accountant=config.accountant,
                )
            )
    except (ValueError, MemoryError) as error:  # of tables as long as the privacy loss is wide
        raise ConfigError(
            f"privacy.epsilon={config.epsilon} for {steps} steps of {rate:.1%} of the users: {error}. Give a larger "
            "epsilon, fewer epochs, or fewer users_per_step"
        ) from error


def _make_accountant(config: PrivacyConfig) -> Any:
    try:
        from opacus.accountants import create_accountant
    except ImportError as error:
        raise ConfigError(
            f"privacy: Opacus, which counts what is spent, is not installed. {missing_extra('privacy')}"
        ) from error
    return create_accountant(config.accountant)


@contextmanager
def _silence_opacus() -> Iterator[None]:
    """Without what is said of bounds that could be tighter, and of infinities that Opacus leaves out."""
    with warnings.catch_warnings(), np.errstate(divide="ignore", over="ignore"):
        warnings.filterwarnings("ignore", "Optimal order", UserWarning)
        yield
