"""The configuration of recipes/rerank.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.split import SplitConfig
from llmrec.errors import ConfigError

LikelihoodScore = Literal["mean", "sum", "gain"]


@dataclass(frozen=True)
class PromptConfig:
    """What the language model reads before a candidate: `header`, then a user's newest items, a line for each."""

    header: str = "Products that one customer bought, one after the other:"
    history: int = 10

    def __post_init__(self) -> None:
        if not self.header.strip() or self.history < 1:
            raise ConfigError("prompt: header must not be empty, and history must be at least 1")


@dataclass(frozen=True)
class RerankConfig:
    """recipes/rerank.py: a pretrained decoder, without any training, as a judge of which of some items comes next.

    first_stage: a baseline's name, or the folder of a bundle.
    candidate_source: `first_stage`, its `n_candidates` best unseen items, whether or not the target is among them; or
        `target_and_sampled`, the target and unseen items drawn by their popularity in training, which is easier.
    backbone: a decoder, as it is; `max_tokens` of each item are read.
    score_types: of a candidate's line, a row each: the `mean` log-likelihood of its tokens, their `sum`, or the `gain`
        of
        the sum over what it would be without a history (Holtzman et al. 2021, arXiv:2104.08315). The first one is
        compared with every other row.
    evaluation: `max_queries` of the test's targets that have a history; `baselines` are further orders of the same
        candidates.
    """

    data: DataConfig
    output: Path = Path("runs/rerank")
    split: SplitConfig = field(default_factory=SplitConfig)
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig("packaged:SmolLM2-135M-Instruct"))
    first_stage: str = "item_knn"
    candidate_source: Literal["first_stage", "target_and_sampled"] = "first_stage"
    n_candidates: int = 100
    prompt: PromptConfig = field(default_factory=PromptConfig)
    score_types: tuple[LikelihoodScore, ...] = ("mean", "sum", "gain")
    evaluation: EvaluationConfig = field(
        default_factory=lambda: EvaluationConfig(cutoffs=(10,), max_queries=200, baselines=())
    )
    seed: int = 0
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    trackers: tuple[Literal["tensorboard", "trackio"], ...] = ()

    def __post_init__(self) -> None:
        if self.split.names != ("by_time",):
            raise ConfigError(f"split.names={list(self.split.names)}: candidates are re-ranked by_time alone")
        if self.backbone.strategy != "frozen":
            raise ConfigError(f"backbone.strategy {self.backbone.strategy}: nothing trains here; give frozen")
        if self.n_candidates < 2 or not self.score_types:
            raise ConfigError("n_candidates must be at least 2, and score_types name at least one of mean, sum, gain")
