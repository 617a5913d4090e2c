"""The table of terms is complete, and a new term needs its row and its class alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from llmrec.config.drift import ANSWERING, CONTROL, DriftConfig, ExplanationTerm, TermName
from llmrec.data.histories import Queries, make_queries
from llmrec.data.interactions import Interactions
from llmrec.data.splits import TEST, VALID, Split, split_by_time
from llmrec.drift import terms
from llmrec.drift.fit_head import DriftValidation, fit_drift
from llmrec.drift.fitted import FittedDrift
from llmrec.drift.head import DriftHead
from llmrec.drift.profile import build_drift_profile
from llmrec.drift.scorers import DriftScorer, TermScorer
from llmrec.drift.stream import ReplayStream
from llmrec.drift.terms import PARTS, SWITCHES, TERMS
from llmrec.drift.terms.environment import Environment
from llmrec.drift.terms.protocol import DriftTerm, Term
from llmrec.drift.terms.term_inputs import Counts, Head, RecentEvents, Stream, TargetPass, TermContext
from llmrec.drift.text_neighbors import center_and_normalize
from llmrec.hub.drift_io import load_drift, save_drift
from llmrec.inference.live.online_state import OnlineState
from llmrec.inference.live.saved_state import load_state, save_state
from llmrec.reports.drift_figures import plot_drift_profile
from llmrec.reports.drift_text import render_drift_section
from llmrec.utils.arrays import Arrays
from llmrec.utils.units import SECONDS_PER_DAY

N_USERS, N_ITEMS = 15, 12
USUAL: tuple[TermName, ...] = ("interest", "environment", "transitions", "gate")


class FadTerm(DriftTerm):
    """A logit: counts of the last two days, which fade fast."""

    def make_weights(self, config: DriftConfig) -> nn.Module:
        return nn.ParameterDict({"weight": nn.Parameter(torch.full((1,), 0.2))})

    def describe(self, head: Head) -> dict[str, Any]:
        return {"fad": float(head.get_submodule("fad")["weight"])}

    def format_learned(self, learned: Mapping[str, Any]) -> str:
        return f"A fad weighs {learned['fad']:.2f}."

    def new_counts(self, stream: Stream) -> Environment:
        return Environment(stream.n_items, (2.0,))

    def is_counted(self, terms: frozenset[TermName]) -> bool:
        return "fad" in terms

    def resize_state(self, state: Arrays, more: int) -> Arrays:
        return {"sums": np.pad(state["sums"], ((0, 0), (0, more)))}

    def read(self, stream: Stream, counts: Counts, recent: RecentEvents, state: Tensor | None) -> Tensor:
        return torch.from_numpy(counts.counts["fad"].counts_at(counts.require_moment())).float()

    def logits(self, head: Head, view: Tensor) -> Tensor:
        return head.get_submodule("fad")["weight"] @ torch.log1p(view)

    def select_items(self, view: Tensor, rows: Tensor | list[int] | None, n_items: int = 1) -> Tensor:
        return view.new_zeros(1, n_items) if rows is None else view[:, rows]

    def gather(self, view: Tensor, recent: RecentEvents, columns: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return view[:, columns], view[:, target]


class AgainTerm(DriftTerm):
    """A part: the user's own last items, each as likely as its event weighs."""

    shifts = (-1.0, 0.0, 1.0)

    def is_open(self, recent: RecentEvents) -> Tensor:
        return recent.mask.any(1)

    def read(self, stream: Stream, counts: Counts, recent: RecentEvents, state: Tensor | None) -> int:
        return stream.n_items

    def score(self, context: TermContext) -> Tensor:
        weight = context.head.event_weights(context.recent)
        return torch.zeros(len(weight), context.views["again"]).scatter_add(1, context.recent.item, weight)

    def gather(self, view: int, recent: RecentEvents, columns: Tensor, target: Tensor) -> Tensor:
        return recent.item == target[:, None]

    def score_targets(self, head: Head, seen: TargetPass) -> Tensor:
        return (head.event_weights(seen.recent) * seen.views["again"]).sum(1)


