"""The latent chain by hand and by its properties: what an event says, and one belief however it is arrived at."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from llmrec.drift.markov_chain import TICKS_PER_DAY
from llmrec.drift.terms.latent_chain import LatentChain

N_STATES, DIM = 4, 6
Moments = list[list[int]]


def some_chain(seed: int = 0) -> LatentChain:
    """With weights that are nothing in particular."""
    torch.manual_seed(seed)
    chain = LatentChain(functional.normalize(torch.randn(N_STATES, DIM), dim=1))
    for weight in (chain.bias, chain.start, chain.chain.logits, chain.gain, chain.blend):
        weight.data += torch.randn(weight.shape)
    return chain.requires_grad_(False)


def some_vectors(*shape: int) -> Tensor:
    return functional.normalize(torch.randn(*shape, DIM), dim=-1)


# Gaps in ticks before each event of some users, ties among them; all as long as the longest, the mask tells.
histories = st.lists(st.lists(st.sampled_from([0, 0, 3, 700, 90_000]), min_size=1, max_size=6), min_size=1, max_size=4)


def padded(rows: Moments) -> tuple[Tensor, Tensor]:
    """(B, T) days at which events happen, from gaps, and their mask; the first event is at day 0."""
    longest = max(map(len, rows))
    gaps = torch.tensor([[0, *row[1:], *[0] * (longest - len(row))] for row in rows])
    mask = torch.arange(longest) < torch.tensor([[len(row)] for row in rows])
    return gaps.cumsum(1) / TICKS_PER_DAY, mask


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99))
def test_evidence_interest_and_what_is_learnt_are_distributions(seed: int) -> None:
    chain = some_chain(seed)
    evidence = chain.evidence(some_vectors(5, 3))  # (5, 3, K)
    belief = chain.initial_belief(5)
    for step in range(3):
        belief = chain.update_belief(chain.chain(belief, torch.full((5,), 40.0)), evidence[:, step])
    for chances in (evidence, belief, chain.state_probabilities(belief)):
        assert (chances >= 0).all()
        torch.testing.assert_close(chances.sum(-1), torch.ones(chances.shape[:-1]))


def test_evidence_by_hand() -> None:
    chain = LatentChain(torch.eye(2)).requires_grad_(False)
    chain.direction.data = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    chain.bias.data = torch.tensor([0.0, 1.0])
    # An item along the first axis: 2 against 1; along the second: 0 against 2.
    torch.testing.assert_close(chain.evidence(torch.eye(2))[:, 0], torch.sigmoid(torch.tensor([1.0, -2.0])))
    torch.testing.assert_close(chain.emission(torch.eye(2)), chain.direction)


def test_an_event_moves_a_belief_by_its_gain() -> None:
    chain = LatentChain(torch.eye(2)).requires_grad_(False)
    chain.gain.data = torch.logit(torch.tensor([0.2, 0.6]))
    belief = torch.tensor([[[0.5, 0.5], [0.1, 0.9]]])
    learned = chain.update_belief(belief, torch.tensor([[1.0, 0.0]]))
    # slow: .8 * .5 + .2; fast: .4 * .1 + .6
    torch.testing.assert_close(learned, torch.tensor([[[0.6, 0.4], [0.64, 0.36]]]))
    chain.blend.data = torch.logit(torch.tensor(0.25))
    torch.testing.assert_close(chain.state_probabilities(learned), torch.tensor([[0.61, 0.39]]))  # .75 * .6 + .25 * .64


def test_a_newcomer_is_believed_to_be_like_anyone() -> None:
    chain = some_chain()
    none = torch.zeros(3, 2, dtype=torch.bool)
    now = chain.belief_at_query(
        torch.rand(3, 2, N_STATES), torch.full((3, 2), 50.0), none, chain.chain.transition_powers()
    )
    torch.testing.assert_close(now, chain.initial_belief(3))
    torch.testing.assert_close(now, chain.start.softmax(0).expand(3, 2, -1))
    vectors = some_vectors(3, 1)
    mask, gap = torch.ones(3, 1, dtype=torch.bool), torch.zeros(3, 1)
    before = chain.beliefs_before_events(
        chain.evidence(vectors), gap, mask, ties=False, powers=chain.chain.transition_powers()
    )
    torch.testing.assert_close(before[:, 0], chain.start.softmax(0).expand(3, -1))


@settings(max_examples=30, deadline=None)
@given(rows=histories, ties=st.booleans(), seed=st.integers(0, 99))
def test_following_a_history_is_asking_before_each_of_its_events(rows: Moments, ties: bool, seed: int) -> None:
    """Strict: without the events of the same moment. In file order: with those that come before it."""
    chain = some_chain(seed)
    powers, (day, mask) = chain.chain.transition_powers(), padded(rows)
    evidence = chain.evidence(some_vectors(*day.shape))
    gap = functional.pad(day[:, 1:] - day[:, :-1], (1, 0))
    followed = chain.beliefs_before_events(evidence, gap, mask, ties=ties, powers=powers)
    for event in range(day.shape[1]):
        asked = day[:, event, None]
        earlier = mask & ((torch.arange(day.shape[1]) < event) if ties else (day < asked))
        now = chain.state_probabilities(chain.belief_at_query(evidence, asked - day, earlier, powers))
        there = mask[:, event]
        torch.testing.assert_close(followed[there, event], now[there], rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(rows=histories, days=st.integers(1, 300), seed=st.integers(0, 99))
def test_now_is_event_by_event_and_a_last_carry(rows: Moments, days: int, seed: int) -> None:
    """As a service does it that keeps a belief for each user."""
    chain = some_chain(seed)
    day, mask = padded(rows)
    evidence = chain.evidence(some_vectors(*day.shape))
    asked = day.amax(1) + days
    now = chain.belief_at_query(evidence, asked[:, None] - day, mask, chain.chain.transition_powers())
    for user, row in enumerate(rows):
        belief, last = chain.initial_belief(1), 0.0
        for event in range(len(row)):
            belief = chain.chain(belief, day[user, event, None] - last)
            belief, last = chain.update_belief(belief, evidence[user, event, None]), float(day[user, event])
        belief = chain.chain(belief, asked[user, None] - last)
        torch.testing.assert_close(now[user], belief[0], rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(rows=histories, extra=st.integers(1, 3), seed=st.integers(0, 99))
def test_padding_does_not_matter(rows: Moments, extra: int, seed: int) -> None:
    chain = some_chain(seed)
    powers, (day, mask) = chain.chain.transition_powers(), padded(rows)
    evidence = chain.evidence(some_vectors(*day.shape))
    age = day.amax(1, keepdim=True) + 12 - day
    garbage = torch.rand(len(rows), extra, N_STATES), 900 * torch.rand(len(rows), extra)
    wide = functional.pad(mask, (0, extra))
    now = chain.belief_at_query(evidence, age, mask, powers)
    longer = chain.belief_at_query(torch.cat([evidence, garbage[0]], 1), torch.cat([age, garbage[1]], 1), wide, powers)
    torch.testing.assert_close(longer, now, rtol=1e-4, atol=1e-5)
    gap = functional.pad(day[:, 1:] - day[:, :-1], (1, 0))
    followed = chain.beliefs_before_events(evidence, gap, mask, ties=False, powers=powers)
    longer = chain.beliefs_before_events(
        torch.cat([evidence, garbage[0]], 1), torch.cat([gap, garbage[1]], 1), wide, ties=False, powers=powers
    )
    torch.testing.assert_close(longer[:, : day.shape[1]][mask], followed[mask])


@pytest.mark.parametrize("days", [0.0, 1.0, 5000.0])
def test_a_gap_makes_a_belief_staler_and_never_sharper(days: float) -> None:
    """With M all alike interest in the one state that was touched falls towards the others'."""
    chain = LatentChain(torch.eye(3)).requires_grad_(False)
    evidence = torch.eye(3)[:1, None]  # (1, 1, K)
    age, mask = torch.tensor([[days]]), torch.ones(1, 1, dtype=torch.bool)
    interest = chain.state_probabilities(chain.belief_at_query(evidence, age, mask, chain.chain.transition_powers()))[
        0
    ].numpy()
    # By (2) of `chain`: an even M forgets at a rate of lambda K / (K - 1).
    rate, gain = np.exp(chain.chain.log_rate.numpy()), torch.sigmoid(chain.gain).numpy()
    excess = gain * np.exp(-rate * days * 3 / 2)
    np.testing.assert_allclose(interest[0], np.mean(1 / 3 + excess * 2 / 3), atol=1e-5)
    np.testing.assert_allclose(interest[1:], np.mean(1 / 3 - excess / 3), atol=1e-5)
