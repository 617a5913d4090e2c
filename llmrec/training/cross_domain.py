"""From other domains to this one: what they are worth to a target that has no user and no item in common with them.

Four models answer the target's test. `zero_shot` is the sources' model on the target's texts; `features` keeps how the
sources made text into item vectors and learns the rest anew; `initialized` goes on from everything they know; `scratch`
knows nothing of them. Sources can do harm (negative transfer: Rosenstein et al. 2005, NIPS workshop), so validation
chooses between the four, and the test tells whether they helped.
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
from llmrec.data.splits import TEST, TRAIN, VALID, split_by_time
from llmrec.errors import DataError
from llmrec.evaluation.model_rows import ModelRow
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.evaluation.ranking import sample_queries
from llmrec.evaluation.results import SplitReport
from llmrec.models.recommender_model import RecommenderModel
from llmrec.models.weight_transfer import TransferWeights
from llmrec.training.distributed.collectives import encode_catalog
from llmrec.training.task import TrainingTask
from llmrec.training.two_stage import adapt_backbone, calibrate, fit_model, make_model, validation_ndcg

TransferMode = Literal["zero_shot", "features", "initialized", "scratch"]


def get_transfer_row(mode: TransferMode) -> ModelRow:
    """Return the row of a report for one of the four models."""
    return ModelRow("transfer", mode)


@dataclass(frozen=True)
class TrainedModel:
    """A model, the backbone that was trained with it, if any, and the NDCG@10 on validation that it was kept for."""

    model: RecommenderModel
    backbone: TextBackbone | None
    valid_ndcg: float


@dataclass(frozen=True)
class Domain:
    """task: with its split. texts: of the N items. vectors: (N, D_text) of them by the pretrained backbone."""

    task: TrainingTask
    texts: Sequence[str]
    vectors: Tensor


@dataclass(frozen=True)
class CrossDomainStudy:
    """How every model here is trained. new_backbone: a fresh one, where the strategy trains it."""

    config: FinetuneConfig
    new_backbone: Callable[[], TextBackbone] | None

    def train(
        self,
        name: str,
        domain: Domain,
        seed: int,
        start: TransferWeights | None = None,
        backbone: TextBackbone | None = None,
    ) -> TrainedModel:
        """On stored vectors first, then, where a backbone is given, together with it.

        start: weights to begin with. backbone: domain.vectors are its own; it is trained in place.
        """
        task = (
            domain.task if start is None else replace(domain.task, inputs=f"{domain.task.inputs} {start.fingerprint()}")
        )
        fitted = fit_model(name, task, self.config.model, self.config.train, domain.vectors, seed, start)
        best = validation_ndcg(task, ModelScorer(fitted.watched))
        if backbone is not None:
            reader = CatalogEncoder.from_texts(backbone, domain.texts)
            adapted = adapt_backbone(f"{name} backbone", task, fitted.model, self.config.adapt, reader, seed)
            best = max(best, adapted.best)
        return TrainedModel(fitted.model, backbone, best)

    def compare_transfers(self, source: Domain, target: Domain, seed: int) -> dict[TransferMode, TrainedModel]:
        """What each of the four models learns, the sources' own before them."""
        fresh = self.new_backbone
        taught = self.train("sources", source, seed, backbone=fresh() if fresh else None)
        knowledge, seen = TransferWeights.from_model(taught.model), target
        if taught.backbone is not None:
            reader = CatalogEncoder.from_texts(taught.backbone, target.texts)
            seen = replace(target, vectors=encode_catalog(reader, target.task.accelerator))
        return {
            "zero_shot": self._run_zero_shot(seen, knowledge, taught.backbone, seed),
            "features": replace(
                self.train("features", seen, seed, knowledge.select_adaptor()), backbone=taught.backbone
            ),
            "initialized": self.train("initialized", seen, seed, knowledge, copy.deepcopy(taught.backbone)),
            "scratch": self.train("scratch", target, seed, backbone=fresh() if fresh else None),
        }

    def _run_zero_shot(
        self, target: Domain, knowledge: TransferWeights, backbone: TextBackbone | None, seed: int
    ) -> TrainedModel:
        """Every item of the target is new to this model, so that no item gains anything over another by being known.
        As for every way, the target's validation sets how much nearness of texts counts.
        """
        model = make_model(target.task.split, self.config.model, target.vectors, seed, knowledge)
        model.items.known.fill_(False)
        calibrate(target.task, model)
        return TrainedModel(model, backbone, validation_ndcg(target.task, ModelScorer(model)))


def merge_logs(logs: Sequence[Log], before: int) -> tuple[Interactions, int, list[str]]:
    """The events of all logs before `before` (seconds), with users and items of their own: events, users, item texts.

    Raises:
        DataError: no log has an event before then.
    """
    users = np.cumsum([0, *(log.n_users for log in logs)])
    items = np.cumsum([0, *(log.n_items for log in logs)])
    parts = []
    for place, log in enumerate(logs):
        events = log.interactions
        early = events.take(events.time < before)
        parts.append((early.user + users[place], early.item + items[place], early.time))
    user, item, time = (np.concatenate(column) for column in zip(*parts, strict=True))
    if not len(time):
        names = ", ".join(log.facts.source for log in logs)
        raise DataError(
            names, [f"no event lies before {np.datetime64(before, 's')}, where the target's validation begins"]
        )
    texts = [text for log in logs for text in log.catalog.list_texts()]
    return Interactions.sort(user, item, time), int(users[-1]), texts


def make_source_domain(
    logs: Sequence[Log], target: TrainingTask, config: FinetuneConfig, read: Callable[[Sequence[str]], Tensor]
) -> Domain:
    """The sources as one domain whose last events are its validation window; all of it lies before the target's."""
    events, n_users, texts = merge_logs(logs, target.split.valid_start)
    cut = split_by_time(events, n_users, len(texts), config.split.valid_fraction, config.split.valid_fraction)
    part = np.where(cut.part == TEST, VALID, TRAIN).astype(np.int8)
    split = replace(cut, part=part, valid_start=cut.test_start, test_start=target.split.valid_start)
    valid = sample_queries(make_queries(split, VALID, target.ties), config.evaluation.max_valid_queries)
    facts = [log.facts.fingerprint for log in logs], split.valid_start, split.test_start, len(valid), config.backbone
    return Domain(replace(target, split=split, valid=valid, inputs=str(facts), release_time=None), texts, read(texts))


def choose_transfer(
    learned: Sequence[Mapping[TransferMode, TrainedModel]],
) -> tuple[TransferMode, dict[TransferMode, float]]:
    """The way with the highest mean over seeds of the NDCG@10 on validation, and that mean by way."""
    means = {way: float(np.mean([ways[way].valid_ndcg for ways in learned])) for way in learned[0]}
    return max(means, key=lambda way: means[way]), means


def describe_transfer(
    evaluated: SplitReport, metric: str, way: TransferMode, means: Mapping[TransferMode, float]
) -> str:
    """What the sources were worth, in words: by `initialized` minus `scratch` on the test."""
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
