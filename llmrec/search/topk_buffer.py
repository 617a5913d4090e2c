"""Short lists of the best (score, item) pairs of queries, as integers that sort as the pairs do."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

# A key holds the bits of a score, changed so that they sort as the number does, above MAX_ROW minus the row of the
# item: of two equal scores the lower row has the larger key, and no two keys of a query are equal.
MAX_ROW = (1 << 32) - 1
MAGNITUDE = 0x7FFFFFFF  # all bits of a float but the sign


def pack_keys(score: Tensor, item: Tensor) -> Tensor:
    """Pack scores and item rows into keys.

    Args:
        score: Scores, fp32, of any shape.
        item: Item rows, of a shape that broadcasts with it.

    Returns:
        Keys, int64.
    """
    bits = (score + 0.0).view(torch.int32)  # -0.0 and 0.0 are the same score
    ordered = bits ^ ((bits >> 31) & MAGNITUDE)
    return (ordered.long() << 32) + (MAX_ROW - item)


def unpack_scores(keys: Tensor) -> Tensor:
    """Return the scores of keys.

    Args:
        keys: Keys, int64.

    Returns:
        Scores, fp32.
    """
    ordered = (keys >> 32).int()
    return (ordered ^ ((ordered >> 31) & MAGNITUDE)).view(torch.float32)


def unpack_keys(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores and item rows of keys.

    Args:
        keys: Keys, int64.

    Returns:
        Scores, fp32, and item rows, -1 where the score is -inf.
    """
    score = unpack_scores(keys)
    return score, (MAX_ROW - (keys & MAX_ROW)).masked_fill(score == -torch.inf, -1)


EMPTY = int(pack_keys(torch.tensor(-torch.inf), torch.tensor(MAX_ROW)))


class TopKBuffer:
    """Buffer of up to `size` pairs that may be among the k best of each of B queries.

    Added pairs wait until `compact`. A pair that is not above `threshold` (B,) need not be added. `guess` (B,) is the
    value
    that the k-th best was expected to reach; if it does not, better pairs may have been left out.

    Args:
        k: Items per query.
        size: Maximum number of pairs of a query.
        margin: Distance below the k-th best within which pairs are kept, (B,).
    """

    def __init__(self, k: int, size: int, margin: Tensor) -> None:
        self.k, self.size, self.margin = k, size, margin
        self.keys = torch.full((len(margin), 0), EMPTY)
        self.guess = self.threshold = torch.full_like(margin, -torch.inf)
        self.n_waiting = 0
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def guess_threshold(self, scores: Tensor, place: int) -> None:
        """Guess that the k-th best score reaches the score at a rank of a sample.

        Args:
            scores: Scores of the sample, (G, B).
            place: Rank, from 1.
        """
        if place <= len(scores):
            least = scores.T.contiguous().topk(place, dim=1, sorted=False).values.amin(1)
            self.guess = torch.nextafter(least, torch.full_like(least, -torch.inf))
            self.threshold = self.guess - self.margin

    def add(self, start: int, place: Tensor, score: Tensor) -> None:
        """Add scores of a block of items; they wait until `compact`.

        Args:
            start: First item of the block.
            place: Positions in the block, by item and then by query, (P,).
            score: Scores, (P,) fp32.
        """
        self._waiting.append((start * len(self.keys) + place, score))
        self.n_waiting += len(place)

    def compact(self) -> None:
        """Keep the best pairs and raise the thresholds accordingly."""
        if not self.n_waiting:
            return
        lists = self._merge_waiting()
        kept = min(self.size, lists.shape[1])
        best = lists.topk(kept, dim=1, sorted=False).values
        if kept >= self.k:
            least = best if kept == self.k else best.topk(self.k, dim=1, sorted=False).values
            threshold = unpack_scores(least.amin(1)) - self.margin
            if kept == self.size > self.k:  # dropped pairs are no better than the kept ones
                threshold = torch.maximum(threshold, unpack_scores(best.amin(1)))
            self.threshold = torch.maximum(self.threshold, threshold)
        self.keys, self.n_waiting = best, 0

    def to_sorted(self) -> tuple[Tensor, Tensor]:
        """Return scores and items (B, size), best first; -inf and -1 where there are fewer."""
        self.compact()
        keys = functional.pad(self.keys, (0, self.size - self.keys.shape[1]), value=EMPTY)
        return unpack_keys(keys.sort(dim=1, descending=True).values)

    def _merge_waiting(self) -> Tensor:
        """Return the keys of the lists and of waiting pairs above the threshold, (B, W)."""
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
    """Return the order that sorts the rows of few queries.

    Args:
        query: Query rows, below 65,536, (P,).

    Returns:
        Positions, (P,).
    """
    # NumPy sorts numbers of 16 bits by their digits, several times faster.
    return torch.from_numpy(np.argsort(query.numpy().astype(np.uint16), kind="stable"))


def find_above(scores: Tensor, threshold: Tensor, mask: NDArray[np.bool_]) -> Tensor:
    """Find scores above a threshold.

    Args:
        scores: Scores, (R, C).
        threshold: Thresholds of the columns, (C,).
        mask: Buffer to write to, (R * C,).

    Returns:
        Positions in the flattened scores, (P,); NaN may be among them.
    """
    # NumPy compares, and finds few of many, several times faster than torch.
    if scores.dtype == torch.bfloat16 and bool((threshold > 0).all()):
        scores, threshold = scores.view(torch.int16), threshold.view(torch.int16)  # sorts like positive bfloat16
    if scores.dtype == torch.bfloat16:
        torch.gt(scores, threshold, out=torch.from_numpy(mask).view_as(scores))
    else:
        np.greater(scores.numpy(), threshold.numpy(), out=mask.reshape(scores.shape))
    return torch.from_numpy(np.flatnonzero(mask))
