"""A small log with ties, cold items and cold users, and both splits of it."""

from __future__ import annotations

import numpy as np
import pytest

from llmrec.data.interactions import Interactions
from llmrec.data.splits import Split, leave_one_out, split_by_time

N_USERS, N_ITEMS, DAY = 30, 40, 86_400


@pytest.fixture
def log() -> Interactions:
    """Sixty days; each (user, item) once; the last five items appear only at the end."""
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, N_USERS, 400), rng.integers(0, N_ITEMS - 5, 400)
    time = rng.integers(0, 60, 400) * DAY
    late = time >= 55 * DAY
    item[late] = rng.integers(0, N_ITEMS, late.sum())
    _, once = np.unique(np.stack([user, item]), axis=1, return_index=True)
    return Interactions.sort(user[once], item[once], time[once])


@pytest.fixture(params=["by_time", "leave_one_out"])
def split(request: pytest.FixtureRequest, log: Interactions) -> Split:
    if request.param == "by_time":
        return split_by_time(log, N_USERS, N_ITEMS, valid_fraction=0.15, test_fraction=0.15)
    return leave_one_out(log, N_USERS, N_ITEMS)
