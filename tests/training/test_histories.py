"""Histories by the backbone learn what order says, train what their strategy says, and live with the drift head."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from accelerate import Accelerator

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.text_vector_cache import TextVectorCache
from llmrec.config.backbone import BackboneConfig, LoraConfig, Strategy
from llmrec.config.data import DataConfig
from llmrec.config.drift import DriftConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import HistoryEncoderName, HistoryTextConfig, ModelConfig
from llmrec.config.split import SplitConfig
from llmrec.config.train import TrainConfig
from llmrec.data.batches import build_training_windows, collate_windows
from llmrec.data.histories import Queries, make_queries
from llmrec.data.interactions import Interactions
from llmrec.data.items.catalog import ItemCatalog
from llmrec.data.log import Log, make_log
from llmrec.data.splits import TEST
from llmrec.drift.scorers import DriftScorer
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.training.drift_ablation import DriftTask
from llmrec.training.objectives import RecommendationObjective
from llmrec.training.task import TrainingTask, make_task
from llmrec.training.two_stage import adapt_backbone, fit_model, make_model

TITLES = "space robot love war night river mountain garden kitchen cream face hair oil shampoo lipstick drama".split()


def pairs(n_users: int = 240) -> Log:
    """Everyone touches two items at random, and then the one that follows the second in a ring: whoever knows what was
    touched, but not in which order, is right half the time at best.
    """
    rng = np.random.default_rng(0)
    two = np.array([rng.choice(len(TITLES), 2, replace=False) for _ in range(n_users)])
    two = two[(two[:, 0] - two[:, 1]) % len(TITLES) != 1]  # what follows has been seen
    item = np.column_stack([two, (two[:, 1] + 1) % len(TITLES)])
    time = np.arange(len(two))[:, None] * 86_400 + np.arange(3)
    events = Interactions.sort(np.repeat(np.arange(len(two)), 3), item.ravel(), time.ravel())
    fields = pa.table({"item_id": pa.array(TITLES, pa.large_string()), "title": pa.array(TITLES, pa.large_string())})
    users = pa.array([f"u{user}" for user in range(len(two))], pa.large_string())
    return make_log("pairs", events, ItemCatalog(fields), users, resolution="second")


@pytest.fixture(scope="module")
def world() -> Log:
    return pairs()


MODEL = ModelConfig(
    text_similarity=False,
    dim=16, max_history=8, dropout=0.0, id_dropout=0.0, item_affinity=0.0, adaptor_start="random",
    history_text=HistoryTextConfig(max_tokens=64, targets_per_history=2),
)  # fmt: skip
TEXT = replace(MODEL, history_encoder="text")
TRAIN = TrainConfig(epochs=8, patience=8, batch_targets=64, learning_rate=1e-2)
ADAPT = replace(
    TRAIN, epochs=15, patience=15, learning_rate=5e-3, trainable_items_per_step=16, backbone_learning_rate=5e-3
)
Task_ = Callable[[Path, Strategy], tuple[TrainingTask, CatalogEncoder]]


@pytest.fixture
def tiny(tiny_bert: Path, tiny_gpt2: Path) -> dict[str, Path]:
    return {"bert": tiny_bert, "gpt2": tiny_gpt2}


@pytest.fixture
def task_of(world: Log, tmp_path: Path) -> Task_:
    """task_of(backbone's folder, strategy): a task with a frozen reader, and the reader that the strategy trains."""

    def make(path: Path, strategy: Strategy) -> tuple[TrainingTask, CatalogEncoder]:
        config = BackboneConfig(
            name=str(path), hub_id="owner/tiny", strategy=strategy, last_k=1, lora=LoraConfig(rank=4)
        )
        frozen, trained = TextBackbone.load(config).requires_grad_(False), TextBackbone.load(config)
        torch.manual_seed(0)  # of what LoRA adds
        apply_strategy(trained, config)
        texts = world.catalog.list_texts()
        whole = FinetuneConfig(DataConfig(), output=tmp_path, split=SplitConfig())
        task = make_task(
            "by_time", world, whole, Accelerator(cpu=True), reader=CatalogEncoder.from_texts(frozen, texts)
        )
        return task, CatalogEncoder.from_texts(trained, texts)

    return make


def text_of(task: TrainingTask) -> torch.Tensor:
    assert task.reader is not None
    return task.reader.backbone.encode(task.reader.tokens)


def hits(scorer: ModelScorer, asked: Queries) -> float:
    """Share of the questions with two events or more whose target scores highest among what is not seen."""
    asked = asked.take(asked.end - asked.start >= 2)
    scores = scorer.score(asked)
    scores[tuple(torch.from_numpy(rows) for rows in asked.list_seen_pairs())] = -torch.inf
    return float((scores.argmax(1).numpy() == asked.target).mean())


LEARNERS = [("backbone", "gpt2", "frozen"), ("text", "gpt2", "full"), ("text", "bert", "lora")]


@pytest.mark.parametrize(("encoder", "family", "strategy"), LEARNERS)
def test_order_is_learned(
    task_of: Task_, tiny: dict[str, Path], encoder: HistoryEncoderName, family: str, strategy: Strategy
) -> None:
    task, reader = task_of(tiny[family], strategy)
    model = fit_model("frozen", task, replace(MODEL, history_encoder=encoder), TRAIN, text=text_of(task), seed=0).model
    asked = make_queries(task.split, TEST)
    if strategy != "frozen":
        assert hits(ModelScorer(model), asked) < 0.6  # random weights that nobody has tuned hardly see order
        adapt_backbone(strategy, task, model, ADAPT, reader=reader, seed=0)
    assert hits(ModelScorer(model), asked) > 0.9


@pytest.mark.parametrize("strategy", ["frozen", "last_k", "lora", "full"])
@pytest.mark.parametrize(("encoder", "family"), [("backbone", "gpt2"), ("text", "gpt2"), ("text", "bert")])
def test_gradients_reach_what_trains_and_nothing_else(
    task_of: Task_, tiny: dict[str, Path], encoder: HistoryEncoderName, family: str, strategy: Strategy
) -> None:
    """Through the histories alone: no item is read in this step."""
    task, reader = task_of(tiny[family], strategy)
    model = make_model(task.split, replace(MODEL, history_encoder=encoder), text_of(task), 0, reader=reader)
    windows = build_training_windows(task.split.train, task.split.n_users, 8, task.ties)
    objective = RecommendationObjective(model, reader)
    objective(collate_windows(windows, np.arange(20), query_time_known=False), None, None).backward()
    weights = dict(objective.named_parameters())
    assert {name for name, weight in weights.items() if weight.grad is not None} == {
        name
        for name, weight in weights.items()
        # words of GPT-2 do not enter where item vectors do
        if weight.requires_grad and not (encoder == "backbone" and name.endswith("wte.weight"))
    }
    assert any(name.startswith("backbone.") and weight.grad is not None for name, weight in weights.items()) is (
        strategy != "frozen"
    )
    assert not [name for name, _ in model.named_parameters() if "reader" in name or "backbone" in name]


@pytest.mark.parametrize("encoder", ["backbone", "text"])
def test_a_step_with_sampled_negatives_knows_the_same_histories(
    task_of: Task_, tiny: dict[str, Path], encoder: HistoryEncoderName
) -> None:
    """There a batch counts in the rows that the step touches; texts are those of the catalog's rows all the same."""
    task, _ = task_of(tiny["gpt2"], "frozen")
    model = make_model(task.split, replace(MODEL, history_encoder=encoder), text_of(task), 0, reader=task.reader).eval()
    batch = collate_windows(
        build_training_windows(task.split.train, task.split.n_users, 8, task.ties), np.arange(3), query_time_known=False
    )
    rows = torch.unique(torch.cat([batch.history[batch.history_mask], batch.target]))
    assert len(rows) < len(TITLES)
    local = batch._replace(history=torch.searchsorted(rows, batch.history).clamp(max=len(rows) - 1))
    torch.testing.assert_close(model(local, rows)[0], model(batch)[0])


def test_frozen_histories_are_read_once(
    world: Log, tiny: dict[str, Path], task_of: Task_, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, _ = task_of(tiny["bert"], "frozen")
    assert task.reader is not None
    backbone, asked = task.reader.backbone, make_queries(task.split, TEST)
    text, read = text_of(task), list[int]()
    plain = ModelScorer(make_model(task.split, TEXT, text, 0, reader=task.reader)).score(asked)
    encode = backbone.encode
    monkeypatch.setattr(backbone, "encode", lambda tokens, *_: (read.append(len(tokens)), encode(tokens))[1])
    cached = CatalogEncoder.from_texts(
        backbone, world.catalog.list_texts(), cache=TextVectorCache(backbone, tmp_path / "cache")
    )
    for _ in range(2):
        scorer = ModelScorer(make_model(task.split, TEXT, text, 0, reader=cached))
        torch.testing.assert_close(scorer.score(asked), plain)
    assert len(read) == 1


@pytest.mark.parametrize("encoder", ["backbone", "text"])
def test_a_drift_head_sits_on_it(task_of: Task_, tiny: dict[str, Path], encoder: HistoryEncoderName) -> None:
    task, _ = task_of(tiny["gpt2"], "frozen")
    model = make_model(task.split, replace(MODEL, history_encoder=encoder), text_of(task), 0, reader=task.reader)
    terms = ("interest", "environment", "transitions", "gate")
    drift = DriftTask.from_task(DriftConfig(terms=terms, transition_half_lives_days=(30.0,)), task, text_of(task))
    fit, judged = drift.fit(ModelScorer(model), 0)
    scores = DriftScorer(fit.head, ModelScorer(model), fit.stream).score(judged.queries)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(len(scores)))
