"""Train recommenders with Accelerate, from one CPU to many GPUs.

A batch and all its random draws are defined for all processes together and divided among them; the loss is a sum over
targets divided by the number of targets of the whole step. So process count, accumulation and uneven batches change a
step only by rounding, and by dropout, which each process draws separately.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from llmrec.config.train import TrainConfig
from llmrec.data.batches import HistoryBatch, TrainingWindows, build_epoch_batches, collate_windows
from llmrec.training.checkpoints import Checkpoint
from llmrec.training.distributed.collectives import single_process
from llmrec.training.micro_batching import dry_run, find_micro_batches
from llmrec.training.objectives import Objective, choose_trainable_rows
from llmrec.training.training_loop import RunState, TrainingLoop
from llmrec.utils.arrays import Rows
from llmrec.utils.timing import timer

StepInputs: TypeAlias = tuple[HistoryBatch, Tensor | None, Tensor | None]  # a batch, live rows, negatives


@dataclass(frozen=True)
class TrainerInputs:
    """Inputs of a trainer."""

    objective: Objective
    """The model and its trainable backbone."""
    windows: TrainingWindows
    """Training windows to learn from."""
    validate: Callable[[], float] | None
    """Computes NDCG@10 of the current weights; None for no validation, which keeps the last weights."""
    config: TrainConfig
    """Settings of training."""
    accelerator: Accelerator
    """Processes of the run."""
    run: RunState
    """Identity of the fit."""
    start: float | None = None
    """Metric before training (epoch 0) that training must exceed; None for no minimum."""


class Trainer(TrainingLoop):
    """Fit an objective to windows, with validation as often as the settings say.

    Args:
        inputs: Inputs of the fit.
    """

    objective: Objective
    config: TrainConfig

    def __init__(self, inputs: TrainerInputs) -> None:
        objective, config = inputs.objective, inputs.config
        self.all_windows, self.validate, self.start = inputs.windows, inputs.validate, inputs.start
        self.objective, self.config, self.run = objective, config, inputs.run
        self.windows, groups = self._draw_epoch(0)
        self.groups_per_epoch = len(groups)
        n_steps = self.groups_per_epoch * config.epochs
        super().__init__(objective, config, inputs.accelerator, inputs.run, n_steps=n_steps)
        self.known = np.flatnonzero(objective.model.items.known.cpu().numpy())
        self.n_micro_batches = self._find_micro_batches() if config.micro_batches == "auto" else config.micro_batches
        self._shard_backbone()
        self._make_optimizer()

    def _start(self) -> None:
        if self.start is not None:
            self.progress.best = self.start
            self._report_measurement("epoch 0", {"epoch": 0.0, "valid_ndcg": self.start})

    def _run_steps(self) -> None:
        """Train for the rest of an epoch."""
        self.windows, groups = self._draw_epoch(self.progress.epoch)
        marks = {round(len(groups) * (k + 1) / self.config.evals_per_epoch) for k in range(self.config.evals_per_epoch)}
        progress = self.progress
        for row in range(progress.batch, len(groups)):
            n_targets = sum(int(self.windows.n_targets[rows].sum()) for rows in groups[row])
            self._count_step(self._step(groups[row], row), n_targets)
            progress.batch = row + 1
            measured = row + 1 in marks
            every = self.config.refresh_every_steps
            if not measured and every and progress.step % every == 0:
                self._refresh()
            if measured:
                self._measure(progress.loss / max(progress.n_losses, 1), (row + 1) / len(groups))
                if progress.finished:
                    return
            self._poll(measured=measured)

    def _is_over(self) -> bool:
        return self.progress.epoch >= self.config.epochs

    def _measure(self, loss: float, share: float) -> None:
        """Validate after a share of an epoch, or record the loss if there is no validation."""
        progress = self.progress
        at = metric = progress.epoch + share
        point = {"epoch": at, "loss": loss}
        with timer.section("validate"):
            self.objective.refresh_text_table(self.accelerator)
            if self.validate is not None:
                metric = point["valid_ndcg"] = self.validate()
        self._report_measurement(f"epoch {at:.2f}", point)
        if share == 1:
            progress.epoch, progress.batch = progress.epoch + 1, 0
        self._judge(metric, at)

    def _step(self, group: list[Rows], row: int) -> float:
        """Take one optimizer step over a group of batches; return its loss summed over targets."""
        rng = np.random.default_rng((self.run.seed, self.progress.epoch, row))  # the same in all processes
        n_targets = sum(int(self.windows.n_targets[rows].sum()) for rows in group)
        self.wrapped.train()
        total = torch.zeros((), device=self.accelerator.device)
        parts = (part for rows in group for part in self._micro_batches(rows, rng))
        for place, part in enumerate(parts, start=1):
            last = place == len(group) * self.n_micro_batches
            sync = nullcontext() if last else self.accelerator.no_sync(self.wrapped)
            with sync:
                with self.accelerator.autocast():
                    loss: Tensor = self.wrapped(*part)
                # DDP averages over processes, but the loss is a sum over targets.
                self.accelerator.backward(loss * (self.accelerator.num_processes / n_targets))
            total += loss.detach()
        self._clip()
        self._apply_gradients()
        return float(self.accelerator.reduce(total, "sum"))

    def _shard_backbone(self) -> None:
        """Divide the backbone among processes before the optimizer gets its weights; see ShardedTrainer."""

    def _refresh(self) -> None:
        self.objective.refresh_text_table(self.accelerator)

    def _keep_best(self) -> None:
        super()._keep_best()
        if not self.progress.ends_at_best:  # else the table is that of these weights
            self.objective.refresh_text_table(self.accelerator)

    def _text_between_renewals(self) -> Tensor | None:
        return self.objective.model.items.text if self.objective.reader is not None else None

    def _load(self, saved: Checkpoint) -> None:
        super()._load(saved)
        if saved.table is not None and self.objective.model.items.text is not None:
            self.objective.model.items.text.copy_(saved.table)
        else:
            self.objective.refresh_text_table(self.accelerator)

    def _micro_batches(self, rows: Rows, rng: np.random.Generator) -> Iterator[StepInputs]:
        """Yield own micro-batches, each with the live rows and negatives of the whole batch."""
        live, negatives, device = None, None, self.accelerator.device
        if self.objective.backbone is not None:
            live = choose_trainable_rows(
                self._collate_batch(rows), self.known, self.config.trainable_items_per_step, rng
            ).to(device)
        if self.config.negatives != "full":
            negatives = torch.from_numpy(rng.choice(self.known, self.config.negatives)).to(device)
        own = self._own_rows(rows)
        for part in range(self.n_micro_batches):
            yield self._collate_batch(own[part :: self.n_micro_batches]).to(device), live, negatives

    def _own_rows(self, rows: Rows) -> Rows:
        return rows[self.accelerator.process_index :: self.accelerator.num_processes]

    def _collate_batch(self, rows: Rows) -> HistoryBatch:
        return collate_windows(self.windows, rows, query_time_known=self.objective.model.config.query_time == "known")

    def _draw_epoch(self, epoch: int) -> tuple[TrainingWindows, list[list[Rows]]]:
        """Return the windows of an epoch and its groups of batches, one group per optimizer step.

        They are the same in every process and after a resume.
        """
        rng, windows = np.random.default_rng((self.run.seed, epoch)), self.all_windows
        if (most := self.objective.model.config.targets_per_history) is not None:
            windows = windows.subsample_targets(most, rng)
        batches, step = (
            build_epoch_batches(windows, self.config.batch_targets, rng),
            self.config.gradient_accumulation_steps,
        )
        return windows, [batches[row : row + step] for row in range(0, len(batches), step)]

    def _find_micro_batches(self) -> int:
        """Return the micro-batches that the process with the least memory needs for the largest batch."""
        windows, groups = self._draw_epoch(0)
        if not groups:
            return 1
        length = windows.end - windows.start
        heaviest = max((rows for group in groups for rows in group), key=lambda rows: len(rows) * length[rows].max())

        def one_of(n_micro_batches: int) -> None:
            self.n_micro_batches = n_micro_batches
            batch, live, negatives = next(self._micro_batches(heaviest, np.random.default_rng(self.run.seed)))
            if live is not None and self.objective.reader is not None:
                longest = np.argsort(self.objective.reader.tokens.lengths)[-len(live) :]
                live = torch.from_numpy(longest.copy()).to(live)
            for _ in range(2):  # the gradients of the first micro-batch take memory in the second
                with self.accelerator.autocast():
                    loss = self.objective(batch, live, negatives)
                self.accelerator.backward(loss)

        with single_process(), dry_run(self.objective):
            n_micro_batches = find_micro_batches(one_of, len(self._own_rows(heaviest)))
        most = int(self.accelerator.gather(torch.tensor([n_micro_batches], device=self.accelerator.device)).max())
        return most if most == 1 else 2 * most  # memory gets more fragmented during training

    def _make_parameter_groups(self) -> list[dict[str, Any]]:
        head = [p for p in self.objective.model.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": head, "lr": self.config.learning_rate}]
        if self.objective.backbone is not None:
            tuned = [p for p in self.objective.backbone.parameters() if p.requires_grad]
            groups.append({"params": tuned, "lr": self.config.backbone_learning_rate})
        return groups
