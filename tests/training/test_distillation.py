"""A student learns to read and to rank as its teacher does, from the teacher alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from scipy import stats

from llmrec.backbones.adaptation import apply_strategy, get_last_layers
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.config.jobs.distill import DistillationLosses
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.data.batches import build_training_windows, collate_windows
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.errors import BackboneError, ConfigError
from llmrec.evaluation.model_scorer import ModelScorer
from llmrec.models.recommender_model import RecommenderModel
from llmrec.training import distillation
from llmrec.training.distillation import (
    DistillationObjective,
    distill,
    embedding_loss,
    encode_cost,
    ranking_loss,
    score_loss,
    target_loss,
)
from llmrec.training.model_validation import validation_ndcg
from llmrec.training.task import TrainingTask, make_task
from llmrec.training.two_stage import CatalogEncoder, fit_model

WORLD = make_synthetic_log(n_users=150, n_items=60, n_topics=4, events_per_user=10, seed=2)[0]
MODEL = ModelConfig(dim=16, max_history=8, dropout=0.0, id_dropout=0.0, use_item_ids=False)
TRAIN = TrainConfig(epochs=3, batch_targets=256, learning_rate=5e-3)
ADAPT = TrainConfig(
    epochs=6,
    patience=6,
    batch_targets=128,
    trainable_items_per_step=40,
    learning_rate=1e-3,
    backbone_learning_rate=3e-3,
)


@pytest.fixture
def config(tmp_path: Path) -> FinetuneConfig:
    return FinetuneConfig(DataConfig(), output=tmp_path, model=MODEL, train=TRAIN, adapt=ADAPT)


def reader_of(path: Path, layers: int | None = 1) -> CatalogEncoder:
    settings = BackboneConfig(name=str(path), hub_id="owner/tiny", n_layers=layers, strategy="full", max_tokens=40)
    backbone = TextBackbone.load(settings)
    apply_strategy(backbone, settings)
    return CatalogEncoder(backbone, backbone.tokenize(WORLD.catalog.list_texts()))


def teachers_reader(path: Path) -> CatalogEncoder:
    """Whose second layer, which a student lacks, says a lot."""
    reader = reader_of(path, layers=None)
    for weight in get_last_layers(reader.backbone.model, 1)[0].parameters():
        weight.data *= 5
    return reader


def taught(config: FinetuneConfig, path: Path) -> tuple[TrainingTask, RecommenderModel]:
    task, reader = make_task("by_time", WORLD, config, Accelerator(cpu=True)), teachers_reader(path)
    return task, fit_model("teacher", task, MODEL, TRAIN, text=reader.backbone.encode(reader.tokens), seed=0).model


def test_a_student_comes_close_to_its_teacher(config: FinetuneConfig, tiny_bert: Path) -> None:
    task, teacher = taught(config, tiny_bert)
    reader = reader_of(tiny_bert)
    before = reader.backbone.encode(reader.tokens)
    model, _ = distill(task, config, teacher, reader, losses=DistillationLosses(embedding=300.0), seed=0)
    assert teacher.items.text is not None
    assert model.items.text is not None
    far, near = (float(embedding_loss(text, teacher.items.text)) for text in (before, model.items.text))
    assert near < 0.5 * far
    torch.testing.assert_close(model.items.text, reader.backbone.encode(reader.tokens), atol=1e-5, rtol=0)
    ours, theirs = (ModelScorer(one).score(task.valid).numpy() for one in (model, teacher))
    alike = [stats.spearmanr(one, other).statistic for one, other in zip(ours, theirs, strict=True)]
    assert sum(alike) / len(alike) > 0.8
    assert validation_ndcg(task, ModelScorer(model)) > 0.9 * validation_ndcg(task, ModelScorer(teacher))
    assert encode_cost(reader.backbone, reader_of(tiny_bert, layers=None).backbone, WORLD.catalog.list_texts()) < 0.95


def test_another_width_is_projected(config: FinetuneConfig, tiny_bert: Path, tiny_gpt2: Path) -> None:
    task, teacher = taught(config, tiny_bert)
    narrow = replace(MODEL, dim=8)
    wider = fit_model("wide", task, MODEL, TRAIN, text=torch.randn(len(WORLD.catalog), 20), seed=0).model
    model, progress = distill(
        task,
        replace(config, adapt=replace(ADAPT, epochs=1)),
        wider,
        reader_of(tiny_gpt2),
        losses=DistillationLosses(),
        seed=0,
    )
    assert model.items.text is not None
    assert model.items.text.shape[1] == 32
    assert progress.epoch == 1
    with pytest.raises(ConfigError, match="models differ"):
        distill(task, replace(config, model=narrow), teacher, reader_of(tiny_bert), losses=DistillationLosses(), seed=0)


@pytest.mark.parametrize("negatives", [None, torch.tensor([3, 3, 8, 21])])
def test_a_teacher_that_is_its_own_student_has_nothing_to_learn(
    config: FinetuneConfig, tiny_bert: Path, negatives: torch.Tensor | None
) -> None:
    """Each imitation is 0, and the teacher stays as it is, in training mode too."""
    task, teacher = taught(config, tiny_bert)
    reader = teachers_reader(tiny_bert)
    losses = DistillationLosses(embedding=1.0, scores=1.0)
    dropping = RecommenderModel(
        replace(MODEL, adaptor_start="random", dropout=0.5), teacher.items.known, teacher.items.text
    )
    dropping.load_state_dict(teacher.state_dict())
    objective = DistillationObjective(teacher, reader, dropping, losses).train()
    windows = build_training_windows(task.split.train, task.split.n_users, MODEL.max_history, task.ties)
    batch = collate_windows(windows, torch.arange(8).numpy(), query_time_known=False)
    loss = objective(batch, torch.arange(0, 60, 2), negatives).detach()
    assert float(loss) / len(batch.target) == pytest.approx(0, abs=1e-4)


def test_scores_of_a_large_catalog_are_not_compared_whole(
    config: FinetuneConfig, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, teacher = taught(config, tiny_bert)
    monkeypatch.setattr(distillation, "FULL_ITEMS", 50)
    with pytest.raises(ConfigError, match="60 items for each target; give a number"):
        distill(task, config, teacher, reader_of(tiny_bert), losses=DistillationLosses(), seed=0)
    some = replace(config, adapt=replace(ADAPT, epochs=1, negatives=20))
    assert distill(task, some, teacher, reader_of(tiny_bert), losses=DistillationLosses(), seed=0)[1].epoch == 1


def test_losses_by_an_independent_hand() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 7), torch.randn(4, 7)
    ours, theirs = (torch.softmax(scores / 2, 1) for scores in (student, teacher))
    entropy = [stats.entropy(theirs[row].numpy(), ours[row].numpy()) for row in range(4)]
    assert float(score_loss(student, teacher, 2.0)) == pytest.approx(4 * sum(entropy), rel=1e-4)
    by_hand = 0.0
    for row in range(4):
        left = list(range(7))
        for best in teacher[row].argsort(descending=True)[:3].tolist():
            by_hand -= float(student[row, left].log_softmax(0)[left.index(best)])
            left.remove(best)
    assert float(ranking_loss(student, teacher, 3)) == pytest.approx(by_hand / 3, rel=1e-5)
    live, target = torch.tensor([2, 5, 9, 11, 12, 13, 14]), torch.tensor([5, 8, 14, 3])
    expected = -(student[0].log_softmax(0)[1] + student[2].log_softmax(0)[6])
    torch.testing.assert_close(target_loss(student, live, target), expected)
    assert float(target_loss(student, live, target[[1, 1, 3, 3]])) == 0
    nobody = student[:0], teacher[:0]  # a process without a share of the batch
    assert [float(loss) for loss in (score_loss(*nobody, 2.0), ranking_loss(*nobody, 3))] == [0, 0]
    assert float(embedding_loss(student, 3 * student)) == pytest.approx(0, abs=1e-6)


def test_fewer_layers_are_the_first_ones(tiny_bert: Path, tiny_gpt2: Path) -> None:
    for path in (tiny_bert, tiny_gpt2):
        whole, cut = (TextBackbone.load(BackboneConfig(name=str(path), n_layers=layers)) for layers in (None, 1))
        ids = torch.tensor([[5, 6, 7]])
        states = whole.model(input_ids=ids, output_hidden_states=True).hidden_states
        if path == tiny_bert:  # GPT-2 has a norm behind the last layer
            torch.testing.assert_close(cut.model(input_ids=ids).last_hidden_state, states[1])
        assert cut.base_fingerprint != whole.base_fingerprint
    with pytest.raises(BackboneError, match=r"backbone.n_layers=3: this backbone has 2 layers"):
        TextBackbone.load(BackboneConfig(name=str(tiny_bert), n_layers=3))


def test_losses_without_any_weight_are_refused() -> None:
    with pytest.raises(ConfigError, match="Set one of embedding, scores, ranking, targets above 0"):
        DistillationLosses(embedding=0.0, scores=0.0)
