"""The table of drift terms: a term exists by its row here, its module, and its name in `config.drift`."""

from typing import get_args

from llmrec.config.drift import ExplanationTerm, TermName
from llmrec.drift.terms.base import AnyoneTerm, BaseTerm, SeenTerm
from llmrec.drift.terms.chain import ChainTerm
from llmrec.drift.terms.environment import EnvironmentTerm
from llmrec.drift.terms.gate import GateTerm
from llmrec.drift.terms.interest import InterestTerm
from llmrec.drift.terms.protocol import DriftTerm, Term
from llmrec.drift.terms.transitions import TransitionTerm

TERMS: tuple[Term, ...] = (  # in display order; parts in the order of the gate's rows
    Term("anyone", "logit", "what suits most users", "share", "#999999", AnyoneTerm()),
    Term("base", "part", "what the model makes of the history", "share", "#0072B2", BaseTerm()),
    Term("seen", "logit", "being in the history", "log-odds", "#F0E442", SeenTerm()),
    Term("interest", "weight", "weights of recent events", "weight", "#E69F00", InterestTerm()),
    Term("environment", "logit", "what is popular now", "log-odds", "#CC79A7", EnvironmentTerm()),
    Term("transitions", "part", "what people chose next", "share", "#D55E00", TransitionTerm()),
    Term("chain", "part", "latent interests", "share", "#009E73", ChainTerm()),
    Term("gate", "gate", "shares by context", "share", "#56B4E9", GateTerm()),
)
PARTS = tuple(term for term in TERMS if term.role == "part")
BY_NAME: dict[ExplanationTerm, Term] = {term.name: term for term in TERMS}
SWITCHES: dict[TermName, DriftTerm] = {name: BY_NAME[name].implementation for name in get_args(TermName)}


def get_caption(name: str) -> str:
    """Return the caption of a term.

    Args:
        name: Name of the term in a report.

    Returns:
        Caption.

    Raises:
        KeyError: If there is no such term.
    """
    return {str(term.name): term.caption for term in TERMS}[name]
