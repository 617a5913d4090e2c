"""Measurement of the parts of a strategy on this machine: sampled texts, training steps and queries."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from accelerate import Accelerator

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.hidden_state_cache import HiddenStateCache, HiddenStateFile
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.text_vector_cache import TextVectorCache
from llmrec.backbones.token_store import TokenStore
from llmrec.config.jobs.distill import DistillationLosses
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.train import TrainConfig
from llmrec.data.histories import Queries
from llmrec.data.loading import load_log
from llmrec.data.log import Log
from llmrec.evaluation.aggregate import make_test_queries
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.evaluation.ranking import BATCH, query_batch_size
from llmrec.models.losses import LOGITS_AT_ONCE_GPU
from llmrec.models.recommender_model import RecommenderModel
from llmrec.planning.cost import NOTHING, Cost, LinearCost, count_operations, count_weight_bytes, measure_time
from llmrec.planning.strategies import PlannedStrategy, config_for_strategy, distillation_losses
from llmrec.planning.timed_steps import StageCost, measure_stage
from llmrec.training.calibration import RECENCIES, STRENGTHS
from llmrec.training.distillation import DistillationObjective
from llmrec.training.model_validation import calibrate, rank_across_processes, validation_ndcg
from llmrec.training.objectives import Objective, RecommendationObjective
from llmrec.training.task import make_task, sasrec_train_configs
from llmrec.training.two_stage import make_model
from llmrec.utils.arrays import Rows
from llmrec.utils.timing import peak_memory_mib

# No catalog is encoded whole: stored text vectors and the outputs of lower layers are drawn at random, because they
# cost as much as real ones.
SAMPLED_TOKENS = 1 << 14  # of the catalog, that are encoded
CUDA_BYTES = 512 << 20  # memory of a process on a GPU before its first tensor
MIB = 2**20


@dataclass(frozen=True)
class StrategyMeasurement:
    """Measured costs of the parts of a strategy's run."""

    way: PlannedStrategy
    """The strategy."""
    load: Cost
    """Loading the backbone and tokenizing the catalog."""
    read: Cost
    """Encoding the texts of the catalog that no cache holds."""
    lower: Cost
    """Running the layers below those that train over the catalog, once."""
    renew: Cost
    """Encoding the catalog in training."""
    fit: StageCost
    """First stage, on stored text vectors."""
    adapt: StageCost | None
    """Second stage, through the backbone; None if the backbone does not train."""
    sasrec: tuple[StageCost, ...]
    """Baselines that the same loop trains on ids only."""
    ndcg: LinearCost
    """Validation, by queries."""
    matched: LinearCost
    """Validation with text similarity, by queries."""
    calibrate: LinearCost
    """Calibration, by queries."""
    rank: LinearCost
    """Ranking of test queries, by queries."""
    peak_mib: float
    """Peak memory in MiB of this process, including what a run maps from files."""
    gpu_bytes: int
    """Peak memory in bytes of one process on a GPU."""
    causal: bool
    """True if the backbone is a decoder."""

    @property
    def trains(self) -> int:
        """Number of weights that train in the last stage."""
        return (self.adapt or self.fit).trains


def measure(config: FinetuneConfig, way: PlannedStrategy, n_steps: int, gpus: int) -> StrategyMeasurement:
    """Measure the parts of a strategy; peak memory is meaningful only in a process of its own.

    Args:
        config: Settings of the run.
        way: The strategy.
        n_steps: Number of training steps to time.
        gpus: Number of GPUs to estimate for; 0 for none.

    Returns:
        The measurements.

    Raises:
        BackboneError: If the backbone does not support the strategy.
        ConfigError: If the configuration does not allow the strategy.
    """
    config = config_for_strategy(config, way)
    with TemporaryDirectory() as folder:
        config = replace(config, output=Path(folder), resume=False, trackers=())
        return _StrategyRun(config, way, n_steps, gpus).measure()


