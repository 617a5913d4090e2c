"""Cache of the text vectors that were used last, so that repeated texts are not encoded again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

MAX_TEXTS = 1024  # texts


class VectorLru:
    """Cache of the last texts and their vectors (D,), by a backbone that does not change.

    Attributes:
        most: Texts to keep.
    """

    def __init__(self, read: Callable[[list[str]], Tensor], most: int = MAX_TEXTS) -> None:
        """Make an empty cache.

        Args:
            read: Encodes texts as vectors, (C, D).
            most: Texts to keep.
        """
        self._read, self.most = read, most
        self._known: OrderedDict[str, Tensor] = OrderedDict()

    def get_vectors(self, texts: Sequence[str]) -> Tensor:
        """Return the vectors of texts; those that are not in the cache are encoded in one pass.

        Args:
            texts: C texts.

        Returns:
            (C, D)
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if len(new) > self.most:  # a catalog's worth
            return self._read(list(texts))
        found = dict(zip(new, self._read(new), strict=True)) if new else {}
        for text in texts:
            if text in self._known:
                self._known.move_to_end(text)
                found[text] = self._known[text]
        self._known.update((text, found[text].clone()) for text in new)
        while len(self._known) > self.most:
            self._known.popitem(last=False)
        return torch.stack([found[text] for text in texts]) if texts else self._read([])
