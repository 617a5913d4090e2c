"""Text vectors of a catalog: those of its items, and those of new texts by the backbone of the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.data.pii import make_pii_redactor
from llmrec.errors import BundleError, ConfigError
from llmrec.hub.bundle import Bundle, load_backbone, load_base_backbone
from llmrec.inference.vector_lru import VectorLru


class TextSpace:
    """Space of the text vectors of a bundle.

    The backbone is loaded when new text is first encoded. Personal details are redacted in new text as in the log.
    """

    def __init__(self, bundle: Bundle, folder: Path, *, backbone: str | None = None) -> None:
        """Prepare to encode text.

        Args:
            bundle: The loaded bundle.
            folder: Its folder.
            backbone: A local copy of the base model, to encode new text without the hub.
        """
        self.bundle, self.folder, self.backbone_name = bundle, folder, backbone
        self.redactor = make_pii_redactor(bundle.config.data.pii)
        self._backbone: TextBackbone | None = None
        self._untrained: TextBackbone | None = None
        self._trained_vectors = VectorLru(lambda texts: self.backbone.encode(self.backbone.tokenize(texts)))
        self._untrained_vectors = VectorLru(self._encode_untrained)

    @property
    def backbone(self) -> TextBackbone:
        """Language model that encodes new text, loaded at first use."""
        if self._backbone is None:
            loaded = load_backbone(self.folder, self.bundle, backbone=self.backbone_name)
            self._backbone = loaded.to(self.bundle.model.novelty.device)
        return self._backbone

    @property
    def vectors(self) -> Tensor:
        """Text vectors of the items, (N, D_text).

        Raises:
            BundleError: If the bundle knows items by their ids alone.
        """
        text = self.bundle.model.items.text
        if text is None:
            raise BundleError(
                f"{self.folder}: this recommender has item ids only and no text to compare. Use one with a backbone."
            )
        return text

    def encode(self, texts: list[str]) -> Tensor:
        """Encode texts by the trained backbone, with personal details redacted.

        Args:
            texts: C texts.

        Returns:
            Text vectors, (C, D_text).
        """
        return self._trained_vectors.get_vectors(self._redact_texts(texts)).to(self.bundle.model.novelty)

    def encode_untrained(self, texts: list[str]) -> Tensor:
        """Encode texts by the backbone as it was before training, which a drift head needs.

        Args:
            texts: C texts.

        Returns:
            Text vectors, (C, D_text), on the CPU.
        """
        if self.bundle.trained_backbone is None:
            return self.encode(texts).float().cpu()
        return self._untrained_vectors.get_vectors(self._redact_texts(texts))

    def redact_items(self, items: Sequence[Mapping[str, object]]) -> Sequence[Mapping[str, object]]:
        """Redact personal details in the fields of new items, as in those of the log.

        Args:
            items: Fields of each item.

        Returns:
            The redacted fields, ids unchanged.
        """
        if self.redactor is None:
            return items
        return [self.redactor.redact_item(item, self.bundle.catalog.id_column) for item in items]

    def center(self, texts: Tensor) -> Tensor:
        """Subtract the mean text vector of the catalog from text vectors.

        Args:
            texts: Text vectors, (C, D_text).

        Returns:
            (C, D_text)

        Source:
            Mu & Viswanath 2018, arXiv:1702.01417: a part that all texts share makes all cosines similar.
        """
        return texts - self.vectors.mean(0)

    @torch.no_grad()
    def similarity(self, words: str, *, name: str) -> Tensor:
        """Return the cosine of words with each item's text.

        Args:
            words: A word or phrase.
            name: Name of the argument in the error message.

        Returns:
            (N,), on the CPU.

        Raises:
            ConfigError: If there are no words.
            BundleError: If the bundle knows items by their ids alone.
        """
        if not words.strip():
            raise ConfigError(f"{name} is empty; say in words what it is")
        return cosine_matrix(self.encode([words]), self.center(self.vectors))[0].float().cpu()

    def _encode_untrained(self, texts: list[str]) -> Tensor:
        if self._untrained is None:
            self._untrained = load_base_backbone(self.folder, self.bundle, backbone=self.backbone_name)
        return self._untrained.encode(self._untrained.tokenize(texts)).float()

    def _redact_texts(self, texts: list[str]) -> list[str]:
        return texts if self.redactor is None else self.redactor.redact_texts(texts)


def cosine_matrix(vectors: Tensor, others: Tensor) -> Tensor:
    """Compute the cosine of each vector with each other one.

    Args:
        vectors: (B, D)
        others: (N, D)

    Returns:
        (B, N)
    """
    return functional.normalize(vectors, dim=1) @ functional.normalize(others, dim=1).T


def merge_vectors(found: Tensor, new: Tensor | None, listed: Tensor) -> Tensor:
    """Merge vectors of catalog items and of new ones, in the order of the items.

    Args:
        found: Vectors of the items that are in the catalog, (n, D).
        new: Vectors of the others, (C - n, D); None if there are none.
        listed: True for items that are in the catalog, (C,).

    Returns:
        Vectors, (C, D).
    """
    vectors = found.new_empty(len(listed), found.shape[1])
    vectors[listed] = found
    if new is not None:
        vectors[~listed] = new.to(vectors)
    return vectors
