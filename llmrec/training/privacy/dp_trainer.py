"""Train with differential privacy of users: the gradient of each user separately, clipped, summed, plus noise.

It loops over users, since a user may have several windows and a model may be anything with a gradient; per-layer hooks
would not work with PEFT. The gradient of a user depends on the weights and on that user alone: dropout, negatives and
live items are redrawn for each user of each step, no text vector of one user's step is stored for another's, and every
item of the catalog counts as known.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import broadcast, broadcast_object_list
from torch import Tensor, nn

from llmrec.data.batches import TrainingWindows
from llmrec.errors import ConfigError
from llmrec.models.recommender_model import RecommenderModel
from llmrec.training.calibration import RECENCIES
from llmrec.training.distributed.collectives import is_fsdp_requested
from llmrec.training.objectives import RecommendationObjective
from llmrec.training.privacy.accounting import NoiseMechanism, draw_noise
from llmrec.training.trainer import Trainer, TrainerInputs
from llmrec.utils.arrays import Rows

NOISE, WINDOWS = 2**32 - 1, 2**32 - 2  # purposes of random numbers that are not for a user's gradient
SUPPORTED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)


class DPObjective(RecommendationObjective):
    """Objective that never stores live text vectors: the rows of a step would reveal a user's history."""

    def _read(self, live_rows: Tensor) -> Tensor:
        if self.reader is None:
            raise ValueError("live rows need a reader")
        return self.reader.encode_with_grad(live_rows.cpu().numpy())


class DPTrainer(Trainer):
    """Train with DP-SGD over users for all epochs, and keep the last weights: validation chooses nothing.

    Every process takes a share of the users; gradients are summed, and the main process draws the noise.

    Args:
        inputs: Inputs of the fit.
        mechanism: Noise of the run.

    Raises:
        ConfigError: If weights are sharded, so that no process has the whole gradient of a user, or none are left to
            train.
    """

    def __init__(self, inputs: TrainerInputs, mechanism: NoiseMechanism) -> None:
        accelerator = inputs.accelerator
        if accelerator.distributed_type not in SUPPORTED or (accelerator.num_processes > 1 and is_fsdp_requested()):
            raise ConfigError(
                "privacy with weights in shards (FSDP, DeepSpeed): a user's gradient has to be whole in one process; "
                "launch with recipes/accelerate/ddp.yaml"
            )
        self.mechanism = mechanism
        number = secrets.randbits(128) if mechanism.config.secure_rng else inputs.run.seed
        self.secret: int = _broadcast_number(number, accelerator)
        super().__init__(inputs)
        self.weights = [weight for weight in self.objective.parameters() if weight.requires_grad]
        if not self.weights:
            raise ConfigError("privacy.frozen_prefixes names every weight; leave some to train")
        self.n_weights = sum(weight.numel() for weight in self.weights)

    def _draw_epoch(self, epoch: int) -> tuple[TrainingWindows, list[list[Rows]]]:
        """Return the windows of an epoch, and the windows of each user for each step."""
        rng, windows = np.random.default_rng((self.secret, epoch)), self.all_windows
        if (most := self.objective.model.config.targets_per_history) is not None:
            windows = windows.subsample_targets(most, rng)
        self.user = windows.histories.user[windows.target[windows.first_target[:-1]]]  # (W,), increasing
        users, first = np.unique(self.user, return_index=True)
        of_user = np.split(np.arange(len(windows)), first[1:])
        taking = rng.random((self.mechanism.steps_per_epoch, len(users))) < self.mechanism.sample_rate
        groups = [
            [self._sample_windows(of_user[user], (epoch, row, int(users[user]))) for user in np.flatnonzero(part)]
            for row, part in enumerate(taking)
        ]
        return windows, groups

    def _sample_windows(self, rows: Rows, place: tuple[int, ...]) -> Rows:
        """Sample at most `windows_per_user` windows of a user, independently of other users."""
        most = self.mechanism.config.windows_per_user
        if len(rows) <= most:
            return rows
        return np.sort(np.random.default_rng((self.secret, *place, WINDOWS)).choice(rows, most, replace=False))

    def _step(self, group: list[Rows], row: int) -> float:
        """Take one noisy step over the users of a group; return their loss summed over targets."""
        self.wrapped.train()
        mechanism, accelerator = self.mechanism, self.accelerator
        total = torch.zeros(self.n_weights, dtype=torch.float64, device=accelerator.device)
        loss = torch.zeros((), device=accelerator.device)
        for rows in group[accelerator.process_index :: accelerator.num_processes]:
            gradient, own = self.user_gradient(rows, row)
            total += clip_by_norm(gradient, mechanism.config.max_grad_norm)
            loss += own
        total = accelerator.reduce(total, "sum") + self._draw_noise(row)
        self._set_gradients(total / mechanism.expected_users)
        self._apply_gradients()
        return float(accelerator.reduce(loss, "sum"))

    def user_gradient(self, rows: Rows, row: int) -> tuple[Tensor, Tensor]:
        """Compute the gradient of the mean loss of one user by all trainable weights.

        Args:
            rows: Windows of the user.
            row: Number of the step in its epoch.

        Returns:
            The gradient, (n_weights,) float64, and the loss summed over targets.
        """
        rng = np.random.default_rng((self.secret, self.progress.epoch, row, int(self.user[rows[0]])))
        torch.manual_seed(int(rng.integers(2**63)))  # dropout
        n_targets = int(self.windows.n_targets[rows].sum())
        gradient = torch.zeros(self.n_weights, dtype=torch.float64, device=self.accelerator.device)
        total = torch.zeros((), device=self.accelerator.device)
        for inputs in self._micro_batches(rows, rng):
            with self.accelerator.autocast():
                loss: Tensor = self.objective(*inputs)
            parts = torch.autograd.grad(loss / n_targets, self.weights, allow_unused=True, materialize_grads=True)
            gradient += torch.cat([part.flatten() for part in parts]).double()
            total += loss.detach()
        return gradient, total

    def _own_rows(self, rows: Rows) -> Rows:
        """Return all rows, since one process computes the whole gradient of a user."""
        return rows

    def _draw_noise(self, row: int) -> Tensor:
        mechanism = self.mechanism
        std = mechanism.noise_multiplier * mechanism.config.max_grad_norm
        secret = None if mechanism.config.secure_rng else self.secret
        noise = draw_noise(self.n_weights, std, secret, (self.progress.epoch, row, NOISE))
        shared: Tensor = broadcast(noise.to(self.accelerator.device))
        return shared

    def _set_gradients(self, flat: Tensor) -> None:
        parts = torch.split(flat, [weight.numel() for weight in self.weights])
        for weight, part in zip(self.weights, parts, strict=True):
            weight.grad = part.view_as(weight).to(weight)

    def _is_best(self, metric: float) -> bool:
        return True


