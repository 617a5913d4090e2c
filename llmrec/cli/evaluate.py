"""The command evaluate.

What is heavy is imported inside.
"""

from __future__ import annotations

import sys
from pathlib import Path

from llmrec.config.data import DataConfig
from llmrec.config.split import SplitName


def evaluate(
    bundle: Path, data: DataConfig | None = None, split: SplitName | None = None, backbone: str | None = None
) -> None:
    """Print metrics of a bundle on the test part of its log, with intervals, overall and by slice.

    Args:
        bundle: the folder of a saved recommender.
        data: the log; settings that are not given are the bundle's. Its items must be those of the bundle.
        split: default: the one the bundle was trained on.
        backbone: a local copy of the base model, for bundles whose backbone encodes histories.
    """
    from llmrec.data.splits import make_split
    from llmrec.hub.training_log import load_bundle_and_log, training_overlap_warning
    from llmrec.jobs.evaluate import evaluate_bundle
    from llmrec.reports.report_text import render_slices

    loaded, log = load_bundle_and_log(bundle, data, backbone)
    config = loaded.config
    name = split or config.split.names[0]
    if note := training_overlap_warning(loaded, log, name):
        print(f"note: {note}", file=sys.stderr)
    part, ties = make_split(name, log.interactions, log.n_users, log.n_items, config.split)
    report = evaluate_bundle(loaded.model, part, ties, log.catalog.release_time, config, loaded.evaluation["main"])
    print(render_slices(report, name))
