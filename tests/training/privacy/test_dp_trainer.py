"""Differential privacy of users: each gradient by itself, clipped, noised, counted, and refused where it is void."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from scipy.optimize import brentq
from scipy.stats import norm
from torch.nn import functional

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig, LoraConfig
from llmrec.config.data import DataConfig
from llmrec.config.drift import DriftConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.config.privacy import MembershipConfig, PrivacyConfig
from llmrec.config.split import SplitConfig
from llmrec.config.train import TrainConfig
from llmrec.config.validation import validate_bounds
from llmrec.data.batches import HistoryBatch, build_training_windows, collate_windows
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.errors import ConfigError
from llmrec.models.recommender_model import RecommenderModel
from llmrec.training.checkpoints import get_trainable_state
from llmrec.training.objectives import RecommendationObjective
from llmrec.training.privacy.accounting import NoiseMechanism, draw_noise
from llmrec.training.privacy.dp_trainer import DPObjective, DPTrainer, clip_by_norm
from llmrec.training.task import TrainingTask, make_task
from llmrec.training.trainer import Trainer, TrainerInputs
from llmrec.training.training_loop import RunState
from llmrec.training.two_stage import adapt_backbone, fit_model, make_model

MODEL = ModelConfig(dim=8, n_layers=1, n_heads=2, max_history=4, dropout=0.2, id_dropout=0.2)
STILL = replace(MODEL, dropout=0.0, id_dropout=0.0)
TRAIN = TrainConfig(epochs=2, patience=1, learning_rate=0.05, warmup_ratio=0.0)
SEEDED = PrivacyConfig(epsilon=4.0, users_per_step=10, secure_rng=False, accountant="rdp")
LOG = make_synthetic_log(n_users=60, n_items=40, events_per_user=9)[0]


@pytest.fixture(autouse=True)
def opacus() -> None:
    pytest.importorskip("opacus")


def task_of(folder: Path, privacy: PrivacyConfig, train: TrainConfig = TRAIN, strategy: str = "none") -> TrainingTask:
    backbone = BackboneConfig(strategy=strategy)  # type: ignore[arg-type]
    config = FinetuneConfig(DataConfig(), folder, train=train, adapt=train, privacy=privacy, backbone=backbone)
    return make_task("by_time", LOG, config, Accelerator(cpu=True))


def trainer_of(task: TrainingTask, model: RecommenderModel, train: TrainConfig = TRAIN) -> DPTrainer:
    assert task.privacy is not None
    windows = build_training_windows(task.split.train, task.split.n_users, model.config.max_history, task.ties)
    run = RunState("model", task.folder / "checkpoints", 3, False, "")
    objective = RecommendationObjective(model)
    inputs = TrainerInputs(objective, windows, lambda: 0.0, train, task.accelerator, run)
    return DPTrainer(inputs, task.privacy)


def untrained(task: TrainingTask, config: ModelConfig) -> RecommenderModel:
    return make_model(task.split, config, None, 0, everything_known=True)


def test_a_step_is_the_sum_of_clipped_gradients_of_users(tmp_path: Path) -> None:
    """Against each user by itself, through torch.func and a softmax over all logits in fp64, clipped by hand."""
    task = task_of(tmp_path, replace(SEEDED, epsilon=None, max_grad_norm=24.0))
    model, found = untrained(task, STILL), list[torch.Tensor]()
    trainer = trainer_of(task, model, replace(TRAIN, micro_batches=2))
    trainer._set_gradients = found.append  # type: ignore[method-assign]
    group = max(trainer._draw_epoch(0)[1], key=len)
    trainer._step(group, 0)
    model.double()
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    expected, norms = torch.zeros(trainer.n_weights, dtype=torch.float64), []
    for rows in group:
        batch = collate_windows(trainer.windows, rows, query_time_known=False)

        def loss(weights: dict[str, torch.Tensor], batch: HistoryBatch = batch) -> torch.Tensor:
            states, items = torch.func.functional_call(model, weights, (batch,))
            return functional.cross_entropy(states @ items.T, batch.target)

        own = torch.cat([part.flatten() for part in torch.func.grad(loss)(weights).values()])
        norms.append(float(own.square().sum()) ** 0.5)
        expected += own * min(1.0, 24.0 / norms[-1]) / task.privacy.expected_users
    assert min(norms) < 24 < max(norms), norms  # some are clipped, some are not
    assert task.privacy.expected_users == pytest.approx(10)
    assert float((found[0] - expected).norm() / expected.norm()) < 1e-6


def test_one_user_more_changes_a_sum_by_the_clip_norm_at_most(tmp_path: Path) -> None:
    """With dropout and sampled negatives: whoever else is there changes nobody's gradient."""
    task = task_of(tmp_path, replace(SEEDED, epsilon=None))
    trainer = trainer_of(task, untrained(task, MODEL), replace(TRAIN, negatives=16))
    trainer.wrapped.train()
    group = max(trainer._draw_epoch(0)[1], key=len)
    everyone = [trainer.user_gradient(rows, 0)[0] for rows in group]
    rest = [trainer.user_gradient(rows, 0)[0] for rows in group[1:]]
    assert all(torch.equal(one, other) for one, other in zip(everyone[1:], rest, strict=True))
    total = sum(clip_by_norm(one, 0.1) for one in everyone) - sum(clip_by_norm(one, 0.1) for one in rest)
    assert float(total.norm()) <= 0.1 + 1e-12
    assert torch.equal(clip_by_norm(torch.tensor([3.0, 4.0]), 10.0), torch.tensor([3.0, 4.0]))
    assert torch.equal(clip_by_norm(torch.tensor([3.0, 4.0]), 2.5), torch.tensor([1.5, 2.0]))
    assert torch.equal(clip_by_norm(torch.tensor([torch.nan, 4.0]), 2.5), torch.zeros(2))


