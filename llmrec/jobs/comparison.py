"""One split, every model: our own by its transfer strategy, SASRec, and the baselines, on the same queries."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.data.histories import Queries
from llmrec.drift.fit_head import FittedHead
from llmrec.evaluation.aggregate import evaluate_split, make_test_queries
from llmrec.evaluation.baselines import BASELINES, BaselineTask, Tuning, fit_baselines
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.evaluation.ranking import Ranking, Scorer
from llmrec.evaluation.results import SplitReport
from llmrec.evaluation.slices import make_slices
from llmrec.models.recommender_model import RecommenderModel
from llmrec.training.checkpoints import Progress
from llmrec.training.distributed.parallel_ranking import rank_in_parallel
from llmrec.training.drift_ablation import DriftTask, iterate_drift_rows
from llmrec.training.membership_audit import measure_membership
from llmrec.training.privacy.dp_trainer import build_privacy_report
from llmrec.training.task import FittedModel, TrainingTask, make_protocol, sasrec_train_configs
from llmrec.training.two_stage import adapt_backbone, fit_model
from llmrec.utils.timing import timer


@dataclass(frozen=True)
class BenchmarkResult:
    """A split's numbers, the model of the first seed with its backbone and drift head, and how training went.

    privacy_record: of that model, what its users' privacy was worth and how well attacks did, where that was asked for.
    """

    evaluated: SplitReport
    model: RecommenderModel
    reader: CatalogEncoder | None
    drift: FittedHead | None
    training: list[dict[str, Any]]
    privacy_record: dict[str, Any]


class ModelBenchmark:
    """Fit and rank models on one split, and keep every seed's ranking, settings and training record."""

    def __init__(self, task: TrainingTask, config: FinetuneConfig, test: Queries) -> None:
        self.task, self.config, self.test = task, config, test
        self.rankings: dict[str, list[Ranking]] = defaultdict(list)
        self.settings: dict[str, Any] = {}
        self.training: list[dict[str, Any]] = []
        self.streaming: dict[str, None] = {}  # names, once each, in order

    def rank(self, name: str, scorer: Scorer, is_streaming: bool = False) -> None:
        """is_streaming: whether it goes on counting everyone's events during the test."""
        if is_streaming:
            self.streaming[name] = None
        with timer.section("evaluate", name):
            self.rankings[name].append(self._rank(name, scorer, self.task.accelerator))

    def fit(
        self, name: str, model: ModelConfig, train: TrainConfig, text: Tensor | None, seed: int, private: bool = True
    ) -> FittedModel:
        """Feature transfer, or ids alone: fit, rank, record. private: if the task is."""
        task = self.task if private else replace(self.task, privacy=None)
        with timer.section("fit", name):
            fitted = fit_model(name, task, model, train, text, seed)
        self.rank(name, ModelScorer(fitted.model))
        settings = {"model": dataclasses.asdict(model), "train": dataclasses.asdict(train)}
        self._record_training(name, seed, fitted.progress, settings, fitted.model)
        return fitted

    def adapt_and_rank(self, name: str, model: RecommenderModel, reader: CatalogEncoder, seed: int) -> Progress:
        """Parameter transfer on top of a fitted model: train the backbone too, rank, record."""
        with timer.section("adapt", name):
            progress = adapt_backbone(name, self.task, model, self.config.adapt, reader, seed)
        self.rank(name, ModelScorer(model))
        self._record_training(name, seed, progress, {"adapt": dataclasses.asdict(self.config.adapt)}, model)
        return progress

    def fit_and_rank_drift(self, fitted: FittedModel, seed: int, task: DriftTask) -> FittedHead:
        """The model in the stream of events: as it stood at the cut-off, kept up to date, and by its parts. The fit's
        stream is that of the model under test.
        """
        with timer.section("drift"):
            full, judged = task.fit(ModelScorer(fitted.watched), seed)
        split = self.task.split.merge_validation() if self.config.train.refit else self.task.split
        before = split.valid_start if split.name == "by_time" else None
        for row in iterate_drift_rows(task, judged, full, ModelScorer(fitted.model), before):
            self.rank(row.name, row.scorer, row.streams)
            self.settings.setdefault(row.name, {})[f"seed {seed}"] = row.settings
        return replace(full, stream=replace(full.stream, trained_until=before))

    def rank_baselines(self, text: Tensor | None) -> None:
        """The baselines that are not trained by this trainer, each tuned with the same budget, in one process each."""
        evaluation = self.config.evaluation
        names = [name for name in evaluation.baselines if name in BASELINES]
        refit = self.config.train.refit
        baseline_task = BaselineTask(
            tune_on=self.task.split,
            fit_on=self.task.split.merge_validation() if refit else self.task.split,
            valid=self.task.valid,
            text_vectors=None if text is None else text.numpy(),
            tuning=Tuning(evaluation.tuning_budget, evaluation.tuning_queries, self.task.mask_seen),
            seeds=self.config.seeds_for_split(self.task.split.name),
        )
        if text is None:
            names = [name for name in names if name != "nearest_text"]
        accelerator, found = self.task.accelerator, []
        for place in range(accelerator.process_index, len(names), accelerator.num_processes):
            with timer.section("baselines", names[place]):
                all_fitted = fit_baselines([names[place]], baseline_task)
            for name, fitted in all_fitted.items():
                with timer.section("evaluate", name):
                    rankings = [self._rank(name, scorer, None) for scorer in fitted.scorers]
                found.append((place, name, rankings, replace(fitted, scorers=())))
        for _, name, rankings, fitted in sorted(gather_object(found), key=lambda part: part[0]):
            if fitted.streams:
                self.streaming[name] = None
            self.rankings[name] += rankings
            self.settings[name] = fitted.record

    @timer.section("evaluate")
    def evaluate(self, main: str, text: Tensor | None, also: Sequence[str] = ()) -> SplitReport:
        """also: rows that are compared with every other, as `main` is."""
        config, split = self.config, self.task.split
        protocol = make_protocol(split, self.task.ties, config, self.task.release_time is not None)
        protocol = replace(protocol, streaming=tuple(self.streaming))
        slices = make_slices(split.merge_validation() if config.train.refit else split, self.test, text)
        return evaluate_split(
            split.name,
            self.test,
            slices,
            self.rankings,
            protocol,
            config.evaluation,
            main,
            self.settings,
            also,
        )

    def _rank(self, name: str, scorer: Scorer, accelerator: Accelerator | None) -> Ranking:
        """accelerator: of the processes that share the queries; None: this one answers all of them."""
        task, n_top = self.task, max(self.config.evaluation.cutoffs)
        n_items, progress = task.split.n_items, f"ranking {name}"
        return rank_in_parallel(
            scorer, self.test, n_items, accelerator, n_top, task.mask_seen, task.release_time, progress
        )

    def _record_training(
        self, name: str, seed: int, progress: Progress, settings: dict[str, Any], model: RecommenderModel
    ) -> None:
        name_and_split = f"{name}, {self.task.split.name}"
        self.training += [{"model": name_and_split, "seed": seed, **point} for point in progress.history]
        match = model.items.match
        self.settings.setdefault(name, settings | {"seeds": {}})["seeds"][str(seed)] = {
            "valid_ndcg": [round(point["valid_ndcg"], 4) for point in progress.history],
            "best_epoch": progress.best_epoch,
            "novelty": round(float(model.novelty), 4),
            "text_match": None if match is None else [float(match.strength), round(float(match.recency), 2)],
        }


