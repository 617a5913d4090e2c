"""The model below the drift head: what it expects of anyone, what the history changes, and what items in it gain."""

from __future__ import annotations

from llmrec.config.drift import ExplanationTerm
from llmrec.drift.terms.protocol import DriftTerm
from llmrec.drift.terms.term_inputs import ExplainTarget, TermContext

ANYONE: ExplanationTerm = "anyone"
BASE: ExplanationTerm = "base"
SEEN: ExplanationTerm = "seen"


class AnyoneTerm(DriftTerm):
    """The model's answer to an empty history."""

    def give_reason(self, context: TermContext | None, target: ExplainTarget) -> str:
        """Return the reason of an item that suits every user."""
        return "it suits most people"


class BaseTerm(DriftTerm):
    """The model's answer to the history; its probabilities come from the mixture itself."""

    optional = False

    def give_reason(self, context: TermContext | None, target: ExplainTarget) -> str:
        """Return the reason of what events give together."""
        return "of your history as a whole"


class SeenTerm(DriftTerm):
    """The model's gain of an item that the history holds, see `RepeatBias`."""

    def give_reason(self, context: TermContext | None, target: ExplainTarget) -> str:
        """Return the reason of an item that was taken before."""
        return "you took it before"
