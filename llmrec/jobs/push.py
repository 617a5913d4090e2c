"""Push a bundle to the Hugging Face hub, and verify that the downloaded copy gives the same scores."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from llmrec.config.jobs.push import PushConfig
from llmrec.recommender import Recommender
from llmrec.runs.finish import print_results

N_HISTORIES, LENGTH = 8, 5


def run_push(config: PushConfig) -> None:
    """Push a bundle to the hub, download it again, and print the largest difference of scores.

    Args:
        config: Settings of the job.
    """
    here = Recommender.from_pretrained(config.bundle, backbone=config.backbone)
    address = here.push_to_hub(
        config.repo_id,
        private=config.private,
        revision=config.revision,
        base_model_id=config.base_model_id,
        include_counts=config.include_counts,
    )
    print_results(f"pushed: {address}")

    commit = address.rpartition("/")[2]
    there = Recommender.from_pretrained(config.repo_id, backbone=config.backbone, revision=commit)
    if here.config.drift is not None:  # its scores depend on the events of all users so far
        with TemporaryDirectory() as folder:
            here.live.save(Path(folder) / "state")
            there.live.load(Path(folder) / "state")
    ids = here.catalog.ids.to_pylist()
    histories = [ids[start : start + LENGTH] for start in range(0, N_HISTORIES * LENGTH, LENGTH)]
    pairs = [
        (before, after)
        for history in histories
        for before, after in zip(here.score(history, ids), there.score(history, ids), strict=True)
    ]
    worst = max(abs(before - after) for before, after in pairs)
    print_results(f"fetched again: {len(pairs):,} scores, the largest difference {worst:g}")
