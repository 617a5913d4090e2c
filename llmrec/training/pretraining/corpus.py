"""Corpus of continued pretraining: the texts of a catalog and pairs of its items, each with a held-out part.

Only events in the training part of every split of the later fine-tuning are used. The batches of a step depend on its
number and the seed alone, not on the processes that share it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, reduce

import numpy as np
from numpy.typing import NDArray

from llmrec.config.jobs.pretrain import PretrainConfig
from llmrec.config.split import SplitConfig
from llmrec.data.interactions import Interactions
from llmrec.data.item_pairs import ItemPairs, build_item_pairs, split_pairs
from llmrec.data.log import Log
from llmrec.data.splits import TRAIN, UNUSED, Split, make_split
from llmrec.data.times.timestamps import format_iso
from llmrec.errors import DataError
from llmrec.utils.arrays import Rows


@dataclass(frozen=True)
class PretrainCorpus:
    """Catalog rows to encode, and pairs of them."""

    n_events: int
    """Training events used."""
    last_time: int
    """Time of the last one in seconds."""
    known: Rows
    """Catalog rows of their items, (K,)."""
    texts: Rows
    """Catalog rows to train on, one per distinct text."""
    held_texts: Rows
    """Catalog rows that are held out, one per distinct text."""
    pairs: ItemPairs
    """Pairs to train on."""
    held_pairs: ItemPairs
    """Pairs that are held out."""
    share: NDArray[np.float64]
    """Share of the places of training pairs that each item takes, at least one place, (N,)."""

    def to_record(self) -> dict[str, int | str]:
        """Return the figures of the corpus for the record of a run.

        Returns:
            Figures by name.
        """
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
    """Return the events in the training part of every configured split.

    Args:
        log: Validated log.
        config: Settings of the splits.

    Returns:
        The events.
    """
    return select_training_split(log, config).train


def select_training_split(log: Log, config: SplitConfig) -> Split:
    """Return the first configured split, with the events alone that are in the training part of every one.

    Args:
        log: Validated log.
        config: Settings of the splits.

    Returns:
        The split; all other events are unused.
    """
    splits = [make_split(name, log.interactions, log.n_users, log.n_items, config=config)[0] for name in config.names]
    of_all = reduce(np.logical_and, [split.part == TRAIN for split in splits])
    return replace(splits[0], part=np.where(of_all, TRAIN, UNUSED).astype(np.int8))


def make_corpus(log: Log, config: PretrainConfig) -> PretrainCorpus:
    """Make the texts and pairs of the settings; the held-out part depends on the seed alone.

    Args:
        log: Validated log and catalog.
        config: Settings of pretraining.

    Returns:
        The corpus.

    Raises:
        DataError: If there are too few texts or pairs to train on some and hold out others.
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
    """Draw the rows of a step; every row is drawn once before any is drawn again.

    Args:
        n: Number of rows.
        size: Rows per step; a few more if it does not divide n.
        step: Number of the step, from 0.
        seed: Seed of the order.

    Returns:
        Rows between 0 and n - 1.
    """
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
