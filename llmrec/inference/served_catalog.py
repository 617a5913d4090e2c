"""Items as vectors: those of a bundle's catalog, and those that are in none and are known by their text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import RLock

import numpy as np
import torch
from torch import Tensor

from llmrec.backbones.text_backbone import Backbone
from llmrec.data.catalog import LABEL_LENGTH, ItemCatalog
from llmrec.data.pii import scrubber_of
from llmrec.errors import BundleError, DataError
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.hub.bundle import Bundle, load_backbone, load_untrained
from llmrec.inference.queries import VERBATIM, Asked, Event, Item, item_of, rows_of, text_of
from llmrec.inference.vector_lru import TextMemory
from llmrec.search.quantized_table import ItemTable
from llmrec.utils.arrays import Mask


class ItemVectors:
    """A catalog that can grow, with the backbone that reads new text, loaded when it is first needed. lock: held while
    the catalog changes, and by whoever needs it to stand still.
    """

    def __init__(self, bundle: Bundle, folder: Path, backbone: str | None) -> None:
        self.bundle, self.folder, self.backbone_name = bundle, folder, backbone
        self.catalog: ItemCatalog = bundle.catalog
        self.scorer = ModelScorer(bundle.model)
        self.table = ItemTable.of(self.scorer.scoring_items)
        self.drift, self.removed = bundle.drift, set(bundle.removed)
        self.lock = RLock()
        self.scrubber = scrubber_of(bundle.config.data.scrub)
        self._backbone: Backbone | None = None
        self._untrained: Backbone | None = None
        self._trained_memory = TextMemory(lambda texts: self.backbone.encode(self.backbone.tokens(texts)))
        self._untrained_memory = TextMemory(self._read_untrained)

    @property
    def backbone(self) -> Backbone:
        if self._backbone is None:
            loaded = load_backbone(self.folder, self.bundle, self.backbone_name)
            self._backbone = loaded.to(self.scorer.table.device)
        return self._backbone

    @torch.no_grad()
    def extend(self, items: Sequence[Mapping[str, object]]) -> None:
        """Take in new items by their text; nothing changes where one of them cannot be."""
        catalog = self.catalog.extend(self.scrubbed(items))
        texts = [str(text) for text in catalog.text_array[len(self.catalog) :].to_pylist()]
        vectors, untrained = self.read(texts), None if self.drift is None else self.read_untrained(texts)
        self.bundle.model.items.extend(vectors)
        self.bundle.model.histories.extend(texts)
        self.drift = None if self.drift is None else self.drift.extended(untrained)
        self.catalog, self.scorer = catalog, ModelScorer(self.bundle.model)
        self.table = ItemTable.of(self.scorer.scoring_items)

    def extra(self) -> Tensor:
        """(N,) what the model adds to the score of each item, whoever asks."""
        model = self.bundle.model
        return (model.novelty * ~model.items.known).float()

    def read(self, texts: list[str]) -> Tensor:
        """(C, D_text); what a log's texts are scrubbed of, these are too."""
        if self.scrubber is not None:
            texts = self.scrubber.texts(texts)
        return self._trained_memory.vectors(texts).to(self.scorer.table)

    def read_untrained(self, texts: list[str]) -> Tensor:
        """(C, D_text) by the backbone as it was before any training, on the CPU: what a drift head goes by."""
        if self.bundle.tuned is None:
            return self.read(texts).float().cpu()
        if self.scrubber is not None:
            texts = self.scrubber.texts(texts)
        return self._untrained_memory.vectors(texts)

    def _read_untrained(self, texts: list[str]) -> Tensor:
        if self._untrained is None:
            self._untrained = load_untrained(self.folder, self.bundle, self.backbone_name)
        return self._untrained.encode(self._untrained.tokens(texts)).float()

    def scrubbed(self, items: Sequence[Mapping[str, object]]) -> Sequence[Mapping[str, object]]:
        """Fields of new items without what a log's texts are scrubbed of."""
        if self.scrubber is None:
            return items
        return [self.scrubber.item(item, self.catalog.id_column) for item in items]

    def places(self) -> Mask:
        """(N,) the items that may be recommended."""
        mask = np.ones(len(self.catalog), dtype=np.bool_)
        mask[self.catalog.rows(sorted(self.removed))] = False
        return mask

    def cold(self, texts: list[str]) -> Tensor | None:
        """(R, D) item vectors of texts, as histories hold them; None where there is no text."""
        return self.bundle.model.items.encode_text(self.read(texts)) if texts else None

    def scoring(self, items: Sequence[Item]) -> tuple[Tensor, Tensor]:
        """(C, D) vectors as the scores see them, and (C,) whether training saw the item."""
        model = self.bundle.model
        rows, texts, listed = self.told_apart(items)
        vectors = self.scorer.scoring_items.new_empty(len(items), self.scorer.scoring_items.shape[1])
        vectors[listed] = self.scorer.scoring_items[rows]
        known = torch.zeros(len(items), dtype=torch.bool, device=vectors.device)
        known[listed] = model.items.known[rows]
        new = self.cold(texts)
        if new is not None:
            vectors[~listed] = model.scoring_items(new)
        return vectors, known

    @property
    def text(self) -> Tensor:
        """(N, D_text) of the catalog.

        Raises:
            BundleError: a bundle on ids alone.
        """
        text = self.bundle.model.items.text
        if text is None:
            raise BundleError(f"{self.folder}: this recommender knows items by id alone and has no text to compare")
        return text

    def texts(self, items: Sequence[Item]) -> Tensor:
        """(C, D_text)"""
        rows, texts, listed = self.told_apart(items)
        vectors = self.text.new_empty(len(items), self.text.shape[1])
        vectors[listed] = self.text[rows]
        if texts:
            vectors[~listed] = self.read(texts).to(vectors)
        return vectors

    def texts_of(self, asked: Asked) -> Tensor:
        """(E, D_text) of the events of all histories that were read."""
        table = torch.cat([self.text, self.read(asked.texts)]) if asked.texts else self.text
        return table[torch.from_numpy(asked.queries.histories.item)]

    def centred(self, texts: Tensor) -> Tensor:
        """(C, D_text) less the mean of the catalog: what all its items say alike (that they are films) tells none from
        another, and with it the cosines of any two texts lie close together (Mu & Viswanath 2018, arXiv:1702.01417).
        """
        return texts - self.text.mean(0)

    def name(self, item: Item) -> str:
        """What to call an item before people."""
        if isinstance(item, Mapping):
            return text_of(self.catalog, item)[:LABEL_LENGTH]
        return self.catalog.label(int(rows_of(self.catalog, [item])[0]))

    def described(self, history: Sequence[Event]) -> list[Event]:
        """A history with every item as its text."""
        return [self._described(event) for event in history]

    def _described(self, event: Event) -> Event:
        item, catalog = item_of(event), self.catalog
        if isinstance(item, str):
            text = str(catalog.text_array[int(rows_of(catalog, [item])[0])])
        else:
            text = text_of(catalog, item)
        return {VERBATIM: text} if isinstance(event, (str, Mapping)) else ({VERBATIM: text}, event[1])

    def told_apart(self, items: Sequence[Item]) -> tuple[Tensor, list[str], Tensor]:
        """Rows of the catalog's items, the texts of the others, and (C,) which of `items` are the catalog's."""
        if isinstance(items, (str, Mapping)):
            raise DataError("items", [f"{items!r} is one item; give a list of items"])
        rows = torch.from_numpy(rows_of(self.catalog, [item for item in items if isinstance(item, str)]))
        texts = [text_of(self.catalog, item) for item in items if not isinstance(item, str)]
        listed = torch.tensor([isinstance(item, str) for item in items], dtype=torch.bool)
        return rows, texts, listed
