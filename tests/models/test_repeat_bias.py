"""What items of the history gain."""

import numpy as np
import pytest
import torch

from llmrec.models.repeat_bias import N_FEATURES, N_GAPS, RepeatBias


def test_it_is_off_until_it_has_weights_and_grows_with_the_catalog() -> None:
    repeats = RepeatBias(3)
    assert not repeats
    repeats.set_rates(np.array([100, 100, 0]), np.array([90, 0, 0]))
    assert repeats.rate[0] > 1 > -1 > repeats.rate[1]
    assert repeats.rate[2] == pytest.approx(0)
    repeats.set_weights(torch.arange(N_FEATURES, dtype=torch.float32) / 10)
    assert repeats
    before = repeats(torch.tensor([0, 7]), torch.tensor([1, 1]), torch.tensor([4, 4]))
    repeats.extend(5)
    torch.testing.assert_close(repeats(torch.tensor([0, 7]), torch.tensor([1, 1]), torch.tensor([4, 4])), before)
    assert before[1] == pytest.approx(0.1 + 2 * 0.8)  # the newest event, four of them, and no rate outside the catalog


def test_positions_fall_into_powers_of_two() -> None:
    gap = torch.tensor([1, 2, 3, 4, 7, 8, 64, 1000])
    rows = RepeatBias(1).features(torch.zeros(8, dtype=torch.int64), gap, torch.ones(8, dtype=torch.int64))
    assert rows[:, 1 : 1 + N_GAPS].argmax(1).tolist() == [0, 1, 1, 2, 2, 3, 6, 6]
    assert (rows[:, 0] == 1).all()
