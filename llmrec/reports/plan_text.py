"""Text of a plan, and of its comparison with the run."""

from __future__ import annotations

from collections.abc import Sequence

from llmrec.planning.cost import CALL_SECONDS
from llmrec.planning.plan import Plan
from llmrec.planning.plan_vs_actual import PhaseComparison
from llmrec.planning.predict import Name
from llmrec.utils.text import format_table

PHASE_COLUMNS: tuple[Name, ...] = ("load", "read", "fit", "adapt", "rank", "teacher", "sasrec")


def format_plan(plan: Plan) -> list[str]:
    """Format a plan as a table of strategies, with the recommendation and its reasons.

    Args:
        plan: Predicted cost of each strategy on a machine.

    Returns:
        Lines for the terminal; CPU minutes of each phase, hours of all, memory in GiB.
    """
    machine = plan.machine
    head = ["strategy", "trains", *PHASE_COLUMNS, "hours", "GiB", "fits"]
    body = []
    for option in plan.options:
        if option.refused:
            body.append([option.way, *["-"] * (len(head) - 2), "no"])
            continue
        needed, seconds = option.to_option(machine), option.phase_seconds(machine, cpu=not machine.gpus)
        lacking = machine.limits.missing_resources(needed)
        body.append(
            [
                option.way,
                f"{option.trains:,}",
                *(_format_minutes(seconds.get(name)) for name in PHASE_COLUMNS),
                f"{needed.hours:.2f}",
                f"{needed.gib:.2f}",
                f"no {' and '.join(lacking)}" if lacking else "yes",
            ]
        )
    refused = [f"{option.way}: {option.refused}" for option in plan.options if option.refused]
    choice = plan.choice
    advice = [f"recommended: {choice.way}"] if choice.way else []
    return [
        plan.source,
        "",
        *_format_plan_header(plan),
        "",
        *format_table([head, *body]),
        *refused,
        "",
        *advice,
        *_format_list(choice.reasons),
    ]


def _format_plan_header(plan: Plan) -> list[str]:
    machine = plan.machine
    lines = [
        f"steps measured on {plan.here}; CPU minutes of each phase if no patience ends it,",
        "and hours of all by the clock, if the machine stays as busy as it is",
    ]
    if machine.gpus:
        lines = [
            f"ESTIMATE for {machine.gpus} GPU(s), nothing of it measured on one: operations of real steps here, at "
            f"{machine.tflops:g} TFLOP/s",
            f"(--tflops), {CALL_SECONDS * 1e6:.0f} us a call at least; memory of one GPU: weights, gradients, "
            "optimizer, kept activations.",
            "Minutes of each phase, hours of all, if no patience ends them",
        ]
    return [
        *lines,
        "sasrec: those rows of the report; its other baselines, drift and explanations are not in the plan",
    ]


def format_plan_comparison(compared: Sequence[PhaseComparison]) -> list[str]:
    """Format predicted next to measured values as a table.

    Args:
        compared: One row for each phase, with its unit.

    Returns:
        Lines for the terminal.
    """
    head = ["", "unit", "predicted", "happened", "ratio"]
    body = [
        [
            line.what,
            line.unit,
            "-" if line.predicted is None else f"{line.predicted:.2f}",
            f"{line.measured:.2f}",
            "-" if line.ratio is None else f"{line.ratio:.2f}",
        ]
        for line in compared
    ]
    return format_table([head, *body])


def _format_minutes(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds / 60:.1f}"


def _format_list(reasons: Sequence[str]) -> list[str]:
    return [f"  - {reason}" for reason in reasons]
