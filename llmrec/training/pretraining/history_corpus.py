"""Corpus of histories as texts, whose next words are the next items: collaborative fine-tuning of a decoder.

Source:
    The first stage of LLM2Rec, He et al. 2025, arXiv:2506.21579.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.token_store import TokenStore
from llmrec.config.jobs.pretrain import PretrainConfig
from llmrec.data.histories import Histories
from llmrec.data.interactions import Interactions
from llmrec.data.log import Log
from llmrec.errors import DataError
from llmrec.models.history_encoders.history_texts import HistoryTexts
from llmrec.training.pretraining.corpus import select_training_events
from llmrec.utils.arrays import Rows


@dataclass(frozen=True)
class HistoryCorpus:
    """Histories as texts, in windows of consecutive items."""

    tokens: TokenStore
    """Tokens of the windows."""
    train: Rows
    """Windows to train on."""
    held: Rows
    """Windows that are held out, of other users."""


def make_history_corpus(log: Log, backbone: TextBackbone, config: PretrainConfig) -> HistoryCorpus:
    """Make texts of the training histories; the users held out depend on the seed alone.

    Args:
        log: Validated log and catalog.
        backbone: Backbone to train.
        config: Settings of pretraining.

    Returns:
        The corpus.

    Raises:
        DataError: If there are fewer than two users with two items.
    """
    events = select_training_events(log, config.split)
    windows, user = _list_windows(events, log.n_users, config.window_items)
    users = np.random.default_rng(config.seed).permutation(np.unique(user))
    if len(users) < 2:
        raise DataError(log.facts.source, ["histories: fewer than two users with two items; leave histories out"])
    held_users = users[: max(round(len(users) * config.train.held_out_fraction), 1)]
    is_held = np.isin(user, held_users)
    texts = HistoryTexts(config.history_text, backbone, log.catalog.list_texts()).build_texts(windows)
    held = np.flatnonzero(is_held)[: config.train.max_held_out_samples]
    return HistoryCorpus(texts, np.flatnonzero(~is_held), held)


def _list_windows(events: Interactions, n_users: int, n_items: int) -> tuple[list[Rows], Rows]:
    """Cut the histories into windows of at most `n_items` items, and return them with their users."""
    histories = Histories.from_interactions(events, n_users)
    windows, users = [], []
    for user in range(n_users):
        own = histories.item[histories.offset[user] : histories.offset[user + 1]]
        parts = [own[start : start + n_items] for start in range(0, len(own), n_items)]
        kept = [part for part in parts if len(part) > 1]  # a single item has no next one
        windows += kept
        users += [user] * len(kept)
    return windows, np.array(users, dtype=np.int64)
