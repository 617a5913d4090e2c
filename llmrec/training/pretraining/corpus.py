"""What a backbone goes on reading: a catalog's texts and the pairs of its items, each with a part held out.

Only events in the training part of every split of the fine-tuning to come are looked at. The batches of a step depend
on its number and the seed alone, not on the processes that share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np
from numpy.typing import NDArray

from llmrec.config.jobs.pretrain import PretrainConfig
from llmrec.config.split import SplitConfig
from llmrec.data.interactions import Interactions
from llmrec.data.item_pairs import ItemPairs, build_item_pairs, split_pairs
from llmrec.data.log import Log
from llmrec.data.splits import TRAIN, make_split
from llmrec.data.timestamps import format_iso
from llmrec.errors import DataError
from llmrec.utils.arrays import Rows


@dataclass(frozen=True)
class PretrainCorpus:
    """Catalog rows to read, and pairs of them.

    n_events, last_time: training events that were looked at, and seconds of the last. known: (K,) rows of their items.
    texts, held_texts: rows, one for each distinct text.
    share: (N,) of the training pairs' places that each item takes, at least one place.
    """

    n_events: int
    last_time: int
    known: Rows
    texts: Rows
    held_texts: Rows
    pairs: ItemPairs
    held_pairs: ItemPairs
    share: NDArray[np.float64]

    def to_record(self) -> dict[str, int | str]:
        """For the record."""
        return {
            "n_events": self.n_events,
            "last_event": format_iso(self.last_time),
            "n_items_with_events": len(self.known),
            "n_texts": len(self.texts),
            "n_texts_held_out": len(self.held_texts),
            "n_pairs": len(self.pairs),
            "n_pairs_held_out": len(self.held_pairs),
        }


def select_training_events(log: Log, config: SplitConfig) -> Interactions:
    """The events in the training part of every split that is named."""
    splits = [make_split(name, log.interactions, log.n_users, log.n_items, config)[0] for name in config.names]
    return log.interactions.take(reduce(np.logical_and, [split.part == TRAIN for split in splits]))


def make_corpus(log: Log, config: PretrainConfig) -> PretrainCorpus:
    """Texts and pairs as configured; what is held out depends on the seed alone.

    Raises:
        DataError: too few texts or pairs to train on some and hold out others.
    """
    events = select_training_events(log, config.split)
    known, train = np.unique(events.item), config.train
    rng = np.random.default_rng(config.seed)
    texts = log.catalog.list_texts()
    readable = np.arange(log.n_items) if config.all_items else known
    distinct = readable[np.unique([texts[row] for row in readable], return_index=True)[1]]
    distinct = rng.permutation(distinct)
    n_held = max(round(len(distinct) * train.held_out_fraction), 1)
    pairs, held_pairs = split_pairs(
        build_item_pairs(events, log.n_users, config.contrast.window), train.held_out_fraction
    )
    _validate_corpus(log.facts.source, config, len(distinct) - n_held, min(len(pairs), len(held_pairs)))
    places = np.bincount(pairs.item.ravel(), minlength=log.n_items)
    share = np.maximum(places, 1) / max(2 * len(pairs), 1)
    held = distinct[:n_held][: train.max_held_out_samples]
    sample = np.sort(rng.permutation(len(held_pairs))[: train.max_held_out_samples])
    return PretrainCorpus(
        len(events), int(events.time[-1]), known, distinct[n_held:], held, pairs, held_pairs.take(sample), share
    )


def draw_batch_rows(n: int, size: int, step: int, seed: int) -> Rows:
    """The rows of 0 .. n - 1 that a step reads: `size` or a few more, each once before any comes again."""
    n_batches = max(n // size, 1)
    bounds = np.linspace(0, n, n_batches + 1).astype(int)
    place = step % n_batches
    return _shuffle_rows(n, seed, step // n_batches)[bounds[place] : bounds[place + 1]]


@lru_cache(maxsize=4)  # of the steps of one pass, for texts and pairs
def _shuffle_rows(n: int, seed: int, turn: int) -> Rows:
    return np.random.default_rng((seed, turn)).permutation(n)


def _validate_corpus(source: str, config: PretrainConfig, n_texts: int, n_pairs: int) -> None:
    problems = []
    if {"mlm", "clm"} & set(config.objectives) and n_texts < 1:
        problems.append(f"{source}: a single distinct item text; give more items, or leave mlm and clm out")
    if "contrast" in config.objectives and n_pairs < 1:
        problems.append(f"{source}: no two items of one user in the training part to train on and hold out")
    if problems:
        raise DataError(source, problems)
