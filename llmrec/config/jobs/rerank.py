"""Settings of recipes/rerank.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.order_only import REASON
from llmrec.config.split import SplitConfig
from llmrec.config.validation import COUNT, COUNT_FROM_1, Bounds
from llmrec.errors import ConfigError

LikelihoodScore = Literal["mean", "sum", "gain"]


@dataclass(frozen=True)
class PromptConfig:
    """Prompt of the language model before a candidate."""

    header: str = "Products that one customer bought, one after the other:"
    """First line, before a line for each of the newest items."""
    history: Annotated[int, COUNT_FROM_1] = 10
    """Number of newest items."""

    def __post_init__(self) -> None:
        if not self.header.strip():
            raise ConfigError("prompt.header: empty. Say in words what the lines after it are.")


@dataclass(frozen=True)
class RerankConfig:
    """Re-rank candidates by a pretrained decoder without training."""

    data: DataConfig
    """The log."""
    output: Path = Path("runs/rerank")
    """Folder of the run."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """Division of the log; by_time only."""
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig("packaged:SmolLM2-135M-Instruct"))
    """A decoder; it reads max_tokens of each item."""
    first_stage: str = "item_knn"
    """Baseline, or folder of a bundle, that proposes candidates."""
    candidate_source: Literal["first_stage", "target_and_sampled"] = "first_stage"
    """first_stage for its best unseen items, or target_and_sampled, which is easier."""
    n_candidates: Annotated[int, Bounds(2, COUNT)] = 100
    """Candidates of each query."""
    prompt: PromptConfig = field(default_factory=PromptConfig)
    """Text before a candidate."""
    score_types: tuple[LikelihoodScore, ...] = ("mean", "sum", "gain")
    """Scores of a candidate: mean or sum of its log-likelihood, or gain (arXiv:2104.08315)."""
    evaluation: EvaluationConfig = field(
        default_factory=lambda: EvaluationConfig(cutoffs=(10,), max_queries=200, baselines=())
    )
    """Queries with a history; baselines are further orders of the same candidates."""
    seed: Annotated[int, Bounds(0, 2**32 - 1)] = 0
    """Seed of all random draws."""
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    """Precision of reading; null: as the launcher says."""
    trackers: tuple[Literal["tensorboard", "trackio"], ...] = ()
    """Experiment trackers to log to (extra: tracking)."""

    def __post_init__(self) -> None:
        if self.data.times == "order_only":
            raise ConfigError(f"split.names={list(self.split.names)}: {REASON}. Give a log with times.")
        if self.split.names != ("by_time",):
            raise ConfigError(f"split.names={list(self.split.names)}: candidates are re-ranked by_time alone")
        if self.backbone.strategy != "frozen":
            raise ConfigError(f"backbone.strategy {self.backbone.strategy}: nothing trains here; give frozen")
        if not self.score_types:
            raise ConfigError("score_types: empty. Name at least one of mean, sum, gain.")
