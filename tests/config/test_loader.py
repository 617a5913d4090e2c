"""Configuration files: what is written is what is run, and whatever is not understood is named."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from llmrec.config.backbone import BackboneConfig, LoraConfig
from llmrec.config.data import DataConfig
from llmrec.config.drift import DriftConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.loader import parse_config
from llmrec.config.model import ModelConfig
from llmrec.config.split import SplitConfig
from llmrec.config.train import TrainConfig
from llmrec.errors import ConfigError, DataError
from llmrec.jobs.runner import run_job

Write = Callable[..., str]
CUSTOM = FinetuneConfig(
    DataConfig("somewhere", k_core=5, order_column="seq_pos"),
    output=Path("/runs/one"),
    split=SplitConfig(("by_time", "leave_one_out"), leave_one_out_ties="file_order"),
    backbone=BackboneConfig(revision="abc", strategy="lora", lora=LoraConfig(target_modules=("query", "value"))),
    model=ModelConfig(similarity="cosine", use_item_ids=False),
    train=TrainConfig(negatives=7, learning_rate=2e-4),
    drift=DriftConfig(terms=("transitions",), window=3),
    evaluation=EvaluationConfig(cutoffs=(5,), baselines=()),
    seeds=(1, 2),
    leave_one_out_seeds=(3,),
    mixed_precision="bf16",
    resume="auto",
    trackers=("tensorboard",),
)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to(text: str, name: str = "config.yaml") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return to


def parse(*arguments: str) -> FinetuneConfig:
    return parse_config(FinetuneConfig, arguments)


def test_nothing_given_is_the_defaults() -> None:
    assert parse() == FinetuneConfig(DataConfig())


def test_what_is_written_is_read_and_the_rest_keeps_its_default(write: Write) -> None:
    text = "train:\n  learning_rate: 2e-4\n  negatives: 64\nseeds: [4, 5]\n"
    text += "backbone:\n  lora:\n    target_modules: [query]\n"
    read = parse("--config", write(text))
    assert read.train == TrainConfig(learning_rate=2e-4, negatives=64)  # YAML 1.1 alone reads 2e-4 as text
    assert read.seeds == (4, 5)
    assert read.backbone.lora == LoraConfig(target_modules=("query",))
    assert read.model == ModelConfig()
    assert read.sasrec.model.time_bias is False


def test_the_later_one_wins(write: Write) -> None:
    first, second = write("train:\n  epochs: 3\n  patience: 2\n"), write("train:\n  epochs: 4\n", "second.yaml")
    assert parse("--config", first, "--train.epochs", "9").train == TrainConfig(epochs=9, patience=2)
    assert parse("--train.epochs", "9", "--config", first).train == TrainConfig(epochs=3, patience=2)
    assert parse("--config", first, "--config", second).train == TrainConfig(epochs=4, patience=2)


def test_a_printed_configuration_can_be_run_again(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--config", write(json.dumps(dataclasses.asdict(CUSTOM), default=str))]
    assert parse(*given) == CUSTOM
    with pytest.raises(SystemExit) as stopped:
        parse(*given, "--print_config")
    assert stopped.value.code == 0
    assert parse("--config", write(capsys.readouterr().out, "printed.yaml")) == CUSTOM


WRONG = {
    "drift:\n  windw: 1\n": "windw",
    "trian:\n  epochs: 1\n": "trian",
    "train:\n  lr: 1\n": "lr",
    "train:\n  epochs: many\n": "train.epochs",
    "train:\n  epochs: 1.5\n": "train.epochs",
    "train:\n  negatives: some\n": "train.negatives",
    "model:\n  input_norm: 3\n": "model.input_norm",
    "backbone:\n  lora:\n    rank: wide\n": "backbone.lora.rank",
    "backbone:\n  strategy: qlora\n": "backbone.strategy",
    "evaluation:\n  baselines: [popularty]\n": "evaluation.baselines",
    "seeds: 3\n": "seeds",
    "mixed_precision: fp8\n": "mixed_precision",
    "train: fast.yaml\n": "train",
    "train: [\n": "config",
    "- train\n": "config",
    "": "config",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_not_understood_is_named(write: Write, text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(WRONG[text])):
        parse("--config", write(text))


@pytest.mark.parametrize(
    ("argument", "meant"),
    [("--trian.epochs", "train.epochs"), ("--epochs", "train.epochs"), ("--train.lr_rate", "train.learning_rate")],
)
def test_the_setting_that_was_meant_is_suggested(argument: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"no such setting\. Did you mean {meant}"):
        parse(argument, "3")


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"/nowhere/my\.yaml"):
        parse("--config", "/nowhere/my.yaml")


def test_a_preset_is_found_by_name() -> None:
    assert parse("--config", "quickstart").data.source == "movielens_small"
    assert parse("--config=quickstart", "--train.epochs", "9").train.epochs == 9
    with pytest.raises(ConfigError, match=r"quickstat: no such file or preset of finetune\. Did you mean quickstart"):
        parse("--config", "quickstat")


SECTIONS = [
    ("data: 5\n", "data=5"),
    ("sasrec:\n  train:\n", "sasrec.train=None"),
    ("backbone:\n  lora: 8\n", "backbone.lora=8"),
]


@pytest.mark.parametrize(("text", "named"), SECTIONS)
def test_a_section_without_settings_is_named(write: Write, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        parse("--config", write(text))


CONTRADICTIONS = [
    ("seeds: []\n", "seeds"),
    ("split:\n  names: [leave_one_out]\n", "names"),
    ("drift: {}\ntrain:\n  refit: true\nbackbone:\n  strategy: lora\n", "leave out drift, train.refit, or"),
    ("drift: {}\nbackbone:\n  strategy: none\n", "leave chain out"),
    ("drift:\n  terms: [interest, gate]\n", "name one of environment, transitions, chain"),
    ("drift:\n  n_states: 1\n", "drift.n_states=1: give a number at least 2"),
    ("drift:\n  window: 0\n", "drift.window=0: give a number at least 1"),
    ("drift:\n  backward_weight: 1.5\n", "drift.backward_weight=1.5: give a number at least 0 and at most 1"),
    ("evaluation:\n  first_days: 0\n", "evaluation.first_days=0"),
    ("drift:\n  transition_half_lives_days: []\n", "one of transition_half_lives_days"),
    ("model:\n  history_encoder: text\nbackbone:\n  strategy: none\n", "no backbone to read histories"),
    ("model:\n  history_encoder: backbone\n  query_time: known\n", "histories by `backbone` see no times"),
    ("model:\n  history_text:\n    prompt: all\n", "it has to hold {history} once"),
    ("model:\n  history_text:\n    targets_per_history: 0\n", "model.history_text.targets_per_history=0"),
    ("sasrec:\n  model:\n    history_encoder: text\n", "the baseline knows ids alone"),
]


@pytest.mark.parametrize(("text", "named"), CONTRADICTIONS)
def test_settings_that_contradict_themselves_are_named(write: Write, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        parse("--config", write(text))


def test_a_recipe_ends_a_user_s_mistake_in_one_message(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(config: FinetuneConfig) -> None:
        raise DataError("log", [f"{config.train.epochs} problems"])

    for text, message in [("train:\n  epochs: 7\n", "7 problems"), ("seeds: []\n", "seeds is empty")]:
        monkeypatch.setattr("sys.argv", ["recipes/finetune.py", "--config", write(text)])
        with pytest.raises(SystemExit) as stopped:
            run_job(main, FinetuneConfig)
        assert stopped.value.code == 2
        shown = capsys.readouterr().err
        assert shown.startswith("finetune.py: ")
        assert message in shown
