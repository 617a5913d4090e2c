"""The configuration that `llmrec init` writes, with the reasons as comments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmrec.backbones.model_files.resolve import PACKAGED, get_packaged_path
from llmrec.config.order_only import TIMED_BASELINES
from llmrec.data.log_proposal import LogProposal

BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGED_BACKBONE = "packaged:all-MiniLM-L6-v2"

BASELINES = ("popularity", "recent_popularity", "item_knn", "nearest_text")


def render_init_config(proposal: LogProposal, path: Path) -> str:
    """Render a configuration of `llmrec train` for a log.

    Args:
        proposal: Settings of the log and their reasons.
        path: File that the text will be written to; the output folder is named after it.

    Returns:
        YAML text.
    """
    log = proposal.log
    lines = [
        f"# llmrec train --config {path}",
        f"# {len(log.interactions):,} events by {log.n_users:,} users on {log.n_items:,} items.",
        "data:",
        *(_format_line(name, getattr(proposal.config, name), reason) for name, reason in proposal.reasons.items()),
        _format_line("output", f"runs/{path.stem}", "report, figures and bundle", indent=""),
        _format_line("resume", "auto", "a run that was stopped continues", indent=""),
        "backbone:",
        _format_line("name", *_choose_backbone()),
        _format_line("strategy", "frozen", "fast; last_k, lora or full also train the backbone: see llmrec plan"),
        *(["drift: {}  # how interests move with time"] if log.facts.has_times else []),
        "evaluation:",
        _format_line("mask_seen", not proposal.repeats, _explain_mask(proposal)),
        _format_line(
            "baselines",
            [name for name in BASELINES if log.facts.has_times or name not in TIMED_BASELINES],
            "also: item_knn_streaming, matrix, sasrec, sasrec_sampled"
            if log.facts.has_times
            else "also: matrix, sasrec, sasrec_sampled",
        ),
    ]
    return "\n".join(lines) + "\n"


def _format_line(name: str, value: Any, reason: str, *, indent: str = "  ") -> str:
    """Format a setting and its reason as a line of YAML."""
    text = json.dumps(value, ensure_ascii=False, default=vars)  # JSON is YAML
    return f"{indent}{name}: {text}  # {' '.join(reason.split())}"


def _choose_backbone() -> tuple[str, str]:
    """Return the default backbone: from an installed package if there is one, else from the hub."""
    if get_packaged_path(PACKAGED[PACKAGED_BACKBONE.partition(":")[2]]) is not None:
        return PACKAGED_BACKBONE, "from an installed package"
    return BACKBONE, "from the Hugging Face hub"


def _explain_mask(proposal: LogProposal) -> str:
    """Explain why items of the history are ranked or not."""
    return "people come back to items" if proposal.repeats else "items that a user has had are not recommended again"
