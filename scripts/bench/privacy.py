"""Epsilon against NDCG@10 on MovieLens-small, and how well each model's training users can be told from others.

    OMP_NUM_THREADS=1 python scripts/bench/privacy.py [--epsilons 32 8 2] [--seeds 0] [--json PATH]

The users' training events are learned from but for those of a share that is held out, for the attacks to compare with.
Rows: the quickstart's feature transfer, which nothing protects; the private model's layers, untrained; trained with
users clipped and no noise; and by each epsilon. The private model has no item ids, which would be most of its weights,
and steps with half of the users. Its settings are fixed here and were found with a dozen runs on this very log, which
the epsilons do not count: for a guarantee that holds, find them on another log. Noise is secret, so that rows differ
from run to run.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonargparse
from accelerate import Accelerator
from machine import describe, write_record
from torch import Tensor

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.text_vector_cache import TextVectorCache
from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.config.privacy import MembershipConfig, PrivacyConfig
from llmrec.config.split import SplitConfig
from llmrec.config.train import TrainConfig
from llmrec.data.loading import load_log
from llmrec.data.log import Log
from llmrec.evaluation.aggregate import make_test_queries
from llmrec.evaluation.intervals import bootstrap_mean
from llmrec.evaluation.membership import MembershipAttack
from llmrec.evaluation.metrics import ndcg_at
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.training.membership_audit import measure_membership
from llmrec.training.model_validation import rank_across_processes
from llmrec.training.privacy.dp_trainer import build_privacy_report
from llmrec.training.task import make_task
from llmrec.training.two_stage import fit_model
from llmrec.utils.text import format_table

USUAL = FinetuneConfig(
    DataConfig(source="movielens_small", text_template="{title} ({year}). Genres: {genres}"),
    backbone=BackboneConfig(name="packaged:all-MiniLM-L6-v2", max_tokens=48),
    model=ModelConfig(id_init_scale=0.1),
    train=TrainConfig(learning_rate=2e-3, epochs=6, patience=3),
    evaluation=EvaluationConfig(max_queries=4000, max_valid_queries=300),
    split=SplitConfig(held_out_user_fraction=0.3),
    membership=MembershipConfig(reference=True, max_users=200),
    resume="auto",  # one reference model for all rows with the same layers
)
PRIVATE = replace(
    USUAL,
    model=ModelConfig(dim=64, use_item_ids=False, dropout=0.1, text_similarity=False),
    train=TrainConfig(learning_rate=2e-3, epochs=10, negatives=512),
)
SPENDING = PrivacyConfig(users_per_step=180, max_grad_norm=0.5, windows_per_user=2, frozen_prefixes=())


def main(
    epsilons: tuple[float, ...] = (32.0, 8.0, 2.0), seeds: tuple[int, ...] = (0,), json: Path | None = None
) -> None:
    log = load_log(USUAL.data)
    text = TextVectorCache(TextBackbone.load(USUAL.backbone)).get_vectors(log.catalog.list_texts())
    still = replace(PRIVATE, train=replace(PRIVATE.train, epochs=0))
    settings = {"no privacy": USUAL, "untrained": still}
    for epsilon in (None, *epsilons):
        name = "clipped, no noise" if epsilon is None else f"epsilon {epsilon:g}"
        settings[name] = replace(PRIVATE, privacy=replace(SPENDING, epsilon=epsilon))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            for name, config in settings.items():
                rows.append({"model": name} | measure(replace(config, output=Path(folder)), log, text, seed))
                print(*shown(rows[-1]), sep="  ", flush=True)
    head = ["model", "seed", "epsilon", "delta", "noise", "NDCG@10", "", "AUC of losses", "", "beside another's", ""]
    print("\n" + "\n".join(format_table([[*head, "CPU s"], *map(shown, rows)])))
    write_record(json, rows, describe())


def measure(config: FinetuneConfig, log: Log, text: Tensor, seed: int) -> dict[str, Any]:
    """A row of the record: one fit, its NDCG on the test, and the attacks on it."""
    began = time.process_time()
    task = make_task("by_time", log, config, Accelerator(cpu=True))
    fitted = fit_model("model", task, config.model, config.train, text=text, seed=seed)
    seconds = time.process_time() - began
    queries = make_test_queries(task.split, task.ties, config.evaluation)
    rank = rank_across_processes(task, ModelScorer(fitted.model), queries, 10).rank
    attacks = measure_membership(
        task, config, config.membership or MembershipConfig(), fitted.model, text=text, seed=seed
    )
    private = build_privacy_report(task.privacy, fitted.progress.step, [fitted.model]) if task.privacy else {}
    return {
        "seed": seed,
        "ndcg@10": bootstrap_mean(ndcg_at(rank, 10), queries.user),
        "queries": len(queries),
        "attacks": attacks,
        "cpu_seconds": seconds,
    } | private


def shown(row: dict[str, Any]) -> list[str]:
    private = [f"{row[key]:.3g}" if row.get(key) else "" for key in ("epsilon", "delta", "noise_multiplier")]
    figures = [row["ndcg@10"], *(MembershipAttack.from_record(attack).auc for attack in row["attacks"])]
    cells = [cell for value, low, high in figures for cell in (f"{value:.4f}", f"[{low:.4f}, {high:.4f}]")]
    return [row["model"], str(row["seed"]), *private, *cells, f"{row['cpu_seconds']:.0f}"]


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
