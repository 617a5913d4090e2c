"""Masks, next words and contrast against independent counts; shares of processes add up to the whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.token_store import TokenStore
from llmrec.config.backbone import BackboneConfig
from llmrec.training.pretraining.pretrain_objectives import (
    PairBatch,
    PairBatcher,
    TextBatcher,
    contrast_loss,
    group_by_length,
)

TEXTS = ["red shampoo for hair", "night cream", "oil", "a drama of love and war in space", "face cream"] * 40


@dataclass(frozen=True)
class Share:
    """One of several processes, as far as batches ask."""

    process_index: int
    num_processes: int


ALONE = Share(0, 1)


def load(path: Path) -> TextBackbone:
    return TextBackbone.load(BackboneConfig(name=str(path), hub_id="owner/tiny"))


def test_masks_are_devlins_and_spare_special_tokens(tiny_bert: Path) -> None:
    backbone = load(tiny_bert)
    tokens = backbone.tokenize(TEXTS)
    source = TextBatcher(tokens, backbone.tokenizer, masked=True)
    rows = np.arange(len(TEXTS))
    ids, mask = tokens.get_batch(rows, torch.device("cpu"))
    asked = masked = kept = 0
    for seed in range(20):
        batch, count = source.make_batch(rows, (0, seed), ALONE)
        chosen = batch.label >= 0
        assert count == int(chosen.sum())
        assert torch.equal(batch.label[chosen], ids[chosen])
        assert torch.equal(batch.input_ids[~chosen], ids[~chosen])
        assert not torch.isin(ids[chosen], torch.tensor(backbone.tokenizer.all_special_ids)).any()
        asked += count
        masked += int((batch.input_ids[chosen] == backbone.tokenizer.mask_token_id).sum())
        kept += int((batch.input_ids[chosen] == ids[chosen]).sum())
    ordinary = int((mask.sum(1) - 2).sum()) * 20
    assert asked / ordinary == pytest.approx(0.15, abs=0.01)
    assert masked / asked == pytest.approx(0.8, abs=0.02)
    assert kept / asked == pytest.approx(0.1, abs=0.02)


def test_next_words_are_the_next_words(tiny_gpt2: Path) -> None:
    backbone = load(tiny_gpt2)
    tokens = backbone.tokenize(["hair oil", "night cream and oil"])
    batch, count = TextBatcher(tokens, backbone.tokenizer, masked=False).make_batch(np.arange(2), (0, 0), ALONE)
    for row, length in enumerate(tokens.lengths):
        assert batch.label[row, : length - 1].tolist() == batch.input_ids[row, 1:length].tolist()
        assert (batch.label[row, length - 1 :] == -100).all()
    assert count == int((tokens.lengths - 1).sum())


@pytest.mark.parametrize("world", [2, 3])
def test_shares_of_processes_add_up_to_the_whole(tiny_bert: Path, world: int) -> None:
    backbone = load(tiny_bert)
    tokens = backbone.tokenize(TEXTS[:5])
    words = TextBatcher(tokens, backbone.tokenizer, masked=True)
    whole, count = words.make_batch(np.arange(5), (3,), ALONE)
    parts = [words.make_batch(np.arange(5), (3,), Share(rank, world)) for rank in range(world)]
    assert {n for _, n in parts} == {count}
    assert sum(int((part.label >= 0).sum()) for part, _ in parts) == count
    assert torch.equal(torch.cat([part.input_ids for part, _ in parts]).sort(0).values, whole.input_ids.sort(0).values)

    pairs = PairBatcher(tokens, np.arange(5), np.full(5, 0.2), 4)
    items = np.array([[0, 1], [2, 3], [1, 4]])
    one, n = pairs.make_batch(items, (3,), ALONE)
    shares = [pairs.make_batch(items, (3,), Share(rank, world))[0] for rank in range(world)]
    vectors = functional.normalize(torch.randn(len(one.input_ids), 8), dim=1)
    assert torch.equal(torch.cat([share.input_ids for share in shares])[: len(vectors)], one.input_ids)
    split = sum(contrast_loss(vectors, share, 0.1) for share in shares)
    torch.testing.assert_close(split, contrast_loss(vectors, one, 0.1))
    assert sum(len(share.anchor) for share in shares) == n == 6


def test_contrast_by_hand() -> None:
    """Two pairs (0, 1), (0, 2) and one uniform draw, 3; every column's share is told, own items are left out."""
    generator = torch.Generator().manual_seed(0)
    vectors = functional.normalize(torch.randn(4, 6, generator=generator), dim=1)
    column = torch.tensor([0, 0, 1, 2, 3])
    log_expected = torch.tensor([2.0, 2.0, 1.0, 1.0, 0.5]).log()
    ids = torch.zeros(4, 1, dtype=torch.long)
    batch = PairBatch(ids, ids, torch.tensor([0, 0, 1, 2]), torch.tensor([1, 2, 0, 0]), column, log_expected)
    expected, weight = 0.0, {0: 2.0, 1: 1.0, 2: 1.0, 3: 0.5}
    for anchor, positive in ((0, 1), (0, 2), (1, 0), (2, 0)):
        cosine = (vectors @ vectors[anchor] / 0.2).double()
        others = [c for c in column.tolist() if c not in (anchor, positive)]
        mass = cosine[positive].exp() + sum(cosine[c].exp() / weight[c] for c in others)
        expected += float(mass.log() - cosine[positive])
    assert float(contrast_loss(vectors, batch, 0.2)) == pytest.approx(expected, rel=1e-5)


def test_the_denominator_is_an_estimate_of_the_catalogs(tiny_bert: Path) -> None:
    """Over many draws, popular items in the batch or not, the weighted columns sum to the catalog's mass."""
    rng = np.random.default_rng(0)
    n = 30
    popular = np.arange(1, n + 1, dtype=float) ** -1.0
    share = popular / popular.sum()
    score = np.exp(rng.normal(size=n))
    tokens = load(tiny_bert).tokenize([f"oil {row}" for row in range(n)])
    source = PairBatcher(tokens, np.arange(n), share, 20)
    masses = []
    for seed in range(400):
        batch, _ = source.make_batch(rng.choice(n, (10, 2), p=share), (seed,), ALONE)
        in_table = np.array(_items(tokens, batch))
        masses.append((score[in_table[batch.column]] / batch.log_expected.exp().numpy()).sum())
    assert np.mean(masses) == pytest.approx(score.sum(), rel=0.03)


def _items(tokens: TokenStore, batch: PairBatch) -> list[int]:
    """Catalog rows of a batch's texts, which are all different."""
    row_of = {tuple(text.tolist()): row for row, text in enumerate(np.split(tokens.flat, tokens.offset[1:-1]))}
    ids, mask = batch.input_ids, batch.attention_mask
    return [row_of[tuple(row[: int(seen.sum())].tolist())] for row, seen in zip(ids, mask, strict=True)]


def test_by_length_reads_the_same_vectors(tiny_bert: Path) -> None:
    backbone = load(tiny_bert)
    ids, mask = backbone.tokenize(TEXTS).get_batch(np.arange(len(TEXTS)), backbone.device)
    parts = list(group_by_length(ids, mask))
    assert len(parts) > 1
    assert parts[0][1].shape[1] < ids.shape[1]
    order = torch.cat([rows for rows, _, _ in parts])
    read = torch.cat([backbone(some, seen) for _, some, seen in parts])[order.argsort()]
    torch.testing.assert_close(read, backbone(ids, mask))
