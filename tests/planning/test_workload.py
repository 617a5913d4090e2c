"""Steps, measurements and renewals, as the training loop itself makes them."""

from dataclasses import replace

import numpy as np
import pytest
from accelerate import Accelerator

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.adaptation import ItemAdaptConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.train import TrainConfig
from llmrec.data.batches import build_training_windows
from llmrec.data.loading import load_log
from llmrec.data.log import Log
from llmrec.planning.workload import LoopCounts, count_work
from llmrec.training.item_adaptation.adapt_items import adapt_items
from llmrec.training.objectives import RecommendationObjective
from llmrec.training.task import make_task
from llmrec.training.trainer import Trainer, TrainerInputs
from llmrec.training.training_loop import RunState
from llmrec.training.two_stage import make_model


@pytest.mark.parametrize(
    ("n_batches", "changes", "expected"),
    [
        (10, {}, (10, 1, 0)),
        (10, {"gradient_accumulation_steps": 4}, (3, 1, 0)),
        (
            10,
            {"evals_per_epoch": 2, "refresh_every_steps": 2},
            (10, 2, 4),
        ),  # 2, 4, 6, 8; 10 is measured, which renews too
        (1, {"evals_per_epoch": 3}, (1, 1, 0)),
    ],
)
def test_an_epoch_by_hand(n_batches: int, changes: dict[str, int], expected: tuple[int, int, int]) -> None:
    loop = LoopCounts.from_config(n_batches, replace(TrainConfig(epochs=5), **changes))
    assert (loop.steps, loop.measurements, loop.renewals) == expected
    assert loop.epochs == 5


@pytest.mark.parametrize("start", [None, 1.0])
def test_the_training_loop_does_as_often_as_was_said(
    start: float | None, config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = load_log(config.data)
    work = count_work(log, config, "by_time")
    task = make_task("by_time", log, config, Accelerator(cpu=True))
    assert (work.n_valid, work.seeds, work.refit) == (len(task.valid), 1, None)
    train = replace(config.adapt, epochs=1, evals_per_epoch=1)
    objective = RecommendationObjective(make_model(task.split, config.model, None, 0))
    renewed: list[int] = []
    monkeypatch.setattr(objective, "refresh_text_table", renewed.append)
    windows = build_training_windows(task.split.train, task.split.n_users, config.model.max_history, task.ties)
    run = RunState("counted", config.output / "counted", 0, False, "counted")
    progress = Trainer(TrainerInputs(objective, windows, lambda: 0.0, train, task.accelerator, run, start)).fit()
    loop = count_work(log, replace(config, adapt=train), "by_time").adapt
    assert progress.step == loop.steps > 2
    in_vain = start is not None  # then the first weights come back at the end, and their text vectors with them
    assert len(progress.history) == loop.measurements + in_vain
    assert len(renewed) == loop.renewals + loop.measurements + in_vain


def test_a_refit_and_a_second_split_have_their_own(config: FinetuneConfig, log: Log) -> None:
    more = replace(config, train=replace(config.train, refit=True), seeds=(0, 1), leave_one_out_seeds=(5,))
    by_time, one_out = (count_work(log, more, name) for name in ("by_time", "leave_one_out"))
    assert by_time.refit is not None
    assert by_time.refit.steps > by_time.fit.steps
    assert (by_time.seeds, one_out.seeds, one_out.n_test) == (2, 1, log.n_users)
    assert len(by_time.sasrec) == 1


def test_an_adaptation_by_items_takes_as_many_steps_as_counted(config: FinetuneConfig) -> None:
    log = load_log(config.data)
    items = ItemAdaptConfig(epochs=2, evals=2, items_per_step=16, min_events=1, field_dropout=0)
    config = replace(config, adapt_items=items)
    task = make_task("by_time", log, config, Accelerator(cpu=True))
    backbone = TextBackbone.load(config.backbone)
    reader = CatalogEncoder.from_texts(backbone, log.catalog.list_texts())
    model = make_model(task.split, config.model, reader.encode(np.arange(log.n_items)), 0)
    apply_strategy(backbone, replace(config.backbone, strategy="full"))
    progress = adapt_items("counted", task, items, reader=reader, model=model, second_texts=None, seed=0)
    work = count_work(log, config, "by_time")
    assert work.by_items
    assert progress.step == work.adapt.steps
    assert len(progress.history) == work.adapt.measurements + 1  # and the start
