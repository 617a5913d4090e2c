"""A step touches what it needs: sampled and full losses agree where they should, and live rows are well chosen."""

import numpy as np
import torch

from llmrec.config.model import ModelConfig
from llmrec.data.batches import HistoryBatch
from llmrec.models.recommender_model import RecommenderModel
from llmrec.training.objectives import RecommendationObjective, choose_trainable_rows

BATCH = HistoryBatch(
    history=torch.tensor([[7, 2, 0], [5, 0, 0]]),
    history_mask=torch.tensor([[True, True, False], [True, False, False]]),
    event_time=torch.zeros(2, 3, dtype=torch.int64),
    query_time=torch.zeros(2, 4, dtype=torch.int64),
    source=torch.tensor([2, 5]),
    target=torch.tensor([4, 6]),
)


def test_the_sampled_loss_over_all_others_is_the_full_one() -> None:
    torch.manual_seed(0)
    config = ModelConfig(dim=8, n_heads=2, max_history=3, dropout=0.0, id_dropout=0.0)
    model = RecommenderModel(config, torch.ones(9, dtype=torch.bool), torch.randn(9, 5))
    objective = RecommendationObjective(model)
    for target in (4, 6):
        others = torch.tensor([row for row in range(9) if row != target])
        batch = BATCH._replace(source=torch.tensor([2]), target=torch.tensor([target]))
        torch.testing.assert_close(objective(batch, None, others), objective(batch, None, None))


def test_items_without_training_events_are_no_negatives() -> None:
    torch.manual_seed(0)
    known = torch.ones(9, dtype=torch.bool)
    known[8] = False
    model = RecommenderModel(ModelConfig(dim=8, n_heads=2, max_history=3), known, torch.randn(9, 5)).eval()
    objective = RecommendationObjective(model)
    before = objective(BATCH, None, None)
    assert model.items.text is not None
    model.items.text[8] = 100.0
    torch.testing.assert_close(objective(BATCH, None, None), before)


def test_live_rows_hold_the_targets_then_history_then_others() -> None:
    rng = np.random.default_rng(0)
    assert choose_trainable_rows(BATCH, np.arange(9), 2, rng).sort().values.tolist() == [4, 6]
    some = choose_trainable_rows(BATCH, np.arange(9), 6, rng).tolist()
    assert len(set(some)) == len(some) <= 6
    assert some[:2] == [4, 6]
    assert set(some[2:4]) <= {2, 5, 7}
    assert len(choose_trainable_rows(BATCH, np.arange(9), 1, rng)) == 1
