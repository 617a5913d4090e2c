"""Every term has a row alone and a row without it, and all of them rank."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from llmrec.config.drift import DriftConfig, TermName
from llmrec.data.histories import Queries, make_queries
from llmrec.data.interactions import Interactions
from llmrec.data.splits import TEST, VALID, Split, leave_one_out, split_by_time
from llmrec.evaluation.model_rows import ModelRow
from llmrec.training import drift_ablation as module
from llmrec.training.drift_ablation import DriftRow, DriftTask, iterate_drift_rows
from llmrec.training.task import TrainingTask

N_USERS, N_ITEMS = 20, 12
DAY = 86_400


class Even:
    """The same score for everything."""

    def score(self, queries: Queries) -> Tensor:
        return torch.zeros(len(queries), N_ITEMS)


def log() -> Interactions:
    rng = np.random.default_rng(0)
    time = rng.integers(0, 60, 200) * DAY
    return Interactions.sort(rng.integers(0, N_USERS, 200), rng.integers(0, N_ITEMS, 200), time)


def rows(split: Split, config: DriftConfig, tmp_path_factory: pytest.TempPathFactory) -> list[DriftRow]:
    queries = make_queries(split, VALID)
    folder = tmp_path_factory.mktemp("run")
    task = TrainingTask(split, queries, "strict", True, Accelerator(cpu=True), folder, "")
    drift = DriftTask.from_task(config, task, torch.randn(N_ITEMS, 6, generator=torch.Generator().manual_seed(0)))
    full, judged = drift.fit(Even(), seed=0)
    return list(iterate_drift_rows(drift, judged, full, Even(), trained_until=split.test_start))


TERMS: tuple[TermName, ...] = ("interest", "environment", "transitions", "chain", "gate")
CONFIG = DriftConfig(n_states=3, transition_half_lives_days=(30.0,), refresh_days=(1.0, 7.0))


def test_what_is_remembered_is_what_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted(Even):
        asked = 0

        def score(self, queries: Queries) -> Tensor:
            self.asked += 1
            return torch.from_numpy(queries.time + queries.user)[:, None].expand(-1, N_ITEMS).float()

    queries = make_queries(split_by_time(log(), N_USERS, N_ITEMS), TEST)
    monkeypatch.setattr(module, "MAX_CACHED_SCORES", 5 * N_ITEMS)
    scorer = Counted()
    kept = module.CachedScorer(scorer)
    for part, asked in ((queries.take(slice(0, 4)), 1), (queries.take(slice(4, 8)), 3)):  # room for the first only
        first = kept.score(part)
        expected = first.clone()
        first.zero_()  # whoever asks may write into the answer
        torch.testing.assert_close(kept.score(part), expected)
        assert scorer.asked == asked


def test_rows_of_a_split_by_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    split = split_by_time(log(), N_USERS, N_ITEMS)
    found = {row.row.name: row for row in rows(split, CONFIG, tmp_path_factory)}
    assert set(found) == {
        *("llmrec + drift, refreshed daily", "llmrec + drift, refreshed every 7 days", "llmrec + drift, static"),
        *("only environment", "only transitions", "only chain"),
        *(f"without {term}" for term in TERMS),
        "freshness control (no learned drift)",
    }
    assert [name for name, row in found.items() if row.row.refresh is None] == ["llmrec + drift, static"]
    test = make_queries(split, TEST)
    scores = {name: row.scorer.score(test) for name, row in found.items()}
    assert all(torch.isfinite(of_row).all() for of_row in scores.values())
    assert not torch.allclose(scores["llmrec + drift, refreshed daily"], scores["llmrec + drift, static"])
    for name, of_row in scores.items():
        if name.startswith("only") and "environment" not in name:
            continue
        torch.testing.assert_close(of_row.exp().sum(1), torch.ones(len(test)))
    assert found["freshness control (no learned drift)"].settings["transition_half_life_days"] == 36_500.0
    assert "chain_half_lives_days" in found["llmrec + drift, refreshed daily"].settings


def test_leave_one_out_has_no_window_to_be_static_in(tmp_path_factory: pytest.TempPathFactory) -> None:
    split, config = leave_one_out(log(), N_USERS, N_ITEMS), replace(CONFIG, ablations=False)
    assert [row.row for row in rows(split, config, tmp_path_factory)] == [ModelRow.refreshed(1)]


def test_terms_that_are_off_have_no_rows(tmp_path_factory: pytest.TempPathFactory) -> None:
    split = split_by_time(log(), N_USERS, N_ITEMS)
    config = replace(CONFIG, terms=("environment", "gate"), refresh_days=(1.0,))
    names = [row.row.strategy for row in rows(split, config, tmp_path_factory)]
    assert names == ["refresh_1d", "static", "without_gate", "only_environment"]
