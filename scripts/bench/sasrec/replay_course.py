"""RePlay's SASRec with the settings of its example, by Lightning's trainer, measured as it goes on."""

from __future__ import annotations

import warnings

import lightning
import numpy as np
import torch
from course import Course, padded
from lightning_course import Pauses
from replay.nn.lightning import LightningModule
from replay.nn.lightning.optimizer import OptimizerFactory
from replay.nn.sequential import SasRec
from replay_worker import ITEM, batches, schema_of

HEADS, DROPOUT, BATCH = 2, 0.3, 32  # examples/09_sasrec_example.ipynb


class Measured(Pauses, lightning.Callback):
    @staticmethod
    def targets(batch: dict[str, torch.Tensor]) -> int:
        return int(batch["target_padding_mask"].sum())


def main(given: Course) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    torch.manual_seed(given.seed)
    events, schema = given.events(), schema_of(given.n_items, given.dim)
    network = SasRec.from_params(
        schema, embedding_dim=given.dim, num_heads=HEADS, num_blocks=given.layers,
        max_sequence_length=given.max_history, dropout=DROPOUT,
    )  # fmt: skip
    known = np.isin(np.arange(given.n_items), events["item"])
    asked = torch.from_numpy(padded(given.histories(), given.max_history, given.n_items, left=True))

    @torch.no_grad()
    def vectors() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        network.eval()
        states = torch.cat([network.body({ITEM: part}, part != given.n_items)[:, -1] for part in asked.split(256)])
        network.train()
        return states.numpy(), network.body.embedder.get_item_weights(None).numpy(), known

    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=100_000, limit_val_batches=0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[Measured(given, vectors)],
    )  # fmt: skip
    own = {} if given.learning_rate is None else {"learning_rate": given.learning_rate}
    trainer.fit(
        LightningModule(network, OptimizerFactory(**own)),
        batches(events, given.folder, schema, BATCH, given.max_history),
    )


if __name__ == "__main__":
    main(Course.asked())
