"""One process and two are the same run: loss, gradients, weights, table, stopping and every figure of the report.

In float64, where nothing but the order of sums is left to differ; and in fp32, as far as that order lets them be. Both
processes are real ones that speak by gloo; each says how many they are. Dropout is off: each process draws its own.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from llmrec.backbones import fast_encoding
from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.lm_head import make_head
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.text_vector_cache import TextVectorCache
from llmrec.config.backbone import BackboneConfig, LoraConfig, Strategy
from llmrec.config.data import DataConfig
from llmrec.config.drift import DriftConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.distill import DistillationLosses
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.jobs.pretrain import ContrastConfig, ObjectiveName, PretrainConfig, PretrainTrainConfig
from llmrec.config.model import HistoryTextConfig, ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.drift import fit_head
from llmrec.evaluation import ranking
from llmrec.evaluation.aggregate import make_test_queries
from llmrec.evaluation.model_rows import FROZEN, STUDENT, ModelRow
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.jobs import comparison, model_benchmark
from llmrec.jobs.model_benchmark import ModelBenchmark
from llmrec.runs.start import start_run
from llmrec.training.checkpoints import get_trainable_state
from llmrec.training.distillation import distill
from llmrec.training.distributed import parallel_ranking
from llmrec.training.pretraining.corpus import make_corpus
from llmrec.training.pretraining.pretrain_objectives import PretrainObjective
from llmrec.training.pretraining.pretrainer import Pretrainer, make_pretrain_tasks, make_run
from llmrec.training.task import make_task
from llmrec.training.trainer import Trainer
from tests.training.processes import gradients_of_steps, in_processes

WORLD = make_synthetic_log(n_users=41, n_items=37, events_per_user=8, seed=1)[0]
MODEL = ModelConfig(dim=16, n_layers=1, n_heads=2, max_history=6, dropout=0.0, id_dropout=0.0, text_similarity=False)
TRAIN = TrainConfig(epochs=1, batch_targets=50, learning_rate=3e-3, evals_per_epoch=2)
ADAPT = replace(
    TRAIN, trainable_items_per_step=21, learning_rate=1e-3, backbone_learning_rate=1e-3, refresh_every_steps=2
)


@dataclass(frozen=True)
class Case:
    """How a run transfers, and what it has otherwise than MODEL, TRAIN and ADAPT."""

    strategy: Strategy = "none"
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    adapt: dict[str, Any] = field(default_factory=dict)
    decoder: bool = False
    distils: bool = False
    sharded: bool = False


SAMPLED = {"negatives": 13}
BY_BACKBONE = {"history_encoder": "backbone"}
AS_TEXT = {"history_encoder": "text", "history_text": HistoryTextConfig(max_tokens=100)}
CASES = {
    "ids that stop early": Case(train={"epochs": 9, "patience": 1, "learning_rate": 3e-2}),
    "ids, sampled, with idle processes": Case(train=SAMPLED | {"gradient_accumulation_steps": 3, "batch_targets": 8}),
    "frozen, by cosine": Case("frozen", model={"similarity": "cosine", "text_similarity": True}),
    "last_k, accumulated before": Case("last_k", train={"gradient_accumulation_steps": 2}),
    "lora, accumulated": Case("lora", adapt={"gradient_accumulation_steps": 2}),
    "lora, sampled, in pieces": Case("lora", adapt=SAMPLED | {"micro_batches": 5}),
    "full decoder": Case("full", decoder=True),
    "histories by the backbone": Case("lora", model=BY_BACKBONE, decoder=True),
    "histories as text": Case("lora", model=AS_TEXT),
    "distilled": Case("full", distils=True),
    "distilled, sampled": Case("full", adapt=SAMPLED, distils=True),
    "full, sharded, accumulated": Case("full", adapt={"gradient_accumulation_steps": 2}, sharded=True),
    "histories by the backbone, sharded": Case("lora", model=BY_BACKBONE, decoder=True, sharded=True),
    "histories as text, sharded": Case("last_k", model=AS_TEXT, sharded=True),
}


def run(case: Case, path: Path, folder: Path, dtype: torch.dtype, resume: bool = False) -> dict[str, Any]:
    """Fits, then adapts or distils, and reports, in however many processes it is called."""
    torch.set_default_dtype(dtype)
    plainly = mock.patch.object(fast_encoding, "COPIED_FROM", sys.maxsize)  # shares of a call may be below it
    try:
        with plainly, gradients_of_steps() as gradients:
            accelerator, outcome = trained(case, path, folder, resume)
    finally:
        torch.set_default_dtype(torch.float32)
    return outcome | {"gradients": gradients, "processes": accelerator.num_processes}


def trained(case: Case, path: Path, folder: Path, resume: bool) -> tuple[Accelerator, dict[str, Any]]:
    dtype, texts = torch.get_default_dtype(), WORLD.catalog.list_texts()
    backbone = BackboneConfig(
        name=str(path),
        hub_id="owner/tiny",
        max_tokens=24,
        strategy=case.strategy,
        last_k=1,
        lora=LoraConfig(rank=2),
        hidden_state_cache="auto" if dtype == torch.float32 else "none",  # which are fp32
    )
    config = FinetuneConfig(
        DataConfig(),
        output=folder,
        backbone=backbone,
        model=replace(MODEL, **case.model),
        train=replace(TRAIN, **case.train),
        adapt=replace(ADAPT, **case.adapt),
        evaluation=EvaluationConfig(bootstrap_samples=20),
        resume=resume,
    )
    accelerator, text, reader, histories = start_run(config), None, None, None
    if case.strategy != "none":
        reader, frozen = (CatalogEncoder.from_texts(TextBackbone.load(backbone).to(dtype), texts) for _ in range(2))
        text = frozen.backbone.requires_grad_(False).encode(frozen.tokens)
        apply_strategy(reader.backbone.to(torch.float32), backbone)  # adapters are drawn in fp32
        reader.backbone.to(dtype)
        histories = frozen if config.model.history_encoder != "sequence" else None
    task = make_task("by_time", WORLD, config, accelerator, reader=histories)
    compared = ModelBenchmark(task, config, make_test_queries(task.split, task.ties, config.evaluation))
    fitted = compared.fit(FROZEN, config.model, config.train, text, seed=0)
    model = fitted.model
    if case.distils and reader is not None:
        model, progress = distill(
            task, config, model, reader, losses=DistillationLosses(ranking=1.0, targets=1.0), seed=0
        )
        compared.rank(STUDENT, ModelScorer(model))
        compared.training += progress.history
    elif case.strategy not in ("none", "frozen") and reader is not None:
        compared.adapt_and_rank(ModelRow("llmrec", "lora"), fitted, reader, seed=0)
    evaluated = compared.evaluate(FROZEN, text)
    tuned = get_trainable_state(reader.backbone) if reader is not None and case.strategy != "frozen" else {}
    outcome = {
        "training": compared.training,
        "settings": compared.settings,
        "weights": get_trainable_state(model) | tuned,
        "table": {} if model.items.text is None else {"text": model.items.text},
        "rows": {(row.model, row.slice, row.metric): row.value for row in evaluated.rows},
    }
    return accelerator, outcome


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The norm of the difference, in proportion to the norm."""
    assert one.keys() == other.keys()
    pairs = [(one[name].double(), other[name].double()) for name in one]
    scale = sum(float(first.square().sum()) for first, _ in pairs) or 1.0
    return float((sum(float((first - second).square().sum()) for first, second in pairs) / scale) ** 0.5)


