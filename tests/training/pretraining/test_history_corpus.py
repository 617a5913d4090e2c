"""Histories as texts: training events in their order, and held-out users apart."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.config.jobs.pretrain import PretrainConfig
from llmrec.config.model import HistoryTextConfig
from llmrec.data.interactions import Interactions
from llmrec.data.log import Log
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.errors import DataError
from llmrec.training.pretraining.corpus import select_training_events
from llmrec.training.pretraining.history_corpus import make_history_corpus

CONFIG = PretrainConfig(
    DataConfig(),
    objectives={"histories": 1.0},
    window_items=2,
    history_text=HistoryTextConfig(max_tokens=128, separator=" |"),
)


@pytest.fixture(scope="module")
def log() -> Log:
    return make_synthetic_log(n_users=60, n_items=80, events_per_user=7)[0]


def make(log: Log, path: Path, config: PretrainConfig = CONFIG) -> list[list[str]]:
    """Titles of each window, and the split of the windows at the end."""
    backbone = TextBackbone.load(BackboneConfig(name=str(path)))
    corpus = make_history_corpus(log, backbone, config)
    assert sorted([*corpus.train, *corpus.held]) == list(range(len(corpus.tokens)))
    assert len(corpus.held)
    tokens, whole = corpus.tokens, []
    for start, end in zip(tokens.offset[:-1], tokens.offset[1:], strict=True):
        text = backbone.tokenizer.decode(tokens.flat[start:end], skip_special_tokens=True)
        whole.append([part.strip() for part in text.split("|") if part.strip()])
    return whole


def test_windows_are_the_training_events_of_each_user_in_order(log: Log, tiny_llama: Path) -> None:
    events, texts = select_training_events(log, CONFIG.split), log.catalog.list_texts()
    expected = []
    for user in range(log.n_users):
        own = events.item[events.user == user]
        parts = [own[start : start + 2] for start in range(0, len(own), 2)]
        expected += [[texts[row] for row in part] for part in parts if len(part) > 1]
    assert make(log, tiny_llama) == expected


def test_a_log_of_single_events_is_refused(log: Log, tiny_llama: Path) -> None:
    first = np.unique(log.interactions.user, return_index=True)[1]
    alone: Interactions = log.interactions.take(np.sort(first))
    with pytest.raises(DataError, match="histories: fewer than two users with two items"):
        make(replace(log, interactions=alone), tiny_llama)
