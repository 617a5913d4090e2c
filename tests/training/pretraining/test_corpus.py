"""What a backbone may read: nothing of a validation or test part, and what is held out stays held out."""

from dataclasses import replace

import numpy as np
import pytest

from llmrec.config.data import DataConfig
from llmrec.config.jobs.pretrain import PretrainConfig, PretrainTrainConfig
from llmrec.config.split import SplitConfig
from llmrec.data.item_pairs import build_item_pairs
from llmrec.data.log import Log
from llmrec.data.splits import TRAIN, make_split
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.errors import DataError
from llmrec.training.pretraining.corpus import draw_batch_rows, make_corpus, select_training_events

CONFIG = PretrainConfig(DataConfig(), train=PretrainTrainConfig(held_out_fraction=0.2, max_held_out_samples=10**6))
BOTH = SplitConfig(names=("by_time", "leave_one_out"))


@pytest.fixture(scope="module")
def log() -> Log:
    return make_synthetic_log(n_users=60, n_items=80, events_per_user=7)[0]


@pytest.mark.parametrize("split", [SplitConfig(), BOTH], ids=["by_time", "both"])
def test_only_events_of_every_training_part_are_looked_at(log: Log, split: SplitConfig) -> None:
    events = select_training_events(log, split)
    kept = set(zip(events.user, events.item, events.time, strict=True))
    assert len(kept) == len(events)
    forbidden = set()
    for name in split.names:
        made = make_split(name, log.interactions, log.n_users, log.n_items, config=split)[0]
        away = made.interactions.take(made.part != TRAIN)
        assert len(away)
        forbidden |= set(zip(away.user, away.item, away.time, strict=True))
    assert not kept & forbidden
    assert len(kept) + len(forbidden) == len(log.interactions)


def test_pairs_are_of_training_events_and_the_last_ones_are_held_out(log: Log) -> None:
    corpus = make_corpus(log, CONFIG)
    train = make_split("by_time", log.interactions, log.n_users, log.n_items, config=CONFIG.split)[0].train
    expected = build_item_pairs(train, log.n_users, CONFIG.contrast.window)
    together = np.concatenate([corpus.pairs.item, corpus.held_pairs.item])
    assert sorted(map(tuple, together.tolist())) == sorted(map(tuple, expected.item.tolist()))
    assert corpus.pairs.time.max() < corpus.held_pairs.time.min()
    assert corpus.held_pairs.time.max() <= train.time[-1]
    counts = np.bincount(corpus.pairs.item.ravel(), minlength=log.n_items) / (2 * len(corpus.pairs))
    np.testing.assert_allclose(corpus.share[counts > 0], counts[counts > 0])
    assert (corpus.share > 0).all()


def test_items_first_seen_later_are_left_out_unless_asked_for(log: Log) -> None:
    known = set(select_training_events(log, CONFIG.split).item.tolist())
    assert len(known) < log.n_items
    for config, readable in ((CONFIG, known), (replace(CONFIG, all_items=True), set(range(log.n_items)))):
        corpus, texts = make_corpus(log, config), log.catalog.list_texts()
        read = {*corpus.texts.tolist(), *corpus.held_texts.tolist()}
        assert read <= readable
        assert {texts[row] for row in read} == {texts[row] for row in readable}
        assert not {texts[row] for row in corpus.texts} & {texts[row] for row in corpus.held_texts}
        assert set(corpus.known.tolist()) == known  # the negatives of a contrast are born in either case


def test_every_row_comes_once_before_any_comes_again() -> None:
    passes = [
        np.concatenate([draw_batch_rows(10, 3, step, seed=1) for step in range(start, start + 3)]) for start in (0, 3)
    ]
    for rows in passes:
        assert sorted(rows) == list(range(10))
    assert not np.array_equal(*passes)


def test_a_log_without_pairs_is_named(log: Log) -> None:
    alone = replace(log, interactions=log.interactions.take(np.unique(log.interactions.user, return_index=True)[1][:9]))
    with pytest.raises(DataError, match="no two items of one user"):
        make_corpus(alone, CONFIG)
