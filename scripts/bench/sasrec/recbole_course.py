"""RecBole's SASRec with its own settings, by its own trainer, measured as it goes on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from course import Course, Vectors, padded
from recbole_worker import trainer_of


class Paused:
    """A loader that stops for a measurement when it is time; the step on its last batch is over then."""

    def __init__(self, loader: object, given: Course, vectors: Vectors) -> None:
        self.loader, self.given, self.vectors = loader, given, vectors
        self.shuffle, self.sampler = loader.shuffle, loader.sampler

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[object]:
        for batch in self.loader:
            yield batch
            if self.given.learned(len(batch)):
                self.given.measured(self.vectors)


def main(given: Course) -> None:
    torch.set_num_threads(1)
    settings = {
        "MAX_ITEM_LIST_LENGTH": given.max_history, "hidden_size": given.dim, "n_layers": given.layers,
        "seed": given.seed,
    }  # fmt: skip
    if given.learning_rate is not None:
        settings["learning_rate"] = given.learning_rate
    torch.manual_seed(given.seed)
    trainer, train_data = trainer_of(given.events(of_training=False), given.folder, settings)
    model, dataset = trainer.model, train_data.dataset
    row_of = dataset.token2id(dataset.iid_field, np.arange(given.n_items).astype(str))
    known = np.isin(np.arange(given.n_items), given.events()["item"])
    histories = given.histories()
    length = torch.tensor([len(history) for history in histories])
    asked = torch.from_numpy(padded([row_of[history] for history in histories], given.max_history, 0, left=False))

    @torch.no_grad()
    def vectors() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        model.eval()
        states = torch.cat([model(*part) for part in zip(asked.split(256), length.split(256), strict=True)])
        model.train()
        return states.numpy(), model.item_embedding.weight.numpy()[row_of], known

    paused = Paused(train_data, given, vectors)
    given.begin()
    for epoch in range(100_000):
        trainer._train_epoch(paused, epoch)


if __name__ == "__main__":
    main(Course.asked())
