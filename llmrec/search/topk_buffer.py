"""Short lists of the best (score, item) pairs of several queries, as integers that sort as the pairs do.

A key holds a score's bits, changed so that they sort as the number does, above what is left of LARGEST_ROW after the
item's row: of two equal scores the lower row is the larger key, and no two keys of a query are the same.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

LARGEST_ROW = (1 << 32) - 1
MAGNITUDE = 0x7FFFFFFF  # of a float's bits all but the sign


def pack_keys(score: Tensor, item: Tensor) -> Tensor:
    """int64 keys of fp32 scores and item rows."""
    bits = (score + 0.0).view(torch.int32)  # -0.0 and 0.0 are the same score
    ordered = bits ^ ((bits >> 31) & MAGNITUDE)
    return (ordered.long() << 32) + (LARGEST_ROW - item)


def unpack_scores(keys: Tensor) -> Tensor:
    """The fp32 scores of keys."""
    ordered = (keys >> 32).int()
    return (ordered ^ ((ordered >> 31) & MAGNITUDE)).view(torch.float32)


def unpack_keys(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and item rows; -1 where the score is -inf."""
    score = unpack_scores(keys)
    return score, (LARGEST_ROW - (keys & LARGEST_ROW)).masked_fill(score == -torch.inf, -1)


EMPTY = int(pack_keys(torch.tensor(-torch.inf), torch.tensor(LARGEST_ROW)))


class TopKBuffer:
    """For each of B queries up to `size` pairs that may be among its k best.

    Pairs are offered, and wait until `compact`. margin: (B,) how far below the k-th best a pair may lie to be kept all
    the same. threshold: (B,) what is not above it need not be offered. guess: (B,) what the k-th best was taken to
    reach; where it does not, better pairs may have been left out.
    """

    def __init__(self, k: int, size: int, margin: Tensor) -> None:
        self.k, self.size, self.margin = k, size, margin
        self.keys = torch.full((len(margin), 0), EMPTY)
        self.guess = self.threshold = torch.full_like(margin, -torch.inf)
        self.n_waiting = 0
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def guess_threshold(self, scores: Tensor, place: int) -> None:
        """Guess that the k-th best reaches the one at a `place` (from 1) among scores (G, B)."""
        if place <= len(scores):
            least = scores.T.contiguous().topk(place, dim=1, sorted=False).values.amin(1)
            self.guess = torch.nextafter(least, torch.full_like(least, -torch.inf))
            self.threshold = self.guess - self.margin

    def add(self, start: int, place: Tensor, score: Tensor) -> None:
        """fp32 scores (P,) of items from `start` on, with their places there, counted by item and then by query."""
        self._waiting.append((start * len(self.keys) + place, score))
        self.n_waiting += len(place)

    def compact(self) -> None:
        """Leave the best on the lists, and raise the thresholds to what they leave."""
        if not self.n_waiting:
            return
        lists = self._merge_waiting()
        kept = min(self.size, lists.shape[1])
        best = lists.topk(kept, dim=1, sorted=False).values
        if kept >= self.k:
            least = best if kept == self.k else best.topk(self.k, dim=1, sorted=False).values
            threshold = unpack_scores(least.amin(1)) - self.margin
            if kept == self.size > self.k:  # what falls off the list is no better than what is left
                threshold = torch.maximum(threshold, unpack_scores(best.amin(1)))
            self.threshold = torch.maximum(self.threshold, threshold)
        self.keys, self.n_waiting = best, 0

    def to_sorted(self) -> tuple[Tensor, Tensor]:
        """(B, size) scores and items, best first; -inf and -1 where there are fewer."""
        self.compact()
        keys = functional.pad(self.keys, (0, self.size - self.keys.shape[1]), value=EMPTY)
        return unpack_keys(keys.sort(dim=1, descending=True).values)

    def _merge_waiting(self) -> Tensor:
        """(B, W) the lists' keys, and those of waiting pairs above the threshold."""
        place, score = (torch.cat(column) for column in zip(*self._waiting, strict=True))
        self._waiting.clear()
        query = place % len(self.keys)
        good = (score > self.threshold[query]).nonzero().flatten()
        query = query[good]
        keys, order = pack_keys(score[good], place[good] // len(self.keys)), argsort_queries(query)
        query, counts = query[order], torch.bincount(query, minlength=len(self.keys))
        place = torch.arange(len(query)) - (counts.cumsum(0) - counts)[query]
        kept = self.keys.shape[1]
        lists = functional.pad(self.keys, (0, int(counts.max())), value=EMPTY)
        lists[query, kept + place] = keys[order]
        return lists


def argsort_queries(query: Tensor) -> Tensor:
    """(P,) that sorts rows of few queries; NumPy sorts numbers of 16 bits by their digits, several times faster."""
    return torch.from_numpy(np.argsort(query.numpy().astype(np.uint16), kind="stable"))


def find_above(scores: Tensor, threshold: Tensor, mask: NDArray[np.bool_]) -> Tensor:
    """(P,) places in flattened scores (R, C) of those above a threshold (C,), and perhaps of NaN. NumPy compares, and
    finds few of many, several times faster than torch. mask: (R * C,) to be written to.
    """
    if scores.dtype == torch.bfloat16 and bool((threshold > 0).all()):
        scores, threshold = scores.view(torch.int16), threshold.view(torch.int16)  # which sort as positive numbers do
    if scores.dtype == torch.bfloat16:
        torch.gt(scores, threshold, out=torch.from_numpy(mask).view_as(scores))
    else:
        np.greater(scores.numpy(), threshold.numpy(), out=mask.reshape(scores.shape))
    return torch.from_numpy(np.flatnonzero(mask))
