"""Four ways from one domain to another: two groups of people of one world, who share its topics and no items."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from accelerate import Accelerator

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.data.filters import renumber
from llmrec.data.interactions import Interactions
from llmrec.data.log import Log, make_log
from llmrec.data.splits import VALID
from llmrec.data.synthetic_log import SyntheticTruth, make_synthetic_log
from llmrec.errors import DataError
from llmrec.evaluation.aggregate import evaluate_split
from llmrec.evaluation.ranking import Ranking
from llmrec.evaluation.results import Protocol
from llmrec.training.cross_domain import (
    CrossDomainStudy,
    Domain,
    TrainedModel,
    TransferMode,
    choose_transfer,
    describe_transfer,
    get_transfer_row,
    make_source_domain,
    merge_logs,
)
from llmrec.training.task import make_task

WORLD, TRUTH = make_synthetic_log(n_users=400, n_items=90, n_topics=5, events_per_user=12, seed=1)


def people(name: str, first: int, end: int) -> Log:
    """Some people of the world, as a log of their own."""
    events = WORLD.interactions
    some = events.take((events.user >= first) & (events.user < end))
    interactions, _ = renumber(some)
    users = pa.array([f"{name}{user}" for user in range(end - first)], pa.large_string())
    return make_log(name, interactions, WORLD.catalog, users, resolution="second")


def vectors(truth: SyntheticTruth = TRUTH) -> torch.Tensor:
    """(N, 8) vectors that tell an item's topic, and some noise."""
    torch.manual_seed(0)
    topic = torch.nn.functional.one_hot(torch.from_numpy(truth.item_topic), 8).float()
    return torch.nn.functional.normalize(topic + 0.1 * torch.randn_like(topic), dim=1)


@pytest.fixture
def config(tmp_path: Path) -> FinetuneConfig:
    return FinetuneConfig(
        DataConfig(),
        output=tmp_path,
        model=ModelConfig(dim=8, max_history=8, dropout=0.1, id_init_scale=0.1),
        train=TrainConfig(epochs=12, patience=12, batch_targets=256, learning_rate=1e-2),
        adapt=TrainConfig(epochs=1, batch_targets=256, trainable_items_per_step=32, backbone_learning_rate=1e-3),
        evaluation=EvaluationConfig(bootstrap_samples=100),
    )


def domains(config: FinetuneConfig, read: torch.Tensor, n_target: int = 40) -> tuple[Domain, Domain]:
    target = people("target", 360, 360 + n_target)
    task = make_task("by_time", target, config, Accelerator(cpu=True))
    source = make_source_domain([people("source", 0, 300)], task, config, lambda texts: read)
    return source, Domain(task, target.catalog.list_texts(), read)


def test_sources_become_one_log_that_ends_in_time() -> None:
    one, other = people("one", 0, 30), people("other", 30, 50)
    until = int(np.median(WORLD.interactions.time))
    events, n_users, texts = merge_logs([one, other], until)
    assert n_users == 50
    assert texts == 2 * WORLD.catalog.list_texts()
    assert (np.diff(events.time) >= 0).all()
    assert events.time.max() < until
    expected = {
        (user + users, item + items, time)
        for log, users, items in ((one, 0, 0), (other, 30, 90))
        for user, item, time in zip(*vars_of(log.interactions), strict=True)
        if time < until
    }
    assert set(zip(*vars_of(events), strict=True)) == expected
    with pytest.raises(DataError, match="no event lies before 1970-01-01T00:00:05"):
        merge_logs([one, other], 5)


def vars_of(events: Interactions) -> list[list[int]]:
    return [column.tolist() for column in (events.user, events.item, events.time)]


def test_the_sources_validation_is_their_end_and_before_the_targets(config: FinetuneConfig) -> None:
    source, target = domains(config, vectors())
    split = source.task.split
    assert split.interactions.time.max() < target.task.split.valid_start
    assert len(split.test) == 0
    assert split.train.time.max() < split.valid.time.min()
    assert len(split.valid) == pytest.approx(0.1 * len(split.interactions), abs=3)
    assert len(source.task.valid) == (split.part == VALID).sum()


