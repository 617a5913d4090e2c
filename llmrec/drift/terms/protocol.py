"""Interface of a drift term: weights, counts, states of live users, answers, fit and explanation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from llmrec.config.drift import DriftConfig, ExplanationTerm, TermName
from llmrec.drift.terms.term_inputs import (
    Counts,
    ExplainTarget,
    Head,
    RecentEvents,
    Stream,
    TargetPass,
    TermContext,
)
from llmrec.drift.terms.term_state import TermCounts, UserStates
from llmrec.utils.arrays import Arrays

Role = Literal["part", "logit", "weight", "gate"]


class DriftTerm:
    """Arithmetic of a term; methods that make no sense for its role keep these defaults."""

    optional: bool = True
    """True if a head without the term has none of its weights, and no row of the gate."""
    shifts: tuple[float, ...] = (0.0,)
    """Values that the fit tries for the shift of the part's log-odds."""

    # Weights and settings

    def make_weights(self, config: DriftConfig) -> nn.Module | None:
        """Return new weights, registered in the head under the term's name, or None.

        Args:
            config: Settings of the head.

        Returns:
            Module, or None.
        """
        return None

    def describe(self, head: Head) -> dict[str, Any]:
        """Return the learned values by name, rounded for a report.

        Args:
            head: Fitted head.
        """
        return {}

    def format_learned(self, learned: Mapping[str, Any]) -> str | None:
        """Format the learned values of a `DriftProfile` as one sentence.

        Args:
            learned: Learned values of a `DriftProfile`, by name.

        Returns:
            Sentence, or None.
        """
        return None

    def identify(self, head: Head, stream: Stream) -> dict[str, Any]:
        """Return what a saved live state must share with the head and stream that continue from it.

        Args:
            head: Fitted head.
            stream: Log, settings and tables.

        Returns:
            Values by name.
        """
        return {}

    # Counts of all users, and states of live users

    def new_counts(self, stream: Stream) -> TermCounts | None:
        """Return empty counts for the items of a stream, or None if the term counts nothing.

        Args:
            stream: Log, settings and tables.

        Returns:
            Counts, or None.
        """
        return None

    def is_counted(self, terms: frozenset[TermName]) -> bool:
        """Return True if a head with these terms reads the counts.

        Args:
            terms: Terms of a head.

        Returns:
            True if the counts are needed.
        """
        return False

    def resize_state(self, state: Arrays, more: int) -> Arrays:
        """Resize a saved state for new items.

        Args:
            state: Arrays of `TermCounts.export_state`.
            more: New items, after the others.

        Returns:
            The arrays that change.
        """
        return {}

    def new_users(self, stream: Stream, n_users: int) -> UserStates | None:
        """Return the states of new users, or None if the term keeps none.

        Args:
            stream: Log, settings and tables.
            n_users: Number of users to have.

        Returns:
            States, or None.
        """
        return None

    # Answers

    def read(self, stream: Stream, counts: Counts, recent: RecentEvents, state: Tensor | None) -> Any:
        """Return the term's view of a moment, which its other methods get through `TermContext.views`.

        Args:
            stream: Settings and tables.
            counts: Counts of all terms as of the moment.
            recent: Last events of B histories.
            state: (B, ...) of `UserStates.read`, or None to compute it from the histories.

        Returns:
            View of the moment, of a type of the term's own.
        """
        return None

    def add_texts(self, view: Any, vectors: Tensor, n_neighbors: int) -> Any:
        """Add rows for items outside the catalog that histories hold.

        Args:
            view: Of the catalog.
            vectors: Unit text vectors of the N catalog items, then of the R others, (N + R, D).
            n_neighbors: Text neighbors of an item.

        Returns:
            The view with N + R rows.
        """
        return view

    def select(self, view: Any, queries: slice) -> Any:
        """Return the view of some of the histories.

        Args:
            view: View of all histories.
            queries: Histories to keep.

        Returns:
            View of the chosen histories.
        """
        return view

    def is_open(self, recent: RecentEvents) -> Tensor:
        """Return whether a part has an answer for each history, (B,) bool.

        Args:
            recent: Last events of B histories.

        Returns:
            Mask, (B,) bool.
        """
        return recent.mask.new_ones(len(recent.mask))

    def score(self, context: TermContext) -> Tensor:
        """Return a part's probabilities of all items, (B, N).

        Args:
            context: Histories at one moment, with what each term reads of it.

        Returns:
            Probabilities, (B, N).
        """
        raise NotImplementedError

    def score_new_items(self, context: TermContext, vectors: Tensor) -> Tensor:
        """Return a part's probabilities of items outside the catalog, each as if it alone were added.

        Args:
            context: B histories at one moment.
            vectors: Unit text vectors of the items, (F, D).

        Returns:
            Probabilities, (B, F).
        """
        raise NotImplementedError

    def logits(self, head: Head, view: Any) -> Tensor:
        """Return what a logit term adds to the base's logits.

        Args:
            head: Weights, with gradients during the fit.
            view: Of C items.

        Returns:
            Logits, (C,) or (B, C).
        """
        raise NotImplementedError

    def select_items(self, view: Any, rows: Tensor | list[int] | None, *, n_items: int = 1) -> Any:
        """Return a logit's view of some items.

        Args:
            view: Of the catalog.
            rows: Catalog rows, (C,), or None for items outside the catalog.
            n_items: Number of those.

        Returns:
            View of those items.
        """
        return view

    # Fit and explanation

    def gather(self, view: Any, recent: RecentEvents, columns: Tensor, target: Tensor) -> Any:
        """Return what the likelihood of the targets of B queries needs of a view.

        Args:
            view: Of the catalog.
            recent: Last events of the histories.
            columns: Items of the sampled softmax, (C,).
            target: Items, (B,).

        Returns:
            For a logit term a view of the columns and one of the targets, for a part what `score_targets` reads.
        """
        return None

    def score_targets(self, head: Head, seen: TargetPass) -> Tensor:
        """Return a part's probabilities of the targets, (B,), with gradients.

        Args:
            head: Drift head.
            seen: Targets of B validation queries, with views.

        Returns:
            Probabilities, (B,).
        """
        raise NotImplementedError

    def explain(self, context: TermContext, target: ExplainTarget) -> list[tuple[int | None, float]]:
        """Divide a part's probability of one item by event of one history.

        Args:
            context: The history at its query time.
            target: The item and the explained events.

        Returns:
            Place in `target.events`, or None for what no single event gives, and probability.
        """
        return []

    def give_reason(self, context: TermContext | None, target: ExplainTarget) -> str | None:
        """Return the reason for what no single event gives.

        Args:
            context: The history at its query time, None without a drift head.
            target: The item and the explained events.

        Returns:
            Words that follow "because", or None.
        """
        return None


@dataclass(frozen=True)
class Term:
    """Entry of the table of terms."""

    name: ExplanationTerm
    """Name in settings, reports and explanations."""
    role: Role
    """Place of the term in the mixture.

    Part: with a share of the mixture; logit: added to the base's logits; weight: of the events of a history; gate: sets
    the shares.
    """
    caption: str
    """Words for people, in explanations, reports and the demo page."""
    unit: str
    """Unit of its figure."""
    color: str
    """Color in figures and on the demo page."""
    implementation: DriftTerm
    """Arithmetic."""