class _StrategyRun:
    """Components of a strategy's run; `scale` is the ratio of all tokens to those of the rows in `sample`."""

    def __init__(self, config: FinetuneConfig, way: PlannedStrategy, n_steps: int, gpus: int) -> None:
        self.config, self.way, self.n_steps, self.gpus = config, way, n_steps, gpus
        self.accelerator = Accelerator(mixed_precision=config.mixed_precision)
        self.log: Log = load_log(config.data)
        self.load = measure_time(self._load)
        self.sample, self.scale = sample_texts(self.reader.tokens)
        by_itself = config.model.history_encoder == "sequence"
        self.task = make_task(
            config.split.names[0], self.log, config, self.accelerator, reader=None if by_itself else self.reader
        )
        self.kept = 0  # bytes mapped from files in a run

    def _load(self) -> None:
        backbone = TextBackbone.load(self.config.backbone).to(self.accelerator.device)
        self.reader = CatalogEncoder.from_texts(backbone, self.log.catalog.list_texts())

    def measure(self) -> StrategyMeasurement:
        """Measure all parts of the run."""
        config, backbone = self.config, self.reader.backbone
        frozen_bytes, read = count_weight_bytes(backbone), self._read()
        apply_strategy(backbone, config.backbone)
        text = torch.randn(self.log.n_items, backbone.dim) / backbone.dim**0.5
        model = make_model(self.task.split, config.model, text, 0, reader=self.task.reader)
        fit = self._measure_stage(RecommendationObjective(model), config.train)
        lower, renew, adapt = NOTHING, NOTHING, None
        if self.way != "frozen":
            lower = self._measure_lower_layers()
            renew = self._measure_encoding(lambda: self.reader.encode(self.sample), self.sample) * self.scale
            adapt = self._adapt(model)
        test = make_test_queries(self.task.split, self.task.ties, config.evaluation)
        stages = [stage for stage in (fit, adapt) if stage is not None]
        twice = frozen_bytes if self.way in ("last_k", "lora", "full") else 0  # a run has the frozen backbone as well
        return StrategyMeasurement(
            way=self.way,
            load=self.load,
            read=read,
            lower=lower,
            renew=renew,
            fit=fit,
            adapt=adapt,
            sasrec=self._measure_baselines(),
            ndcg=self._measure_line(self.task.valid, lambda queries: self._validate(model, queries)),
            calibrate=self._measure_line(self.task.valid, lambda queries: self._calibrate(model, queries)),
            matched=self._measure_line(self.task.valid, lambda queries: self._validate(model, queries, matched=True)),
            rank=self._measure_line(test, lambda queries: self._rank(model, queries)),
            peak_mib=peak_memory_mib() + (self.kept + twice) / MIB,
            gpu_bytes=CUDA_BYTES
            + frozen_bytes
            + self._estimate_logit_bytes()
            + max(stage.footprint.total for stage in stages),
            causal=backbone.causal,
        )

    def _read(self) -> Cost:
        """Measure the encoding of the texts that the cache does not hold at the start of a run."""
        backbone, lengths = self.reader.backbone, self.reader.tokens.lengths
        rows = np.arange(len(lengths))
        if self.way != "distill":
            rows = TextVectorCache(backbone).find_missing(self.log.catalog.list_texts())
        tokens = self.reader.tokens.take(self.sample)
        backbone.encode(tokens)  # warm-up
        share = float(lengths[rows].sum()) / max(float(lengths[self.sample].sum()), 1)
        return self._measure_encoding(lambda: backbone.encode(tokens), self.sample) * share

    def _measure_encoding(self, read: Callable[[], object], rows: Rows) -> Cost:
        """Measure an encoding, with operations counted in padded batches, as on a GPU."""
        cost = measure_time(read)
        if not self.gpus:
            return cost
        with torch.no_grad():
            work = count_operations(lambda: self.reader.encode_with_grad(rows))
        return replace(cost, flops=work.flops, calls=work.calls)

    def _measure_lower_layers(self) -> Cost:
        """Measure the layers that do not train over the catalog; later steps start above them."""
        reader, kept, folder = self.reader, self.config.backbone.hidden_state_cache, self.config.output
        backbone, tokens = reader.backbone, reader.tokens
        file = HiddenStateFile.from_backbone(backbone, tokens, kept)
        if file is None:
            return NOTHING
        some = tokens.take(self.sample)
        known = measure_time(
            lambda: HiddenStateFile.from_backbone(backbone, some, kept)
        )  # does not depend on the catalog
        began = measure_time(lambda: HiddenStateCache.load_or_compute(backbone, some, kept=kept, cache_dir=folder))
        if (
            HiddenStateCache.load_or_compute(backbone, some, kept=kept, cache_dir=folder) is None
        ):  # a model that cannot start above its lower layers
            return NOTHING
        longest = int(tokens.lengths.max(initial=1))
        states, start = torch.randn(longest, backbone.hidden_width), np.zeros(len(tokens), dtype=np.int64)
        self.reader, self.kept = (
            replace(reader, lower=HiddenStateCache(file.n_layers, states, start, tokens.lengths)),
            file.size,
        )
        return known if file.is_whole else known + (began + known * -1) * self.scale

    def _adapt(self, model: RecommenderModel) -> StageCost:
        if self.way != "distill":
            items, train = self.config.adapt_items, self.config.adapt
            if items is not None:  # a step costs what its items cost
                train = replace(train, trainable_items_per_step=items.items_per_step)
            return self._measure_stage(RecommendationObjective(model, self.reader), train)
        objective = DistillationObjective(copy.deepcopy(model), self.reader, model, DistillationLosses())
        stage = self._measure_stage(objective, distillation_losses(self.config.adapt, self.log.n_items))
        model.requires_grad_(requires_grad=True)
        return stage

    def _measure_baselines(self) -> tuple[StageCost, ...]:
        if self.way != "frozen":
            return ()
        stages = []
        for train in sasrec_train_configs(self.config).values():
            model = make_model(self.task.split, self.config.sasrec.model, None, 0)
            stages.append(self._measure_stage(RecommendationObjective(model), train))
        return tuple(stages)

    def _measure_stage(self, objective: Objective, config: TrainConfig) -> StageCost:
        return measure_stage(self.task, objective, config, self.n_steps, processes=self.gpus)

    def _validate(self, model: RecommenderModel, queries: Queries, *, matched: bool = False) -> None:
        _match_texts(model, on=matched)
        validation_ndcg(replace(self.task, valid=queries), ModelScorer(model))

    def _calibrate(self, model: RecommenderModel, queries: Queries) -> None:
        """Calibrate as if text similarity improved the validation metric, which random vectors may not show."""
        calibrate(replace(self.task, valid=queries), model)
        match = model.items.match
        for _ in RECENCIES[1:] if match is not None and float(match.strength) == 0 else ():
            self._validate(model, queries, matched=True)

    def _rank(self, model: RecommenderModel, queries: Queries) -> None:
        _match_texts(model, on=True)
        rank_across_processes(self.task, ModelScorer(model), queries, max(self.config.evaluation.cutoffs))

    def _measure_line(self, queries: Queries, work: Callable[[Queries], object]) -> LinearCost:
        """Fit the line through one batch of queries and three, spread over all queries."""
        few = min(BATCH, max(len(queries) // 3, 1))
        points = []
        for n in (few, few, min(3 * few, len(queries))):  # the first one is a warm-up
            some = queries.take(np.linspace(0, len(queries) - 1, n).astype(np.int64))
            cost = measure_time(lambda some=some: work(some))  # type: ignore[misc]
            if self.gpus:
                gpu = count_operations(lambda some=some: work(some))  # type: ignore[misc]
                cost = replace(cost, flops=gpu.flops, calls=gpu.calls)
            points.append((n, cost))
        return LinearCost.from_two_points(*points[1:])

    def _estimate_logit_bytes(self) -> int:
        """Estimate the bytes of temporary logits, in training or in ranking."""
        n_items, trained = self.log.n_items, 0
        if "full" in (self.config.train.negatives, self.config.adapt.negatives):
            targets = max(self.config.train.batch_targets, self.config.adapt.batch_targets) // max(self.gpus, 1)
            trained = 4 * min(targets * n_items, LOGITS_AT_ONCE_GPU)
        return max(trained, 2 * 4 * query_batch_size(n_items) * n_items)


def _match_texts(model: RecommenderModel, *, on: bool) -> None:
    """Turn text similarity on or off; if it is on, the vectors to rank by are longer."""
    if model.items.match is not None:
        model.items.match.set_parameters(STRENGTHS[-1] if on else 0.0, RECENCIES[0])


def sample_texts(tokens: TokenStore) -> tuple[Rows, float]:
    """Sample about SAMPLED_TOKENS tokens of texts of all lengths.

    Args:
        tokens: Tokens of the catalog.

    Returns:
        Rows of the sampled texts, and the ratio of all tokens to the sampled ones.
    """
    total = max(int(tokens.lengths.sum()), 1)
    n = int(np.ceil(len(tokens) * min(SAMPLED_TOKENS / total, 1)))
    places = ((np.arange(n) + 0.5) * len(tokens) / max(n, 1)).astype(np.int64)
    rows = np.argsort(tokens.lengths, kind="stable")[places]
    return rows, total / max(int(tokens.lengths[rows].sum()), 1)
