"""Objectives of continued pretraining: masked words, next words, and a contrast of items that occur together.

`mlm`: Devlin et al. 2019, arXiv:1810.04805: 15% of the tokens are predicted; of these 80% are masked, 10% replaced by
a random token, 10% kept. `clm`: every token but the first is predicted. `contrast`: InfoNCE (van den Oord et al. 2018,
arXiv:1807.03748) between items of neighboring events of a user, over the items of the batch and uniform ones (mixed
negatives, Yang et al. 2020, doi:10.1145/3366424.3386195).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from llmrec.backbones.lm_head import LanguageHead
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.token_store import TokenStore
from llmrec.training.distributed.collectives import all_gather_with_grad, take_equal_share
from llmrec.utils.arrays import Rows
from llmrec.utils.precision import upcast_to_fp32

PREDICTED, MASKED, RANDOM = 0.15, 0.8, 0.1
TEXTS_AT_ONCE = 64  # of one forward pass


class TextBatch(NamedTuple):
    """One process's share of the texts of a step."""

    input_ids: Tensor  # (U, L)
    """Token ids."""
    attention_mask: Tensor  # (U, L)
    """1 for tokens, 0 for padding."""
    label: Tensor  # (U, L)
    """Token to predict from a state, -100 for none."""

    def to(self, device: torch.device) -> TextBatch:
        """Move the batch to a device.

        Args:
            device: Target device.

        Returns:
            The moved batch.
        """
        return TextBatch(*(column.to(device) for column in self))


class PairBatch(NamedTuple):
    """One process's share of the pairs of a step, each in both directions.

    Rows refer to the U distinct items of the step in all processes, of which each process encodes a contiguous share.
    """

    input_ids: Tensor  # (U / processes, L)
    """Token ids of the items that this process encodes."""
    attention_mask: Tensor  # (U / processes, L)
    """1 for tokens, 0 for padding."""
    anchor: Tensor  # (A,) rows of U
    """Item of each anchor."""
    positive: Tensor  # (A,) rows of U
    """Item that belongs with each anchor."""
    column: Tensor  # (C,) rows of U: the step's own items, as often as they occur, and the uniform ones
    """Items that anchors are compared with."""
    log_expected: Tensor  # (C,) log of how often a column's item is expected among the columns
    """Correction of the logit of each column."""

    def to(self, device: torch.device) -> PairBatch:
        """Move the batch to a device.

        Args:
            device: Target device.

        Returns:
            The moved batch.
        """
        return PairBatch(*(column.to(device) for column in self))


StepBatch = TextBatch | PairBatch


