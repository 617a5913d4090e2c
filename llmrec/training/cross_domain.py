"""Cross-domain transfer: measure what source domains add to a target without users or items in common with them.

Four models are evaluated on the target. `zero_shot` applies the model of the sources to the texts of the target;
`features` keeps the layers that turn text into item vectors and learns the rest from scratch; `initialized` continues
from all weights of the sources; `scratch` uses none of them. Sources can do harm (negative transfer: Rosenstein et al.
2005, NIPS workshop), so validation chooses one of the four, and the test shows if the sources helped.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.data.histories import make_queries
from llmrec.data.interactions import Interactions
from llmrec.data.log import Log
from llmrec.data.splits import TEST, TRAIN, VALID, leave_one_out, split_by_time
from llmrec.errors import DataError
from llmrec.evaluation.model_rows import ModelRow
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.evaluation.ranking import sample_queries
from llmrec.evaluation.results import SplitReport
from llmrec.models.recommender_model import RecommenderModel
from llmrec.models.weight_transfer import TransferWeights
from llmrec.training.distributed.collectives import encode_catalog
from llmrec.training.model_validation import calibrate, validation_ndcg
from llmrec.training.task import TrainingTask
from llmrec.training.two_stage import adapt_backbone, fit_model, make_model

TransferMode = Literal["zero_shot", "features", "initialized", "scratch"]


def get_transfer_row(mode: TransferMode) -> ModelRow:
    """Return the row of a report for one of the four models.

    Args:
        mode: Way of transfer.

    Returns:
        The row.
    """
    return ModelRow("transfer", mode)


@dataclass(frozen=True)
class TrainedModel:
    """Model with its backbone and its result on validation."""

    model: RecommenderModel
    """The fitted model."""
    backbone: TextBackbone | None
    """The backbone that was trained with it, if any."""
    valid_ndcg: float
    """NDCG@10 on the validation queries of the weights that were kept."""


@dataclass(frozen=True)
class Domain:
    """One domain: its task, its item texts and their vectors."""

    task: TrainingTask
    """Training task with the split of the domain."""
    texts: Sequence[str]
    """Texts of the N items."""
    vectors: Tensor
    """Text vectors by the pretrained backbone, (N, D_text)."""


@dataclass(frozen=True)
class CrossDomainStudy:
    """Train and compare the models of a cross-domain transfer."""

    config: FinetuneConfig
    """Settings with which every model is trained."""
    new_backbone: Callable[[], TextBackbone] | None
    """Makes a new backbone, if the strategy trains it; else None."""

    def train(
        self,
        name: str,
        domain: Domain,
        seed: int,
        *,
        start: TransferWeights | None = None,
        backbone: TextBackbone | None = None,
    ) -> TrainedModel:
        """Train a model on stored vectors, then together with the backbone if one is given.

        Args:
            name: Name of the fit in logs and checkpoints.
            domain: Domain to train on.
            seed: Seed of the fit.
            start: Weights to begin with.
            backbone: Backbone whose vectors `domain.vectors` are; trained in place.

        Returns:
            The trained model.
        """
        task = (
            domain.task if start is None else replace(domain.task, inputs=f"{domain.task.inputs} {start.fingerprint()}")
        )
        fitted = fit_model(
            name, task, self.config.model, self.config.train, text=domain.vectors, seed=seed, start=start
        )
        best = validation_ndcg(task, ModelScorer(fitted.watched))
        if backbone is not None:
            reader = CatalogEncoder.from_texts(backbone, domain.texts)
            adapted = adapt_backbone(
                f"{name} backbone", task, fitted.model, self.config.adapt, reader=reader, seed=seed
            )
            best = max(best, adapted.best)
        return TrainedModel(fitted.model, backbone, best)

    def compare_transfers(self, source: Domain, target: Domain, seed: int) -> dict[TransferMode, TrainedModel]:
        """Train the model of the sources, then the four models of the target.

        Args:
            source: The sources as one domain.
            target: Domain to transfer to.
            seed: Seed of all fits.

        Returns:
            The trained models by way of transfer.
        """
        fresh = self.new_backbone
        taught = self.train("sources", source, seed, backbone=fresh() if fresh else None)
        knowledge, seen = TransferWeights.from_model(taught.model), target
        if taught.backbone is not None:
            reader = CatalogEncoder.from_texts(taught.backbone, target.texts)
            seen = replace(target, vectors=encode_catalog(reader, target.task.accelerator))
        return {
            "zero_shot": self._run_zero_shot(seen, knowledge, taught.backbone, seed),
            "features": replace(
                self.train("features", seen, seed, start=knowledge.select_adaptor()), backbone=taught.backbone
            ),
            "initialized": self.train(
                "initialized", seen, seed, start=knowledge, backbone=copy.deepcopy(taught.backbone)
            ),
            "scratch": self.train("scratch", target, seed, backbone=fresh() if fresh else None),
        }

    def _run_zero_shot(
        self, target: Domain, knowledge: TransferWeights, backbone: TextBackbone | None, seed: int
    ) -> TrainedModel:
        """Apply the model of the sources to the target, calibrated on the validation queries of the target."""
        model = make_model(target.task.split, self.config.model, target.vectors, seed, start=knowledge)
        model.items.known.fill_(value=False)
        calibrate(target.task, model)
        return TrainedModel(model, backbone, validation_ndcg(target.task, ModelScorer(model)))


def merge_logs(logs: Sequence[Log], before: int | None) -> tuple[Interactions, int, list[str]]:
    """Merge the early events of several logs, with separate users and items.

    Args:
        logs: The logs.
        before: Time in seconds; later events of logs with times are left out. None for all events.

    Returns:
        The events, the number of users, and the item texts.

    Raises:
        DataError: If no log has an event before that time.
    """
    users = np.cumsum([0, *(log.n_users for log in logs)])
    items = np.cumsum([0, *(log.n_items for log in logs)])
    parts = []
    for place, log in enumerate(logs):
        early = log.interactions
        if before is not None and log.facts.has_times:
            early = early.take(early.time < before)
        parts.append((early.user + users[place], early.item + items[place], early.time))
    user, item, time = (np.concatenate(column) for column in zip(*parts, strict=True))
    if not len(time):
        names = ", ".join(log.facts.source for log in logs)
        raise DataError(
            names, [f"no event lies before {np.datetime64(before or 0, 's')}, where the target's validation begins"]
        )
    texts = [text for log in logs for text in log.catalog.list_texts()]
    return Interactions.sort(user, item, time), int(users[-1]), texts


def make_source_domain(
    logs: Sequence[Log], target: TrainingTask, config: FinetuneConfig, read: Callable[[Sequence[str]], Tensor]
) -> Domain:
    """Make one domain of the sources, which ends before the validation window of a target by_time begins.

    Args:
        logs: Logs of the sources.
        target: Task of the target.
        config: Settings of the split, the validation and the backbone.
        read: Encodes texts into vectors, (N, D_text).

    Returns:
        The domain; its validation is its last events, or the last event of each user if a source has no times.
    """
    before = target.split.valid_start if target.split.name == "by_time" else None
    events, n_users, texts = merge_logs(logs, before)
    share = config.split.valid_fraction
    if all(log.facts.has_times for log in logs):
        cut = split_by_time(events, n_users, len(texts), valid_fraction=share, test_fraction=share)
    else:
        cut = leave_one_out(events, n_users, len(texts))
    part = np.where(cut.part == TEST, VALID, TRAIN).astype(np.int8)
    split = replace(cut, part=part, valid_start=cut.test_start, test_start=before or cut.test_start)
    valid = sample_queries(make_queries(split, VALID, ties=target.ties), config.evaluation.max_valid_queries)
    facts = [log.facts.fingerprint for log in logs], split.valid_start, split.test_start, len(valid), config.backbone
    return Domain(replace(target, split=split, valid=valid, inputs=str(facts), release_time=None), texts, read(texts))


def choose_transfer(
    learned: Sequence[Mapping[TransferMode, TrainedModel]],
) -> tuple[TransferMode, dict[TransferMode, float]]:
    """Choose the way of transfer with the highest mean NDCG@10 on validation.

    Args:
        learned: Trained models by way of transfer, one mapping per seed.

    Returns:
        The best way, and the mean over seeds by way.
    """
    means = {way: float(np.mean([ways[way].valid_ndcg for ways in learned])) for way in learned[0]}
    return max(means, key=lambda way: means[way]), means


def describe_transfer(
    evaluated: SplitReport, metric: str, way: TransferMode, means: Mapping[TransferMode, float]
) -> str:
    """Describe what the sources add: `initialized` minus `scratch` on the test, and the way chosen.

    Args:
        evaluated: Results on the test.
        metric: Metric to compare.
        way: Way of transfer that validation chose.
        means: Mean NDCG@10 on validation by way.

    Returns:
        Two sentences.
    """
    wanted = (get_transfer_row("initialized"), get_transfer_row("scratch"), "overall", metric)
    pair = next(c for c in evaluated.comparisons if (c.model, c.against, c.slice, c.metric) == wanted)
    found = {
        "better": "the sources helped",
        "worse": "negative transfer: the sources did harm",
        "no clear difference": "the sources made no clear difference",
    }[pair.verdict]
    interval = "" if pair.low is None or pair.high is None else f" [{pair.low:+.4f}, {pair.high:+.4f}]"
    measured = ", ".join(f"{get_transfer_row(way)} {mean:.4f}" for way, mean in means.items())
    return (
        f"{found}: {pair.metric} of {pair.model} minus {pair.against} {pair.difference:+.4f}{interval} on the test. "
        f"Validation ({measured}) chose {get_transfer_row(way)}, which is in the bundle."
    )
