"""Settings of recipes/finetune.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from llmrec.config.adaptation import ItemAdaptConfig
from llmrec.config.backbone import BackboneConfig as BackboneConfig
from llmrec.config.checkpoints import CheckpointConfig, Resume
from llmrec.config.data import DataConfig as DataConfig
from llmrec.config.drift import DriftConfig as DriftConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.model import ModelConfig
from llmrec.config.order_only import REASON, choose_splits, leave_out_times
from llmrec.config.privacy import MembershipConfig, PrivacyConfig
from llmrec.config.split import SplitConfig, SplitName
from llmrec.config.train import TrainConfig
from llmrec.config.validation import Bounds
from llmrec.errors import ConfigError


@dataclass(frozen=True)
class SasrecConfig:
    """The id-only baseline, with its own size and training."""

    model: ModelConfig = field(
        default_factory=lambda: ModelConfig(item_affinity=0.0, repeat_bias=False, time_bias=False)
    )
    """Layers of SASRec."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Training of SASRec."""


@dataclass(frozen=True)
class FinetuneConfig:
    """Train a recommender on a log and evaluate it."""

    data: DataConfig
    """The log."""
    output: Path = Path("runs/finetune")
    """Folder of the run."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """Division of the log into training, validation and test."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """The pretrained language model."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The recommender's own layers."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Training on stored text vectors (feature transfer)."""
    adapt: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=2, patience=2))
    """Training of model and backbone that follows, if the strategy trains the backbone and adapt_items is null."""
    adapt_items: ItemAdaptConfig | None = None
    """Training of the backbone by items instead, before the model is fitted on its vectors; {} for the defaults."""
    drift: DriftConfig | None = None
    """Drift head; {} for the defaults, null for none."""
    privacy: PrivacyConfig | None = None
    """Differential privacy of users; null: none."""
    membership: MembershipConfig | None = None
    """Attacks on training users; null: none."""
    sasrec: SasrecConfig = field(default_factory=SasrecConfig)
    """The id-only baseline."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """Metrics, baselines and queries."""
    seeds: Annotated[tuple[int, ...], Bounds(0, 2**32 - 1)] = (0,)
    """Seeds of the fits; the model of the first goes into the bundle."""
    leave_one_out_seeds: Annotated[tuple[int, ...] | None, Bounds(0, 2**32 - 1)] = None
    """Seeds for the split leave_one_out; null: the same."""
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    """Precision of training; null: as the launcher says."""
    resume: Resume = False
    """Continue from the folder's checkpoints: true, false, or auto to start again if they do not fit."""
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    """How often to write checkpoints."""
    trackers: tuple[Literal["tensorboard", "trackio"], ...] = ()
    """Experiment trackers to log to (extra: tracking)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "split", choose_splits(self.split, self.data))
        if self.data.times == "order_only":
            self._leave_out_times()
        if not self.seeds or self.leave_one_out_seeds == ():
            raise ConfigError("seeds is empty; give at least one, such as [0]")
        if self.drift is not None and self.train.refit and self.backbone.strategy not in ("none", "frozen"):
            raise ConfigError(
                "drift is fitted on the validation window, which a refitted model has seen before its backbone; "
                f"leave out drift, train.refit, or backbone.strategy {self.backbone.strategy}"
            )
        if self.model.history_encoder != "sequence" and self.backbone.strategy == "none":
            raise ConfigError(
                f"model.history_encoder={self.model.history_encoder}: backbone.strategy none has no backbone to read "
                "histories; give frozen, last_k, lora, peft or full, or model.history_encoder sequence"
            )
        if self.sasrec.model.history_encoder != "sequence":
            raise ConfigError(
                f"sasrec.model.history_encoder={self.sasrec.model.history_encoder}: the baseline knows ids alone; give "
                "sequence"
            )
        if self.drift is not None and "chain" in self.drift.terms and self.backbone.strategy == "none":
            raise ConfigError(
                "drift.terms: the chain's states are read off item texts, which backbone.strategy none does not have; "
                "leave chain out"
            )
        if self.adapt_items is not None and self.model.history_encoder != "sequence":
            raise ConfigError(
                f"adapt_items: with model.history_encoder={self.model.history_encoder} the backbone encodes histories "
                "too; leave adapt_items out"
            )
        if self.privacy is not None and (voids := self._list_privacy_violations()):
            raise ConfigError(f"privacy: there is no guarantee with {'; '.join(voids)}")
        if self.membership is not None and (self.drift is not None or not self.split.held_out_user_fraction):
            raise ConfigError(
                "membership: the attack needs users outside of the training, and no counts of their events. Give "
                "split.held_out_user_fraction, such as .3, and leave out drift."
            )

    def _leave_out_times(self) -> None:
        if self.drift is not None:
            raise ConfigError(f"drift: {REASON}. Give null.")
        if self.data.release_column is not None:
            raise ConfigError(f"data.release_column={self.data.release_column}: {REASON}. Give null.")
        if self.sasrec.model.time_bias:
            raise ConfigError(f"sasrec.model.time_bias=true: {REASON}. Give false.")
        model, evaluation = leave_out_times(self.model, self.evaluation)
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "evaluation", evaluation)

    def _list_privacy_violations(self) -> list[str]:
        """Return the settings that void the guarantee of privacy, each with its remedy."""
        several = self.train.gradient_accumulation_steps > 1 or self.adapt.gradient_accumulation_steps > 1
        found = {
            "drift, which keeps exact counts and is fitted on the same users' next events (leave it out)": self.drift,
            "train.refit, which trains as long as validation found best (give false)": self.train.refit,
            "data.k_core, by which one user decides on the events of others (give 0)": self.data.k_core,
            "adapt_items, which learns from exact counts (leave it out)": self.adapt_items,
            "mixed_precision fp16, which scales gradients before they are clipped (give bf16 or no)":
                self.mixed_precision == "fp16",
            "gradient_accumulation_steps, since a step has privacy.users_per_step users (give 1)": several,
        }  # fmt: skip
        return [what for what, there in found.items() if there]

    def seeds_for_split(self, split: SplitName) -> tuple[int, ...]:
        """Return the seeds of the fits on a split.

        Args:
            split: Name of the split.

        Returns:
            The seeds.
        """
        own = self.leave_one_out_seeds if split == "leave_one_out" else None
        return own or self.seeds
