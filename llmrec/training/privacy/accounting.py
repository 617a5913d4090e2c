"""Compute the noise that a privacy budget requires and the budget that steps spend, with Opacus' accountants.

User-level DP-SGD: Abadi et al. 2016, arXiv:1607.00133; McMahan et al. 2018, arXiv:1710.06963. Two logs are neighbors
if one has all training events of one additional user. A step releases the sum over a Poisson sample of users of
gradients with norm at most `max_grad_norm`, with noise of standard deviation noise_multiplier * max_grad_norm in each
weight.
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

SUMMED = 4  # draws per noise value: one draw's floats would leak the exact sum (Holohan & Braghin 2021, 5.1)


@dataclass(frozen=True)
class NoiseMechanism:
    """Noise of one differentially private run."""

    config: PrivacyConfig
    """Settings of privacy."""
    n_users: int
    """Users with training events; this number is taken as public."""
    steps_per_epoch: int
    """Steps per epoch."""
    steps: int
    """Steps of all fits of the run together."""
    delta: float
    """Delta of the guarantee."""
    noise_multiplier: float
    """Standard deviation of the noise in units of the clipping norm."""

    @classmethod
    def from_config(cls, config: FinetuneConfig, split: Split) -> NoiseMechanism | None:
        """Make the noise of a run from its settings.

        Args:
            config: Settings of the run.
            split: Split of the log.

        Returns:
            The noise; None if the run is not private.

        Raises:
            ConfigError: If Opacus is missing, no noise reaches the epsilon, or the delta is so large that the guarantee
                would allow the release of a user's whole data.
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
        """Return the probability that a user takes part in a step."""
        return _compute_rate(self.config, self.n_users)

    @property
    def expected_users(self) -> float:
        """Return the expected users of a step, by which sums are divided independently of who takes part."""
        return self.sample_rate * self.n_users

    def epsilon_after(self, steps: int) -> float | None:
        """Compute the epsilon spent after a number of steps, which is the whole state of the accountant.

        Args:
            steps: Steps taken.

        Returns:
            The epsilon; None without noise.
        """
        if self.noise_multiplier == 0:
            return None
        accountant = _make_accountant(self.config)
        accountant.history = [(self.noise_multiplier, self.sample_rate, steps)]
        with _silence_opacus():
            return float(accountant.get_epsilon(delta=self.delta))


def draw_noise(size: int, std: float, secret: int | None, step: tuple[int, ...]) -> Tensor:
    """Draw Gaussian noise from the secure randomness of the operating system, or from a seed.

    Args:
        size: Number of values.
        std: Standard deviation; 0 gives zeros.
        secret: Seed for reproducible noise; None for secure noise.
        step: Numbers that identify the step, combined with the seed.

    Returns:
        Noise, (size,) float64.
    """
    if std == 0:
        return torch.zeros(size, dtype=torch.float64)
    if secret is not None:
        return std * torch.from_numpy(np.random.default_rng((secret, *step)).standard_normal(size))
    total = np.zeros(size)
    for _ in range(SUMMED):
        whole = np.frombuffer(os.urandom(8 * size), dtype=np.uint64) >> np.uint64(11)  # 53 bits
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
    except (ValueError, MemoryError) as error:  # the tables of the accountant grow with the privacy loss
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
    """Silence warnings about bounds that could be tighter and about infinities that Opacus leaves out."""
    with warnings.catch_warnings(), np.errstate(divide="ignore", over="ignore"):
        warnings.filterwarnings("ignore", "Optimal order", UserWarning)
        yield
