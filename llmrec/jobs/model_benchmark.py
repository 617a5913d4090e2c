"""Fit and rank the models of one split, and keep every seed's ranking, settings and training record."""

from __future__ import annotations

import dataclasses
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from accelerate.utils import gather_object
from torch import Tensor

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.data.histories import Queries
from llmrec.data.splits import Split
from llmrec.drift.fit_head import FittedHead
from llmrec.evaluation.aggregate import compute_weekly, evaluate_split
from llmrec.evaluation.baselines import BASELINES, BaselineTask, Tuning, fit_baselines
from llmrec.evaluation.model_rows import DRIFT_STATIC, ModelRow
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.evaluation.ranking import Ranking, Scorer
from llmrec.evaluation.results import SplitReport
from llmrec.evaluation.slices import make_slices
from llmrec.jobs.adaptation import describe_adaptation, describe_item_adaptation, is_kept
from llmrec.models.recommender_model import RecommenderModel
from llmrec.training.checkpoints import Progress
from llmrec.training.distributed.collectives import encode_catalog
from llmrec.training.drift_ablation import DriftTask, iterate_drift_rows
from llmrec.training.item_adaptation.adapt_items import adapt_items
from llmrec.training.model_validation import rank_across_processes
from llmrec.training.task import FittedModel, TrainingTask, make_protocol
from llmrec.training.two_stage import adapt_backbone, fit_model
from llmrec.utils.timing import timer

logger = logging.getLogger(__name__)


