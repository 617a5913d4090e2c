"""RecTools' SASRec with its own settings, by its own trainer, Lightning's, measured as it goes on."""

from __future__ import annotations

import numpy as np
import torch
from course import Course, padded
from lightning_course import Pauses
from pytorch_lightning import Callback, Trainer
from rectools.models import SASRecModel
from rectools_worker import QUIET, dataset_of


class Measured(Pauses, Callback):
    @staticmethod
    def targets(batch: dict[str, torch.Tensor]) -> int:
        return int((batch["y"] != 0).sum())


def main(given: Course) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    histories = given.histories()

    @torch.no_grad()
    def vectors() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        network, ids = model.torch_model, model.data_preparator.item_id_map
        external = ids.get_external_sorted_by_internal()[1:].astype(int)  # the first is padding
        row_of = np.zeros(given.n_items, dtype=int)
        row_of[external] = np.arange(1, len(external) + 1)
        asked = torch.from_numpy(padded([row_of[history] for history in histories], given.max_history, 0, left=True))
        network.eval()
        items = network.item_model.get_all_embeddings()
        states = torch.cat([network.encode_sessions({"x": part}, items)[:, -1] for part in asked.split(256)])
        network.train()
        return states.numpy(), items.numpy()[row_of], row_of > 0

    own = {} if given.learning_rate is None else {"lr": given.learning_rate}
    model = SASRecModel(
        n_blocks=given.layers, n_factors=given.dim, session_max_len=given.max_history,
        get_trainer_func=lambda: Trainer(
            accelerator="cpu", max_epochs=100_000, enable_checkpointing=False, callbacks=[Measured(given, vectors)],
            **QUIET,
        ),
        **own,
    )  # fmt: skip
    model.fit(dataset_of(given.events()))


if __name__ == "__main__":
    main(Course.asked())
