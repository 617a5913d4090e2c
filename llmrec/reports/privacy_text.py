"""Text on the privacy guarantee of a model, its limits, and the results of membership attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmrec.evaluation.membership import FALSE_ALARMS, MembershipAttack
from llmrec.evaluation.run_metadata import RunMetadata

OUTSIDE = (
    "every number of an evaluation, of an attack or of a training curve: they are exact",
    "the facts of the log (counts, first and last time, fingerprint), the number of its users, and the times at which "
    "it is cut into parts: taken as public",
    "the catalog and its texts, and the pretrained language model: taken as public, for all authors of the texts",
    "settings that were chosen after looking at results on the same users: every run that was looked at has spent "
    "an epsilon of its own",
    "other models of the report: baselines are trained without noise, other seeds and splits spend an epsilon of their "
    "own, and none of them is in the bundle",
    "the input of the model when it is used: histories of queries, and events that it observes",
)


def render_privacy_section(run: RunMetadata) -> str:
    """Render the privacy guarantee of a run and the results of attacks on it.

    Args:
        run: Facts of a run.

    Returns:
        Markdown; "" for a run that has neither.
    """
    blocks = []
    if run.privacy:
        blocks += [_describe_guarantee(run.privacy), "Outside of it:", "\n".join(f"* {what};" for what in OUTSIDE)]
    elif run.membership:
        blocks.append("Trained without differential privacy: nothing is guaranteed.")
    if run.membership:
        lines = format_attacks([MembershipAttack.from_record(record) for record in run.membership])
        blocks += ["Measured, as a floor for what can be found out:", "\n".join(f"* {line}" for line in lines)]
    return "\n\n".join(blocks)


def _describe_guarantee(spent: Mapping[str, Any]) -> str:
    how = (
        f"{spent['n_weights']:,} weights were trained by DP-SGD over users: {spent['steps']:,} steps, in which each of "
        f"{spent['n_users']:,} users takes part by a chance of {spent['sample_rate']:.4g}, with a gradient of norm "
        f"{spent['clip_norm']:g} at most"
    )
    if spent["epsilon"] is None:
        return f"{how}, and without noise: **nothing is guaranteed**."
    noise = f"{how}, and noise of {spent['noise_multiplier']:.4g} times that"
    if not spent["secure"]:
        return (
            f"{noise}. The noise was drawn from the run's seed, which is no secret, so that **nothing is guaranteed**; "
            f"with secret noise it would be epsilon = {spent['epsilon']:.3g} at delta = {spent['delta']:.2g}."
        )
    return (
        f"**User-level differential privacy: epsilon = {spent['epsilon']:.3g} at delta = {spent['delta']:.2g}**, by "
        f"Opacus' {spent['accountant']} accountant. The unit is a user: with all training events of any one user added "
        "or taken away, whatever comes out of the training is at most exp(epsilon) times likelier, and delta.\n\n"
        f"Inside of it are the trained weights, and the vectors of items that are made with them. {noise}."
    )


def format_attacks(attacks: Sequence[MembershipAttack]) -> list[str]:
    """Format the results of membership attacks, one line each.

    Args:
        attacks: Results on members and non-members of the training users.

    Returns:
        Sentences with AUC, its interval, and the share of members found.
    """
    return [
        f"By {attack.name}, {attack.n_members:,} training users are distinguished from {attack.n_non_members:,} others "
        f"with an AUC of {attack.auc.value:.3f} [{attack.auc.low:.3f}, {attack.auc.high:.3f}] (.5 is guessing); where "
        f"{FALSE_ALARMS:.0%} of the others are accused, {attack.true_positive_rate:.1%} of the members are found."
        for attack in attacks
    ]
