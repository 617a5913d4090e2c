"""The head finds what moves, and costs nothing where nothing does."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from llmrec.config import DriftConfig
from llmrec.data.histories import Queries, make_queries
from llmrec.data.interactions import Interactions
from llmrec.data.splits import TEST, VALID, Split, split_by_time
from llmrec.evaluation.ranking import mean_ndcg
from llmrec.evaluation.replay import DriftScorer, Stream
from llmrec.models.drift.environment import DAY
from llmrec.training.drift import fit_drift

N_ITEMS, N_USERS = 60, 300
CONFIG = DriftConfig(transition_half_lives_days=(20.0, 36_500.0), half_lives_days=(7.0, 36_500.0), text_neighbours=5)


class Known:
    """Knows the popularity of the log's first part, as a model trained on it would."""

    def __init__(self, split: Split) -> None:
        self.counts = torch.from_numpy(np.bincount(split.train.item, minlength=N_ITEMS)).float()

    def scores(self, queries: Queries) -> Tensor:
        return torch.log(self.counts + 1).expand(len(queries), -1).clone()


def world(follows: bool) -> Split:
    """Eight events of each user, a week apart, over two years. One item is as good as another, but where `follows` is
    true, 7 in 10 times the one after j is j + 1 in the first year and j + 7 from then on.
    """
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(N_USERS), 8)
    start = np.repeat(rng.integers(0, 660, N_USERS), 8)
    time = (start + np.tile(np.arange(8), N_USERS) * 7) * DAY
    item = rng.integers(0, N_ITEMS, len(user))
    if follows:
        for row in range(len(user)):
            if row % 8 and rng.random() < 0.7:
                item[row] = (item[row - 1] + (7 if time[row] > 365 * DAY else 1)) % N_ITEMS
    return split_by_time(Interactions.sort(user, item, time), N_USERS, N_ITEMS)


def compared(split: Split) -> tuple[float, float, Stream]:
    """NDCG@10 on the test of the static model and of the head on top of it."""
    base, valid, test = Known(split), make_queries(split, VALID), make_queries(split, TEST)
    stream = Stream.of(CONFIG, split, "strict", None)
    head, stream = fit_drift(base, stream, valid, mask_seen=False)
    return (
        mean_ndcg(base, test, mask_seen=False),
        mean_ndcg(DriftScorer(head, base, stream), test, mask_seen=False),
        stream,
    )


def test_it_follows_what_people_go_on_to_now() -> None:
    static, drifting, stream = compared(world(follows=True))
    assert drifting > static + 0.3
    assert stream.transition_half_life_days == 20.0  # the first year's steps mislead


def test_without_anything_to_follow_it_costs_next_to_nothing() -> None:
    static, drifting, _ = compared(world(follows=False))
    assert drifting > static - 0.02


def test_without_validation_queries_the_head_is_left_as_it_starts() -> None:
    split = world(follows=False)
    none = make_queries(split, VALID).take(slice(0, 0))
    head, _ = fit_drift(Known(split), Stream.of(CONFIG, split, "strict", None), none, mask_seen=True)
    assert float(head.shift) == 0
    assert not head.eta.any()


def test_the_fit_makes_validation_likelier() -> None:
    split = world(follows=True)
    valid, base = make_queries(split, VALID), Known(split)
    stream = replace(Stream.of(CONFIG, split, "strict", None), transition_half_life_days=20.0)
    head, stream = fit_drift(base, stream, valid, mask_seen=False)
    target = torch.from_numpy(valid.target)[:, None]
    fitted = DriftScorer(head, base, stream).scores(valid).gather(1, target).mean()
    plain = base.scores(valid).log_softmax(1).gather(1, target).mean()
    assert float(fitted) > float(plain) + 0.5