def clip_by_norm(gradient: Tensor, most: float) -> Tensor:
    """Scale a gradient down to a maximum norm.

    Args:
        gradient: Gradient of one user, (n_weights,).
        most: Maximum norm.

    Returns:
        The scaled gradient; zeros if it is not finite.
    """
    norm = gradient.norm()
    if not torch.isfinite(norm):
        return torch.zeros_like(gradient)
    shorter: Tensor = gradient * (most / norm.clamp(min=most))
    return shorter


def set_public_calibration(model: RecommenderModel, mechanism: NoiseMechanism) -> None:
    """Set the calibration from the settings alone; no item is new, so `novelty` stays 0.

    Args:
        model: Model to change in place.
        mechanism: Noise of the run, with its settings.
    """
    if model.items.match is not None:
        model.items.match.set_parameters(mechanism.config.text_similarity_strength, RECENCIES[0])


def freeze_by_prefix(model: RecommenderModel, mechanism: NoiseMechanism) -> None:
    """Freeze the weights whose names begin with a configured prefix.

    Args:
        model: Model to change in place.
        mechanism: Noise of the run, with its settings.

    Raises:
        ConfigError: If a prefix fits no weight.
    """
    for beginning in mechanism.config.frozen_prefixes:
        found = [weight for name, weight in model.named_parameters() if name.startswith(beginning)]
        if not found:
            names = sorted({name.rsplit(".", 1)[0] for name, _ in model.named_parameters()})
            raise ConfigError(f"privacy.frozen_prefixes={beginning!r}: no weight's name begins so; there are {names}")
        for weight in found:
            weight.requires_grad = False


def build_privacy_report(mechanism: NoiseMechanism, steps: int, trained: Sequence[nn.Module]) -> dict[str, Any]:
    """Build the facts about privacy for the report and the card.

    Args:
        mechanism: Noise of the run.
        steps: Steps taken.
        trained: Modules with trained weights.

    Returns:
        Facts by name.
    """
    config = mechanism.config
    weights = [weight for module in trained for weight in module.parameters() if weight.requires_grad]
    return {
        "epsilon": mechanism.epsilon_after(steps),
        "delta": mechanism.delta,
        "noise_multiplier": mechanism.noise_multiplier,
        "clip_norm": config.max_grad_norm,
        "sample_rate": mechanism.sample_rate,
        "steps": steps,
        "n_users": mechanism.n_users,
        "accountant": config.accountant,
        "secure": config.secure_rng,
        "n_weights": sum(weight.numel() for weight in weights),
        "text_match": config.text_similarity_strength,
    }


def _broadcast_number(number: int, accelerator: Accelerator) -> int:
    """Return the number of the main process in every process."""
    if accelerator.num_processes == 1:
        return number
    numbers = [number]
    broadcast_object_list(numbers)
    return numbers[0]
