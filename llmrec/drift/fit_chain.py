"""Fit the latent chain on the training events by maximum likelihood of each item.

An item's probability is given by its user's beliefs before it. The fit starts from clusters of the item texts
(spherical k-means) and takes a few passes of Adam over all users. Popularity is that of the training counts, since the
chain learns what a state adds to it; the drift head replaces it by current popularity.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from llmrec.config.drift import MAX_HISTORY
from llmrec.data.histories import Histories
from llmrec.data.interactions import Ties
from llmrec.data.splits import Split
from llmrec.drift.terms.latent_chain import LatentChain
from llmrec.models.losses import choose_softmax_items
from llmrec.utils.arrays import EPS, Mask, Rows, pad_ranges
from llmrec.utils.units import SECONDS_PER_DAY

EPOCHS, LEARNING_RATE, USERS_AT_ONCE = 4, 0.06, 256
MIN_STEPS = 100  # a small log gets more epochs: in fewer steps lambda and M stay near their start
CLUSTERED_ITEMS = 20_000  # sample for k-means
CLUSTERINGS = 3  # the tightest is kept: a single one sometimes merges two topics


def fit_chain(split: Split, ties: Ties, text: Tensor, n_states: int, *, seed: int = 0) -> LatentChain:
    """Fit a chain on the training part.

    Args:
        split: Its training part is used.
        ties: Order of events of one moment.
        text: Unit text vectors of the items, (N, D).
        n_states: K.
        seed: Of clusters and batches.

    Returns:
        The chain, without gradients.
    """
    rng = np.random.default_rng(seed)
    chain = LatentChain(cluster_text_vectors(text, n_states, rng))
    histories = Histories.from_interactions(split.train, split.n_users)
    counts = torch.from_numpy(np.bincount(split.train.item, minlength=split.n_items))
    prior = torch.log(counts.float() + EPS)  # (N,)
    optimizer = torch.optim.Adam(chain.parameters(), LEARNING_RATE)
    batches = list(_iterate_batches(histories))
    epochs = max(EPOCHS, -(-MIN_STEPS // max(len(batches), 1)))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, epochs * len(batches))
    progress = tqdm(total=epochs * len(batches), desc="fitting the chain", unit="batch", disable=None)
    for _ in range(epochs):
        for batch in rng.permutation(len(batches)):
            position, mask = batches[batch]
            columns, log_weight = choose_softmax_items(counts, rng)
            loss = chain_negative_log_likelihood(
                chain,
                histories,
                position,
                mask,
                text=text,
                prior=prior,
                ties=ties,
                columns=columns,
                log_weight=log_weight,
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            progress.update()
    progress.close()
    return chain.requires_grad_(requires_grad=False)


def chain_negative_log_likelihood(
    chain: LatentChain,
    histories: Histories,
    position: Rows,
    mask: Mask,
    *,
    text: Tensor,
    prior: Tensor,
    ties: Ties,
    columns: Tensor,
    log_weight: Tensor,
) -> Tensor:
    """Compute minus the log-probability per event, by the users' beliefs before each.

    Args:
        chain: To fit.
        histories: Training events.
        position: Of the events in the histories, (B, T).
        mask: (B, T).
        text: Unit text vectors of the items, (N, D).
        prior: Log counts, (N,).
        ties: Order of events of one moment.
        columns: Items of the sampled softmax, (C,).
        log_weight: Their log weights, (C,).

    Returns:
        Scalar, ().
    """
    item = torch.from_numpy(histories.item[position])  # (B, T)
    time = torch.from_numpy(histories.time[position])
    there = torch.from_numpy(mask)
    gap = functional.pad((time[:, 1:] - time[:, :-1]) / SECONDS_PER_DAY, (1, 0)).clamp(min=0)  # 0 into the padding
    if len(columns) == len(text):  # the softmax is over the whole catalog, which the events are in
        emission = chain.emission(text)  # (K, C)
        logits = functional.embedding(item, emission.T.contiguous())  # (B, T, K)
    else:
        emission, logits = chain.emission(text[columns]), text[item] @ chain.direction.T
    interest = chain.beliefs_before_events(
        (logits + chain.bias).softmax(-1),
        gap.float(),
        there,
        ties=ties == "file_order",
        powers=chain.chain.transition_powers(),
    )  # (B, T, K)
    total = (emission + prior[columns] + log_weight).logsumexp(1)  # (K,)
    own = logits + prior[item][..., None] - total  # (B, T, K)
    chance = (interest.clamp(min=1e-12).log() + own).logsumexp(2)
    return -chance[there].mean()


def cluster_text_vectors(text: Tensor, n_states: int, rng: np.random.Generator) -> Tensor:
    """Cluster unit vectors by k-means and keep the tightest of a few attempts.

    Args:
        text: Unit text vectors, (N, D).
        n_states: Number of clusters, K.
        rng: Source of the sample and of the starts.

    Returns:
        Unit vectors along the centers, (K, D).
    """
    rows = rng.choice(len(text), min(len(text), CLUSTERED_ITEMS), replace=False)
    points = text[torch.from_numpy(np.sort(rows))].double().numpy()
    attempts = [kmeans2(points, min(n_states, len(points)), minit="++", seed=rng) for _ in range(CLUSTERINGS)]
    centers, _ = min(attempts, key=lambda found: np.square(points - found[0][found[1]]).sum())
    return functional.normalize(torch.from_numpy(centers).float(), dim=1)


def _iterate_batches(histories: Histories) -> Iterator[tuple[Rows, Mask]]:
    """Iterate over positions (B, T) of last events and their mask, users of similar length together."""
    counts = np.diff(histories.offset)
    users = np.argsort(counts, kind="stable")
    users = users[counts[users] > 1]
    for first in range(0, len(users), USERS_AT_ONCE):
        chosen = users[first : first + USERS_AT_ONCE]
        end = histories.offset[chosen + 1]
        yield pad_ranges(end - np.minimum(counts[chosen], MAX_HISTORY), end)