@dataclass(frozen=True)
class TextBatcher:
    """Make batches of texts with masked or next words.

    All processes draw the masks of the whole step, then each takes its share.
    """

    tokens: TokenStore
    """Tokens of the catalog."""
    tokenizer: Any
    """Tokenizer of the backbone."""
    masked: bool
    """True for masked words, False for next words."""

    def make_batch(self, rows: Rows, seed: tuple[int, ...], accelerator: Accelerator) -> tuple[TextBatch, int]:
        """Make this process's share of the texts of a step.

        Args:
            rows: Catalog rows of the step.
            seed: Seed of the masks.
            accelerator: Processes that share the step.

        Returns:
            The batch, and the number of words that all processes predict together.
        """
        ids, attention = self.tokens.get_batch(rows, torch.device("cpu"))
        if self.masked:
            ids, label = self._mask(ids, seed)
        else:
            label = ids.masked_fill(attention == 0, -100).roll(-1, dims=1)
            label[:, -1] = -100
        own = slice(accelerator.process_index, None, accelerator.num_processes)
        return TextBatch(ids[own], attention[own], label[own]), int((label >= 0).sum())

    def _mask(self, ids: Tensor, seed: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        from transformers import DataCollatorForLanguageModeling

        collator = DataCollatorForLanguageModeling(
            self.tokenizer, mlm_probability=PREDICTED, mask_replace_prob=MASKED, random_replace_prob=RANDOM
        )
        drawn = int(np.random.default_rng(seed).integers(2**62))
        collator.generator = torch.Generator().manual_seed(drawn)
        special = torch.isin(ids, torch.tensor(sorted({*self.tokenizer.all_special_ids, self.tokens.pad_id})))
        masked, label = collator.torch_mask_tokens(ids, special)
        return masked, label


@dataclass(frozen=True)
class PairBatcher:
    """Make batches of pairs with their negatives."""

    tokens: TokenStore
    """Tokens of the catalog."""
    known: Rows
    """Catalog rows to draw negatives from, (K,)."""
    share: NDArray[np.float64]
    """Share of the places of training pairs that each item takes, (N,), see `PretrainCorpus`."""
    n_negatives: int
    """Uniform negatives per step."""

    def make_batch(self, pairs: Rows, seed: tuple[int, ...], accelerator: Accelerator) -> tuple[PairBatch, int]:
        """Make this process's share of the pairs of a step.

        Args:
            pairs: Catalog rows of the pairs, (P, 2).
            seed: Seed of the negatives.
            accelerator: Processes that share the step.

        Returns:
            The batch, and the number of anchors of all processes together.
        """
        rank, counts = accelerator.process_index, accelerator.num_processes
        drawn = np.random.default_rng(seed).choice(self.known, self.n_negatives)
        both = np.concatenate([pairs[:, 0], pairs[:, 1]])  # (2n,)
        columns = np.concatenate([both, drawn])
        items, row = np.unique(columns, return_inverse=True)
        reads = take_equal_share(items, rank, counts)
        # A column is one of the batch's 2n places or one of the uniform draws.
        expected = len(both) * self.share[columns] + self.n_negatives / len(self.known)
        anchor, positive = row[: len(both)], np.roll(row[: len(both)], len(pairs))
        batch = PairBatch(
            *self.tokens.get_batch(reads, torch.device("cpu")),
            torch.from_numpy(anchor[rank::counts].copy()),
            torch.from_numpy(positive[rank::counts].copy()),
            torch.from_numpy(row),
            torch.from_numpy(np.log(expected)).float(),
        )
        return batch, len(both)


def contrast_loss(vectors: Tensor, batch: PairBatch, temperature: float) -> Tensor:
    """Compute -log softmax of the cosines of positives over the catalog, estimated by the columns.

    The logit of a column is reduced by the log of its expected count, so that popular items, which are in batches more
    often, are not penalized for it. Columns of the anchor's or the positive's own item are left out.

    Args:
        vectors: Unit vectors of the distinct items, (U, D).
        batch: Anchors, positives and columns.
        temperature: Divides the cosines.

    Returns:
        The sum over anchors, a scalar.

    Source:
        logQ correction, Yi et al. 2019, doi:10.1145/3298689.3346996.
    """
    anchor = vectors[batch.anchor] / temperature  # (A, D)
    positive = (anchor * vectors[batch.positive]).sum(1, keepdim=True)  # (A, 1)
    logits = anchor @ vectors[batch.column].T - batch.log_expected  # (A, C)
    own = (batch.anchor[:, None] == batch.column) | (batch.positive[:, None] == batch.column)
    everything = torch.cat([positive, logits.masked_fill(own, float("-inf"))], dim=1)
    return functional.cross_entropy(everything, torch.zeros_like(batch.anchor), reduction="sum")


def group_by_length(input_ids: Tensor, attention_mask: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield groups of at most TEXTS_AT_ONCE texts of similar length, without superfluous padding.

    Args:
        input_ids: Token ids, (U, L).
        attention_mask: 1 for tokens, 0 for padding, (U, L).

    Yields:
        Rows of the texts, their token ids and their mask.
    """
    lengths = attention_mask.sum(1)
    for rows in torch.split(lengths.argsort(stable=True), TEXTS_AT_ONCE):
        longest = int(lengths[rows[-1]])
        yield rows, input_ids[rows, :longest], attention_mask[rows, :longest]


class PretrainObjective(nn.Module):
    """Backbone and head as one module, as DDP requires, with the losses of a step.

    Dropout is off, as wherever a backbone trains.

    Args:
        backbone: Backbone to train.
        head: Language-model head; None if no objective predicts words.
        temperature: Divides the cosines of pairs.
    """

    def __init__(self, backbone: TextBackbone, head: LanguageHead | None, temperature: float) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.temperature = temperature

    def forward(self, batches: Sequence[StepBatch]) -> Tensor:
        """Compute the losses of this process's share of a step.

        Args:
            batches: One batch per objective, R in all.

        Returns:
            The summed loss of each batch, (R,).
        """
        return torch.stack(
            [
                self._compute_text_loss(one) if isinstance(one, TextBatch) else self._compute_pair_loss(one)
                for one in batches
            ]
        )

    def _compute_text_loss(self, batch: TextBatch) -> Tensor:
        if self.head is None:
            raise ValueError("words are predicted by a language-model head, and there is none")
        hidden, label = [], []
        for rows, ids, mask in group_by_length(batch.input_ids, batch.attention_mask):
            states = self.backbone.model(input_ids=ids, attention_mask=mask).last_hidden_state
            wanted = batch.label[rows, : ids.shape[1]]
            hidden.append(states[wanted >= 0])
            label.append(wanted[wanted >= 0])
        logits = self.head(torch.cat(hidden))  # (M, V), of the tokens to predict alone
        return functional.cross_entropy(upcast_to_fp32(logits), torch.cat(label), reduction="sum")

    def _compute_pair_loss(self, batch: PairBatch) -> Tensor:
        parts = list(group_by_length(batch.input_ids, batch.attention_mask))
        order = torch.cat([rows for rows, _, _ in parts])
        vectors = torch.cat([self.backbone(ids, mask) for _, ids, mask in parts])[order.argsort()]
        vectors = all_gather_with_grad(vectors)
        with torch.autocast(vectors.device.type, enabled=False):
            return contrast_loss(upcast_to_fp32(vectors), batch, self.temperature)
