"""Settings of a bundle and of Python calls: nested values become a configuration, or an error names the setting."""

import dataclasses
import json
from pathlib import Path

import pytest

from llmrec.config.backbone import BackboneConfig, LoraConfig
from llmrec.config.data import DataConfig, PseudonymConfig
from llmrec.config.drift import DriftConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.evaluate import EvaluateConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.config.split import SplitConfig
from llmrec.config.train import TrainConfig
from llmrec.config.typed_settings import config_from_dict
from llmrec.errors import ConfigError

CUSTOM = FinetuneConfig(
    DataConfig("somewhere", k_core=5, property_columns=("a", "b"), pseudonyms=PseudonymConfig(key_env="KEY")),
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


def test_json_and_back_changes_nothing() -> None:
    for config in (CUSTOM, FinetuneConfig(DataConfig())):
        assert (
            config_from_dict(FinetuneConfig, json.loads(json.dumps(dataclasses.asdict(config), default=str))) == config
        )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"new": 1}, "new"),
        ({"model": {"widht": 3}}, "widht"),
        ({"seeds": "x"}, "seeds"),
        ({"train": 5}, "train"),
        ({"seeds": []}, "seeds"),
    ],
)
def test_settings_of_another_version_are_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        config_from_dict(FinetuneConfig, changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"learning_rate": "high"}}, r"^train\.learning_rate='high': give number$"),
        ({"train": {"epochs": 1.5}}, r"^train\.epochs=1\.5: give integer$"),
        ({"train": {"epochs": True}}, r"^train\.epochs=True: give integer$"),
        ({"train": {"negatives": "some"}}, r"^train\.negatives='some': give full \| integer$"),
        ({"backbone": {"strategy": "qlora"}}, r"^backbone\.strategy='qlora': give none \| frozen"),
        ({"evaluation": {"cutoffs": [10, "x"]}}, r"^evaluation\.cutoffs='x': give integer$"),
        ({"data": {"property_columns": ["a"]}}, r"^data\.property_columns=\['a'\]: give list of text$"),
        ({"data": {"pseudonyms": {"key": "K"}}}, r"^data\.pseudonyms\.key: no such setting\. Did you mean"),
        ({"backbone": {"lora": None}}, r"^backbone\.lora=None: it is a section"),
        ({"drift": {"window": 0}}, r"^drift\.window=0: give a number at least 1"),
        ([], r"^FinetuneConfig=\[\]: it is a section"),
    ],
)
def test_a_wrong_value_is_named_with_what_fits(changes: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_from_dict(FinetuneConfig, changes)


def test_a_section_given_in_part_keeps_the_rest_of_its_default() -> None:
    config = config_from_dict(FinetuneConfig, {"data": {}, "sasrec": {"model": {"dim": 32}}})
    default = FinetuneConfig(DataConfig()).sasrec.model
    assert default != ModelConfig()
    assert config.sasrec.model == dataclasses.replace(default, dim=32)


def test_a_setting_without_default_has_to_be_given() -> None:
    with pytest.raises(ConfigError, match=r"^bundle: missing\. Give path"):
        config_from_dict(EvaluateConfig, {})


def test_whole_numbers_are_numbers() -> None:
    config = config_from_dict(FinetuneConfig, {"data": {}, "train": {"learning_rate": 1}})
    assert type(config.train.learning_rate) is float
