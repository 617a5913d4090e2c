"""Which strategy to use: what was measured of their worth (recipes/README.md), within what time and memory there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmrec.planning.strategies import PlannedStrategy
from llmrec.training.micro_batching import STEPS

MEASURED_EVENTS = 200_000  # of the largest log on which training the backbone was measured beside not training it
ROOM = 1.3  # times the memory that is said has to be there: runs took up to 1.22 times as much
SEARCHED_EVENTS = 1_000_000  # from which on the full softmax is what takes longest


@dataclass(frozen=True)
class Option:
    """hours, gib: of one process, at most. busiest: the phase that takes longest. refused: why there is no such run."""

    way: PlannedStrategy
    hours: float = 0.0
    gib: float = 0.0
    busiest: str = ""
    refused: str = ""


@dataclass(frozen=True)
class ResourceLimits:
    """None: as much as it takes."""

    gib: float | None = None
    hours: float | None = None

    def missing_resources(self, option: Option) -> list[str]:
        """What an option needs more of; nothing where it fits."""
        if option.refused:
            return ["cannot be"]
        lacks = []
        if self.gib is not None and option.gib * ROOM > self.gib:
            lacks.append("memory")
        if self.hours is not None and option.hours > self.hours:
            lacks.append("time")
        return lacks


@dataclass(frozen=True)
class Facts:
    """Of the log and the backbone that the choice depends on. causal: a decoder."""

    n_events: int
    n_items: int
    causal: bool


@dataclass(frozen=True)
class Choice:
    """way: None where nothing fits."""

    way: PlannedStrategy | None
    reasons: tuple[str, ...]


def choose_strategy(options: Sequence[Option], limits: ResourceLimits, facts: Facts) -> Choice:
    """The first strategy by `order` that fits."""
    fitting = {option.way: option for option in options if not limits.missing_resources(option)}
    order, reasons = rank_strategies(facts, [option.way for option in options])
    chosen = next((way for way in order if way in fitting), None)
    if chosen is None:
        return Choice(None, tuple(_suggest_changes(options, limits)))
    passed = order[: order.index(chosen)]
    if passed:
        reasons = [*reasons, f"{', '.join(passed)}: asked first, and does not fit"]
    if chosen not in ("frozen", "distil"):
        reasons = [
            *reasons,
            "its report has the frozen row too, and weights from before stay where validation is no better",
        ]
    return Choice(chosen, tuple(reasons))


def rank_strategies(facts: Facts, ways: Sequence[PlannedStrategy]) -> tuple[list[PlannedStrategy], list[str]]:
    """Strategies by what they promise on such data, cheaper ones first among equals, and why."""
    if facts.causal:
        order: tuple[PlannedStrategy, ...] = ("lora", "last_k", "full", "frozen", "distil")
        why = [
            "a decoder's raw vectors hardly tell texts apart: on Beauty LoRA took SmolLM2's validation loss from 6.19 "
            "to 5.55, layers above a frozen one to 5.91 (200 items; not measured on more)"
        ]
    elif facts.n_events <= MEASURED_EVENTS:
        order = ("frozen", "last_k", "lora", "full", "distil")
        why = [
            f"{facts.n_events:,} events: on logs of 100,000 (MovieLens) and 198,502 (Beauty) lora and last_k "
            "were no better than frozen on the time split, and it is the cheapest",
            "texts far from what the backbone has read (part numbers, another language) were not measured: there "
            "compare last_k or lora, whose report has both rows",
        ]
    else:
        order = ("last_k", "lora", "full", "frozen", "distil")
        why = [
            f"{facts.n_events:,} events: more than any log on which training the backbone was compared (198,502, where "
            "it gained nothing), so that it is worth a try, the cheapest way first, and no gain is promised",
        ]
    if facts.n_events >= SEARCHED_EVENTS:
        why.append("train.negatives 2048: over millions of events the full softmax costs more than all else")
    return [way for way in order if way in ways], why


def _suggest_changes(options: Sequence[Option], limits: ResourceLimits) -> list[str]:
    """What to change where nothing fits, by the option that comes nearest in each."""
    possible = [option for option in options if not option.refused]
    if not possible:
        return [f"{option.way}: {option.refused}" for option in options]
    lines = ["no strategy fits"]
    least = min(possible, key=lambda option: option.gib)
    if "memory" in limits.missing_resources(least):
        lines.append(
            f"memory: {least.way} takes least, {least.gib:.2f} GiB, {ROOM:g} times which is above {limits.gib:.2f}; "
            f"change {STEPS}"
        )
    fastest = min(possible, key=lambda option: option.hours)
    if "time" in limits.missing_resources(fastest):
        lines.append(
            f"time: {fastest.way} is soonest, {fastest.hours:.2f} hours of {limits.hours:.2f}, most of it "
            f"{fastest.busiest}; lower train.epochs or evaluation.max_valid_queries, set train.negatives 2048, leave "
            "out baselines, or add GPUs"
        )
    if len(lines) == 1:
        lines.append(f"each alone would do: {least.way} by memory, {fastest.way} by time; raise one limit")
    return lines
