"""Timing of a few real steps of the training loop."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from llmrec.config.train import TrainConfig
from llmrec.data.batches import build_training_windows
from llmrec.planning.cost import (
    Cost,
    Footprint,
    count_operations,
    count_trained_bytes,
    count_weight_bytes,
    measure_time,
    track_saved_activations,
)
from llmrec.training.objectives import Objective
from llmrec.training.task import TrainingTask
from llmrec.training.trainer import Trainer, TrainerInputs
from llmrec.training.training_loop import RunState
from llmrec.utils.arrays import Rows


@dataclass(frozen=True)
class StageCost:
    """Cost of the steps of a training stage."""

    step: Cost
    """Cost of a step of the optimizer; operations are those of one of the processes that share the batch."""
    checkpoint: Cost
    """Cost of the checkpoint after a validation."""
    trains: int
    """Number of weights that train, of the backbone and above it."""
    footprint: Footprint
    """Bytes of one process."""


class SampledSteps(Trainer):
    """Trainer that takes single steps of its first epoch on request."""

    def sample_groups(self, n: int) -> list[tuple[int, list[Rows]]]:
        """Select steps that represent all: the middles of n equal parts, ordered by padded size.

        Args:
            n: Number of steps.

        Returns:
            Number and window rows of each step.
        """
        self.windows, groups = self._draw_epoch(0)
        length = self.windows.end - self.windows.start
        slots = [sum(len(rows) * int(length[rows].max(initial=1)) for rows in group) for group in groups]
        order = np.argsort(slots, kind="stable")
        places = ((np.arange(n) + 0.5) * len(order) / n).astype(int)
        return [(int(row), groups[row]) for row in np.unique(order[places])]

    def step(self, row: int, group: list[Rows]) -> None:
        """Take a step.

        Args:
            row: Number of the step.
            group: Window rows of its batches.
        """
        self._step(group, row)

    def save_checkpoint(self) -> None:
        """Save a checkpoint."""
        self._save()


def measure_stage(
    task: TrainingTask, objective: Objective, config: TrainConfig, n_steps: int, *, processes: int
) -> StageCost:
    """Measure the steps of a training stage.

    Args:
        task: Data and settings of the run.
        objective: Model and its trainable backbone.
        config: Settings of training.
        n_steps: Number of steps to time, after a first one that is not timed.
        processes: Number of GPUs that share a batch, for the operations of one process; 0 if no GPU is planned.

    Returns:
        The cost.
    """
    windows = build_training_windows(
        task.split.train, task.split.n_users, objective.model.config.max_history, task.ties
    )
    run = RunState("plan", task.folder / "checkpoints" / "plan", 0, resume=False, identity="plan")
    trainer = SampledSteps(TrainerInputs(objective, windows, lambda: 0.0, config, task.accelerator, run))
    chosen = trainer.sample_groups(n_steps)
    trainer.step(*chosen[-1])  # the longest, so that memory reaches its peak
    step = Cost()
    for row, group in chosen:
        step += measure_time(lambda row=row, group=group: trainer.step(row, group))  # type: ignore[misc]
    step *= 1 / len(chosen)
    checkpoint = measure_time(trainer.save_checkpoint)
    trained = count_trained_bytes(objective)
    footprint = Footprint(count_weight_bytes(objective), trained * min(max(processes, 1), 2), 2 * trained, 0)
    if processes:
        work, footprint = _measure_share(
            trainer, *chosen[len(chosen) // 2], footprint, module=objective, processes=processes
        )
        times = config.gradient_accumulation_steps * trainer.n_micro_batches
        step = replace(step, flops=work.flops * times, calls=work.calls * times)
    n_trained = sum(weight.numel() for weight in objective.parameters() if weight.requires_grad)
    task.accelerator.free_memory()
    return StageCost(step, checkpoint, n_trained, footprint)


def _measure_share(
    trainer: SampledSteps, row: int, group: list[Rows], footprint: Footprint, *, module: Objective, processes: int
) -> tuple[Cost, Footprint]:
    """Measure one process's share of a micro-batch, and everything that does not depend on the share."""
    n_micro_batches, config = trainer.n_micro_batches, trainer.config
    own = group[0][:: processes * n_micro_batches]
    trainer.n_micro_batches, trainer.config = (
        1,
        replace(config, trainable_items_per_step=max(config.trainable_items_per_step // processes, 1)),
    )
    with track_saved_activations(module) as saved:
        work = count_operations(lambda: trainer.step(row, [own]))
    trainer.n_micro_batches, trainer.config = n_micro_batches, config
    return work, replace(footprint, activations=saved.bytes + _read_again(module))


def _read_again(objective: Objective) -> int:
    """Count the bytes of one batch of texts while gradient checkpointing computes it again."""
    reader = objective.reader
    if reader is None or not reader.backbone.config.gradient_checkpointing:
        return 0
    config, batches = reader.backbone.config, reader.backbone.batch_tokens(reader.tokens)
    reader.backbone.config = replace(config, gradient_checkpointing=False)
    with track_saved_activations(objective) as saved:
        reader.encode_with_grad(batches[len(batches) // 2])
    reader.backbone.config = config
    return saved.bytes
