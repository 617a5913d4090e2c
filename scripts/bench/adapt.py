"""What tuning a backbone costs and does: seconds a step, peak memory, and the validation loss as training goes on.

    python scripts/bench/adapt.py --config recipes/finetune/amazon14_beauty_smollm2_lora.yaml --data.source FOLDER

The two fits of recipes/finetune.py (stored vectors first, then through the backbone) with the same configuration, but
nothing is ranked on the test. The control goes on as long with the heads alone: what it gains is not the backbone's.
The validation loss is the cross-entropy of validation targets that training knows, over all items that it knows.
"""

from __future__ import annotations

import copy
import resource
import time

import numpy as np
import torch
from torch.nn import functional

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.text_vector_cache import TextVectorCache
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.data.loading import load_log
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.jobs.runner import run_job
from llmrec.models.recommender_model import RecommenderModel
from llmrec.runs.start import start_run
from llmrec.training.model_validation import validation_ndcg
from llmrec.training.objectives import RecommendationObjective
from llmrec.training.task import TrainingTask, make_task
from llmrec.training.two_stage import fit_model, train


def main(config: FinetuneConfig) -> None:
    accelerator = start_run(config)
    log = load_log(config.data)
    task = make_task("by_time", log, config, accelerator)
    backbone = TextBackbone.load(config.backbone).to(accelerator.device)
    text = TextVectorCache(backbone).get_vectors(log.catalog.list_texts())
    model = fit_model("frozen", task, config.model, config.train, text=text, seed=config.seeds[0]).watched
    print(apply_strategy(backbone, config.backbone))
    reader = CatalogEncoder.from_texts(backbone, log.catalog.list_texts())
    print(f"{len(log.catalog):,} items, {len(task.split.train):,} training events\nbefore: {measured(task, model)}")
    control = copy.deepcopy(model)

    def validate_control() -> float:
        print(f"control, heads alone: {measured(task, control)}", flush=True)
        return validation_ndcg(task, ModelScorer(control))

    train(
        "control", task, RecommendationObjective(control), config.adapt, seed=config.seeds[0], validate=validate_control
    )
    steps = Steps(task, model, reader)
    steps.begin()
    objective = RecommendationObjective(model, reader)
    train("adapt", task, objective, config.adapt, seed=config.seeds[0], validate=steps.validate)
    print(f"{steps.told()}; peak memory {peak_memory()}")


class Steps:
    """Measures between steps, and keeps the time that this takes out of theirs."""

    def __init__(self, task: TrainingTask, model: RecommenderModel, reader: CatalogEncoder) -> None:
        self.task, self.model, self.reader = task, model, reader
        self.wall = self.cpu = 0.0
        self.counted = 0
        self.hook = reader.backbone.register_forward_hook(lambda *_: self._count())

    def begin(self) -> None:
        self.since = time.monotonic(), time.process_time()

    def _count(self) -> None:
        self.counted += int(torch.is_grad_enabled())  # once a step; reading the catalog goes without gradients

    def validate(self) -> float:
        self.wall += time.monotonic() - self.since[0]
        self.cpu += time.process_time() - self.since[1]
        print(f"after {self.counted} steps: {measured(self.task, self.model)}", flush=True)
        self.begin()
        return validation_ndcg(self.task, ModelScorer(self.model))

    def told(self) -> str:
        return f"{self.wall / self.counted:.2f} s a step, {self.cpu / self.counted:.2f} CPU s"


def measured(task: TrainingTask, model: RecommenderModel) -> str:
    ndcg = validation_ndcg(task, ModelScorer(model))
    return f"validation loss {valid_loss(task, model):.4f}, NDCG@10 {ndcg:.4f}"


def valid_loss(task: TrainingTask, model: RecommenderModel) -> float:
    known = model.items.known.cpu()
    queries = task.valid.take(known.numpy()[task.valid.target])
    scorer, losses = ModelScorer(model), []
    for rows in np.array_split(np.arange(len(queries)), max(len(queries) // 256, 1)):
        batch = queries.take(rows)
        scores = scorer.score(batch).masked_fill(~known, -torch.inf)
        losses.append(functional.cross_entropy(scores, torch.from_numpy(batch.target), reduction="sum"))
    return float(sum(losses)) / len(queries)


def peak_memory() -> str:
    ours = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"  # of Linux, which counts in KiB
    if torch.cuda.is_available():
        ours += f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB on the GPU"
    return ours


if __name__ == "__main__":
    run_job(main, FinetuneConfig)