def test_everyone_takes_part_by_chance_and_empty_steps_count(tmp_path: Path) -> None:
    task = task_of(tmp_path, replace(SEEDED, users_per_step=1), replace(TRAIN, epochs=3))
    trainer = trainer_of(task, untrained(task, MODEL), replace(TRAIN, epochs=3))
    drawn = [len(group) for epoch in range(3) for group in trainer._draw_epoch(epoch)[1]]
    assert len(drawn) == task.privacy.steps == 3 * task.privacy.n_users
    assert 0 in drawn
    assert np.mean(drawn) == pytest.approx(1, abs=4 / len(drawn) ** 0.5)
    fitted = fit_model("model", replace(task, split=task.split), MODEL, replace(TRAIN, epochs=3), text=None, seed=3)
    assert fitted.progress.step == task.privacy.steps


def test_what_is_spent_is_what_was_asked_for(tmp_path: Path) -> None:
    mechanism = task_of(tmp_path, SEEDED).privacy
    assert mechanism is not None
    assert 3.9 < mechanism.epsilon_after(mechanism.steps) <= 4.0
    assert mechanism.epsilon_after(mechanism.steps // 2) < 4.0
    assert mechanism.delta == pytest.approx(mechanism.n_users**-1.1)
    frozen = task_of(tmp_path, SEEDED)
    both = task_of(tmp_path, SEEDED, strategy="lora")  # two fits, one budget
    assert both.privacy.steps == 2 * frozen.privacy.steps
    assert both.privacy.noise_multiplier > frozen.privacy.noise_multiplier


@pytest.mark.parametrize("accountant", ["prv", "rdp"])
def test_the_accountant_agrees_with_the_gaussian_mechanism(accountant: str) -> None:
    """One step with all users: Balle & Wang 2018, arXiv:1805.06530, theorem 8."""
    sigma, delta = 1.5, 1e-4
    privacy = PrivacyConfig(users_per_step=100, accountant=accountant)  # type: ignore[arg-type]
    mechanism = NoiseMechanism(privacy, 100, 1, 1, delta, sigma)

    def excess(epsilon: float) -> float:
        a, b = 1 / (2 * sigma), epsilon * sigma
        return float(norm.cdf(a - b) - np.exp(epsilon) * norm.cdf(-a - b)) - delta

    exact = brentq(excess, 0.01, 50)
    assert exact - 1e-6 <= mechanism.epsilon_after(1) <= exact * (1.02 if accountant == "prv" else 1.2)


def test_noise_is_gaussian_and_secret_unless_seeded() -> None:
    one, other = draw_noise(20_000, 2.0, None, (0,)), draw_noise(20_000, 2.0, None, (0,))
    assert not torch.equal(one, other)
    for drawn in (one, draw_noise(20_000, 2.0, 7, (0,))):
        assert float(drawn.std()) == pytest.approx(2.0, rel=0.03)
        assert float(drawn.mean()) == pytest.approx(0.0, abs=0.06)
        assert float((drawn.abs() < 2.0).double().mean()) == pytest.approx(0.6827, abs=0.015)
    assert torch.equal(draw_noise(9, 2.0, 7, (0,)), draw_noise(9, 2.0, 7, (0,)))
    assert not torch.equal(draw_noise(9, 2.0, 7, (0,)), draw_noise(9, 2.0, 7, (1,)))
    assert not draw_noise(9, 0.0, None, (0,)).any()


def test_validation_and_cold_items_decide_nothing(tmp_path: Path) -> None:
    task = task_of(tmp_path, SEEDED, replace(TRAIN, epochs=4, learning_rate=1.0))
    text = torch.randn(LOG.n_items, 6, generator=torch.Generator().manual_seed(0))
    train = replace(TRAIN, epochs=4, learning_rate=1.0)  # which hurts
    privacy = replace(task.privacy, config=replace(task.privacy.config, text_similarity_strength=3.0))
    fitted = fit_model("model", replace(task, privacy=privacy), MODEL, train, text=text, seed=3)
    assert fitted.progress.epoch == 4
    assert fitted.progress.best == fitted.progress.history[-1]["valid_ndcg"]
    model = fitted.model
    assert bool(model.items.known.all())
    assert bool(task.split.cold_item_mask().any())
    assert float(model.novelty) == 0
    assert float(model.items.match.strength) == 3.0


def test_secret_runs_differ_and_seeded_ones_resume_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(folder: str, privacy: PrivacyConfig = SEEDED, **changes: object) -> dict[str, torch.Tensor]:
        task = replace(task_of(tmp_path / folder, privacy), **changes)  # type: ignore[arg-type]
        return get_trainable_state(fit_model("model", task, MODEL, TRAIN, text=None, seed=3).model)

    whole = fit("whole")
    secret = [fit(folder, replace(SEEDED, secure_rng=True)) for folder in ("one", "other")]
    assert not any(torch.equal(secret[0][name], secret[1][name]) for name in whole)
    step = DPTrainer._step

    def cut_off(self: DPTrainer, group: object, row: int) -> float:
        if self.progress.history and row == 2:
            raise KeyError("cut off")
        return step(self, group, row)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(DPTrainer, "_step", cut_off)
        with pytest.raises(KeyError):
            fit("parts")
    torch.manual_seed(99)
    resumed = fit("parts", resume=True)
    assert all(torch.equal(weight, resumed[name]) for name, weight in whole.items())
    with pytest.raises(ConfigError, match="another configuration"):
        fit("parts", replace(SEEDED, epsilon=8.0), resume=True)


def test_a_step_changes_all_that_trains_and_nothing_else(tiny_bert: Path, tmp_path: Path) -> None:
    config = BackboneConfig(name=str(tiny_bert), hub_id="owner/tiny", strategy="lora", lora=LoraConfig(rank=2))
    backbone = TextBackbone.load(config)
    apply_strategy(backbone, config)
    reader = CatalogEncoder.from_texts(backbone, LOG.catalog.list_texts())
    text = backbone.encode(reader.tokens)
    once = replace(TRAIN, epochs=1, trainable_items_per_step=12)
    privacy = replace(SEEDED, users_per_step=30, frozen_prefixes=("items.adaptor",))
    task = task_of(tmp_path, privacy, once, "lora")
    model = fit_model(
        "heads", task, replace(MODEL, use_item_ids=False), replace(once, epochs=0), text=text, seed=0
    ).model
    modules = {"model": model, "backbone": backbone}

    def weights(trains: bool | None = None) -> dict[str, torch.Tensor]:
        return {
            f"{place}.{name}": weight.detach().clone()
            for place, module in modules.items()
            for name, weight in module.named_parameters()
            if trains in (None, weight.requires_grad)
        }

    before = weights()
    progress = adapt_backbone("lora", task, model, once, reader=reader, seed=0)
    assert progress.step == task.privacy.steps_per_epoch
    moved = {name for name, weight in weights().items() if not torch.equal(weight, before[name])}
    assert moved == weights(trains=True).keys()
    assert {name for name in moved if name.startswith("backbone.")}
    assert all("lora_" in name for name in moved if name.startswith("backbone."))
    assert not {name for name in moved if name.startswith("model.items.adaptor")}
    torch.testing.assert_close(model.items.text, backbone.encode(reader.tokens), atol=1e-5, rtol=0)


def test_what_one_user_reads_leaves_no_trace(tiny_bert: Path, tmp_path: Path) -> None:
    config = BackboneConfig(name=str(tiny_bert), hub_id="owner/tiny", strategy="full")
    backbone = TextBackbone.load(config)
    reader = CatalogEncoder.from_texts(backbone, LOG.catalog.list_texts())
    model = make_model(task_of(tmp_path, SEEDED).split, MODEL, torch.zeros(LOG.n_items, 32), 0, everything_known=True)
    read = DPObjective(model, reader)._read(torch.tensor([3, 5]))
    torch.testing.assert_close(read.detach(), backbone.encode(reader.tokens)[[3, 5]], atol=1e-5, rtol=0)
    assert read.requires_grad
    assert not model.items.text.any()


VOID = {
    "drift": {"drift": DriftConfig()},
    "refit": {"train": replace(TRAIN, refit=True)},
    "k_core": {"data": DataConfig(k_core=5)},
    "fp16": {"mixed_precision": "fp16"},
    "gradient_accumulation_steps": {"adapt": replace(TRAIN, gradient_accumulation_steps=2)},
}


@pytest.mark.parametrize("named", VOID)
def test_what_voids_the_guarantee_is_refused(named: str) -> None:
    settings = {"data": DataConfig(), "privacy": PrivacyConfig()} | VOID[named]
    with pytest.raises(ConfigError, match=named):
        FinetuneConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        {"epsilon": 0.0},
        {"delta": 2.0},
        {"users_per_step": 0},
        {"max_grad_norm": 0.0},
        {"text_similarity_strength": -1.0},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        validate_bounds(PrivacyConfig(**settings))  # type: ignore[arg-type]


def test_what_the_data_rules_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"delta.*1 / \d+ users"):
        task_of(tmp_path, replace(SEEDED, delta=0.5))
    with pytest.raises(ConfigError, match=r"epsilon=0\.1 for 1000000000000 steps"):  # more noise than Opacus looks for
        task_of(tmp_path, replace(SEEDED, epsilon=0.1, users_per_step=100), replace(TRAIN, epochs=10**12))
    task = task_of(tmp_path, replace(SEEDED, frozen_prefixes=("items.nothing",)))
    with pytest.raises(ConfigError, match=r"items\.nothing"):
        fit_model("model", task, MODEL, TRAIN, text=None, seed=3)
    with pytest.raises(ConfigError, match="held_out_user_fraction"):
        validate_bounds(SplitConfig(held_out_user_fraction=1.0))
    with pytest.raises(ConfigError, match=r"Give split\.held_out_user_fraction, such as \.3"):
        FinetuneConfig(DataConfig(), membership=MembershipConfig())


def test_without_privacy_the_plain_loop_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DPTrainer, "_step", lambda *_: pytest.fail("a private step"))
    assert issubclass(DPTrainer, Trainer)
    fit_model(
        "model", replace(task_of(tmp_path, SEEDED), privacy=None), MODEL, replace(TRAIN, epochs=1), text=None, seed=3
    )


def fit_among_others(folder: Path) -> None:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # of earlier tests, before the fork
    task = task_of(folder, SEEDED)
    model = fit_model("model", task, MODEL, TRAIN, text=None, seed=3).model
    save_file(get_trainable_state(model), folder / f"{task.accelerator.num_processes}-{task.accelerator.process_index}")


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    """Sums of users in another order, the same noise: the same weights in both."""
    from accelerate import debug_launcher

    fit_among_others(tmp_path)
    debug_launcher(fit_among_others, (tmp_path,), num_processes=2)
    one, *two = (load_file(tmp_path / name) for name in ("1-0", "2-0", "2-1"))
    for name, weight in one.items():
        torch.testing.assert_close(two[0][name], weight, atol=1e-6, rtol=1e-6)
        assert torch.equal(two[0][name], two[1][name])
