"""The catalog of a loaded bundle: it can grow, hides removed items and encodes new text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from threading import RLock

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from llmrec.data.ids import Id, format_id, is_id
from llmrec.data.items.catalog import ItemCatalog
from llmrec.errors import ConfigError, DataError
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.hub.bundle import Bundle
from llmrec.inference.queries import Item, QueryBatch, Time, find_item_rows, parse_time, render_item_text
from llmrec.inference.score_units import ScoreUnit
from llmrec.inference.text_space import TextSpace, merge_vectors
from llmrec.search.quantized_table import QuantizedTable
from llmrec.utils.arrays import Arrays, Mask, Rows

TOPIC_FRACTION = 0.1


class ServedCatalog:
    """Items that a recommender chooses from, with their vectors.

    Items keep their rows: new ones are appended, and removed ones are hidden from recommendations only. The backbone
    is loaded when new text is first encoded.

    Attributes:
        bundle: The loaded bundle.
        folder: Its folder.
        items: Ids and fields of all items, N rows.
        scorer: Scores of the model without a drift head.
        table: Item vectors for exact search, (N, D).
        drift: The drift head over these items, None without one.
        removed: Ids of the items that are not recommended.
        text_space: Vectors of texts, of the items and of new ones.
        lock: Held while the catalog changes, and by readers that need it unchanged.

    Example:
        recommender.catalog.add([{"item_id": "new", "title": "Orbit of Ashes"}])
    """

    def __init__(self, bundle: Bundle, folder: Path, *, backbone: str | None = None) -> None:
        self.bundle, self.folder = bundle, folder
        self.items: ItemCatalog = bundle.catalog
        self.scorer = ModelScorer(bundle.model)
        self.table = QuantizedTable.from_vectors(self.scorer.scoring_items)
        self.drift, self.removed = bundle.drift, set(bundle.removed)
        self.lock = RLock()
        self.text_space = TextSpace(bundle, folder, backbone=backbone)

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"ServedCatalog({len(self):,} items, {len(self.removed):,} removed)"

    @property
    def score_unit(self) -> ScoreUnit:
        """Unit of scores: `log_probability` with a drift head, else `logit`."""
        return "logit" if self.drift is None else "log_probability"

    @property
    def recommends_seen(self) -> bool:
        """True if items of the history are recommended by default, as the evaluation of the bundle ranked them."""
        config = self.bundle.config
        return not config.evaluation.masks_seen(config.data)

    def export_bundle(self, counts: Arrays | None = None) -> Bundle:
        """Return the bundle as it is now, with its added and removed items.

        Args:
            counts: Current counts of a drift head; those of the bundle by default.

        Returns:
            The bundle.
        """
        drift = self.drift
        if drift is not None and drift.counts is not None and counts is not None:
            drift = replace(drift, counts=counts)
        return replace(self.bundle, catalog=self.items, drift=drift, removed=tuple(sorted(self.removed)))

    @property
    def ids(self) -> pa.LargeStringArray:
        """Item ids, (N,), removed items included."""
        return self.items.ids

    def find_rows(self, ids: Sequence[Id]) -> Rows:
        """Return the row of each id.

        Args:
            ids: C ids.

        Returns:
            Rows, (C,).

        Raises:
            DataError: If an id is unknown.
        """
        return find_item_rows(self.items, ids)

    @torch.no_grad()
    def add(self, items: Sequence[Mapping[str, object]]) -> None:
        """Add new items, which can be recommended at once by their text.

        Args:
            items: Fields of each item, its id among them.

        Raises:
            DataError: If an id is missing, repeated or taken, or a text is empty; then nothing is added.
            BundleError: If the bundle knows items by their ids alone.

        Example:
            recommender.catalog.add([{"item_id": "new-1", "title": "Orbit of Ashes", "genres": "Sci-Fi"}])
        """
        if not items:
            return
        with self.lock:
            extended = self.items.extend(self.text_space.redact_items(items))
            texts = [str(text) for text in extended.text_array[len(self) :].to_pylist()]
            vectors = self.text_space.encode(texts)
            untrained = None if self.drift is None else self.text_space.encode_untrained(texts)
            self.bundle.model.extend(vectors, texts)
            self.drift = None if self.drift is None else self.drift.with_items(untrained)
            self.items, self.scorer = extended, ModelScorer(self.bundle.model)
            self.table = QuantizedTable.from_vectors(self.scorer.scoring_items)

    def remove(self, ids: Sequence[Id]) -> None:
        """Stop recommending items; histories may still hold them, and they can be scored.

        Args:
            ids: Ids of catalog items.

        Raises:
            DataError: If an id is unknown; then nothing is removed.
        """
        with self.lock:
            self.find_rows(ids)
            self.removed.update(map(format_id, ids))

    def restore(self, ids: Sequence[Id]) -> None:
        """Recommend removed items again.

        Args:
            ids: Ids of catalog items.

        Raises:
            DataError: If an id is unknown; then nothing is restored.
        """
        with self.lock:
            self.find_rows(ids)
            self.removed.difference_update(map(format_id, ids))

    def label(self, item: Item) -> str:
        """Return the short name of an item, of the catalog or given by its fields.

        Args:
            item: Id, or fields of a new item.

        Returns:
            The label.

        Raises:
            DataError: If the id is unknown or the fields make no text.
        """
        if isinstance(item, Mapping):
            return self.items.label_new(item, render_item_text(self.items, item))
        return self.items.label(int(self.find_rows([item])[0]))

    @torch.no_grad()
    def topic_mask(self, topic: str, *, fraction: float = TOPIC_FRACTION) -> Mask:
        """Select the items whose text is most similar to a topic.

        Args:
            topic: A word or phrase.
            fraction: Part of the catalog to select, above 0 and at most 1.

        Returns:
            (N,), for `filters` of `Recommender.recommend`.

        Raises:
            ConfigError: If the topic is empty or the fraction out of range.
            BundleError: If the bundle knows items by their ids alone.
        """
        # A fraction, not a threshold: how large cosines are depends on backbone and topic.
        if not 0 < fraction <= 1:
            raise ConfigError(f"fraction={fraction}: out of range. Set it above 0 and at most 1.")
        similarity = self.text_space.similarity(topic, name="topic")
        mask = np.zeros(len(similarity), dtype=np.bool_)
        mask[similarity.topk(ceil(fraction * len(similarity))).indices.numpy()] = True
        return mask

    def novelty_bias(self) -> Tensor:
        """Return the part of each item's score that the model adds for any history.

        Returns:
            (N,), 0 for items with training events.
        """
        model = self.bundle.model
        return (model.novelty * ~model.items.known).float()

    def exclusion_bias(self, at: Time | None) -> Tensor:
        """Return a bias that excludes items that are removed, or released after the query time.

        Args:
            at: Query time; None ignores release times.

        Returns:
            -inf for excluded items, else 0, (N,).
        """
        bias = torch.zeros(len(self))
        bias[torch.from_numpy(self.items.find_rows(sorted(self.removed)))] = -torch.inf
        if at is not None and self.items.release_time is not None:
            bias[torch.from_numpy(self.items.release_time > parse_time(at))] = -torch.inf
        return bias

    def cold_item_vectors(self, texts: list[str]) -> Tensor | None:
        """Return item vectors of texts for use in histories.

        Args:
            texts: R texts.

        Returns:
            (R, D), or None without texts.
        """
        return self.bundle.model.items.encode_text(self.text_space.encode(texts)) if texts else None

    def scoring_vectors(self, items: Sequence[Item]) -> tuple[Tensor, Tensor]:
        """Return the vectors that items are scored by.

        Args:
            items: C ids, or fields of new items.

        Returns:
            Vectors, (C, D), and if training saw each item, (C,).
        """
        model = self.bundle.model
        rows, texts, listed = self.split_known_items(items)
        new = self.cold_item_vectors(texts)
        vectors = merge_vectors(
            self.scorer.scoring_items[rows], None if new is None else model.scoring_vectors(new), listed
        )
        known = torch.zeros(len(items), dtype=torch.bool, device=vectors.device)
        known[listed] = model.items.known[rows]
        return vectors, known

    def text_vectors(self, items: Sequence[Item]) -> Tensor:
        """Return the text vectors of items.

        Args:
            items: C ids, or fields of new items.

        Returns:
            (C, D_text)
        """
        rows, texts, listed = self.split_known_items(items)
        return merge_vectors(self.text_space.vectors[rows], self.text_space.encode(texts) if texts else None, listed)

    def history_text_vectors(self, batch: QueryBatch) -> Tensor:
        """Return the text vectors of the events of all histories.

        Args:
            batch: Histories with E events in all.

        Returns:
            (E, D_text)
        """
        table = self.text_space.vectors
        if batch.texts:
            table = torch.cat([table, self.text_space.encode(batch.texts)])
        return table[torch.from_numpy(batch.queries.histories.item)]

    def split_known_items(self, items: Sequence[Item]) -> tuple[Tensor, list[str], Tensor]:
        """Divide items into those of the catalog and new ones.

        Args:
            items: C ids, or fields of new items.

        Returns:
            Rows of the catalog items, texts of the new ones, and if each item is in the catalog, (C,).

        Raises:
            DataError: If an id is unknown, or `items` is a single item.
        """
        if isinstance(items, Mapping) or is_id(items):
            raise DataError("items", [f"{items!r} is one item; give a list of items"])
        rows = torch.from_numpy(self.find_rows([item for item in items if is_id(item)]))
        texts = [render_item_text(self.items, item) for item in items if not is_id(item)]
        listed = torch.tensor([is_id(item) for item in items], dtype=torch.bool)
        return rows, texts, listed
