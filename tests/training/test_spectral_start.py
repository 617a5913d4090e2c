"""The spectral map is used where validation agrees, and by no private or id-only model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from llmrec.config.data import DataConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import AdaptorStart, ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.data.interactions import Interactions
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.evaluation.baselines.mapped_text import RIDGES
from llmrec.training.spectral_start import choose_ridge, fit_spectral_map
from llmrec.training.task import TrainingTask, make_task
from llmrec.training.two_stage import fit_model

MODEL = ModelConfig(dim=8, n_layers=1, n_heads=2, max_history=8)


KINDS = np.arange(200) % 5  # of the items


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TrainingTask:
    """Users stay with items of one kind."""
    log = make_synthetic_log(n_users=200, n_items=len(KINDS), n_topics=5, events_per_user=10, seed=0)[0]
    rng, user = np.random.default_rng(0), np.tile(np.arange(200), 10)
    items = np.stack([rng.permutation(np.flatnonzero(one % 5 == KINDS))[:10] for one in range(200)])
    events = Interactions(user, items.T.ravel(), np.arange(len(user)) * 60)
    log = replace(log, interactions=events)
    config = FinetuneConfig(DataConfig(), output=tmp_path_factory.mktemp("run"))
    return replace(make_task("by_time", log, config, Accelerator(cpu=True)), release_time=None)


def draw_text() -> torch.Tensor:
    """Return texts that tell the kind in directions of little variance."""
    noise = np.random.default_rng(1).normal(size=(len(KINDS), 8))
    return torch.from_numpy(np.concatenate([0.2 * np.eye(5)[KINDS], noise], axis=1)).float()


def configure(start: AdaptorStart) -> ModelConfig:
    return replace(MODEL, adaptor_start=start)


def test_the_map_is_used_where_it_ranks_better(task: TrainingTask) -> None:
    assert choose_ridge("fit", task, configure("auto"), draw_text()) in RIDGES


def test_texts_that_say_nothing_are_compared_as_they_are(task: TrainingTask) -> None:
    alike = torch.ones(task.split.n_items, 4)
    assert choose_ridge("fit", task, configure("auto"), alike) is None
    assert choose_ridge("fit", task, configure("spectral"), alike) in RIDGES


def test_too_few_items_for_the_width_of_texts_have_no_map(task: TrainingTask) -> None:
    wide = torch.cat([draw_text(), torch.zeros(len(KINDS), 100)], dim=1)
    assert choose_ridge("fit", task, configure("auto"), wide) is None
    assert choose_ridge("fit", task, configure("spectral"), wide) in RIDGES


def test_other_starts_and_ids_alone_have_no_map(task: TrainingTask) -> None:
    text = draw_text()
    assert choose_ridge("fit", task, configure("whitening"), text) is None
    assert choose_ridge("fit", task, configure("random"), text) is None
    assert choose_ridge("fit", task, configure("auto"), None) is None
    assert fit_spectral_map(task.split, None, 0.1) is None


def test_a_fitted_model_compares_texts_in_the_space_of_the_map(task: TrainingTask) -> None:
    text = draw_text()
    train = TrainConfig(epochs=1, batch_targets=256)
    model = fit_model("fit", task, configure("spectral"), train, text=text, seed=0).model
    ridge = choose_ridge("fit", task, configure("spectral"), text)
    space = fit_spectral_map(task.split, text, ridge)
    assert space is not None
    assert model.items.match is not None
    torch.testing.assert_close(model.items.match.map, space.matrix)
    new = torch.randn(3, text.shape[1])
    expected = torch.nn.functional.normalize((new - text.mean(0)) @ space.matrix, dim=1)
    torch.testing.assert_close(model.items.match.item_vectors(new), expected)


def test_the_item_affinity_starts_as_the_similarity_of_the_map(task: TrainingTask, tmp_path: Path) -> None:
    text = draw_text()
    model = fit_model(
        "start", replace(task, folder=tmp_path), configure("spectral"), TrainConfig(epochs=0), text=text, seed=0
    ).model
    space = fit_spectral_map(task.split, text, choose_ridge("start", task, configure("spectral"), text))
    assert space is not None
    assert model.affinity is not None
    own = model.items.encode_text(text)[:, :8]
    similarity = (text - space.center) @ space.matrix[:, :8]
    expected = MODEL.item_affinity * similarity @ similarity.T / space.strength[:8].sqrt().sum()
    torch.testing.assert_close((own * model.affinity.scale) @ own.T, expected, atol=1e-4, rtol=1e-3)
