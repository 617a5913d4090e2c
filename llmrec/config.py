"""The configuration of every recipe: frozen dataclasses, filled from YAML and the command line by jsonargparse."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from llmrec.backbone_config import BackboneConfig as BackboneConfig
from llmrec.backbone_config import KeptStates as KeptStates
from llmrec.backbone_config import LoraConfig as LoraConfig
from llmrec.backbone_config import Strategy as Strategy
from llmrec.data_config import DataConfig as DataConfig
from llmrec.errors import ConfigError
from llmrec.model_config import ModelConfig

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
FOREVER = 36_500.0  # days
Resume = bool | Literal["matching"]
DriftTerm = Literal["interest", "environment", "transitions", "chain", "gate"]
SplitName = Literal["by_time", "leave_one_out"]


@dataclass(frozen=True)
class SplitConfig:
    """How the log is cut.

    names: every split the model is trained and reported on; the first one's model goes into the bundle.
    valid_fraction, test_fraction: of `by_time`'s events.
    ties, leave_one_out_ties: whether events of one moment are in each other's histories (`file_order`, the papers'
        habit) or not (`strict`), by split.
    """

    names: tuple[SplitName, ...] = ("by_time",)
    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    ties: Literal["strict", "file_order"] = "strict"
    leave_one_out_ties: Literal["strict", "file_order"] = "strict"

    def __post_init__(self) -> None:
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
    live_items, backbone_learning_rate: where the backbone itself trains, the items a step reads through it with
        gradients, and its own learning rate.
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


@dataclass(frozen=True)
class DriftConfig:
    """What moves with time beside a fitted model: a few weights, fitted on the validation window.

    terms: `interest`, how much each of a user's last events still says (without it all say the same); `environment`,
        popularity that fades at `half_lives_days` (a century: all events alike); `transitions`, what people went on to
        lately; `chain`, interest in `n_states` latent states that moves on between events; `gate`, what is left to
        each depends on the history and the time since (without it: one number each).
    window, gap_days, backward: events of a user that a new one is paired with, how a pair counts less with the days
        between, and how much it counts against its order.
    transition_half_lives_days: how fast pairs fade; the one that suits the validation window best is kept.
    text_neighbours: items of like text that an item without transitions leads to.
    refresh_days: how often counts are brought up to date during the test, each a row of the report beside `frozen`.
    ablate: also a row for each term alone, for each term left out, and for a control that is as fresh but learns no
        drift: environment and transitions that never fade, and a constant gate.
    keep_counts: the bundle holds what everyone did by the end of the log, as sums of items and of pairs of items, so
        that it knows the day wherever it is sent. It names no user, but a rare pair can be one user's.
    """

    terms: tuple[DriftTerm, ...] = ("interest", "environment", "transitions", "chain", "gate")
    half_lives_days: tuple[float, ...] = (7.0, 30.0, 120.0, 480.0, FOREVER)
    window: int = 10
    gap_days: float = 180.0
    backward: float = 0.1
    transition_half_lives_days: tuple[float, ...] = (30.0, 120.0, FOREVER)
    text_neighbours: int = 30
    n_states: int = 32
    refresh_days: tuple[float, ...] = (1.0, 7.0, 30.0)
    ablate: bool = True
    keep_counts: bool = True

    def __post_init__(self) -> None:
        lengths = (*self.half_lives_days, self.gap_days, *self.transition_half_lives_days, *self.refresh_days)
        if not {"environment", "transitions", "chain"} & set(self.terms) or not self.transition_half_lives_days:
            raise ConfigError(
                "drift: name one of environment, transitions, chain, and one of transition_half_lives_days"
            )
        if self.n_states < 2:
            raise ConfigError(f"drift.n_states={self.n_states}: a chain needs at least 2 states")
        if min(*lengths, self.window, self.text_neighbours) <= 0:
            raise ConfigError("drift: days, window and text_neighbours must be above 0")
        if not 0 <= self.backward <= 1:
            raise ConfigError(f"drift.backward={self.backward}: a pair counts 0 to 1 times as much against its order")


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
    the strategy trains it. drift: rows for the model in the stream of events; null leaves them out. output: the run's
        folder.
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
    sasrec: SasrecConfig = field(default_factory=SasrecConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    seeds: tuple[int, ...] = (0,)
    leave_one_out_seeds: tuple[int, ...] | None = None
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    resume: Resume = False
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

    def seeds_of(self, split: SplitName) -> tuple[int, ...]:
        own = self.leave_one_out_seeds if split == "leave_one_out" else None
        return own or self.seeds
