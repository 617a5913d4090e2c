"""Training loop of all trainers: optimizer, schedule, progress bar, measurements, checkpoints and resuming.

A trainer adds its step. Runs that are interrupted and resumed end with the same bits as runs that are not.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm.auto import tqdm

from llmrec.config.adaptation import ItemAdaptConfig
from llmrec.config.checkpoints import CheckpointConfig, Resume
from llmrec.config.jobs.pretrain import PretrainTrainConfig
from llmrec.config.train import TrainConfig
from llmrec.training.checkpoints import (
    Checkpoint,
    Progress,
    get_random_state,
    get_trainable_state,
    load_checkpoint,
    load_trainable,
    save_checkpoint,
    set_random_state,
)
from llmrec.training.preemption import PreemptionGuard, make_interrupted_error
from llmrec.utils.timing import timer

logger = logging.getLogger(__name__)
LoopConfig = TrainConfig | PretrainTrainConfig | ItemAdaptConfig
SCHEDULES = {"constant": "constant_with_warmup"}  # names of transformers that differ from ours


@dataclass(frozen=True)
class RunState:
    """Identity of one fit, and the place of its checkpoints."""

    name: str
    """Name in progress bars, logs and trackers."""
    folder: Path
    """Folder of the checkpoints."""
    seed: int
    """Seed of all random draws."""
    resume: Resume
    """Resume from the newest checkpoint."""
    identity: str
    """Hash of configuration and data; checkpoints with another identity are refused."""
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    """Settings of checkpoints."""


class TrainingLoop(ABC):
    """Base of trainers: run steps until validation stops improving, and keep the best weights."""

    objective: nn.Module
    config: LoopConfig

    def __init__(
        self,
        objective: nn.Module,
        config: LoopConfig,
        accelerator: Accelerator,
        run: RunState,
        *,
        n_steps: int,
    ) -> None:
        """Set up the loop.

        Args:
            objective: Module whose forward pass returns the loss of a batch.
            config: Settings of optimizer, schedule and early stopping.
            accelerator: Processes of the run.
            run: Identity of the fit.
            n_steps: Optimizer steps of the whole fit, unless patience ends it earlier.
        """
        self.config, self.accelerator, self.run, self.n_steps = config, accelerator, run, n_steps
        self.objective = objective.to(accelerator.device)
        self.progress, self.best = Progress(), get_trainable_state(self.objective)
        self.watch = PreemptionGuard(run.checkpoints.save_every_minutes, accelerator)
        self.bar: Any = None

    def _make_optimizer(self) -> None:
        from transformers.optimization import get_scheduler

        config = self.config
        fused = True if self.accelerator.device.type == "cpu" else None  # None: as torch chooses for a GPU
        groups = self._make_parameter_groups()
        optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=fused)
        kind, n_warmup = (
            SCHEDULES.get(config.lr_scheduler, config.lr_scheduler),
            int(self.n_steps * config.warmup_ratio),
        )
        self.scheduler = get_scheduler(kind, optimizer, n_warmup, self.n_steps)
        self.wrapped, self.optimizer = self._prepare(optimizer)

    def fit(self) -> Progress:
        """Train until the last step or until validation stops improving.

        Returns:
            The progress; the best weights are in the objective.
        """
        if self.run.resume:
            self._resume()
        with self._make_bar() as self.bar, self.watch:
            if not self.progress.history:
                self._start()
            while not self.progress.finished:
                self._run_steps()
        self._keep_best()
        return self.progress

    @abstractmethod
    def _make_parameter_groups(self) -> list[dict[str, Any]]:
        """Return the trainable parameters in groups, each with its learning rate."""

    @abstractmethod
    def _run_steps(self) -> None:
        """Take at least one step, and measure when it is time."""

    @abstractmethod
    def _is_over(self) -> bool:
        """Return True after the last step of the fit."""

    @abstractmethod
    def _start(self) -> None:
        """Prepare a fit that begins at its first step."""

    def _make_bar(self) -> Any:
        return tqdm(
            total=self.n_steps,
            initial=self.progress.step,
            desc=self.run.name,
            unit="step",
            disable=None if self.accelerator.is_main_process else True,  # None: without a terminal
            leave=False,
        )

    def _prepare(self, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        """Return the module that steps call, and its optimizer."""
        return self.accelerator.prepare(self.objective, optimizer)  # type: ignore[no-any-return]

    def _clip(self) -> None:
        if self.config.max_grad_norm > 0:
            self.accelerator.clip_grad_norm_(self.wrapped.parameters(), self.config.max_grad_norm)

    def _apply_gradients(self) -> None:
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()

    def _count_step(self, loss: float, n_losses: int) -> None:
        """Count a step whose loss, a sum of n_losses terms, joins the mean until the next measurement."""
        self.progress.loss += loss
        self.progress.n_losses += n_losses
        self.progress.step += 1
        self.bar.update()

    def _poll(self, *, measured: bool) -> None:
        """Save a checkpoint if one is due and this step has none yet, and end a preempted run."""
        due, ends = self.watch.poll()
        if due and not measured:
            self._save(self._text_between_renewals())
        if ends and not self.progress.finished:
            raise make_interrupted_error(self.run.name, self.progress.step)

    def _text_between_renewals(self) -> Tensor | None:
        """Return text vectors that steps have changed since the last complete reading, for a checkpoint."""
        return None

    def _report_measurement(self, title: str, point: dict[str, float]) -> None:
        """Log a measurement, and append it to the history of the fit."""
        self.progress.history.append(point)
        values = {name: value for name, value in point.items() if name not in ("epoch", "step")}
        shown = ", ".join(format_measurement(name, value) for name, value in values.items())
        facts: Mapping[str, Any] = {"fit": self.run.name, "step": self.progress.step, **point}
        logger.info("%s %s: %s", self.run.name, title, shown, extra={"facts": facts})
        self.bar.set_postfix_str(shown)
        self.accelerator.log({f"{self.run.name}/{name}": value for name, value in values.items()}, self.progress.step)

    def _judge(self, metric: float, at: float) -> None:
        """Keep the weights if they are the best so far, decide whether to stop, and write a checkpoint.

        Args:
            metric: Higher is better.
            at: Epoch or step of the measurement.
        """
        progress = self.progress
        if self._is_best(metric):
            progress.best, progress.best_epoch, progress.stale = metric, at, 0
            self.best = get_trainable_state(self.objective)
        else:
            progress.stale += 1
        progress.finished = progress.stale >= self.config.patience or self._is_over()
        progress.loss, progress.n_losses = 0.0, 0
        self._save()

    def _is_best(self, metric: float) -> bool:
        return metric > self.progress.best

    def _keep_best(self) -> None:
        load_trainable(self.objective, self.best)

    @timer.section("checkpoint")
    def _save(self, table: Tensor | None = None) -> None:
        """Write a checkpoint, with the text vectors of `_text_between_renewals` if given."""
        states = self.accelerator.gather(get_random_state().to(self.accelerator.device)[None]).cpu()
        if self.accelerator.is_main_process:
            save_checkpoint(
                self.run.folder,
                self.progress,
                self.objective,
                self.best,
                optimizer=self.optimizer.optimizer,
                scheduler_state=self.scheduler.state_dict(),
                random_states=list(states.clone()),
                identity=self.run.identity,
                kept=self.run.checkpoints.save_total_limit,
                table=table,
            )
        self.accelerator.wait_for_everyone()
        self.watch.mark_saved()

    def _resume(self) -> None:
        """Continue from the newest checkpoint, if there is one."""
        strict = self.run.resume is True
        saved = load_checkpoint(self.run.folder, self.run.identity, self.accelerator.num_processes, strict=strict)
        if saved is None:
            return
        self._load(saved)
        logger.info("%s: resuming from step %d", self.run.name, saved.progress.step)
        set_random_state(saved.random_states[self.accelerator.process_index])

    def _load(self, saved: Checkpoint) -> None:
        load_trainable(self.objective, saved.weights)
        self.optimizer.load_state_dict(saved.optimizer)
        self.scheduler.load_state_dict(saved.scheduler)
        self.progress, self.best = saved.progress, saved.best


def format_measurement(name: str, value: float) -> str:
    """Format one number of a training history.

    Args:
        name: Name of the measurement.
        value: Its value.

    Returns:
        Name and rounded value.

    Example:
        >>> format_measurement("valid_ndcg", 0.12345), format_measurement("loss", 2.0)
        ('valid ndcg@10 0.1235', 'loss 2.000')
    """
    if name == "valid_ndcg":
        return f"valid ndcg@10 {value:.4f}"
    return f"{name.replace('_', ' ')} {value:.{3 if name == 'loss' else 4}f}"
