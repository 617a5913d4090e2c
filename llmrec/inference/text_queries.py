"""Text queries and topics: items that match words, and the topics of an item or a user.

An item's share of a label is a softmax over the cosines of its text vector with those of the labels. Both sides are
centered first: items less the mean of the catalog, labels less the mean of the labels. Otherwise a label that is close
to everything wins everywhere, and the part that all labels share ("films") counts for each of them.
Zero-shot classification by embeddings: Yin et al. 2019, arXiv:1909.00161; centering: Mu & Viswanath 2018,
arXiv:1702.01417.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmrec.errors import ConfigError
from llmrec.inference.queries import Time
from llmrec.inference.ranked_items import Filters, filter_mask
from llmrec.inference.served_catalog import ServedCatalog
from llmrec.inference.text_space import cosine_matrix
from llmrec.utils.result_list import ResultList
from llmrec.utils.rounding import round_to_total

TEMPERATURE = 0.1  # the best on MovieLens's genres and Amazon Beauty's categories was .07 to .15
QUERY_TEMPERATURE = 0.1  # of .05 to .2, at or near the best for what MovieLens's users took next, given its genre
TEMPLATE = "{label}"
HALF_LIFE_EVENTS = 10.0


@dataclass(frozen=True, slots=True)
class TopicShare:
    """Share of a label in an item's text or a user's interest; the shares of all labels add up to 1."""

    label: str
    """Word or phrase."""
    share: float
    """Share of the label, from 0 to 1."""
    text: str
    """The share in percent; those of all labels add up to 100 as printed."""

    def to_cells(self) -> dict[str, str]:
        """Return the cells of a table."""
        return {"label": self.label, "share": self.text}


@torch.no_grad()
def score_topics(catalog: ServedCatalog, texts: Tensor, labels: Sequence[str], template: str) -> Tensor:
    """Return the shares of labels in texts.

    Args:
        catalog: Encodes the labels.
        texts: Text vectors, (C, D_text).
        labels: At least two words or phrases.
        template: Text that is encoded for a label, with `{label}` in it.

    Returns:
        (C, L) shares, which add up to 1 in each row.

    Raises:
        ConfigError: If there are fewer than two labels, an empty or a repeated one, or no `{label}` in the template.
    """
    if isinstance(labels, str) or len(labels) < 2 or not all(label.strip() for label in labels):
        raise ConfigError(f"labels={labels!r}: give at least two to divide among, a word or phrase each")
    if len(set(labels)) < len(labels):
        raise ConfigError(f"labels={list(labels)!r}: one is given twice")
    if "{label}" not in template:
        raise ConfigError(f"template={template!r} lacks {{label}}; write for instance 'a {{label}} film'")
    vectors = catalog.text_space.encode([template.replace("{label}", label) for label in labels])
    return (cosine_matrix(catalog.text_space.center(texts), vectors - vectors.mean(0)) / TEMPERATURE).softmax(1)


def average_interest(shares: Tensor, half_life_events: float = HALF_LIFE_EVENTS) -> Tensor:
    """Average the topic shares of a history's events.

    Args:
        shares: (T, L), the oldest event first.
        half_life_events: An event counts half as much as one that is this many events later.

    Returns:
        (L,) shares.

    Raises:
        ConfigError: If there is no event, or the half-life is not above 0.
    """
    if not half_life_events > 0:
        raise ConfigError(f"half_life_events={half_life_events}: give a number of events above 0")
    if not len(shares):
        raise ConfigError("there are no events (before `at`) to take an interest from; give a longer history")
    back = torch.arange(len(shares) - 1, -1, -1, device=shares.device)
    weight = torch.exp(-math.log(2) * back / half_life_events)
    mean: Tensor = weight @ shares / weight.sum()
    return mean


def divide_interest(
    catalog: ServedCatalog, texts: Tensor, labels: Sequence[str], template: str, *, half_life_events: float
) -> ResultList[TopicShare]:
    """Divide the interest of a history among labels.

    Args:
        catalog: Encodes the labels.
        texts: Text vectors of the history, (T, D_text), the oldest event first.
        labels: At least two words or phrases.
        template: Text that is encoded for a label, with `{label}` in it.
        half_life_events: An event counts half as much as one that is this many events later.

    Returns:
        Labels with shares that add up to 1, the largest first.
    """
    return sort_topics(labels, average_interest(score_topics(catalog, texts, labels, template), half_life_events))


def sort_topics(labels: Sequence[str], shares: Tensor) -> ResultList[TopicShare]:
    """Pair labels with their shares, the largest first.

    Args:
        labels: L labels.
        shares: Shares, (L,).

    Returns:
        L labels with shares.
    """
    values, order = shares.sort(descending=True, stable=True)
    percents = round_to_total([100 * value for value in values.tolist()], 100.0, 1)
    sorted_shares = zip(order.tolist(), values.tolist(), percents, strict=True)
    return ResultList(TopicShare(labels[row], share, f"{percent:.1f}%") for row, share, percent in sorted_shares)


def query_bias(catalog: ServedCatalog, query: str) -> Tensor:
    """Return the evidence of a text query, which is added to the score of each item.

    p(i | history, words) ~ p(i | history) p(i | words), where p(i | words) is a softmax over the cosines of the words
    with item texts (a product of experts, Hinton 2002, doi:10.1162/089976602760128018).

    Args:
        catalog: The items.
        query: What the user wants, in words.

    Returns:
        (N,), on the CPU.

    Raises:
        ConfigError: If the query is empty.
    """
    # Words as one more event of the history would be a hint among many; in addition to this they ranked no better.
    return catalog.text_space.similarity(query, name="query") / QUERY_TEMPERATURE


def build_score_bias(
    catalog: ServedCatalog,
    *,
    at: Time | None = None,
    query: str | None = None,
    filters: Filters | None = None,
    topic: str | None = None,
) -> Tensor:
    """Build the bias of all items: evidence of the text query, and -inf for items left out.

    Args:
        catalog: The items.
        at: Query time; items that are released later are left out.
        query: What the user wants, in words.
        filters: The items to choose from, see `filter_mask`.
        topic: Choose from the tenth of the catalog that is most similar to these words.

    Returns:
        (N,), on the CPU.

    Raises:
        ConfigError: If the query or topic is empty, or no item meets the filters.
    """
    bias = catalog.exclusion_bias(at)
    if query is not None:
        bias += query_bias(catalog, query).to(bias)
    if filters is not None:
        bias[torch.from_numpy(~filter_mask(catalog.items, filters))] = -torch.inf
    if topic is not None:
        bias[torch.from_numpy(~catalog.topic_mask(topic))] = -torch.inf
    return bias
