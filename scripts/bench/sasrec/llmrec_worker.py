"""llmrec's sequence model on ids alone, by its own trainer: windows, checkpoint and all."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from asked import Asked
from rounds import asked, serve

from llmrec.config import TrainConfig
from llmrec.data.batches import training_windows
from llmrec.data.histories import make_queries
from llmrec.data.interactions import Interactions
from llmrec.data.splits import TRAIN, VALID, Split
from llmrec.model_config import ModelConfig
from llmrec.training.fit import Task, new_model, train
from llmrec.training.objectives import RecommendationObjective


def main(given: Asked) -> None:
    torch.set_num_threads(1)
    config = ModelConfig(
        dim=given.dim, layers=given.layers, heads=given.heads, feedforward=1, max_history=given.max_history,
        dropout=given.dropout, affinity=0.0, time_bias=False,
    )  # fmt: skip
    log = Interactions(**given.events())
    n_users, n_items = int(log.user.max()) + 1, int(log.item.max()) + 1
    part = np.full(len(log), TRAIN, dtype=np.int8)
    whole = Split("by_time", log, part, n_users, n_items, 0, 0)
    training = TrainConfig(epochs=1, batch_targets=given.batch * given.max_history)
    n_batches = len(log) / training.batch_targets
    few = whole.thinned(min(given.steps / n_batches, 1.0))
    n_targets = int(training_windows(few.train, n_users, given.max_history, "file_order").n_targets.sum())
    objective = RecommendationObjective(new_model(whole, config, None, 0))

    def one_round() -> tuple[int, float]:
        with tempfile.TemporaryDirectory() as folder:
            valid = make_queries(few, VALID)
            task = Task(few, valid, "file_order", True, Accelerator(cpu=True), Path(folder), "")
            began = time.process_time()
            train("sasrec", task, objective, training, 0, lambda: 0.0)
            return n_targets, time.process_time() - began

    serve(one_round)


if __name__ == "__main__":
    main(asked())
