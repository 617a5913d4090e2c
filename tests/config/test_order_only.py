"""Logs without times: defaults that need times are left out, and what was given is refused with its remedy."""

from __future__ import annotations

import pytest

from llmrec.config.data import DataConfig
from llmrec.config.drift import DriftConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.finetune import FinetuneConfig, SasrecConfig
from llmrec.config.jobs.pretrain import PretrainConfig
from llmrec.config.jobs.rerank import RerankConfig
from llmrec.config.jobs.transfer import TransferConfig
from llmrec.config.loader import parse_config
from llmrec.config.model import ModelConfig
from llmrec.config.split import SplitConfig
from llmrec.errors import ConfigError

ORDER, REAL = DataConfig(source="log", times="order_only"), DataConfig(source="log")


def test_defaults_that_need_times_are_left_out() -> None:
    config = FinetuneConfig(ORDER)
    assert config.split.names == ("leave_one_out", "item_cold")
    assert not config.model.time_bias
    assert set(EvaluationConfig().baselines) - set(config.evaluation.baselines) == {
        "recent_popularity",
        "item_knn_streaming",
    }
    assert FinetuneConfig(REAL).split.names == ("by_time",)
    assert FinetuneConfig(REAL).model.time_bias
    assert PretrainConfig(ORDER).split.names == config.split.names


@pytest.mark.parametrize("names", [("leave_one_out",), ("item_cold",), ("item_cold", "leave_one_out")])
def test_splits_by_order_are_kept(names: tuple[str, ...]) -> None:
    split = SplitConfig(names=names)  # type: ignore[arg-type]
    assert FinetuneConfig(ORDER, split=split).split == split


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": SplitConfig(names=("by_time", "item_cold"))}, r"by_time: data.times is order_only.*leave_one_out"),
        ({"drift": DriftConfig()}, "drift: data.times is order_only.*null"),
        ({"model": ModelConfig(query_time="known")}, "model.query_time=known: .*last_event"),
        ({"sasrec": SasrecConfig(model=ModelConfig(time_bias=True))}, "sasrec.model.time_bias=true"),
        ({"evaluation": EvaluationConfig(first_days=14)}, "first_days=14"),
        ({"evaluation": EvaluationConfig(baselines=("popularity", "recent_popularity"))}, "recent_popularity: "),
        ({"data": DataConfig(source="log", times="order_only", release_column="year")}, "release_column=year"),
    ],
)
def test_what_needs_times_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FinetuneConfig(**({"data": ORDER} | settings))  # type: ignore[arg-type]


def test_a_job_by_time_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match="Give a log with times"):
        RerankConfig(ORDER)


def test_with_times_leave_one_out_stands_next_to_by_time_and_item_cold_alone() -> None:
    for names in (("leave_one_out",), ("leave_one_out", "item_cold")):
        with pytest.raises(ConfigError, match=r"Add by_time; .*data\.times: order_only"):
            FinetuneConfig(REAL, split=SplitConfig(names=names))  # type: ignore[arg-type]
    for names in (("item_cold",), ("by_time", "leave_one_out", "item_cold")):
        FinetuneConfig(REAL, split=SplitConfig(names=names))  # type: ignore[arg-type]


def test_transfer_judges_a_target_without_times_on_one_split() -> None:
    assert TransferConfig(ORDER, sources=(REAL,)).split.names == ("leave_one_out",)
    item_cold = SplitConfig(names=("item_cold",))
    assert TransferConfig(ORDER, sources=(REAL,), split=item_cold).split == item_cold
    with pytest.raises(ConfigError, match="one split"):
        TransferConfig(ORDER, sources=(REAL,), split=SplitConfig(names=("item_cold", "leave_one_out")))
    with pytest.raises(ConfigError, match="by_time alone"):
        TransferConfig(REAL, sources=(REAL,), split=item_cold)


def test_the_recipe_of_a_log_without_times() -> None:
    config = parse_config(FinetuneConfig, ["--config", "amazon18_scientific", "--data.source", "log"])
    assert (config.data.times, config.split.names) == ("order_only", ("leave_one_out", "item_cold"))
    papers = ["--evaluation.mask_seen", "false", "--data.repeats", "keep"]
    config = parse_config(FinetuneConfig, ["--config", "amazon18_scientific", "--data.source", "log", *papers])
    assert config.evaluation.masks_seen(config.data) is False
