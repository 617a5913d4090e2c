"""What plain words say of items: how much an item speaks of a topic, and how near it is to what a user looks for.

An item's share of a label is a softmax over the cosines of its text vector with those of the labels. Both sides are
centred first: items less the mean of the catalog, labels less the mean of the labels. Without it a label that lies near
to everything wins everywhere, and what all labels share ("films") counts for each of them.
Zero-shot classification by embeddings: Yin et al. 2019, arXiv:1909.00161; centring: Mu & Viswanath 2018,
arXiv:1702.01417.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmrec.errors import ConfigError
from llmrec.inference.item_similarity import cosine_matrix
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.utils.arrays import Mask

TEMPERATURE = 0.1  # the likeliest on MovieLens's genres and Amazon Beauty's categories was .07 to .15
QUERY_TEMPERATURE = 0.1  # of .05 to .2, at or near the best for what MovieLens's users took next, told its genre
TEMPLATE = "{label}"
HALF_LIFE_EVENTS = 10.0
SHARE = 0.1


@dataclass(frozen=True, slots=True)
class TopicShare:
    """A label and its share, 0 to 1, of an item's text or of a user's interest; the shares of all labels are 1."""

    label: str
    share: float


@torch.no_grad()
def score_topics(own: ServedCatalog, texts: Tensor, labels: Sequence[str], template: str) -> Tensor:
    """(C, D_text) text vectors -> (C, L) shares of the labels, which are 1 in each row.

    Raises:
        ConfigError: fewer than two labels, an empty one, one given twice, or a template without `{label}`.
    """
    if isinstance(labels, str) or len(labels) < 2 or not all(label.strip() for label in labels):
        raise ConfigError(f"labels={labels!r}: give at least two to divide among, a word or phrase each")
    if len(set(labels)) < len(labels):
        raise ConfigError(f"labels={list(labels)!r}: one is given twice")
    if "{label}" not in template:
        raise ConfigError(f"template={template!r} lacks {{label}}; write for instance 'a {{label}} film'")
    read = own.encode_texts([template.replace("{label}", label) for label in labels])
    return (cosine_matrix(own.center(texts), read - read.mean(0)) / TEMPERATURE).softmax(1)


def average_interest(of_events: Tensor, half_life_events: float = HALF_LIFE_EVENTS) -> Tensor:
    """(T, L) shares of a history's events, oldest first -> (L,) their mean, in which an event counts half as much as
    one that is `half_life_events` later.

    Raises:
        ConfigError: no event, or a half-life that is not above 0.
    """
    if not half_life_events > 0:
        raise ConfigError(f"half_life_events={half_life_events}: give a number of events above 0")
    if not len(of_events):
        raise ConfigError("there are no events (before `at`) to take an interest from; give a longer history")
    back = torch.arange(len(of_events) - 1, -1, -1, device=of_events.device)
    weight = torch.exp(-math.log(2) * back / half_life_events)
    mean: Tensor = weight @ of_events / weight.sum()
    return mean


def sort_topics(labels: Sequence[str], shares: Tensor) -> list[TopicShare]:
    """Labels with their shares (L,), largest first."""
    order = shares.argsort(descending=True, stable=True).tolist()
    return [TopicShare(labels[row], float(shares[row])) for row in order]


@torch.no_grad()
def topic_mask(own: ServedCatalog, topic: str, share: float) -> Mask:
    """(N,) the `share` of the catalog that is nearest to a topic.

    A share and no threshold on the cosine: how high cosines are depends on backbone and topic.

    Raises:
        ConfigError: a share that is not above 0 and at most 1, or an empty topic.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share={share}: give the part of the catalog to keep, above 0 and at most 1")
    text_neighbors = _text_similarity(own, "topic", topic)
    mask = np.zeros(len(text_neighbors), dtype=np.bool_)
    mask[text_neighbors.topk(math.ceil(share * len(text_neighbors))).indices.numpy()] = True
    return mask


@torch.no_grad()
def query_bias(own: ServedCatalog, looking_for: str) -> Tensor:
    """(N,) what each item's logit gains, on the CPU, by what a user says to want.

    p(i | history, words) ~ p(i | history) p(i | words), where p(i | words) is a softmax over the cosines of words and
    item texts (a product of experts, Hinton 2002, doi:10.1162/089976602760128018). As one event among many the words
    would be a hint, and as one more event beside this they ranked what users took next no better.

    Raises:
        ConfigError: no words.
    """
    return _text_similarity(own, "looking_for", looking_for) / QUERY_TEMPERATURE


def _text_similarity(own: ServedCatalog, name: str, words: str) -> Tensor:
    """(N,) cosines of words with the catalog's texts, on the CPU."""
    if not words.strip():
        raise ConfigError(f"{name} is empty; say in words what it is")
    return cosine_matrix(own.encode_texts([words]), own.center(own.text))[0].float().cpu()
