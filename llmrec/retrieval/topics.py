"""Topics by name alone: how much of what is written of an item speaks of a label, without an example of either.

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

from llmrec.data.interactions import Mask
from llmrec.errors import ConfigError
from llmrec.retrieval.events import Item
from llmrec.retrieval.item_vectors import ItemVectors
from llmrec.retrieval.similar import cosines

TEMPERATURE = 0.1  # the likeliest on MovieLens's genres and Amazon Beauty's categories was .07 to .15
TEMPLATE = "{label}"
HALF_LIFE_EVENTS = 10.0
SHARE = 0.1


@dataclass(frozen=True, slots=True)
class TopicShare:
    """A label and its share, 0 to 1, of an item's text or of a user's interest; the shares of all labels are 1."""

    label: str
    share: float


def prompts(labels: Sequence[str], template: str = TEMPLATE) -> list[str]:
    """The labels as the backbone reads them.

    Raises:
        ConfigError: no label, an empty one, one given twice, or a template without `{label}`.
    """
    if isinstance(labels, str) or not labels or not all(label.strip() for label in labels):
        raise ConfigError(f"labels={labels!r}: give a list of at least one word or phrase each")
    if len(set(labels)) < len(labels):
        raise ConfigError(f"labels={list(labels)!r}: one is given twice")
    if "{label}" not in template:
        raise ConfigError(f"template={template!r} lacks {{label}}; write for instance 'a {{label}} film'")
    return [template.replace("{label}", label) for label in labels]


def label_cosines(items: Tensor, centre: Tensor, labels: Tensor) -> Tensor:
    """(C, D) items less `centre` (D,), (L, D) labels less their mean -> (C, L). One label alone stays as it is."""
    return cosines(items - centre, labels - labels.mean(0) if len(labels) > 1 else labels)


@torch.no_grad()
def topic_shares(own: ItemVectors, items: Sequence[Item], labels: Sequence[str], template: str) -> Tensor:
    """(C, L) shares of items, which are 1 in each row."""
    read = own.read(prompts(labels, template))
    return (label_cosines(own.texts(items), own.text.mean(0), read) / TEMPERATURE).softmax(1)


def interest(of_events: Tensor, half_life_events: float = HALF_LIFE_EVENTS) -> Tensor:
    """(T, L) shares of a history's events, oldest first -> (L,) their mean, in which an event counts half as much as
    one that is `half_life_events` later.

    Raises:
        ConfigError: a half-life that is not above 0.
    """
    if not half_life_events > 0:
        raise ConfigError(f"half_life_events={half_life_events}: give a number of events above 0")
    back = torch.arange(len(of_events) - 1, -1, -1, device=of_events.device)
    weight = torch.exp(-math.log(2) * back / half_life_events)
    mean: Tensor = weight @ of_events / weight.sum()
    return mean


def ranked(labels: Sequence[str], of_labels: Tensor) -> list[TopicShare]:
    """Labels with their shares (L,), largest first."""
    order = of_labels.argsort(descending=True, stable=True).tolist()
    return [TopicShare(labels[row], float(of_labels[row])) for row in order]


@torch.no_grad()
def items_about(own: ItemVectors, topic: str, share: float) -> Mask:
    """(N,) the `share` of the catalog that is nearest to a label.

    A share and no threshold on the cosine: how high cosines are depends on backbone and label.

    Raises:
        ConfigError: a share that is not above 0 and at most 1, or an empty topic.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share={share}: give the part of the catalog to keep, above 0 and at most 1")
    near = label_cosines(own.text, own.text.mean(0), own.read(prompts([topic])))[:, 0].cpu()
    mask = np.zeros(len(near), dtype=np.bool_)
    mask[near.topk(math.ceil(share * len(near))).indices.numpy()] = True
    return mask
