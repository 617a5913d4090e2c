"""Choice of a strategy by its measured benefit within limits of time and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmrec.planning.strategies import PlannedStrategy
from llmrec.training.micro_batching import STEPS

MEASURED_EVENTS = 200_000  # of the largest log on which training the backbone was compared with not training it
ROOM = 1.3  # factor on predicted memory: runs took up to 1.22 times as much
SEARCHED_EVENTS = 1_000_000  # from which on the full softmax takes the most time


@dataclass(frozen=True)
class Option:
    """Time and memory of a strategy, of one process at most."""

    way: PlannedStrategy
    """The strategy."""
    hours: float = 0.0
    """Hours."""
    gib: float = 0.0
    """Memory in GiB."""
    longest_phase: str = ""
    """Phase that takes the most time."""
    refused: str = ""
    """Reason why no such run is possible; empty if it is."""


@dataclass(frozen=True)
class ResourceLimits:
    """Limits of a run; None means no limit."""

    gib: float | None = None
    """Memory in GiB."""
    hours: float | None = None
    """Hours."""

    def missing_resources(self, option: Option) -> list[str]:
        """List the resources that an option needs more of.

        Args:
            option: Time and memory of a strategy.

        Returns:
            Names of the resources; empty if the option fits.
        """
        if option.refused:
            return ["impossible"]
        lacks = []
        if self.gib is not None and option.gib * ROOM > self.gib:
            lacks.append("memory")
        if self.hours is not None and option.hours > self.hours:
            lacks.append("time")
        return lacks


@dataclass(frozen=True)
class Facts:
    """Facts about the log and the backbone that the choice depends on."""

    n_events: int
    """Number of events."""
    n_items: int
    """Number of items of the catalog."""
    causal: bool
    """True if the backbone is a decoder."""


@dataclass(frozen=True)
class Choice:
    """Chosen strategy and the reasons."""

    way: PlannedStrategy | None
    """The strategy; None if none fits."""
    reasons: tuple[str, ...]
    """Reasons, one line each."""


def choose_strategy(options: Sequence[Option], limits: ResourceLimits, facts: Facts) -> Choice:
    """Choose the first strategy that fits, in the order of `rank_strategies`.

    Args:
        options: Time and memory of each strategy.
        limits: Limits of a run.
        facts: Facts about the log and the backbone.

    Returns:
        The choice and its reasons, or what to change if nothing fits.
    """
    fitting = {option.way: option for option in options if not limits.missing_resources(option)}
    order, reasons = rank_strategies(facts, [option.way for option in options])
    chosen = next((way for way in order if way in fitting), None)
    if chosen is None:
        return Choice(None, tuple(_suggest_changes(options, limits)))
    passed = order[: order.index(chosen)]
    if passed:
        reasons = [*reasons, f"{', '.join(passed)}: ranked higher, but over a limit"]
    if chosen not in ("frozen", "distill"):
        reasons = [
            *reasons,
            "its report has the frozen row too, and the earlier weights are kept if validation does not improve",
        ]
    return Choice(chosen, tuple(reasons))


def rank_strategies(facts: Facts, ways: Sequence[PlannedStrategy]) -> tuple[list[PlannedStrategy], list[str]]:
    """Order strategies by their measured benefit on such data, cheaper ones first among equals.

    Args:
        facts: Facts about the log and the backbone.
        ways: Strategies to order.

    Returns:
        Ordered strategies, and the reasons, one line each.
    """
    if facts.causal:
        order: tuple[PlannedStrategy, ...] = ("lora", "last_k", "full", "frozen", "distill")
        why = [
            "a decoder's raw vectors barely differ between texts: on Beauty LoRA lowered SmolLM2's validation loss "
            "from 6.19 to 5.55, layers above a frozen one to 5.91 (200 items; not measured on more)"
        ]
    elif facts.n_events <= MEASURED_EVENTS:
        order = ("frozen", "last_k", "lora", "full", "distill")
        why = [
            f"{facts.n_events:,} events: on logs of 100,000 (MovieLens) and 198,502 (Beauty) lora and last_k "
            "were no better than frozen on the time split, and it is the cheapest",
            "texts unlike those of pretraining (part numbers, another language) were not measured: for these, compare "
            "last_k or lora, whose report has both rows",
        ]
    else:
        order = ("last_k", "lora", "full", "frozen", "distill")
        why = [
            f"{facts.n_events:,} events: more than in any log on which training the backbone was measured (198,502, "
            "where it gained nothing); the cheapest strategy comes first, and a gain is possible but not measured",
        ]
    if facts.n_events >= SEARCHED_EVENTS:
        why.append("train.negatives 2048: over millions of events the full softmax is the largest cost")
    return [way for way in order if way in ways], why


def _suggest_changes(options: Sequence[Option], limits: ResourceLimits) -> list[str]:
    """Suggest what to change if nothing fits, by the options with the least memory and the least time."""
    possible = [option for option in options if not option.refused]
    if not possible:
        return [f"{option.way}: {option.refused}" for option in options]
    lines = ["no strategy is within the limits"]
    least = min(possible, key=lambda option: option.gib)
    if "memory" in limits.missing_resources(least):
        lines.append(
            f"memory: {least.way} needs least, {least.gib:.2f} GiB, but {ROOM:g} times that is above {limits.gib:.2f} "
            f"GiB. Change {STEPS}."
        )
    fastest = min(possible, key=lambda option: option.hours)
    if "time" in limits.missing_resources(fastest):
        lines.append(
            f"time: {fastest.way} is fastest, {fastest.hours:.2f} hours of {limits.hours:.2f}, most of it "
            f"{fastest.longest_phase}. Lower train.epochs or evaluation.max_valid_queries, set train.negatives 2048, "
            "leave out baselines, or add GPUs."
        )
    if len(lines) == 1:
        lines.append(
            f"limits: {least.way} fits in memory and {fastest.way} in time, but none in both. Raise one limit."
        )
    return lines
