"""The configuration of every recipe: frozen dataclasses, filled from YAML and the command line by jsonargparse."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from llmrec.config.backbone import BackboneConfig as BackboneConfig
from llmrec.config.backbone import KeptStates as KeptStates
from llmrec.config.backbone import LoraConfig as LoraConfig
from llmrec.config.backbone import Strategy as Strategy
from llmrec.config.data import DataConfig as DataConfig
from llmrec.config.drift import DriftConfig as DriftConfig
from llmrec.config.model import ModelConfig
from llmrec.config.privacy import MembershipConfig, PrivacyConfig
from llmrec.config.run import CheckpointConfig
from llmrec.errors import ConfigError

Baseline = Literal[
    "popularity",
    "recent_popularity",
    "item_knn",
    "item_knn_streaming",
    "matrix",
    "nearest_text",
    "sasrec",
    "sasrec_sampled",
]
Resume = bool | Literal["matching"]
SplitName = Literal["by_time", "leave_one_out"]


@dataclass(frozen=True)
class SplitConfig:
    """How the log is cut.

    names: every split the model is trained and reported on; the first one's model goes into the bundle.
    valid_fraction, test_fraction: of `by_time`'s events.
    ties, leave_one_out_ties: whether events of one moment are in each other's histories (`file_order`, the papers'
        habit) or not (`strict`), by split.
    held_out_users: share of the users, drawn at random, whose training events are left out, so that one can see whether
        the others are told from them (`membership`).
    """

    names: tuple[SplitName, ...] = ("by_time",)
    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    ties: Literal["strict", "file_order"] = "strict"
    leave_one_out_ties: Literal["strict", "file_order"] = "strict"
    held_out_users: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.held_out_users < 1:
            raise ConfigError(
                f"split.held_out_users={self.held_out_users}: give a share of the users from 0 to below 1"
            )
        if "by_time" not in self.names:
            raise ConfigError(
                f"split.names={list(self.names)}: leave_one_out lets training see the future, so it is reported only "
                "beside by_time; add by_time"
            )


@dataclass(frozen=True)
class TrainConfig:
    """One run of the training loop. Batches are counted in targets, so that each target weighs the same.

    epochs: 0 skips the run. patience: measurements without gain before it stops.
    negatives: `full` softmax over the catalog, or the number of shared uniform negatives.
    live_items, backbone_learning_rate: where the backbone itself trains, the items that all processes of a step read
        through it with gradients, together, and its own learning rate.
    renew_steps: there, after how many steps the whole catalog is read anew; null: only before each validation.
    pieces: that a process runs its share of a batch in, one by one: the same step in less memory; `auto`: few that fit.
    refit: after the best epoch is known, train anew on train + validation for as long, before the test.
    """

    epochs: int = 50
    patience: int = 5
    batch_targets: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup_share: float = 0.02
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    clip_norm: float = 5.0
    accumulate: int = 1
    negatives: Literal["full"] | int = "full"
    evals_per_epoch: int = 1
    live_items: int = 256
    backbone_learning_rate: float = 2e-4
    renew_steps: int | None = None
    pieces: Literal["auto"] | int = 1
    refit: bool = False

    def __post_init__(self) -> None:
        if self.pieces != "auto" and self.pieces < 1:
            raise ConfigError(f"train.pieces={self.pieces}: give auto, or 1 or more")


@dataclass(frozen=True)
class SasrecConfig:
    """The id-only baseline: its own size and its own training, so that it can be tuned with the same care."""

    model: ModelConfig = field(default_factory=lambda: ModelConfig(affinity=0.0, time_bias=False))
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class EvaluationConfig:
    """Full ranking over the whole catalog.

    first_days: only the targets of the test's first days, which a model that is trained anew so often would meet; null:
        all of them. `by_time` alone.
    max_queries, max_valid_queries: a seeded sample where the test or validation part has more.
    tuning_budget, tuning_queries: settings tried for each baseline, and validation queries looked at for each.
    mask_seen: leave what the history holds out of the ranking; not for repeat consumption.
    explained: users whose first recommendation is explained, and the explanations tested by deletion; 0: none. Of
        models whose backbone reads histories nothing is: each event that is left out would cost a reading.
    """

    cutoffs: tuple[int, ...] = (10, 20)
    first_days: int | None = None
    max_queries: int = 50_000
    max_valid_queries: int = 10_000
    tuning_budget: int = 12
    tuning_queries: int = 5_000
    mask_seen: bool = True
    bootstrap_samples: int = 1000
    explained: int = 100
    baselines: tuple[Baseline, ...] = get_args(Baseline)

    def __post_init__(self) -> None:
        if self.first_days is not None and self.first_days < 1:
            raise ConfigError(f"evaluation.first_days={self.first_days}; give 1 or more, or null for the whole test")


@dataclass(frozen=True)
class FinetuneConfig:
    """recipes/finetune.py: from a log to an evaluated recommender.

    sasrec: the id-only baseline, by the same trainer, with its own size and training.
    train: the feature-transfer fit, on stored text vectors. adapt: the fit through the backbone that follows where
        the strategy trains it. drift: rows for the model in the stream of events; null: none. output: the run's folder.
    privacy: differential privacy of users, for both fits together. membership: measure who can be told to have been in
        training.
    seeds, leave_one_out_seeds: the model and SASRec are fitted once for each (`leave_one_out`, where its own are given,
        for each of those); the first one's model goes into the bundle.
    mixed_precision: None leaves it to `accelerate launch`. resume: go on from the output folder's checkpoints;
        where they belong to another configuration or log, `true` stops and `matching` starts anew.
    """

    data: DataConfig
    output: Path = Path("runs/finetune")
    split: SplitConfig = field(default_factory=SplitConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    adapt: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=2, patience=2))
    drift: DriftConfig | None = None
    privacy: PrivacyConfig | None = None
    membership: MembershipConfig | None = None
    sasrec: SasrecConfig = field(default_factory=SasrecConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    seeds: tuple[int, ...] = (0,)
    leave_one_out_seeds: tuple[int, ...] | None = None
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    resume: Resume = False
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    trackers: tuple[Literal["tensorboard", "trackio"], ...] = ()

    def __post_init__(self) -> None:
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
                "histories; give frozen, last_k, lora or full, or model.history_encoder sequence"
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
        if self.privacy is not None and (voids := self._voids()):
            raise ConfigError(f"privacy: there is no guarantee with {'; '.join(voids)}")
        if self.membership is not None and (self.drift is not None or not self.split.held_out_users):
            raise ConfigError(
                "membership: give split.held_out_users, such as .3, from whom those of the training may be told; and "
                "leave out drift, which counts the events of all"
            )

    def _voids(self) -> list[str]:
        """What uses other users' events without noise, or chooses by them, each with its remedy."""
        several = self.train.accumulate > 1 or self.adapt.accumulate > 1
        found = {
            "drift, which keeps exact counts and is fitted on the same users' next events (leave it out)": self.drift,
            "train.refit, which trains as long as validation found best (give false)": self.train.refit,
            "data.k_core, by which one user decides on the events of others (give 0)": self.data.k_core,
            "mixed_precision fp16, which scales gradients before they are clipped (give bf16 or no)":
                self.mixed_precision == "fp16",
            "accumulate, since a step has privacy.users_per_step users (give 1)": several,
        }  # fmt: skip
        return [what for what, there in found.items() if there]

    def seeds_of(self, split: SplitName) -> tuple[int, ...]:
        own = self.leave_one_out_seeds if split == "leave_one_out" else None
        return own or self.seeds
