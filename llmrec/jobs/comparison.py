"""Compare all models of one split on the same queries: llmrec with and without drift, SASRec, and the baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.drift.fit_head import FittedHead
from llmrec.evaluation.aggregate import make_test_queries
from llmrec.evaluation.model_rows import FROZEN, ModelRow
from llmrec.evaluation.results import SplitReport
from llmrec.jobs.adaptation import describe_adaptation, is_better, is_kept
from llmrec.jobs.model_benchmark import ModelBenchmark
from llmrec.models.recommender_model import RecommenderModel
from llmrec.training.drift_ablation import DriftTask
from llmrec.training.membership_audit import measure_membership
from llmrec.training.privacy.dp_trainer import build_privacy_report
from llmrec.training.task import FittedModel, TrainingTask, sasrec_train_configs
from llmrec.utils.timing import timer


@dataclass(frozen=True)
class BenchmarkResult:
    """Results on a split, with the models of the first seed."""

    evaluated: SplitReport
    """All numbers of the split."""
    model: RecommenderModel
    """Fitted model of the first seed."""
    reader: CatalogEncoder | None
    """Encoder with its adapted backbone; None if none was trained or kept."""
    drift: FittedHead | None
    """Its fitted drift head; None without drift."""
    adaptation: str
    """Sentence on why the adapted backbone was kept or not; empty if none was trained."""
    training: list[dict[str, Any]]
    """A point for each measurement of each fit."""
    privacy: dict[str, Any] | None
    """Privacy guarantee of the first seed's model; None without one."""
    membership: list[dict[str, Any]]
    """Results of membership attacks on it."""


def run_benchmark(
    task: TrainingTask,
    config: FinetuneConfig,
    text: Tensor | None,
    new_reader: Callable[[], CatalogEncoder] | None,
    *,
    second_texts: Sequence[str] | None = None,
) -> BenchmarkResult:
    """Fit, rank and evaluate all models of one split.

    Args:
        task: Training task with the split.
        config: Settings of the run.
        text: Text vectors of the frozen backbone, (N, D_text); None for ids alone.
        new_reader: Makes a trainable backbone for each seed; None if the strategy trains none.
        second_texts: Texts of the catalog that lack some fields, for adapt_items; None for whole texts alone.

    Returns:
        Results, and the models of the first seed.
    """
    benchmark = ModelBenchmark(task, config, make_test_queries(task.split, task.ties, config.evaluation))
    drift = DriftTask.from_task(config.drift, task, text) if config.drift is not None else None
    own = ModelRow("llmrec", config.backbone.strategy)
    seeds = config.seeds_for_split(task.split.name)
    first = _fit_seed(benchmark, own, text, new_reader, seed=seeds[0], second_texts=second_texts)
    privacy, membership = _measure_privacy(benchmark, first, text, seeds[0])
    head = benchmark.fit_and_rank_drift(first.fitted, seeds[0], drift) if drift is not None else None
    _fit_sasrec(benchmark, seeds[0])
    for seed in seeds[1:]:
        again = _fit_seed(benchmark, own, text, new_reader, seed=seed, second_texts=second_texts)
        if drift is not None:
            benchmark.fit_and_rank_drift(again.fitted, seed, drift)
        _fit_sasrec(benchmark, seed)
    benchmark.rank_baselines(text)
    answers = own if first.reader is not None or new_reader is None else FROZEN
    headline, also = (answers, ()) if head is None else (_get_refreshed_row(benchmark), (answers,))
    evaluated = benchmark.evaluate(headline, text, also=also)
    model, reader, training = first.fitted.model, first.reader, benchmark.training
    return BenchmarkResult(evaluated, model, reader, head, first.adaptation, training, privacy, membership)


@dataclass(frozen=True)
class _SeedFit:
    """Fit of one seed: model, backbone if it was kept, reason, optimizer steps, trained modules."""

    fitted: FittedModel
    reader: CatalogEncoder | None
    adaptation: str
    steps: int
    trained: list[nn.Module]


def _fit_seed(
    benchmark: ModelBenchmark,
    own: ModelRow,
    text: Tensor | None,
    new_reader: Callable[[], CatalogEncoder] | None,
    *,
    seed: int,
    second_texts: Sequence[str] | None,
) -> _SeedFit:
    """Fit on stored vectors, then together with the backbone if the strategy trains one."""
    config = benchmark.config
    fitted = benchmark.fit(own if new_reader is None else FROZEN, config.model, config.train, text, seed=seed)
    if new_reader is None:
        return _SeedFit(fitted, None, "", fitted.progress.step, [fitted.model])
    with timer.section("read", own.name):
        reader = new_reader()
    if config.adapt_items is not None:
        adapted, sentence = benchmark.adapt_items_and_rank(own, fitted, reader, seed, second_texts=second_texts)
        if adapted is None or not is_better(adapted, fitted):
            return _SeedFit(fitted, None, sentence, fitted.progress.step, [fitted.model])
        return _SeedFit(adapted, reader, sentence, adapted.progress.step, [adapted.model, reader.backbone])
    progress = benchmark.adapt_and_rank(own, fitted, reader, seed)
    steps, trained = fitted.progress.step + progress.step, [fitted.model, reader.backbone]
    kept = reader if is_kept(progress) else None
    return _SeedFit(fitted, kept, describe_adaptation(own, progress), steps, trained)


def _fit_sasrec(benchmark: ModelBenchmark, seed: int) -> None:
    config = benchmark.config
    for name, train in sasrec_train_configs(config).items():
        benchmark.fit(ModelRow("baseline", name), config.sasrec.model, train, None, seed=seed, private=False)


def _get_refreshed_row(benchmark: ModelBenchmark) -> ModelRow:
    """Return the row with the drift head whose counts are updated first, and most often by default."""
    return next(row for row in benchmark.rankings if row.kind == "drift" and row.refresh is not None)


def _measure_privacy(
    benchmark: ModelBenchmark, fit: _SeedFit, text: Tensor | None, seed: int
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return the guarantee of a model's training, and the results of attacks on it."""
    task, config = benchmark.task, benchmark.config
    privacy = build_privacy_report(task.privacy, fit.steps, fit.trained) if task.privacy else None
    if not config.membership:
        return privacy, []
    return privacy, measure_membership(task, config, config.membership, fit.fitted.model, text=text, seed=seed)
