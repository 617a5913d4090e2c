"""Chain term: latent interests as a part of the mixture.

    sum_k s_uk(t) * softmax_i(w_k . x_i + sum_h theta_h log(c_h,i(t) + eps))

s is the user's interest in K states, moved by a Markov chain, and c the counts of the environment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from llmrec.config.drift import TermName
from llmrec.drift.markov_chain import propagate, to_ticks
from llmrec.drift.terms import environment
from llmrec.drift.terms.environment import add_popularity
from llmrec.drift.terms.interest_state import InterestState
from llmrec.drift.terms.latent_chain import ChainTables, get_tables
from llmrec.drift.terms.protocol import DriftTerm
from llmrec.drift.terms.term_inputs import Counts, ExplainTarget, Head, RecentEvents, Stream, TargetPass, TermContext
from llmrec.utils.text import format_duration
from llmrec.utils.units import SECONDS_PER_DAY

NAME: TermName = "chain"
OFF = -30.0  # log-odds of a part that is left out; finite, as JSON requires


class ChainView(NamedTuple):
    """View of the chain at a moment."""

    tables: ChainTables
    """Tables of the chain."""
    interest: Tensor
    """Interest of the histories, (B, K)."""


class ChainTargets(NamedTuple):
    """Chain's part in the likelihood of targets."""

    interest: Tensor
    """Interest of the histories, (B, K)."""
    emission: Tensor
    """Emission of the sampled columns, (K, C)."""
    own_emission: Tensor
    """Emission of the targets, (K, B)."""


class ChainTerm(DriftTerm):
    """Latent interests; the view is `ChainView`, and live users have an `InterestState`."""

    optional = False
    shifts = (OFF, -1.0, 0.0, 1.0)

    def describe(self, head: Head) -> dict[str, Any]:
        """Return the weights of popularity, the half-lives of the two beliefs, and what an event changes."""
        if head.chain is None:
            return {}
        return {
            "theta": [round(theta, 3) for theta in head.theta.tolist()],
            "chain_half_lives_days": [round(days, 1) for days in head.chain.chain.half_life_days.tolist()],
            "chain_gain": [round(gain, 3) for gain in torch.sigmoid(head.chain.gain).tolist()],
            "chain_fast_share": round(float(torch.sigmoid(head.chain.blend)), 3),
        }

    def format_learned(self, learned: Mapping[str, Any]) -> str | None:
        """Format how long a slow and a fast belief last."""
        if not learned.get("n_states"):
            return None
        (slow, fast), gains = map(format_duration, learned["chain_half_lives_days"]), learned["chain_gain"]
        return (
            f"Interest in the chain's {learned['n_states']} states is {1 - learned['chain_fast_share']:.0%} a slow "
            f"belief, half of which has moved on after {slow} and which an event renews by {gains[0]:.0%}, and "
            f"{learned['chain_fast_share']:.0%} a fast one ({fast}, {gains[1]:.0%})."
        )

    def identify(self, head: Head, stream: Stream) -> dict[str, Any]:
        """Return a hash of the chain's weights."""
        digest = hashlib.sha256()
        if NAME in head.terms and stream.chain is not None:
            for weight in stream.chain.chain.state_dict().values():
                digest.update(weight.numpy().tobytes())
        return {NAME: digest.hexdigest()}

    def new_users(self, stream: Stream, n_users: int) -> InterestState:
        """Return the beliefs about new users.

        Raises:
            ValueError: If the stream has no chain.
        """
        return InterestState(get_tables(stream), n_users)

    def read(self, stream: Stream, counts: Counts, recent: RecentEvents, state: Tensor | None) -> ChainView:
        """Return the tables and the interest: `state`, or as the histories have it.

        Raises:
            ValueError: If the stream has no chain.
        """
        tables = get_tables(stream)
        return ChainView(tables, tables.interest_from_history(recent) if state is None else state)

    def select(self, view: ChainView, queries: slice) -> ChainView:
        """Return the view of some of the histories."""
        return view._replace(interest=view.interest[queries])

    def score(self, context: TermContext) -> Tensor:
        """Return the probabilities of all items."""
        view: ChainView = context.views[NAME]
        return view.interest @ _state_logits(context, view.tables.emission).softmax(1)

    def score_new_items(self, context: TermContext, vectors: Tensor) -> Tensor:
        """Return the probabilities of items outside the catalog."""
        view: ChainView = context.views[NAME]
        return view.interest @ _state_probabilities(context, vectors)

    def gather(self, view: ChainView, recent: RecentEvents, columns: Tensor, target: Tensor) -> ChainTargets:
        """Return the interest, and the emission of the sampled columns and the targets."""
        emission = view.tables.emission
        return ChainTargets(view.interest, emission[:, columns], emission[:, target])

    def score_targets(self, head: Head, seen: TargetPass) -> Tensor:
        """Return the probabilities of the targets, with gradients."""
        view: ChainTargets = seen.views[NAME]
        counts, own_counts = seen.views[environment.NAME]
        totals = (state_logits(head, view.emission, counts) + seen.log_weight).logsumexp(1)  # (K,)
        return (view.interest.T * (state_logits(head, view.own_emission, own_counts) - totals[:, None]).exp()).sum(0)

    def explain(self, context: TermContext, target: ExplainTarget) -> list[tuple[int | None, float]]:
        """Divide the probability among the events and the rest, the belief about a new user.

        The effect of an event's evidence is linear in it, so that the division is exact.
        """
        tables, interest = context.views[NAME]
        if context.vectors is None:
            return []
        if target.row is not None:
            logits = _state_logits(context, tables.emission).double()
            taken = (logits[:, target.row] - logits.logsumexp(1)).exp()  # (K,)
        elif target.vectors is not None:
            taken = _state_probabilities(context, target.vectors)[:, 0].double()
        else:
            return []
        left = _remaining_beliefs(tables, context.vectors, target).double()  # (E, K)
        rest = interest[0].double() - left.sum(0)
        by_event: list[tuple[int | None, float]] = [
            (position, float(each @ taken)) for position, each in enumerate(left)
        ]
        return [*by_event, (None, float(rest @ taken))]

    def give_reason(self, context: TermContext | None, target: ExplainTarget) -> str:
        """Return the reason of what no single event gives."""
        return "of what you liked before" if len(target.events) else "of what new users like"