# What other cases nearly hold.
SLOW = {"frozen, by cosine", "lora, accumulated", "histories by the backbone", "histories as text", "distilled"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in CASES])
def test_two_processes_are_one_run(
    name: str, tiny_bert: Path, tiny_gpt2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    path = tiny_gpt2 if case.decoder else tiny_bert
    if case.sharded:
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    one = run(case, path, tmp_path / "one", torch.float64)
    for other in in_processes(2, run, tmp_path, case, path, tmp_path / "two", torch.float64):
        same(one, other, 1e-9)


@pytest.mark.parametrize("name", ["lora, accumulated", "full decoder"])
def test_fp32_differs_by_the_rounding_of_sums(name: str, tiny_bert: Path, tiny_gpt2: Path, tmp_path: Path) -> None:
    """By 1e-7 or so in a step. Adam makes whole steps of gradients that are rounding alone, such as of keys' biases."""
    case = CASES[name]
    path = tiny_gpt2 if case.decoder else tiny_bert
    one = run(case, path, tmp_path / "one", torch.float32)
    other = in_processes(2, run, tmp_path, case, path, tmp_path / "two", torch.float32)[0]
    assert apart(one["gradients"][0], other["gradients"][0]) < 1e-6
    found = distances(one, other)
    assert found["told"] < 1e-5, found
    assert max(found.values()) < 1e-4, found


class InterruptionError(Exception):
    pass


def cut_off(case: Case, path: Path, folder: Path) -> dict[str, Any]:
    """A run that ends after its first checkpoint of the backbone, and goes on from it; beside one that does not end."""
    whole, measure = run(case, path, folder / "whole", torch.float64), Trainer._measure

    def interrupted(self: Trainer, *given: Any) -> None:
        measure(self, *given)
        if self.objective.reader is not None:
            raise InterruptionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_measure", interrupted)
        with pytest.raises(InterruptionError):
            run(case, path, folder / "parts", torch.float64)
    parts = run(case, path, folder / "parts", torch.float64, resume=True)
    return {"whole": whole, "parts": parts, "processes": parts["processes"]}


def test_shards_resume_to_the_same_bits(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and Adam's moments are gathered into a checkpoint, and shared out again."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    case = Case("full", train={"epochs": 0}, sharded=True)
    told = in_processes(2, cut_off, tmp_path, case, tiny_bert, tmp_path / "run")[0]
    whole, parts = told["whole"]["gradients"], told["parts"]["gradients"]
    assert 0 < len(parts) < len(whole)
    for expected, found in zip(reversed(whole), reversed(parts), strict=False):
        assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.slow
def test_a_compiled_run_is_the_same(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through Accelerate's setting. What a compiler makes of the graph is its own affair: here it is run as it was."""
    case = Case("lora", train={"epochs": 0})
    one = run(case, tiny_bert, tmp_path / "one", torch.float64)
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")
    same(one, in_processes(1, run, tmp_path, case, tiny_bert, tmp_path / "two", torch.float64)[0], 1e-9)


def same(one: dict[str, Any], other: dict[str, Any], tolerance: float) -> None:
    found = distances(one, other)
    assert max(found.values()) < tolerance, found
    assert other["settings"] == one["settings"]  # with the best epoch, and what validation has set


def distances(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """Of the gradients of all steps, the final weights and the table, by their norms; and of all numbers told."""
    assert len(one["gradients"]) == len(other["gradients"]) > 1
    found = {
        "gradients": max(map(apart, one["gradients"], other["gradients"])),
        "weights": apart(one["weights"], other["weights"]),
        "table": apart(one["table"], other["table"]),
        "told": max(abs(a - b) / max(abs(a), 1e-9) for a, b in zip(numbers(one), numbers(other), strict=True)),
    }
    print({name: f"{value:.1e}" for name, value in found.items()})
    return found


def numbers(run: dict[str, Any]) -> list[float]:
    """Losses, validation metrics and when they were measured, and every figure of the report."""
    points = [value for point in run["training"] for value in point.values() if not isinstance(value, str)]
    assert len(points) > 3
    return [*points, *run["rows"].values()]


def pretrained(path: Path, folder: Path, objectives: tuple[ObjectiveName, ...]) -> dict[str, Any]:
    """Some steps of continued pretraining, on batches that two processes cannot halve."""
    backbone = BackboneConfig(str(path), "owner/tiny", max_tokens=24, strategy="lora", lora=LoraConfig(rank=2))
    config = PretrainConfig(
        DataConfig(),
        output=folder,
        objectives=dict.fromkeys(objectives, 0.5),
        backbone=backbone,
        contrast=ContrastConfig(n_negatives=5),
        train=PretrainTrainConfig(
            max_steps=4, eval_every_steps=2, text_batch_size=7, pair_batch_size=9, held_out_fraction=0.2
        ),
    )
    accelerator, reading = start_run(config), TextBackbone.load(backbone)
    head = make_head(reading, config.objectives)
    apply_strategy(reading, backbone)
    tokens = reading.tokenize(WORLD.catalog.list_texts())
    readings = make_pretrain_tasks(make_corpus(WORLD, config), tokens, reading.tokenizer, config)
    objective = PretrainObjective(reading, head, config.contrast.temperature).double()
    with gradients_of_steps() as gradients:
        progress = Pretrainer(objective, readings, config.train, accelerator, run=make_run(config, "")).fit()
    return {
        "gradients": gradients,
        "training": progress.history,
        "weights": get_trainable_state(objective),
        "table": {},
        "settings": {"best": progress.best_epoch},
        "rows": {},
        "processes": accelerator.num_processes,
    }


@pytest.mark.parametrize("kind", ["masked words and pairs", "next words"])
def test_two_processes_are_one_pretraining(kind: str, tiny_bert: Path, tiny_gpt2: Path, tmp_path: Path) -> None:
    path = tiny_gpt2 if kind == "next words" else tiny_bert
    objectives: tuple[ObjectiveName, ...] = ("clm",) if kind == "next words" else ("mlm", "contrast")
    one = pretrained(path, tmp_path / "one", objectives)
    for other in in_processes(2, pretrained, tmp_path, path, tmp_path / "two", objectives):
        same(one, other, 1e-6)


def counted(path: Path, folder: Path) -> dict[str, Any]:
    """A whole comparison, and how much of its work this process did."""
    accelerator, work = Accelerator(cpu=True), Counter[str]()

    def tally(owner: Any, name: str, size: Callable[..., dict[str, int]]) -> None:
        plain = getattr(owner, name)

        def watched(*given: Any, **named: Any) -> Any:
            work.update(size(*given))
            return plain(*given, **named)

        patch.setattr(owner, name, watched)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "BATCH", 8)
        patch.setattr(parallel_ranking, "BATCH", 8)
        patch.setattr(fit_head, "QUERIES_AT_ONCE", 8)
        tally(TextBackbone, "encode", lambda _, tokens, *__: {"texts read": len(tokens)})
        tally(ModelScorer, "score", lambda _, queries, *__: {"queries": len(queries)})
        tally(model_benchmark, "fit_baselines", lambda names, *_: {f"fit of {name}": 1 for name in names})
        backbone = BackboneConfig(str(path), "owner/tiny", max_tokens=24, strategy="lora", lora=LoraConfig(rank=2))
        config = FinetuneConfig(
            DataConfig(),
            output=folder,
            backbone=backbone,
            model=MODEL,
            train=replace(TRAIN, epochs=1),
            adapt=ADAPT,
            drift=DriftConfig(n_states=3, refresh_days=(1.0,), ablations=False, n_text_neighbors=3),
            evaluation=EvaluationConfig(bootstrap_samples=20, tuning_budget=1, baselines=("popularity", "item_knn")),
        )
        texts = WORLD.catalog.list_texts()
        text = TextVectorCache(TextBackbone.load(backbone), folder / "cache", accelerator=accelerator).get_vectors(
            texts
        )

        def new_reader() -> CatalogEncoder:
            reader = CatalogEncoder.from_texts(TextBackbone.load(backbone), texts)
            apply_strategy(reader.backbone, backbone)
            return reader

        task = make_task("by_time", WORLD, config, accelerator)
        compared = comparison.run_benchmark(task, config, text, new_reader)
    rows = {(row.model, row.slice, row.metric): row.value for row in compared.evaluated.rows}
    return {"work": work, "rows": rows, "processes": accelerator.num_processes}


def test_no_process_repeats_anothers_work(tiny_bert: Path, tmp_path: Path) -> None:
    """Reading, scoring and the baselines' fits: what two processes do adds up to what one does, and neither idles."""
    one = counted(tiny_bert, tmp_path / "one")
    first, second = in_processes(2, counted, tmp_path, tiny_bert, tmp_path / "two")
    assert first["work"] + second["work"] == one["work"]
    assert {"texts read", "queries", "fit of popularity", "fit of item_knn"} == one["work"].keys()
    for each in (first, second):
        assert 0.3 < each["work"]["texts read"] / one["work"]["texts read"] < 0.7
        assert 0.2 < each["work"]["queries"] / one["work"]["queries"] < 0.8
        assert each["rows"] == first["rows"]
        assert each["rows"] == pytest.approx(one["rows"], abs=1e-6)
