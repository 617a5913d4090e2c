"""RePlay's SASRec on its parquet batches, by Lightning's trainer."""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path

import lightning
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from asked import Asked
from replay.data import FeatureHint, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorSchema
from replay.nn.lightning import LightningModule
from replay.nn.sequential import SasRec
from replay.nn.transform.template import make_default_sasrec_transforms
from rounds import asked, serve

ITEM = "item_id"


class Stopwatch(lightning.Callback):
    """CPU seconds and targets of an epoch."""

    def on_train_epoch_start(self, *_: object) -> None:
        self.targets, self.began = 0, time.process_time()

    def on_train_batch_start(self, _trainer: object, _module: object, batch: dict[str, torch.Tensor], _: int) -> None:
        self.targets += int(batch["target_padding_mask"].sum())

    def on_train_epoch_end(self, *_: object) -> None:
        self.seconds = time.process_time() - self.began


def schema_of(n_items: int, dim: int) -> TensorSchema:
    item = TensorFeatureInfo(
        ITEM, FeatureType.CATEGORICAL, is_seq=True, feature_hint=FeatureHint.ITEM_ID, cardinality=n_items,
        padding_value=n_items, embedding_dim=dim,
    )  # fmt: skip
    return TensorSchema([item])


def batches(
    events: dict[str, np.ndarray], folder: str, schema: TensorSchema, batch: int, longest: int
) -> ParquetModule:
    """Its loader of histories, `batch` of them at once, each cut to its last `longest` targets."""
    path = Path(folder) / "histories.parquet"
    if not path.exists():
        pq.write_table(pa.table({ITEM: histories(events["user"], events["item"])}), path)
    shape = {"train": {ITEM: {"shape": longest + 1, "padding": schema[ITEM].padding_value}}}
    transforms = {"train": make_default_sasrec_transforms(schema)["train"]}
    return ParquetModule(batch, shape, transforms, train_path=str(path))


def main(given: Asked, folder: str) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    events = given.events()
    schema = schema_of(int(events["item"].max()) + 1, given.dim)
    model = LightningModule(
        SasRec.from_params(
            schema, embedding_dim=given.dim, num_heads=given.heads, num_blocks=given.layers,
            max_sequence_length=given.max_history, dropout=given.dropout,
        )
    )  # fmt: skip

    def one_round() -> tuple[int, float]:
        watch = Stopwatch()
        module = batches(events, folder, schema, given.batch, given.max_history)
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=1, limit_train_batches=given.steps, limit_val_batches=0, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[watch],
        )  # fmt: skip
        trainer.fit(model, datamodule=module)
        return watch.targets, watch.seconds

    serve(one_round)


def histories(user: np.ndarray, item: np.ndarray) -> pa.ListArray:
    """The items of each user, oldest first."""
    by_user = np.argsort(user, kind="stable")
    offset = np.concatenate([[0], np.cumsum(np.bincount(user))])
    return pa.ListArray.from_arrays(pa.array(offset.astype(np.int32)), pa.array(item[by_user]))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(asked(), scratch)
