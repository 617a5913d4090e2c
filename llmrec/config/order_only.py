"""Settings for logs that have an order and no times (`data.times: order_only`).

Defaults that need times are replaced or left out. The same settings given in another way than by default are refused.
"""

from __future__ import annotations

from dataclasses import replace

from llmrec.config.data import DataConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.model import ModelConfig
from llmrec.config.split import SplitConfig, SplitName
from llmrec.errors import ConfigError

ORDER_SPLITS: tuple[SplitName, ...] = ("leave_one_out", "item_cold")
TIMED_BASELINES = ("recent_popularity", "item_knn_streaming")
REASON = "data.times is order_only, and it needs times"


def choose_splits(split: SplitConfig, data: DataConfig) -> SplitConfig:
    """Return the splits that a log can have; those of a log without times are leave_one_out and item_cold by default.

    Args:
        split: Settings of the splits.
        data: Settings of the log.

    Returns:
        The settings, with the names of other splits if `split.names` is the default and the log has no times.

    Raises:
        ConfigError: If a split needs times that the log lacks, or leave_one_out is by itself where there are times.
    """
    names = list(split.names)
    if data.times == "order_only":
        if split.names == SplitConfig().names:
            return replace(split, names=ORDER_SPLITS)
        if "by_time" in names:
            raise ConfigError(f"split.names={names}: by_time: {REASON}. Give some of {list(ORDER_SPLITS)}.")
    elif "leave_one_out" in names and "by_time" not in names:
        raise ConfigError(
            f"split.names={names}: leave_one_out lets training see the future, so it is reported only in addition to "
            "by_time. Add by_time; for a log without real times set data.times: order_only."
        )
    return split


def leave_out_times(model: ModelConfig, evaluation: EvaluationConfig) -> tuple[ModelConfig, EvaluationConfig]:
    """Leave out the time bias and the baselines that need times, where they are defaults.

    Args:
        model: Settings of the model.
        evaluation: Settings of the evaluation.

    Returns:
        Both without what needs times.

    Raises:
        ConfigError: If a setting that needs times is not the default.
    """
    if model.query_time == "known":
        raise ConfigError(f"model.query_time=known: {REASON}. Give last_event.")
    if evaluation.first_days is not None:
        raise ConfigError(f"evaluation.first_days={evaluation.first_days}: {REASON}. Give null.")
    baselines = evaluation.baselines
    if baselines == EvaluationConfig().baselines:
        baselines = tuple(name for name in baselines if name not in TIMED_BASELINES)
    if timed := [name for name in baselines if name in TIMED_BASELINES]:
        raise ConfigError(f"evaluation.baselines: {', '.join(timed)}: {REASON}. Leave it out.")
    return replace(model, time_bias=False), replace(evaluation, baselines=baselines)
