"""Items as vectors: those of a bundle's catalog, and those that are in none and are known by their text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import RLock

import numpy as np
import torch
from torch import Tensor

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.data.catalog import LABEL_LENGTH, ItemCatalog
from llmrec.data.pii import make_pii_redactor
from llmrec.errors import BundleError, DataError
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.hub.bundle import Bundle, load_backbone, load_base_backbone
from llmrec.inference.queries import VERBATIM, Event, Item, QueryBatch, find_item_rows, get_event_item, render_item_text
from llmrec.inference.vector_lru import VectorLru
from llmrec.search.quantized_table import QuantizedTable
from llmrec.utils.arrays import Mask


class ServedCatalog:
    """A catalog that can grow, with the backbone that reads new text, loaded when it is first needed. lock: held while
    the catalog changes, and by whoever needs it to stand still.
    """

    def __init__(self, bundle: Bundle, folder: Path, backbone: str | None) -> None:
        self.bundle, self.folder, self.backbone_name = bundle, folder, backbone
        self.catalog: ItemCatalog = bundle.catalog
        self.scorer = ModelScorer(bundle.model)
        self.table = QuantizedTable.from_vectors(self.scorer.scoring_items)
        self.drift, self.removed = bundle.drift, set(bundle.removed)
        self.lock = RLock()
        self.scrubber = make_pii_redactor(bundle.config.data.pii)
        self._backbone: TextBackbone | None = None
        self._untrained: TextBackbone | None = None
        self._trained_memory = VectorLru(lambda texts: self.backbone.encode(self.backbone.tokenize(texts)))
        self._untrained_memory = VectorLru(self._read_untrained)

    @property
    def backbone(self) -> TextBackbone:
        if self._backbone is None:
            loaded = load_backbone(self.folder, self.bundle, self.backbone_name)
            self._backbone = loaded.to(self.scorer.table.device)
        return self._backbone

    @torch.no_grad()
    def extend(self, items: Sequence[Mapping[str, object]]) -> None:
        """Take in new items by their text; nothing changes where one of them cannot be."""
        catalog = self.catalog.extend(self.redact_items(items))
        texts = [str(text) for text in catalog.text_array[len(self.catalog) :].to_pylist()]
        vectors, untrained = (
            self.encode_texts(texts),
            None if self.drift is None else self.encode_texts_untrained(texts),
        )
        self.bundle.model.items.extend(vectors)
        self.bundle.model.histories.extend(texts)
        self.drift = None if self.drift is None else self.drift.with_items(untrained)
        self.catalog, self.scorer = catalog, ModelScorer(self.bundle.model)
        self.table = QuantizedTable.from_vectors(self.scorer.scoring_items)

    def novelty_bias(self) -> Tensor:
        """(N,) what the model adds to the score of each item, whoever asks."""
        model = self.bundle.model
        return (model.novelty * ~model.items.known).float()

    def encode_texts(self, texts: list[str]) -> Tensor:
        """(C, D_text); what a log's texts are scrubbed of, these are too."""
        if self.scrubber is not None:
            texts = self.scrubber.redact_texts(texts)
        return self._trained_memory.get_vectors(texts).to(self.scorer.table)

    def encode_texts_untrained(self, texts: list[str]) -> Tensor:
        """(C, D_text) by the backbone as it was before any training, on the CPU: what a drift head goes by."""
        if self.bundle.trained_backbone is None:
            return self.encode_texts(texts).float().cpu()
        if self.scrubber is not None:
            texts = self.scrubber.redact_texts(texts)
        return self._untrained_memory.get_vectors(texts)

    def _read_untrained(self, texts: list[str]) -> Tensor:
        if self._untrained is None:
            self._untrained = load_base_backbone(self.folder, self.bundle, self.backbone_name)
        return self._untrained.encode(self._untrained.tokenize(texts)).float()

    def redact_items(self, items: Sequence[Mapping[str, object]]) -> Sequence[Mapping[str, object]]:
        """Fields of new items without what a log's texts are scrubbed of."""
        if self.scrubber is None:
            return items
        return [self.scrubber.redact_item(item, self.catalog.id_column) for item in items]

    def recommendable_mask(self) -> Mask:
        """(N,) the items that may be recommended."""
        mask = np.ones(len(self.catalog), dtype=np.bool_)
        mask[self.catalog.find_rows(sorted(self.removed))] = False
        return mask

    def cold_item_vectors(self, texts: list[str]) -> Tensor | None:
        """(R, D) item vectors of texts, as histories hold them; None where there is no text."""
        return self.bundle.model.items.encode_text(self.encode_texts(texts)) if texts else None

    def scoring_vectors(self, items: Sequence[Item]) -> tuple[Tensor, Tensor]:
        """(C, D) vectors as the scores see them, and (C,) whether training saw the item."""
        model = self.bundle.model
        rows, texts, listed = self.split_known_items(items)
        vectors = self.scorer.scoring_items.new_empty(len(items), self.scorer.scoring_items.shape[1])
        vectors[listed] = self.scorer.scoring_items[rows]
        known = torch.zeros(len(items), dtype=torch.bool, device=vectors.device)
        known[listed] = model.items.known[rows]
        new = self.cold_item_vectors(texts)
        if new is not None:
            vectors[~listed] = model.scoring_vectors(new)
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

    def text_vectors(self, items: Sequence[Item]) -> Tensor:
        """(C, D_text)"""
        rows, texts, listed = self.split_known_items(items)
        vectors = self.text.new_empty(len(items), self.text.shape[1])
        vectors[listed] = self.text[rows]
        if texts:
            vectors[~listed] = self.encode_texts(texts).to(vectors)
        return vectors

    def history_text_vectors(self, batch: QueryBatch) -> Tensor:
        """(E, D_text) of the events of all histories that were read."""
        table = torch.cat([self.text, self.encode_texts(batch.texts)]) if batch.texts else self.text
        return table[torch.from_numpy(batch.queries.histories.item)]

    def center(self, texts: Tensor) -> Tensor:
        """(C, D_text) less the mean of the catalog: what all its items say alike (that they are films) tells none from
        another, and with it the cosines of any two texts lie close together (Mu & Viswanath 2018, arXiv:1702.01417).
        """
        return texts - self.text.mean(0)

    def label(self, item: Item) -> str:
        """What to call an item before people."""
        if isinstance(item, Mapping):
            return render_item_text(self.catalog, item)[:LABEL_LENGTH]
        return self.catalog.label(int(find_item_rows(self.catalog, [item])[0]))

    def to_text_history(self, history: Sequence[Event]) -> list[Event]:
        """A history with every item as its text."""
        return [self._describe_event(event) for event in history]

    def _describe_event(self, event: Event) -> Event:
        item, catalog = get_event_item(event), self.catalog
        if isinstance(item, str):
            text = str(catalog.text_array[int(find_item_rows(catalog, [item])[0])])
        else:
            text = render_item_text(catalog, item)
        return {VERBATIM: text} if isinstance(event, (str, Mapping)) else ({VERBATIM: text}, event[1])

    def split_known_items(self, items: Sequence[Item]) -> tuple[Tensor, list[str], Tensor]:
        """Rows of the catalog's items, the texts of the others, and (C,) which of `items` are the catalog's."""
        if isinstance(items, (str, Mapping)):
            raise DataError("items", [f"{items!r} is one item; give a list of items"])
        rows = torch.from_numpy(find_item_rows(self.catalog, [item for item in items if isinstance(item, str)]))
        texts = [render_item_text(self.catalog, item) for item in items if not isinstance(item, str)]
        listed = torch.tensor([isinstance(item, str) for item in items], dtype=torch.bool)
        return rows, texts, listed
