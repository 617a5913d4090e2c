"""llmrec's sequence model by its own trainer, checkpoints and all, measured as it goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from course import Course

from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.data.batches import build_training_windows
from llmrec.data.histories import make_queries
from llmrec.data.interactions import Interactions
from llmrec.data.splits import VALID, Split
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.training.objectives import RecommendationObjective
from llmrec.training.trainer import Trainer, TrainerInputs
from llmrec.training.training_loop import RunState
from llmrec.training.two_stage import make_model


def main(given: Course) -> None:
    torch.set_num_threads(1)
    columns, n_users = given.columns, int(given.columns["user"].max()) + 1
    log = Interactions(columns["user"], columns["item"], columns["seconds"])
    split = Split("leave_one_out", log, columns["part"], n_users, given.n_items, 0, 0)
    text = torch.from_numpy(np.load(given.text)) if given.text else None
    config = ModelConfig(**given.model)
    windows = build_training_windows(split.train, n_users, config.max_history, "file_order")
    n_targets = int(windows.n_targets.sum())
    queries = make_queries(split, VALID, ties="file_order")
    queries = queries.take(np.argsort(queries.user))
    queries = queries.take(np.isin(queries.user, columns["asked"]))
    objective = RecommendationObjective(make_model(split, config, text, given.seed))
    torch.manual_seed(given.seed)

    def vectors() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scorer = ModelScorer(objective.model)
        states = torch.cat(
            [scorer.encode_histories(queries.take(slice(at, at + 512))) for at in range(0, len(queries), 512)]
        )
        return states.numpy(), scorer.scoring_items.numpy(), objective.model.items.known.numpy()

    def validate() -> float:
        progress = trainer.progress
        given.targets = round((progress.epoch + progress.batch / trainer.groups_per_epoch) * n_targets)
        return given.measured(vectors)

    training = TrainConfig(**given.train | {"evals_per_epoch": max(round(n_targets / given.every), 1)})
    run = RunState("ours", Path(given.folder) / "checkpoint", given.seed, False, "")
    trainer = Trainer(TrainerInputs(objective, windows, validate, training, Accelerator(cpu=True), run))
    given.begin()
    trainer.fit()
    given.finish()


if __name__ == "__main__":
    main(Course.asked())