def run_benchmark(
    task: TrainingTask,
    config: FinetuneConfig,
    text: Tensor | None,
    new_reader: Callable[[], CatalogEncoder] | None,
    main: str,
) -> BenchmarkResult:
    """All rows of one split.

    text: (N, D_text) frozen vectors, or None for ids alone. new_reader: makes a fresh trainable backbone where the
    strategy trains one. main: the name of the row that the others are compared with.
    """
    test = make_test_queries(task.split, task.ties, config.evaluation)
    comparison = ModelBenchmark(task, config, test)
    drift = DriftTask.from_task(config.drift, task, text) if config.drift is not None else None
    fitted: list[tuple[RecommenderModel, CatalogEncoder | None, FittedHead | None]] = []
    told: dict[str, Any] = {}
    for seed in config.seeds_for_split(task.split.name):
        fit = comparison.fit(main if new_reader is None else "llmrec frozen", config.model, config.train, text, seed)
        reader = None
        if new_reader is not None:
            with timer.section("read", main):
                reader = new_reader()
        steps = fit.progress.step
        if reader is not None:
            steps += comparison.adapt_and_rank(main, fit.model, reader, seed).step
        if not fitted:
            told = _build_privacy_record(task, config, fit.model, reader, steps, text, seed)
        fitted.append((fit.model, reader, None if drift is None else comparison.fit_and_rank_drift(fit, seed, drift)))
        for name, train in sasrec_train_configs(config).items():
            comparison.fit(name, config.sasrec.model, train, None, seed, private=False)
    comparison.rank_baselines(text)
    fresh = [name for name in comparison.streaming if name.startswith("drift ")][:1]
    return BenchmarkResult(comparison.evaluate(main, text, fresh), *fitted[0], comparison.training, told)


def _build_privacy_record(
    task: TrainingTask,
    config: FinetuneConfig,
    model: RecommenderModel,
    reader: CatalogEncoder | None,
    steps: int,
    text: Tensor | None,
    seed: int,
) -> dict[str, Any]:
    """What was spent on a model's training, and what attacks on it found."""
    told: dict[str, Any] = {}
    if task.privacy:
        told["privacy"] = build_privacy_report(task.privacy, steps, [model, *([reader.backbone] if reader else [])])
    if config.membership:
        told["membership"] = measure_membership(task, config, config.membership, model, text, seed)
    return told
