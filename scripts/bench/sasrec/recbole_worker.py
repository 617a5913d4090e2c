"""RecBole's SASRec by its own trainer, on its default examples: one for each prefix of a history."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from asked import Asked
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from rounds import asked, serve

HEAD = "user_id:token\titem_id:token\ttimestamp:float"


class First:
    """The first batches of a loader, as a loader."""

    shuffle = False

    def __init__(self, loader: object, steps: int) -> None:
        self.loader, self.steps, self.targets = loader, steps, 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[object]:
        for batch in islice(self.loader, self.steps):
            self.targets += len(batch)
            yield batch


def trainer_of(events: dict[str, np.ndarray], folder: str, settings: dict[str, object]) -> tuple[Trainer, object]:
    """RecBole's trainer of SASRec, and its loader of all events but each user's last two."""
    os.chdir(folder)  # where it leaves logs of its own
    (Path(folder) / "log").mkdir()
    rows = np.stack([events[name] for name in ("user", "item", "time")], axis=1)
    np.savetxt(Path(folder) / "log" / "log.inter", rows, fmt="%d", delimiter="\t", header=HEAD, comments="")
    always = {
        "data_path": folder, "checkpoint_dir": folder, "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "TIME_FIELD": "timestamp", "use_gpu": False,
        "loss_type": "CE", "train_neg_sample_args": None, "show_progress": False,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
    }  # fmt: skip
    config = Config(model="SASRec", dataset="log", config_dict=always | settings)
    train_data = data_preparation(config, create_dataset(config))[0]
    return Trainer(config, SASRec(config, train_data.dataset)), train_data


def main(given: Asked, folder: str) -> None:
    torch.set_num_threads(1)
    settings = {
        "MAX_ITEM_LIST_LENGTH": given.max_history, "hidden_size": given.dim, "inner_size": given.dim,
        "n_layers": given.layers, "n_heads": given.heads, "hidden_dropout_prob": given.dropout,
        "attn_dropout_prob": given.dropout,
    }  # fmt: skip
    trainer, train_data = trainer_of(given.events(), folder, settings)

    def one_round() -> tuple[int, float]:
        few = First(train_data, max(given.steps // 4, 1))  # batches of 2,048, its default
        began = time.process_time()
        trainer._train_epoch(few, 0)
        return few.targets, time.process_time() - began

    serve(one_round)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(asked(), scratch)