class ModelBenchmark:
    """Fit and rank models on one split, and keep every seed's ranking, settings and training record.

    Args:
        task: Training task with the split.
        config: Settings of the run.
        test: Test queries.
    """

    def __init__(self, task: TrainingTask, config: FinetuneConfig, test: Queries) -> None:
        self.task, self.config, self.test = task, config, test
        self.rankings: dict[ModelRow, list[Ranking]] = defaultdict(list)
        self.settings: dict[str, Any] = {}
        self.training: list[dict[str, Any]] = []

    def rank(self, row: ModelRow, scorer: Scorer) -> None:
        """Rank the test queries by a model, or by one more seed of it.

        Args:
            row: Row of the report.
            scorer: Scorer of the queries.
        """
        with timer.section("evaluate", row.name):
            self.rankings[row].append(self._rank(row, scorer))

    def fit(
        self,
        row: ModelRow,
        model: ModelConfig,
        train: TrainConfig,
        text: Tensor | None,
        *,
        seed: int,
        private: bool = True,
    ) -> FittedModel:
        """Fit a model on stored text vectors, or on ids alone, and rank by it.

        Args:
            row: Row of the report.
            model: Size of the model.
            train: Settings of its training.
            text: Text vectors of the catalog, (N, D_text); None for ids alone.
            seed: Seed of the training.
            private: False to fit without differential privacy even if the task has it.

        Returns:
            The fitted model.
        """
        row, task = replace(row, seed=seed), self.task if private else replace(self.task, privacy=None)
        with timer.section("fit", row.name):
            fitted = fit_model(row.name, task, model, train, text=text, seed=seed)
        self.rank(row, ModelScorer(fitted.model))
        settings = {"model": dataclasses.asdict(model), "train": dataclasses.asdict(train)}
        self._record_training(row, fitted.progress, settings, fitted.model)
        return fitted

    def adapt_and_rank(self, row: ModelRow, fitted: FittedModel, reader: CatalogEncoder, seed: int) -> Progress:
        """Train a fitted model together with its backbone, and rank by it.

        Args:
            row: Row of the report.
            fitted: Fitted model; trained in place.
            reader: Encoder of the catalog; its backbone is trained in place.
            seed: Seed of the training.

        Returns:
            Progress of the training.
        """
        row, model = replace(row, seed=seed), fitted.model
        # A history encoder that reads the live backbone rounds otherwise than the stored vectors of the fit.
        same = fitted.watched is model and model.config.history_encoder == "sequence"
        start = fitted.calibrated_ndcg if same else None
        with timer.section("adapt", row.name):
            progress = adapt_backbone(
                row.name, self.task, model, self.config.adapt, reader=reader, seed=seed, start=start
            )
        logger.info(describe_adaptation(row, progress), extra={"facts": {"fit": row.name, "kept": is_kept(progress)}})
        self.rank(row, ModelScorer(model))
        self._record_training(row, progress, {"adapt": dataclasses.asdict(self.config.adapt)}, model)
        return progress

    def adapt_items_and_rank(
        self,
        row: ModelRow,
        fitted: FittedModel,
        reader: CatalogEncoder,
        seed: int,
        *,
        second_texts: Sequence[str] | None,
    ) -> tuple[FittedModel | None, str]:
        """Train a backbone by the items, fit a model on its vectors as the frozen one was fitted, and rank by it.

        Args:
            row: Row of the report.
            fitted: Model fitted on frozen vectors.
            reader: Encoder of the catalog; its backbone is trained in place.
            seed: Seed of the training.
            second_texts: Texts of the catalog that lack some fields; None for whole texts alone.

        Returns:
            The model; None if held-out items were ranked best before training. And the sentence that says if it is
            better.
        """
        config, items = self.config, self.config.adapt_items
        if items is None:
            raise ValueError("there are no settings of an adaptation by items")
        with timer.section("adapt", row.name):
            progress = adapt_items(
                row.name,
                self.task,
                items,
                reader=reader,
                model=fitted.watched,
                second_texts=second_texts,
                seed=seed,
            )
        adapted = None
        if is_kept(progress):
            with timer.section("read", row.name):
                text = encode_catalog(reader, self.task.accelerator)
            adapted = self.fit(row, config.model, config.train, text, seed=seed)
        else:
            self.rank(replace(row, seed=seed), ModelScorer(fitted.model))
        sentence = describe_item_adaptation(row, progress, fitted, adapted)
        logger.info(sentence, extra={"facts": {"fit": row.name, "kept": adapted is not None}})
        record = self.settings.setdefault(row.name, {"seeds": {}})
        record["adapt_items"] = dataclasses.asdict(items)
        record["seeds"].setdefault(str(seed), {})["items"] = progress.history
        return adapted, sentence

    def fit_and_rank_drift(self, fitted: FittedModel, seed: int, task: DriftTask) -> FittedHead:
        """Fit a drift head on a model, and rank by it: refreshed, static, and by its terms.

        Args:
            fitted: The fitted model.
            seed: Seed of the model.
            task: Data for drift heads.

        Returns:
            The head, with the stream of the model under test.
        """
        with timer.section("drift"):
            full, judged = task.fit(ModelScorer(fitted.watched), seed)
        split = self._learned
        until = split.valid_start if split.name == "by_time" else None
        for drift in iterate_drift_rows(task, judged, full, ModelScorer(fitted.model), trained_until=until):
            self.rank(replace(drift.row, seed=seed), drift.scorer)
            self.settings.setdefault(drift.row.name, {})[f"seed {seed}"] = drift.settings
        return replace(full, stream=replace(full.stream, trained_until=until))

    def rank_baselines(self, text: Tensor | None) -> None:
        """Tune, fit and rank the baselines that need no trainer; one process does all the work for each.

        Args:
            text: Text vectors of the catalog, (N, D_text); None leaves out baselines that use text.
        """
        evaluation = self.config.evaluation
        names = [name for name in evaluation.baselines if name in BASELINES]
        baseline_task = BaselineTask(
            tune_on=self.task.split,
            fit_on=self._learned,
            valid=self.task.valid,
            text_vectors=None if text is None else text.numpy(),
            tuning=Tuning(evaluation.tuning_budget, evaluation.tuning_queries, self.task.mask_seen),
            seeds=self.config.seeds_for_split(self.task.split.name),
        )
        if text is None:
            names = [name for name in names if not name.startswith("nearest_text")]
        accelerator, found = self.task.accelerator, []
        for index in range(accelerator.process_index, len(names), accelerator.num_processes):
            with timer.section("baselines", names[index]):
                all_fitted = fit_baselines([names[index]], baseline_task)
            for name, fitted in all_fitted.items():
                row = ModelRow("baseline", name, fitted.refresh)
                with timer.section("evaluate", row.name):
                    rankings = [self._rank(row, scorer, alone=True) for scorer in fitted.scorers]
                found.append((index, row, rankings, fitted.record))
        for _, row, rankings, record in sorted(gather_object(found), key=lambda part: part[0]):
            self.rankings[row] += rankings
            self.settings[row.name] = record

    @timer.section("evaluate")
    def evaluate(self, headline: ModelRow, text: Tensor | None, *, also: Sequence[ModelRow] = ()) -> SplitReport:
        """Compute all numbers of the split.

        Args:
            headline: Model that the report is about; it is compared with every other.
            text: Text vectors of the catalog, (N, D_text), for slices by similarity of texts.
            also: Models that are compared with every other as well.

        Returns:
            The numbers.
        """
        config, split = self.config, self.task.split
        protocol = make_protocol(split, self.task.ties, config, release_dates=self.task.release_time is not None)
        streaming = tuple(row.name for row in self.rankings if row.refresh is not None)
        has_times = config.data.times == "real"
        slices = make_slices(self._learned, self.test, text=text, has_times=has_times)
        evaluated = evaluate_split(
            split.name,
            self.test,
            slices,
            self.rankings,
            protocol=replace(protocol, streaming=streaming),
            config=config.evaluation,
            main=headline,
            settings=self.settings,
            also=also,
        )
        if split.name != "by_time" or DRIFT_STATIC not in self.rankings:
            return evaluated
        lines = [headline, DRIFT_STATIC, *also]
        return replace(
            evaluated, weekly=compute_weekly(split, self.test, self.rankings, lines, config=config.evaluation)
        )

    def _rank(self, row: ModelRow, scorer: Scorer, *, alone: bool = False) -> Ranking:
        """Rank the test queries, divided among the processes, or by this one alone."""
        n_top = max(self.config.evaluation.cutoffs)
        pool = self._learned.cold_item_mask()
        return rank_across_processes(
            self.task, scorer, self.test, n_top, alone=alone, pool=pool, progress=f"ranking {row}"
        )

    @property
    def _learned(self) -> Split:
        """Split whose training part the models of the report are fitted on."""
        return self.task.split.merge_validation() if self.config.train.refit else self.task.split

    def _record_training(
        self, row: ModelRow, progress: Progress, settings: dict[str, Any], model: RecommenderModel
    ) -> None:
        subject, match = f"{row}, {self.task.split.name}", model.items.match
        self.training += [{"model": subject, "seed": row.seed, **point} for point in progress.history]
        trained = [point for point in progress.history if point["epoch"] > 0]
        start = [point["valid_ndcg"] for point in progress.history if point["epoch"] == 0]
        self.settings.setdefault(row.name, settings | {"seeds": {}})["seeds"][str(row.seed)] = {
            "valid_ndcg": [round(point["valid_ndcg"], 4) for point in trained],
            "start": round(start[0], 4) if start else None,
            "best_epoch": progress.best_epoch,
            "novelty": round(float(model.novelty), 4),
            "text_match": None if match is None else [float(match.strength), round(float(match.recency), 2)],
            "repeats": model.repeats.describe() if model.repeats else None,
        }
