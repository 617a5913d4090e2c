"""A few real steps of the training loop, and what they take."""

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
from llmrec.training.trainer import RunState, Trainer
from llmrec.utils.arrays import Rows


@dataclass(frozen=True)
class StageCost:
    """step: of the optimizer; its flops and calls are those of one of the processes that share the batch. checkpoint:
    what is kept after a measurement. trains: weights, of the backbone and above it. footprint: of one process.
    """

    step: Cost
    checkpoint: Cost
    trains: int
    footprint: Footprint


class SampledSteps(Trainer):
    """A trainer that takes single steps of its first epoch, when asked."""

    def sample_groups(self, n: int) -> list[tuple[int, list[Rows]]]:
        """n steps that stand for all: ordered by how much is padded, the middles of n equal parts, with their rows."""
        self.windows, groups = self._draw_epoch(0)
        length = self.windows.end - self.windows.start
        slots = [sum(len(rows) * int(length[rows].max(initial=1)) for rows in group) for group in groups]
        order = np.argsort(slots, kind="stable")
        places = ((np.arange(n) + 0.5) * len(order) / n).astype(int)
        return [(int(row), groups[row]) for row in np.unique(order[places])]

    def step(self, row: int, group: list[Rows]) -> None:
        self._step(group, row)

    def save_checkpoint(self) -> None:
        self._save()


def measure_stage(
    task: TrainingTask, objective: Objective, config: TrainConfig, n_steps: int, processes: int
) -> StageCost:
    """n_steps: that are timed, after one that is not. processes: on as many GPUs, of which one's work is counted; 0: no
    GPU is asked about.
    """
    windows = build_training_windows(
        task.split.train, task.split.n_users, objective.model.config.max_history, task.ties
    )
    run = RunState("plan", task.folder / "checkpoints" / "plan", 0, False, "plan")
    trainer = SampledSteps(objective, windows, lambda: 0.0, config, task.accelerator, run)
    chosen = trainer.sample_groups(n_steps)
    trainer.step(*chosen[-1])  # the longest, so that memory is what it will be
    step = Cost()
    for row, group in chosen:
        step += measure_time(lambda row=row, group=group: trainer.step(row, group))  # type: ignore[misc]
    step *= 1 / len(chosen)
    checkpoint = measure_time(trainer.save_checkpoint)
    trained = count_trained_bytes(objective)
    footprint = Footprint(count_weight_bytes(objective), trained * min(max(processes, 1), 2), 2 * trained, 0)
    if processes:
        work, footprint = _measure_share(trainer, *chosen[len(chosen) // 2], footprint, objective, processes)
        times = config.accumulate * trainer.pieces
        step = replace(step, flops=work.flops * times, calls=work.calls * times)
    n_trained = sum(weight.numel() for weight in objective.parameters() if weight.requires_grad)
    task.accelerator.free_memory()
    return StageCost(step, checkpoint, n_trained, footprint)


def _measure_share(
    trainer: SampledSteps, row: int, group: list[Rows], footprint: Footprint, module: Objective, processes: int
) -> tuple[Cost, Footprint]:
    """What one of the processes does of a piece of a batch: its share of the windows and of what is read, and all that
    does not depend on either.
    """
    pieces, config = trainer.pieces, trainer.config
    mine = group[0][:: processes * pieces]
    trainer.pieces, trainer.config = 1, replace(config, live_items=max(config.live_items // processes, 1))
    with track_saved_activations(module) as saved:
        work = count_operations(lambda: trainer.step(row, [mine]))
    trainer.pieces, trainer.config = pieces, config
    return work, replace(footprint, activations=saved.bytes + _read_again(module))


def _read_again(objective: Objective) -> int:
    """Bytes that are kept of one batch of texts while gradient checkpointing reads it on the way back."""
    reader = objective.reader
    if reader is None or not reader.backbone.config.gradient_checkpointing:
        return 0
    config, batches = reader.backbone.config, reader.backbone.batch_tokens(reader.tokens)
    reader.backbone.config = replace(config, gradient_checkpointing=False)
    with track_saved_activations(objective) as saved:
        reader.encode_with_grad(batches[len(batches) // 2])
    reader.backbone.config = config
    return saved.bytes