def test_what_was_learnt_elsewhere_helps_where_there_is_little(config: FinetuneConfig) -> None:
    source, target = domains(config, vectors())
    ways = CrossDomainStudy(config, None).compare_transfers(source, target, seed=0)
    assert list(ways) == ["zero_shot", "features", "initialized", "scratch"]
    found = {way: learnt.valid_ndcg for way, learnt in ways.items()}
    assert found["zero_shot"] > 1.3 * found["scratch"]
    assert found["initialized"] > 1.3 * found["scratch"]
    adaptor = [ways[way].model.items.adaptor.weight for way in ("zero_shot", "features", "initialized", "scratch")]  # type: ignore[union-attr, index]
    assert torch.equal(adaptor[0], adaptor[1])  # learnt by the sources, and kept
    assert not torch.equal(adaptor[0], adaptor[2])
    assert not ways["zero_shot"].model.items.known.any()


def test_the_backbone_goes_along(config: FinetuneConfig, tiny_bert: Path) -> None:
    """Its own weights are copied before they are trained on: every way keeps the one it reads with."""
    setting = BackboneConfig(name=str(tiny_bert), hub_id="owner/tiny", max_tokens=40, strategy="last_k", last_k=1)

    def new_backbone() -> TextBackbone:
        backbone = TextBackbone.load(setting)
        apply_strategy(backbone, setting)
        return backbone

    fresh = new_backbone()
    read = fresh.encode(fresh.tokenize(WORLD.catalog.list_texts()))
    quick = replace(config, backbone=setting, train=replace(config.train, epochs=1))
    ways = CrossDomainStudy(quick, new_backbone).compare_transfers(*domains(quick, read), seed=0)
    for way, learnt in ways.items():
        assert learnt.backbone is not None
        text = learnt.backbone.encode(learnt.backbone.tokenize(WORLD.catalog.list_texts()))
        torch.testing.assert_close(learnt.model.items.text, text, atol=1e-5, rtol=0, msg=way)
    assert ways["zero_shot"].backbone is ways["features"].backbone
    assert ways["initialized"].backbone is not ways["features"].backbone


def test_validation_chooses_and_the_test_judges(config: FinetuneConfig) -> None:
    _, target = domains(config, vectors())
    scores: list[dict[TransferMode, float]] = [
        {"zero_shot": 0.1, "features": 0.2, "initialized": 0.3, "scratch": 0.1},
        {"zero_shot": 0.1, "features": 0.4, "initialized": 0.1, "scratch": 0.2},
    ]
    way, means = choose_transfer(
        [{way: TrainedModel(None, None, ndcg) for way, ndcg in seed.items()} for seed in scores]
    )  # type: ignore[arg-type, misc]
    assert way == "features"
    assert means["features"] == pytest.approx(0.3)
    queries = target.task.valid
    ranks = {"initialized": 9.0, "features": 2.0, "scratch": 1.0}
    rankings = {
        get_transfer_row(mode): [Ranking(np.full(len(queries), rank), np.zeros((len(queries), 1), dtype=np.int64))]
        for mode, rank in ranks.items()
    }
    protocol = Protocol(90, "strict", "last_event", mask_seen=True)
    everything = {"overall": np.ones(len(queries), dtype=np.bool_)}
    evaluated = evaluate_split(
        "by_time",
        queries,
        everything,
        rankings,
        protocol=protocol,
        config=config.evaluation,
        main=get_transfer_row("features"),
        also=[get_transfer_row("initialized")],
    )
    told = describe_transfer(evaluated, "ndcg@10", way, means)
    assert told.startswith(
        "negative transfer: the sources did harm: ndcg@10 of source weights minus from scratch -0.6990 ["
    )
    assert "chose source features" in told