@pytest.fixture
def new_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table with two more rows."""
    rows: Any = {
        "fad": Term("fad", "logit", "what came up this week", "log-odds", "#000000", FadTerm()),  # type: ignore[arg-type]
        "again": Term("again", "part", "what the user chose before", "share", "#111111", AgainTerm()),  # type: ignore[arg-type]
    }
    for name, row in rows.items():
        monkeypatch.setitem(terms.BY_NAME, name, row)
        monkeypatch.setitem(SWITCHES, name, row.implementation)
    parts = (*PARTS, rows["again"])
    for module in ("terms", "head"):
        monkeypatch.setattr(f"llmrec.drift.{module}.PARTS", parts)
    monkeypatch.setattr("llmrec.reports.drift_figures.PARTS", parts)
    monkeypatch.setattr("llmrec.drift.terms.TERMS", (*TERMS, *rows.values()))


def make_split() -> Split:
    rng = np.random.default_rng(0)
    item, time = rng.integers(0, N_ITEMS, 400), rng.integers(0, 200, 400) * SECONDS_PER_DAY
    return split_by_time(Interactions.sort(rng.integers(0, N_USERS, 400), item, time), N_USERS, N_ITEMS)


class Even:
    """The same score for everything."""

    def score(self, queries: Queries) -> Tensor:
        return torch.zeros(len(queries), N_ITEMS)


def config_with(*names: str) -> DriftConfig:
    chosen: Any = (*USUAL, *names)
    return DriftConfig(terms=chosen, half_lives_days=(7.0, 100.0), transition_half_lives_days=(30.0,))


def test_every_name_has_a_row() -> None:
    names = [term.name for term in TERMS]
    assert len(set(names)) == len(names)
    assert set(names) == set(get_args(ExplanationTerm.__args__[0])) | set(get_args(TermName))
    assert set(SWITCHES) == set(get_args(TermName))
    assert all(term.caption and term.unit and term.color.startswith("#") for term in TERMS)
    assert {term.role for term in TERMS} == {"part", "logit", "weight", "gate"}
    assert [term.name for term in PARTS] == ["base", "transitions", "chain"]  # the order of the gate's rows
    answering = {term.name for term in TERMS if term.role in ("part", "logit")} & set(SWITCHES)
    assert answering == ANSWERING
    assert set(CONTROL) < set(SWITCHES)


def test_a_new_term_that_is_off_changes_nothing(new_terms: None) -> None:
    head = DriftHead(config_with())
    assert {"fad", "again"}.isdisjoint(name.split(".")[0] for name, _ in head.named_parameters())
    assert head.gate.shape[0] == len(head.shift) == 2
    assert list(ReplayStream.from_split(config_with(), make_split(), "strict", None).new_counts().counts) == [
        "environment", "transitions",
    ]  # fmt: skip


def test_a_new_term_is_fitted_scored_described_and_saved(new_terms: None, tmp_path: Path) -> None:
    split, config = make_split(), config_with("fad", "again")
    vectors = center_and_normalize(torch.randn(N_ITEMS, 4, generator=torch.Generator().manual_seed(0)))
    stream = ReplayStream.from_split(config, split, "strict", vectors)
    fit = fit_drift(DriftValidation.from_stream(Even(), stream, make_queries(split, VALID)), stream, mask_seen=False)
    assert fit.head.gate.shape[0] == 3
    assert float(fit.head.get_submodule("fad")["weight"]) != pytest.approx(0.2)  # type: ignore[index]
    test = make_queries(split, TEST)
    scores = DriftScorer(fit.head, Even(), fit.stream).score(test)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(len(test)))
    alone: Any = "again"
    has_history = torch.from_numpy(test.end > test.start).float()
    torch.testing.assert_close(TermScorer(alone, fit.head, fit.stream).score(test).sum(1), has_history)
    profile = build_drift_profile(fit.head, fit.stream, str)
    assert "A fad weighs" in render_drift_section(profile)
    assert "what the user chose before" in render_drift_section(profile)
    assert "what the user chose before" in str(
        [text.get_text() for text in plot_drift_profile(profile)["drift_shares.png"].legends[0].get_texts()]
    )
    (tmp_path / "bundle").mkdir()
    save_drift(tmp_path / "bundle", FittedDrift.from_fit(fit, None), None)
    loaded = load_drift(tmp_path / "bundle", config, None, 30.0)
    assert torch.equal(DriftScorer(loaded.head, Even(), fit.stream).score(test), scores)
    assert loaded.counts is not None
    assert "fad.sums" in loaded.counts


def test_a_new_term_is_served_saved_and_forgotten_with_its_user(new_terms: None, tmp_path: Path) -> None:
    split, config = make_split(), config_with("fad", "again")
    stream = ReplayStream.from_split(config, split, "strict", None)
    torch.manual_seed(0)
    head = DriftHead(config).requires_grad_(False)
    for weight in head.parameters():
        weight.add_(0.3 * torch.randn_like(weight))
    log, at, base = split.interactions, 201 * SECONDS_PER_DAY, torch.zeros(N_USERS, N_ITEMS)
    state, without = OnlineState(head, stream), OnlineState(head, stream)
    state.observe_many(log.user, log.item, log.time)
    others = log.take(log.user != 3)
    without.observe_many(others.user, others.item, others.time)
    users = np.arange(N_USERS)
    served = state.score(base, users, at)
    save_state(state, tmp_path / "live")
    restored = load_state(tmp_path / "live", head, stream)
    assert torch.equal(restored.score(base, users, at), served)
    restored.forget(3)
    torch.testing.assert_close(restored.score(base, users, at), without.score(base, users, at), atol=1e-5, rtol=1e-5)
    counts = [one.counts_at(at).counts["fad"].counts_at(at) for one in (restored, without)]  # type: ignore[index]
    np.testing.assert_allclose(*counts, atol=1e-12)
