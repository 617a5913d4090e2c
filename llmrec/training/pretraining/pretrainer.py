"""Continued pretraining: steps over batches of texts and pairs, until held-out losses stop falling.

It counts steps, where training/trainer.py counts epochs, because texts and pairs come round at different times.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from llmrec.backbones.token_store import TokenStore
from llmrec.config.jobs.pretrain import ObjectiveName, PretrainConfig, PretrainTrainConfig
from llmrec.errors import ConfigError
from llmrec.training.checkpoints import Progress
from llmrec.training.micro_batching import PRETRAINING, explain_out_of_memory
from llmrec.training.pretraining.corpus import PretrainCorpus, draw_batch_rows
from llmrec.training.pretraining.pretrain_objectives import PairBatcher, PretrainObjective, TextBatcher
from llmrec.training.training_loop import RunState, TrainingLoop
from llmrec.utils.arrays import Rows
from llmrec.utils.timing import timer

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


class Pretrainer(TrainingLoop):
    """Train the backbone on texts and pairs until the held-out loss stops falling; the best weights stay in it."""

    objective: PretrainObjective
    config: PretrainTrainConfig

    def __init__(
        self,
        objective: PretrainObjective,
        readings: list[PretrainTask],
        config: PretrainTrainConfig,
        accelerator: Accelerator,
        run: RunState,
    ) -> None:
        self.readings = readings
        self.weights = torch.tensor([reading.weight for reading in readings], device=accelerator.device)
        for reading in readings:
            if min(len(reading.train), len(reading.held), reading.size) < accelerator.num_processes:
                raise ConfigError(
                    f"objectives.{reading.name}: {len(reading.train)} to train on, {len(reading.held)} held out and "
                    f"batches of {reading.size} are too few for {accelerator.num_processes} processes; start fewer"
                )
        super().__init__(objective, config, accelerator, run, config.max_steps)
        self._make_optimizer()

    @explain_out_of_memory(PRETRAINING)
    def fit(self) -> Progress:
        """Train until the steps are over or the held-out loss stops falling; it is measured before the first, too."""
        return super().fit()

    def _start(self) -> None:
        self._measure()

    def _run_steps(self) -> None:
        """Take one step."""
        self._count_step(self._step(self.progress.step), 1)
        measured = self.progress.step % self.config.eval_every_steps == 0 or self._is_over()
        if measured:
            self._measure()
        self._poll(measured)

    def _is_over(self) -> bool:
        return self.progress.step >= self.config.max_steps

    def _step(self, step: int) -> float:
        """One optimizer step; returns the weighted sum of the objectives' mean losses over all processes."""
        seed = self.run.seed
        rows = [r.train[draw_batch_rows(len(r.train), r.size, step, seed)] for r in self.readings]
        self.wrapped.train()
        with self.accelerator.autocast():
            sums, counts = self._compute_losses(self.wrapped, self.readings, rows, (seed, step))
        loss = (sums * (self.weights / counts)).sum()
        self.accelerator.backward(loss * self.accelerator.num_processes)  # DDP averages; the sum is what is wanted
        self._clip()
        self._apply_gradients()
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

    def _measure(self) -> None:
        """Measure the held-out losses; the lowest weighted sum is the best."""
        progress = self.progress
        with timer.section("validate"):
            found = self.measure_held_out()
        held = sum(reading.weight * found[reading.name] for reading in self.readings)
        point = {"step": progress.step, "held_out": held} | {f"held_out_{name}": loss for name, loss in found.items()}
        if progress.n_losses:
            point["loss"] = progress.loss / progress.n_losses
        self._report_measurement(f"step {progress.step}", point)
        self._judge(-held, float(progress.step))

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
