"""RecTools' SASRec by its own trainer, Lightning's."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import torch
from asked import Asked
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rounds import asked, serve

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}


class Stopwatch(Callback):
    """CPU seconds and targets of the last epoch."""

    def on_train_epoch_start(self, *_: object) -> None:
        self.targets, self.began = 0, time.process_time()

    def on_train_batch_start(self, _trainer: object, _module: object, batch: dict[str, torch.Tensor], _: int) -> None:
        self.targets += int((batch["y"] != 0).sum())

    def on_train_epoch_end(self, *_: object) -> None:
        self.seconds = time.process_time() - self.began


def dataset_of(events: dict[str, np.ndarray]) -> Dataset:
    frame = pd.DataFrame({Columns.User: events["user"], Columns.Item: events["item"], Columns.Weight: 1.0})
    frame[Columns.Datetime] = pd.to_datetime(events["time"], unit="s")
    return Dataset.construct(frame)


def main(given: Asked) -> None:
    torch.set_num_threads(1)
    dataset = dataset_of(given.events())
    model = SASRecModel(
        n_blocks=given.layers, n_heads=given.heads, n_factors=given.dim, dropout_rate=given.dropout, loss="softmax",
        session_max_len=given.max_history, batch_size=given.batch,
        get_trainer_func=lambda: Trainer(
            accelerator="cpu", max_epochs=1, limit_train_batches=given.steps, enable_checkpointing=False,
            callbacks=[Stopwatch()], **QUIET,
        ),
    )  # fmt: skip

    def one_round() -> tuple[int, float]:
        model.fit_partial(dataset, 1, 1)
        watch = next(one for one in model.fit_trainer.callbacks if isinstance(one, Stopwatch))
        return watch.targets, watch.seconds

    serve(one_round)


if __name__ == "__main__":
    main(asked())
