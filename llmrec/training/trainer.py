"""The one training loop, by Accelerate: from one CPU to many GPUs.

A batch is defined for all processes together, with all that is drawn for it, and shared out among them; its loss is a
sum over targets divided by the number of targets of the whole step. So neither process count, accumulation nor uneven
batches change a step, but for the order in which sums are rounded, and for dropout, which each process draws by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm

from llmrec.config.checkpoints import CheckpointConfig, Resume
from llmrec.config.train import TrainConfig
from llmrec.data.batches import HistoryBatch, TrainingWindows, build_epoch_batches, collate_windows
from llmrec.training.checkpoints import (
    Progress,
    get_random_state,
    get_trainable_state,
    load_checkpoint,
    load_trainable,
    save_checkpoint,
    set_random_state,
)
from llmrec.training.distributed.collectives import single_process
from llmrec.training.micro_batching import dry_run, find_micro_batches
from llmrec.training.objectives import Objective, choose_trainable_rows
from llmrec.training.preemption import PreemptionGuard, make_interrupted_error
from llmrec.utils.arrays import Rows
from llmrec.utils.run_logging import phase

logger = logging.getLogger(__name__)
StepInputs: TypeAlias = tuple[HistoryBatch, Tensor | None, Tensor | None]  # a batch, live rows, negatives


@dataclass(frozen=True)
class RunState:
    """Where a run stands: its name in progress bars and trackers, its folder, its seed, and whether it may resume.

    identity: hash of configuration and data; a checkpoint of another identity is refused.
    """

    name: str
    folder: Path
    seed: int
    resume: Resume
    identity: str
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)


class Trainer:
    """Fits an objective to windows, measuring `validate` (higher is better) as often as the config says.

    validate: None, where there is nothing to validate with: the last weights are the best.
    """

    def __init__(
        self,
        objective: Objective,
        windows: TrainingWindows,
        validate: Callable[[], float] | None,
        config: TrainConfig,
        accelerator: Accelerator,
        run: RunState,
    ) -> None:
        from transformers.optimization import get_scheduler

        self.config, self.accelerator, self.run = config, accelerator, run
        self.all_windows, self.validate = windows, validate
        self.objective = objective.to(accelerator.device)
        self.known = np.flatnonzero(objective.model.items.known.cpu().numpy())
        self.windows, groups = self._draw_epoch(0)
        self.groups_per_epoch = len(groups)
        self.progress, self.best = Progress(), get_trainable_state(self.objective)
        self.pieces = self._find_micro_batches() if config.micro_batches == "auto" else config.micro_batches
        self._shard_backbone()
        optimizer = torch.optim.AdamW(self._make_parameter_groups(), weight_decay=config.weight_decay)
        n_steps = self.groups_per_epoch * config.epochs
        kind = {"constant": "constant_with_warmup"}.get(config.lr_scheduler, config.lr_scheduler)
        self.scheduler = get_scheduler(kind, optimizer, int(n_steps * config.warmup_ratio), n_steps)
        self.wrapped, self.optimizer = self._prepare(optimizer)
        self.watch = PreemptionGuard(run.checkpoints.save_every_minutes, accelerator)

    def fit(self) -> Progress:
        """Train until the epochs are over or validation stops improving; the best weights stay in the objective."""
        if self.run.resume:
            self._resume()
        bar = tqdm(
            total=self.groups_per_epoch * self.config.epochs,
            initial=self.progress.step,
            desc=self.run.name,
            unit="step",
            disable=None if self.accelerator.is_main_process else True,  # None: without a terminal
            leave=False,
        )
        with self.watch:
            while not self.progress.finished:
                self._run_epoch(bar)
        bar.close()
        self._keep_best()
        return self.progress

    def _run_epoch(self, bar: Any) -> None:
        self.windows, groups = self._draw_epoch(self.progress.epoch)
        marks = {round(len(groups) * (k + 1) / self.config.evals_per_epoch) for k in range(self.config.evals_per_epoch)}
        progress = self.progress
        for row in range(progress.batch, len(groups)):
            progress.loss += self._step(groups[row], row)
            progress.n_losses += sum(int(self.windows.n_targets[rows].sum()) for rows in groups[row])
            progress.step += 1
            progress.batch = row + 1
            bar.update()
            if (
                row + 1 not in marks
                and self.config.refresh_every_steps
                and progress.step % self.config.refresh_every_steps == 0
            ):
                self._refresh()
            if row + 1 in marks:
                self._measure(progress.loss / max(progress.n_losses, 1), (row + 1) / len(groups), bar)
                if progress.finished:
                    return
            due, ends = self.watch.poll()
            if due and row + 1 not in marks:
                self._save(self.objective.model.items.text if self.objective.reader is not None else None)
            if ends:
                raise make_interrupted_error(self.run.name, progress.step)

    def _step(self, group: list[Rows], row: int) -> float:
        """One optimizer step over a group of batches; returns this step's loss summed over targets."""
        rng = np.random.default_rng((self.run.seed, self.progress.epoch, row))  # the same in all processes
        n_targets = sum(int(self.windows.n_targets[rows].sum()) for rows in group)
        self.wrapped.train()
        total = torch.zeros((), device=self.accelerator.device)
        parts = (part for rows in group for part in self._micro_batches(rows, rng))
        for place, part in enumerate(parts, start=1):
            last = place == len(group) * self.pieces
            sync = nullcontext() if last else self.accelerator.no_sync(self.wrapped)
            with sync:
                with self.accelerator.autocast():
                    loss: Tensor = self.wrapped(*part)
                # DDP averages over processes; the sum over targets is what is wanted.
                self.accelerator.backward(loss * (self.accelerator.num_processes / n_targets))
            total += loss.detach()
        self._clip()
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        return float(self.accelerator.reduce(total, "sum"))

    # What other ways to train do otherwise: see ShardedTrainer and DPTrainer.

    def _shard_backbone(self) -> None:
        """Before the optimizer is given the weights."""

    def _prepare(self, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        """What steps are called through, and the optimizer of these."""
        return self.accelerator.prepare(self.objective, optimizer)  # type: ignore[no-any-return]

    def _clip(self) -> None:
        if self.config.max_grad_norm > 0:
            self.accelerator.clip_grad_norm_(self.wrapped.parameters(), self.config.max_grad_norm)

    def _refresh(self) -> None:
        self.objective.refresh_text_table(self.accelerator)

    def _is_best(self, metric: float) -> bool:
        """Whether the weights of now are the ones to keep."""
        return metric > self.progress.best

    def _keep_best(self) -> None:
        load_trainable(self.objective, self.best)
        self.objective.refresh_text_table(self.accelerator)

    def _micro_batches(self, rows: Rows, rng: np.random.Generator) -> Iterator[StepInputs]:
        """What the objective is given of a batch, all of it this process's: histories piece by piece, and with each of
        them the live rows and negatives of the whole batch.
        """
        live, negatives, device = None, None, self.accelerator.device
        if self.objective.backbone is not None:
            live = choose_trainable_rows(
                self._collate_batch(rows), self.known, self.config.trainable_items_per_step, rng
            ).to(device)
        if self.config.negatives != "full":
            negatives = torch.from_numpy(rng.choice(self.known, self.config.negatives)).to(device)
        mine = self._own_rows(rows)
        for piece in range(self.pieces):
            yield self._collate_batch(mine[piece :: self.pieces]).to(device), live, negatives

    def _own_rows(self, rows: Rows) -> Rows:
        return rows[self.accelerator.process_index :: self.accelerator.num_processes]

    def _collate_batch(self, rows: Rows) -> HistoryBatch:
        return collate_windows(self.windows, rows, self.objective.model.config.query_time == "known")

    def _measure(self, loss: float, share: float, bar: Any) -> None:
        """Validate, keep the best weights, decide whether to stop, and write a checkpoint."""
        progress = self.progress
        at = progress.epoch + share
        with phase("validate"):
            self.objective.refresh_text_table(self.accelerator)
            metric = self.validate() if self.validate is not None else at
        point = {"epoch": at, "loss": loss, "valid_ndcg": metric}
        progress.history.append(point)
        told = f"{self.run.name} epoch {at:.2f}: loss {loss:.3f}, valid ndcg@10 {metric:.4f}"
        logger.info(told, extra={"facts": {"fit": self.run.name, "step": progress.step, **point}})
        bar.set_postfix(loss=f"{loss:.3f}", valid=f"{metric:.4f}")
        self.accelerator.log({f"{self.run.name}/loss": loss, f"{self.run.name}/valid_ndcg": metric}, step=progress.step)
        if self._is_best(metric):
            progress.best, progress.best_epoch, progress.stale = metric, at, 0
            self.best = get_trainable_state(self.objective)
        else:
            progress.stale += 1
        if share == 1:
            progress.epoch, progress.batch = progress.epoch + 1, 0
        progress.finished = progress.stale >= self.config.patience or progress.epoch >= self.config.epochs
        progress.loss, progress.n_losses = 0.0, 0
        self._save()

    @phase("checkpoint")
    def _save(self, table: Tensor | None = None) -> None:
        """table: the text vectors, where steps have gone on since they were all read."""
        states = self.accelerator.gather(get_random_state().to(self.accelerator.device)[None]).cpu()
        if self.accelerator.is_main_process:
            save_checkpoint(
                self.run.folder,
                self.progress,
                self.objective,
                self.best,
                self.optimizer.optimizer,
                self.scheduler.state_dict(),
                list(states.clone()),
                self.run.identity,
                self.run.checkpoints.save_total_limit,
                table,
            )
        self.accelerator.wait_for_everyone()
        self.watch.mark_saved()

    def _resume(self) -> None:
        strict = self.run.resume is True
        saved = load_checkpoint(self.run.folder, self.run.identity, self.accelerator.num_processes, strict)
        if saved is None:
            return
        load_trainable(self.objective, saved.weights)
        self.optimizer.load_state_dict(saved.optimizer)
        self.scheduler.load_state_dict(saved.scheduler)
        self.progress, self.best = saved.progress, saved.best
        if saved.table is not None and self.objective.model.items.text is not None:
            self.objective.model.items.text.copy_(saved.table)
        else:
            self.objective.refresh_text_table(self.accelerator)
        logger.info("%s goes on from step %d", self.run.name, saved.progress.step)
        set_random_state(saved.random_states[self.accelerator.process_index])

    def _draw_epoch(self, epoch: int) -> tuple[TrainingWindows, list[list[Rows]]]:
        """The windows of an epoch with the targets that are asked for, and its batches, `gradient_accumulation_steps`
        of them to a step: the same in every process and after a resume.
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
        """As few as the process with the least room needs for the heaviest batch of the first epoch."""
        windows, groups = self._draw_epoch(0)
        if not groups:
            return 1
        length = windows.end - windows.start
        heaviest = max((rows for group in groups for rows in group), key=lambda rows: len(rows) * length[rows].max())

        def one_of(pieces: int) -> None:
            self.pieces = pieces
            batch, live, negatives = next(self._micro_batches(heaviest, np.random.default_rng(self.run.seed)))
            if live is not None and self.objective.reader is not None:
                longest = np.argsort(self.objective.reader.tokens.lengths)[-len(live) :]
                live = torch.from_numpy(longest.copy()).to(live)
            for _ in range(2):  # a second piece meets the first one's gradients
                with self.accelerator.autocast():
                    loss = self.objective(batch, live, negatives)
                self.accelerator.backward(loss)

        with single_process(), dry_run(self.objective):
            pieces = find_micro_batches(one_of, len(self._own_rows(heaviest)))
        most = int(self.accelerator.gather(torch.tensor([pieces], device=self.accelerator.device)).max())
        return most if most == 1 else 2 * most  # what is free is in ever smaller blocks as training goes on

    def _make_parameter_groups(self) -> list[dict[str, Any]]:
        head = [p for p in self.objective.model.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": head, "lr": self.config.learning_rate}]
        if self.objective.backbone is not None:
            tuned = [p for p in self.objective.backbone.parameters() if p.requires_grad]
            groups.append({"params": tuned, "lr": self.config.backbone_learning_rate})
        return groups
