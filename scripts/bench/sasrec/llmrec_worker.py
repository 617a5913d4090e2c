"""llmrec's sequence model on ids alone, by its own trainer, checkpoint and all."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from asked import Asked
from rounds import asked, serve

from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.data.batches import build_training_windows
from llmrec.data.interactions import Interactions
from llmrec.data.splits import TRAIN, Split
from llmrec.training.objectives import RecommendationObjective
from llmrec.training.trainer import Trainer, TrainerInputs
from llmrec.training.training_loop import RunState
from llmrec.training.two_stage import make_model


def main(given: Asked) -> None:
    torch.set_num_threads(1)
    config = ModelConfig(
        dim=given.dim, n_layers=given.layers, n_heads=given.heads, feedforward_multiplier=1,
        max_history=given.max_history, dropout=given.dropout, item_affinity=0.0, time_bias=False,
    )  # fmt: skip
    log = Interactions(**given.events())
    n_users, n_items = int(log.user.max()) + 1, int(log.item.max()) + 1
    part = np.full(len(log), TRAIN, dtype=np.int8)
    whole = Split("by_time", log, part, n_users, n_items, 0, 0)
    training = TrainConfig(epochs=1, batch_targets=given.batch * given.max_history)
    few = whole.subsample_users(min(given.steps * training.batch_targets / len(log), 1.0)).train
    windows = build_training_windows(few, n_users, given.max_history, "file_order")
    objective = RecommendationObjective(make_model(whole, config, None, 0))

    def one_round() -> tuple[int, float]:
        with tempfile.TemporaryDirectory() as folder:
            run = RunState("sasrec", Path(folder), 0, False, "")
            trainer = Trainer(TrainerInputs(objective, windows, lambda: 0.0, training, Accelerator(cpu=True), run))
            began = time.process_time()
            trainer.fit()
            return int(windows.n_targets.sum()), time.process_time() - began

    serve(one_round)


if __name__ == "__main__":
    main(asked())
