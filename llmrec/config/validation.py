"""Which numbers a setting can take, and how they are refused: by name, value and range.

Here and not in the classes, because a range says nothing that a reader of a configuration does not expect. Upper ends
are far beyond use: they keep a damaged or hostile configuration from asking for all memory there is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from llmrec.errors import ConfigError

COUNT, WIDTH = 2**31, 2**16  # the most that can be meant: of things, and of a layer


class Bounds(NamedTuple):
    """low, high: the ends, which belong to it unless `above` says that the low one does not."""

    low: float
    high: float = math.inf
    above: bool = False

    def contains(self, number: float) -> bool:
        return (self.low < number if self.above else self.low <= number) and number <= self.high

    def __str__(self) -> str:
        low = f"{'above' if self.above else 'at least'} {self.low:g}"
        return low if self.high in (math.inf, COUNT) else f"{low} and at most {self.high:g}"


SOME, ANY, SHARE, POSITIVE = Bounds(1, COUNT), Bounds(0, COUNT), Bounds(0, 1), Bounds(0, above=True)
PART = Bounds(0, 0.999, above=True)
LEAST: dict[str, dict[str, Bounds]] = {
    "DataConfig": {"k_core": ANY},
    "SplitConfig": {"valid_fraction": PART, "test_fraction": PART},
    "LoraConfig": {"rank": Bounds(1, WIDTH), "alpha": SOME, "last_k": SOME},
    "BackboneConfig": {"n_layers": SOME, "max_tokens": Bounds(2, WIDTH), "last_k": SOME},
    "TrainConfig": {
        "epochs": ANY, "patience": SOME, "batch_targets": SOME, "learning_rate": POSITIVE, "weight_decay": Bounds(0),
        "warmup_ratio": SHARE, "max_grad_norm": POSITIVE, "gradient_accumulation_steps": SOME, "negatives": SOME,
        "evals_per_epoch": SOME, "trainable_items_per_step": SOME, "backbone_learning_rate": POSITIVE,
        "refresh_every_steps": SOME,
    },
    "HistoryTextConfig": {"max_tokens": Bounds(2, WIDTH)},
    "ModelConfig": {
        "dim": Bounds(1, WIDTH), "n_layers": Bounds(0, 1000), "n_heads": Bounds(1, WIDTH),
        "feedforward_multiplier": Bounds(1, 1000), "max_history": Bounds(1, 2**20),
        "dropout": Bounds(0, 0.99), "id_dropout": SHARE, "temperature": POSITIVE,
        "item_init_std": POSITIVE, "id_init_scale": Bounds(0), "item_affinity": Bounds(0),
    },
    "DriftConfig": {"n_states": Bounds(2, WIDTH), "window": Bounds(1, WIDTH), "n_text_neighbors": Bounds(1, WIDTH)},
    "EvaluationConfig": {
        "cutoffs": Bounds(1, WIDTH), "max_queries": SOME, "max_valid_queries": SOME, "tuning_budget": SOME,
        "tuning_queries": SOME, "bootstrap_samples": Bounds(1, 2**20), "n_explained_users": ANY,
    },
    "FinetuneConfig": {"seeds": Bounds(0, 2**32 - 1), "leave_one_out_seeds": Bounds(0, 2**32 - 1)},
    "PretrainConfig": {"seed": Bounds(0, 2**32 - 1)},
    "RerankConfig": {"seed": Bounds(0, 2**32 - 1), "n_candidates": SOME},
    "DistillConfig": {"seed": Bounds(0, 2**32 - 1)},
    "EncodeConfig": {"texts_per_shard": SOME},
    "RecommendConfig": {"k": Bounds(1, 2**20), "users_per_part": SOME, "batch_size": SOME},
}  # fmt: skip
HOLDS: dict[str, dict[str, str]] = {"BackboneConfig": {"prompt": "{text}"}}  # without it all texts would be alike


def validate_bounds(config: Any, prefix: str = "") -> None:
    """Look at every number of a configuration and of its sections.

    Raises:
        ConfigError: one that is no finite number, or outside its range; a text without the place for what it is about.
    """
    ranges = {name: one for kind in type(config).__mro__ for name, one in LEAST.get(kind.__name__, {}).items()}
    for name, place in HOLDS.get(type(config).__name__, {}).items():
        if place not in getattr(config, name):
            raise ConfigError(f"{prefix}{name}={getattr(config, name)!r}: it has to hold {place}")
    for one in fields(config):
        value, name = getattr(config, one.name), f"{prefix}{one.name}"
        if is_dataclass(value):
            validate_bounds(value, f"{name}.")
            continue
        for number in value if isinstance(value, (tuple, list)) else [value]:
            if is_dataclass(number):
                validate_bounds(number, f"{name}.")
            elif isinstance(number, (int, float)) and not isinstance(number, bool):
                _check(name, number, ranges.get(one.name))


def _check(name: str, number: float, allowed: Bounds | None) -> None:
    if isinstance(number, float) and not math.isfinite(number):
        raise ConfigError(f"{name}={number}: give a finite number")
    if allowed is not None and not allowed.contains(number):
        raise ConfigError(f"{name}={number}: give a number {allowed}")


def validate_utf8(arguments: Sequence[str]) -> None:
    """
    Raises:
        ConfigError: an argument with bytes that are no text, which Python takes in as halves of signs.
    """
    for place, argument in enumerate(arguments, start=1):
        if any("\ud800" <= sign <= "\udfff" for sign in argument):
            raise ConfigError(f"argument {place} ({ascii(argument)[:80]}) is no text in UTF-8; write it as such")
