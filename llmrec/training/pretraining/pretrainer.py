"""Continued pretraining: train on batches of texts and pairs until held-out losses stop falling.

It counts steps, where training/trainer.py counts epochs, because passes over texts and over pairs differ in length.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from llmrec.backbones.token_store import TokenStore
from llmrec.config.jobs.pretrain import ObjectiveName, PretrainConfig, PretrainTrainConfig
from llmrec.errors import ConfigError
from llmrec.training.checkpoints import Progress, compute_identity
from llmrec.training.micro_batching import PRETRAINING, explain_out_of_memory
from llmrec.training.pretraining.corpus import PretrainCorpus, draw_batch_rows
from llmrec.training.pretraining.history_corpus import HistoryCorpus
from llmrec.training.pretraining.pretrain_objectives import PairBatcher, PretrainObjective, TextBatcher
from llmrec.training.training_loop import RunState, TrainingLoop
from llmrec.utils.arrays import Rows
from llmrec.utils.timing import timer

HELD_OUT = 1_000_003  # seed of held-out masks and negatives: the same in every measurement


@dataclass(frozen=True)
class PretrainTask:
    """One objective with its data."""

    name: ObjectiveName
    """Name of the objective."""
    weight: float
    """Weight of its mean loss."""
    train: Rows
    """Text rows, (R,), or pairs, (P, 2), to train on."""
    held: Rows
    """Text rows or pairs that are held out."""
    size: int
    """Rows or pairs per step."""
    source: TextBatcher | PairBatcher
    """Makes batches of them."""


def make_pretrain_tasks(
    corpus: PretrainCorpus,
    tokens: TokenStore,
    tokenizer: Any,
    config: PretrainConfig,
    *,
    histories: HistoryCorpus | None = None,
) -> list[PretrainTask]:
    """Make a task for each configured objective.

    Args:
        corpus: Texts and pairs.
        tokens: Tokens of the catalog.
        tokenizer: Tokenizer of the backbone.
        config: Settings of pretraining.
        histories: Histories as texts, for the objective of that name.

    Returns:
        The tasks in the order of the settings.
    """
    train = config.train
    readings = []
    for name, weight in config.objectives.items():
        if name == "contrast":
            pairs = PairBatcher(tokens, corpus.known, corpus.share, config.contrast.n_negatives)
            readings.append(
                PretrainTask(name, weight, corpus.pairs.item, corpus.held_pairs.item, train.pair_batch_size, pairs)
            )
            continue
        texts, parts = tokens, (corpus.texts, corpus.held_texts)
        if name == "histories" and histories is not None:
            texts, parts = histories.tokens, (histories.train, histories.held)
        words = TextBatcher(texts, tokenizer, masked=name == "mlm")
        readings.append(PretrainTask(name, weight, *parts, train.text_batch_size, words))
    return readings


class Pretrainer(TrainingLoop):
    """Train a backbone until its held-out loss stops falling; it keeps the best weights.

    Args:
        objective: Backbone and head.
        readings: Tasks of all objectives.
        config: Settings of training.
        accelerator: Processes of the run.
        run: Identity of the fit.

    Raises:
        ConfigError: If there are fewer rows than processes.
    """

    objective: PretrainObjective
    config: PretrainTrainConfig

    def __init__(
        self,
        objective: PretrainObjective,
        readings: list[PretrainTask],
        config: PretrainTrainConfig,
        accelerator: Accelerator,
        *,
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
        super().__init__(objective, config, accelerator, run, n_steps=config.max_steps)
        self._make_optimizer()

    @explain_out_of_memory(PRETRAINING)
    def fit(self) -> Progress:
        """Train until the last step or until the held-out loss, also measured before the first, stops falling.

        Returns:
            The progress; the best weights are in the objective.

        Raises:
            MemoryLimitError: If a batch does not fit in memory.
        """
        return super().fit()

    def _start(self) -> None:
        self._measure()

    def _run_steps(self) -> None:
        """Take one step."""
        self._count_step(self._step(self.progress.step), 1)
        measured = self.progress.step % self.config.eval_every_steps == 0 or self._is_over()
        if measured:
            self._measure()
        self._poll(measured=measured)

    def _is_over(self) -> bool:
        return self.progress.step >= self.config.max_steps

    def _step(self, step: int) -> float:
        """Take one optimizer step; return the weighted sum of the mean losses over all processes."""
        seed = self.run.seed
        rows = [r.train[draw_batch_rows(len(r.train), r.size, step, seed)] for r in self.readings]
        self.wrapped.train()
        with self.accelerator.autocast():
            sums, counts = self._compute_losses(self.wrapped, self.readings, rows, (seed, step))
        loss = (sums * (self.weights / counts)).sum()
        self.accelerator.backward(loss * self.accelerator.num_processes)  # DDP averages, but the loss is a sum
        self._clip()
        self._apply_gradients()
        return float(self.accelerator.reduce(loss.detach(), "sum"))

    def _compute_losses(
        self, model: nn.Module, readings: list[PretrainTask], rows: list[Rows], seed: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """Return (R,) sums of own losses and (R,) numbers of terms of all processes, at least 1."""
        taken = [r.source.make_batch(part, seed, self.accelerator) for r, part in zip(readings, rows, strict=True)]
        device = self.accelerator.device
        sums: Tensor = model([batch.to(device) for batch, _ in taken])
        return sums, torch.tensor([count for _, count in taken], device=device).clamp(min=1)

    @torch.no_grad()
    def measure_held_out(self) -> dict[ObjectiveName, float]:
        """Measure the mean loss of each objective on the held-out part, in batches of the training size.

        Returns:
            The losses by objective.
        """
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
        own = {id(p) for p in self.objective.backbone.parameters()}  # a tied decoder belongs to the backbone
        head = [p for p in self.objective.parameters() if p.requires_grad and id(p) not in own]
        groups: list[dict[str, Any]] = [{"params": tuned, "lr": self.config.learning_rate}]
        return [*groups, {"params": head, "lr": self.config.head_learning_rate}] if head else groups


def make_run(config: PretrainConfig, inputs: str) -> RunState:
    """Make the identity of a run of pretraining.

    Args:
        config: Settings of the run.
        inputs: Other facts that it depends on: log and base weights.

    Returns:
        The identity, with the folder of the checkpoints.
    """
    facts = dataclasses.asdict(config)
    changeable = ("output", "resume", "checkpoints", "trackers", "mixed_precision")
    kept = {name: value for name, value in facts.items() if name not in changeable}
    identity = compute_identity([kept, inputs])
    return RunState("pretrain", config.output / "checkpoint", config.seed, config.resume, identity, config.checkpoints)
