"""The history's items speak for items like them: the later, the louder."""

import torch

from llmrec.config.model import ModelConfig
from llmrec.models.item_affinity import ItemAffinity
from llmrec.models.item_encoder import ItemEncoder


def affinity(scale: list[float], recency: float) -> ItemAffinity:
    module = ItemAffinity(torch.tensor(scale), dropout=0.5).eval()
    module.recency.data = torch.logit(torch.tensor(recency))
    return module


def test_gains_by_hand() -> None:
    vectors = torch.tensor([[[4.0, 0.0], [0.0, 8.0]]])
    gain = affinity([1.0, 0.5], recency=0.25)(vectors)
    # State 2 weighs the older event 1/4 of the newer: 1/5 and 4/5.
    torch.testing.assert_close(gain, torch.tensor([[[0.0, 0.0], [4.0, 0.0], [0.8, 3.2]]]))


def test_only_the_past_counts_and_padding_does_not() -> None:
    module, vectors = affinity([1.0] * 4, recency=0.8), torch.randn(1, 5, 4)
    changed = vectors.clone()
    changed[:, 3:] = 100.0  # later events, or padding
    torch.testing.assert_close(module(changed)[:, :4], module(vectors)[:, :4])
    torch.testing.assert_close(module(vectors[:, :2]), module(vectors)[:, :3])


def test_it_starts_as_the_similarity_of_the_texts() -> None:
    torch.manual_seed(0)
    text = torch.randn(300, 6) @ torch.randn(6, 6)
    items = ItemEncoder(ModelConfig(dim=8, use_item_ids=False), torch.ones(300, dtype=torch.bool), text).eval()
    vectors = items()
    gain = affinity(items.cosine_weights.tolist(), recency=0.5)(vectors[None, :1])[0, 1]  # of a history of item 0
    centered = text - text.mean(0)
    similarity = centered @ centered[0] / centered.square().sum(1).mean()
    torch.testing.assert_close(vectors @ gain, similarity, atol=1e-4, rtol=1e-4)


def test_a_single_state_gains_the_same_alone() -> None:
    module, vectors, single = affinity([1.0] * 4, recency=0.8), torch.randn(3, 5, 4), torch.tensor([5, 0, 2])
    torch.testing.assert_close(module(vectors, states=single)[:, 0], module(vectors)[torch.arange(3), single])