def state_logits(head: Head, emission: Tensor, counts: Tensor) -> Tensor:
    """Compute the logits of items in each state.

    Args:
        head: Fitted weights.
        emission: Of C items, (K, C).
        counts: Of the environment, (H, C).

    Returns:
        Logits, (K, C).
    """
    return add_popularity(head, emission, head.theta, counts)


def _state_logits(context: TermContext, emission: Tensor) -> Tensor:
    return state_logits(context.head, emission, context.views[environment.NAME])


def _state_probabilities(context: TermContext, vectors: Tensor) -> Tensor:
    """Return the probabilities in each state of items outside the catalog: vectors (F, D) -> (K, F)."""
    tables, counts = context.views[NAME].tables, context.views[environment.NAME]
    total = state_logits(context.head, tables.emission, counts).logsumexp(1, keepdim=True)  # (K, 1)
    none = torch.zeros(len(counts), len(vectors))
    own = state_logits(context.head, tables.chain.emission(vectors), none)
    return (own - torch.logaddexp(total, own)).exp()


def _remaining_beliefs(tables: ChainTables, vectors: Tensor, target: ExplainTarget) -> Tensor:
    """Return what is left at the query of the interest from each event, (E, K); vectors: (N + R, D)."""
    chain, n_events, past = tables.chain, len(target.events), target.queries.histories
    item, time = past.item[target.events], past.time[target.events]
    evidence = chain.evidence(vectors[torch.from_numpy(item)])  # (E, K)
    gain = torch.sigmoid(chain.gain)[:, None]  # (2, 1)
    gaps = to_ticks(
        torch.from_numpy(np.diff(time, append=target.queries.time[0]) / SECONDS_PER_DAY)
    )  # (E,) after each event
    belief = evidence.new_zeros(n_events, len(gain), evidence.shape[1])
    for event in range(n_events):
        belief = (1 - gain) * belief
        belief[event] += gain * evidence[event]
        belief[: event + 1] = propagate(belief[: event + 1], gaps[event].expand(event + 1), tables.powers)
    return chain.state_probabilities(belief)
