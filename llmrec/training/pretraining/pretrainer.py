"""The loop of continued pretraining: steps over batches of texts and pairs, until held-out losses stop falling.

Beside training/trainer.py, which counts epochs of windows and targets, this one counts steps, because texts and pairs
come round at different times. Checkpoints, random states and weighing by terms of all processes are the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm.auto import tqdm

from llmrec.backbones.token_store import TokenStore
from llmrec.config.jobs.pretrain import ObjectiveName, PretrainConfig, PretrainTrainConfig
from llmrec.errors import ConfigError
from llmrec.training.checkpoints import (
    Progress,
    get_random_state,
    get_trainable_state,
    load_checkpoint,
    load_trainable,
    save_checkpoint,
    set_random_state,
)
from llmrec.training.micro_batching import PRETRAINING, explain_out_of_memory
from llmrec.training.preemption import PreemptionGuard, make_interrupted_error
from llmrec.training.pretraining.corpus import PretrainCorpus, draw_batch_rows
from llmrec.training.pretraining.pretrain_objectives import PairBatcher, PretrainObjective, TextBatcher
from llmrec.training.trainer import RunState
from llmrec.utils.arrays import Rows
from llmrec.utils.run_logging import phase

logger = logging.getLogger(__name__)
HELD_OUT = 1_000_003  # the seed of held-out masks and negatives, which are the same in every measurement


@dataclass(frozen=True)
class PretrainTask:
    """An objective at work. train, held: text rows (n,) or pairs (n, 2); size: how many of them a step reads."""

    name: ObjectiveName
    weight: float
    train: Rows
    held: Rows
    size: int
    source: TextBatcher | PairBatcher


def make_pretrain_tasks(
    corpus: PretrainCorpus, tokens: TokenStore, tokenizer: Any, config: PretrainConfig
) -> list[PretrainTask]:
    """One for each objective of the configuration."""
    train = config.train
    readings = []
    for name, weight in config.objectives.items():
        if name == "contrast":
            pairs = PairBatcher(tokens, corpus.known, corpus.share, config.contrast.n_negatives)
            readings.append(
                PretrainTask(name, weight, corpus.pairs.item, corpus.held_pairs.item, train.pair_batch_size, pairs)
            )
        else:
            words = TextBatcher(tokens, tokenizer, masked=name == "mlm")
            readings.append(PretrainTask(name, weight, corpus.texts, corpus.held_texts, train.text_batch_size, words))
    return readings


class Pretrainer:
    """Trains what the objective leaves open; the best weights stay in it."""

    def __init__(
        self,
        objective: PretrainObjective,
        readings: list[PretrainTask],
        config: PretrainTrainConfig,
        accelerator: Accelerator,
        run: RunState,
    ) -> None:
        from transformers.optimization import get_scheduler

        self.readings, self.config, self.accelerator, self.run = readings, config, accelerator, run
        self.weights = torch.tensor([reading.weight for reading in readings], device=accelerator.device)
        for reading in readings:
            if min(len(reading.train), len(reading.held), reading.size) < accelerator.num_processes:
                raise ConfigError(
                    f"objectives.{reading.name}: {len(reading.train)} to train on, {len(reading.held)} held out and "
                    f"batches of {reading.size} are too few for {accelerator.num_processes} processes; start fewer"
                )
        self.objective = objective.to(accelerator.device)
        optimizer = torch.optim.AdamW(self._make_parameter_groups(), weight_decay=config.weight_decay)
        kind = {"constant": "constant_with_warmup"}.get(config.lr_scheduler, config.lr_scheduler)
        self.scheduler = get_scheduler(kind, optimizer, int(config.max_steps * config.warmup_ratio), config.max_steps)
        self.wrapped, self.optimizer = accelerator.prepare(self.objective, optimizer)
        self.watch = PreemptionGuard(run.checkpoints.save_every_minutes, accelerator)
        self.progress = Progress()
        self.best = get_trainable_state(self.objective)

    @explain_out_of_memory(PRETRAINING)
    def fit(self) -> Progress:
        """Train until the steps are over or the held-out loss stops falling; it is measured before the first, too."""
        if self.run.resume:
            self._resume()
        bar = tqdm(
            total=self.config.max_steps,
            initial=self.progress.step,
            desc=self.run.name,
            unit="step",
            disable=None if self.accelerator.is_main_process else True,  # None: without a terminal
            leave=False,
        )
        if not self.progress.history:
            self._measure(bar)
        with self.watch:
            while not self.progress.finished:
                self._train_step(bar)
        bar.close()
        load_trainable(self.objective, self.best)
        return self.progress

    def _train_step(self, bar: Any) -> None:
        """A step, and what is due after it."""
        progress = self.progress
        progress.loss += self._step(progress.step)
        progress.n_losses += 1
        progress.step += 1
        bar.update()
        measured = progress.step % self.config.eval_every_steps == 0 or progress.step == self.config.max_steps
        if measured:
            self._measure(bar)
        due, ends = self.watch.poll()
        if due and not measured:
            self._save()
        if ends and not progress.finished:
            raise make_interrupted_error(self.run.name, progress.step)

    def _step(self, step: int) -> float:
        """One optimizer step; returns the weighted sum of the objectives' mean losses over all processes."""
        seed = self.run.seed
        rows = [r.train[draw_batch_rows(len(r.train), r.size, step, seed)] for r in self.readings]
        self.wrapped.train()
        with self.accelerator.autocast():
            sums, counts = self._compute_losses(self.wrapped, self.readings, rows, (seed, step))
        loss = (sums * (self.weights / counts)).sum()
        self.accelerator.backward(loss * self.accelerator.num_processes)  # DDP averages; the sum is what is wanted
        if self.config.max_grad_norm > 0:
            self.accelerator.clip_grad_norm_(self.wrapped.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        return float(self.accelerator.reduce(loss.detach(), "sum"))

    def _compute_losses(
        self, model: nn.Module, readings: list[PretrainTask], rows: list[Rows], seed: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """(R,) sums of this process's losses, and (R,) how many terms all processes' sums have, at least 1."""
        taken = [r.source.make_batch(part, seed, self.accelerator) for r, part in zip(readings, rows, strict=True)]
        device = self.accelerator.device
        sums: Tensor = model([batch.to(device) for batch, _ in taken])
        return sums, torch.tensor([count for _, count in taken], device=device).clamp(min=1)

    @torch.no_grad()
    def measure_held_out(self) -> dict[ObjectiveName, float]:
        """Mean loss of each objective on what is never trained on, in batches of the training's size."""
        found: dict[ObjectiveName, float] = {}
        for reading in self.readings:
            total = torch.zeros(2, device=self.accelerator.device)
            for row, part in enumerate(np.array_split(reading.held, max(len(reading.held) // reading.size, 1))):
                with self.accelerator.autocast():
                    sums, counts = self._compute_losses(self.objective, [reading], [part], (HELD_OUT, row))
                total += torch.stack([sums[0], counts[0] / self.accelerator.num_processes])
            loss, n_terms = self.accelerator.reduce(total, "sum").tolist()
            found[reading.name] = loss / n_terms
        return found

    def _measure(self, bar: Any) -> None:
        """Measure what is held out, keep the best weights, decide whether to stop, and write a checkpoint."""
        progress = self.progress
        with phase("validate"):
            found = self.measure_held_out()
        held = sum(reading.weight * found[reading.name] for reading in self.readings)
        point = {"step": progress.step, "held_out": held} | {f"held_out_{name}": loss for name, loss in found.items()}
        if progress.n_losses:
            point["loss"] = progress.loss / progress.n_losses
        progress.history.append(point)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in point.items() if name != "step")
        logger.info(f"{self.run.name} step {progress.step}: {shown}", extra={"facts": {"fit": self.run.name, **point}})
        bar.set_postfix_str(shown)
        self.accelerator.log({f"{self.run.name}/{name}": value for name, value in point.items()}, step=progress.step)
        if -held > progress.best:
            progress.best, progress.best_epoch, progress.stale = -held, float(progress.step), 0
            self.best = get_trainable_state(self.objective)
        else:
            progress.stale += 1
        progress.finished = progress.stale >= self.config.patience or progress.step >= self.config.max_steps
        progress.loss, progress.n_losses = 0.0, 0
        self._save()

    @phase("checkpoint")
    def _save(self) -> None:
        states = self.accelerator.gather(get_random_state().to(self.accelerator.device)[None]).cpu()
        if self.accelerator.is_main_process:
            optimizer, schedule = self.optimizer.optimizer, self.scheduler.state_dict()
            save_checkpoint(
                self.run.folder, self.progress, self.objective, self.best, optimizer, schedule, list(states.clone()),
                self.run.identity, self.run.checkpoints.save_total_limit,
            )  # fmt: skip
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
        logger.info("%s goes on from step %d", self.run.name, saved.progress.step)
        set_random_state(saved.random_states[self.accelerator.process_index])

    def _make_parameter_groups(self) -> list[dict[str, Any]]:
        tuned = [p for p in self.objective.backbone.parameters() if p.requires_grad]
        own = {id(p) for p in self.objective.backbone.parameters()}  # a tied decoder is the backbone's
        head = [p for p in self.objective.parameters() if p.requires_grad and id(p) not in own]
        groups: list[dict[str, Any]] = [{"params": tuned, "lr": self.config.learning_rate}]
        return [*groups, {"params": head, "lr": self.config.head_learning_rate}] if head else groups


def make_run(config: PretrainConfig, inputs: str) -> RunState:
    """Where a configuration's run stands. inputs: what it depends on besides, log and base weights."""
    facts = dataclasses.asdict(config)
    changeable = ("output", "resume", "checkpoints", "trackers", "mixed_precision")
    kept = {name: value for name, value in facts.items() if name not in changeable}
    identity = hashlib.sha256(json.dumps([kept, inputs], sort_keys=True, default=str).encode()).hexdigest()[:32]
    return RunState("pretrain", config.output / "checkpoint", config.seed, config.resume, identity, config.checkpoints)
