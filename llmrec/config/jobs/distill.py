"""Settings of recipes/distill.py."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from llmrec.config.backbone import BackboneConfig
from llmrec.config.checkpoints import Resume
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.train import TrainConfig
from llmrec.config.validation import COUNT_FROM_1, POSITIVE, Bounds
from llmrec.errors import ConfigError


@dataclass(frozen=True)
class DistillationLosses:
    """Weight of each distillation loss, per target."""

    embedding: Annotated[float, Bounds(0)] = 100.0
    """Weight of 1 - cosine between the text vectors of student and teacher."""
    scores: Annotated[float, Bounds(0)] = 1.0
    """Weight of the divergence of scores over all items (Hinton et al. 2015, arXiv:1503.02531)."""
    ranking: Annotated[float, Bounds(0)] = 0.0
    """Weight of the likelihood of the teacher's order (Xia et al. 2008, doi:10.1145/1390156.1390306)."""
    targets: Annotated[float, Bounds(0)] = 0.0
    """Weight of the softmax cross-entropy of the true targets."""
    temperature: Annotated[float, POSITIVE] = 1.0
    """Temperature at which scores are compared."""
    top_k: Annotated[int, COUNT_FROM_1] = 10
    """Items of the teacher's order that `ranking` uses."""

    def __post_init__(self) -> None:
        if not any((self.embedding, self.scores, self.ranking, self.targets)):
            raise ConfigError("losses: all weights are 0. Set one of embedding, scores, ranking, targets above 0.")


@dataclass(frozen=True)
class DistillConfig:
    """Distill a bundle into one with a smaller backbone."""

    teacher: Path
    """Folder of the teacher's bundle."""
    source: str | None = None
    """Place of the teacher's log; null: as in its training."""
    output: Path = Path("runs/distill")
    """Folder of the run."""
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(n_layers=2, strategy="full"))
    """The student's backbone, which is trained."""
    losses: DistillationLosses = field(default_factory=DistillationLosses)
    """Losses of the student against the teacher."""
    train: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=5, patience=2))
    """Training of the student; a step encodes trainable_items_per_step texts."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """Evaluation of teacher, student and baselines."""
    seed: Annotated[int, Bounds(0, 2**32 - 1)] = 0
    """Seed of all random draws."""
    resume: Resume = False
    """Continue from the folder's checkpoints: true, false, or auto to start again if they do not fit."""

    def __post_init__(self) -> None:
        if self.backbone.strategy in ("none", "frozen"):
            raise ConfigError(f"backbone.strategy {self.backbone.strategy}: a student's backbone trains; give full")

    def student_config(self, teacher: FinetuneConfig) -> FinetuneConfig:
        """Return the settings of the student's bundle: the teacher's, except for its backbone and training.

        Args:
            teacher: Settings of the teacher.

        Returns:
            The settings.

        Raises:
            ConfigError: If the teacher was trained on another split, where it may have seen the test, or its own
                backbone encodes histories.
        """
        if teacher.split.names[0] != "by_time":
            raise ConfigError(f"{self.teacher}: of the split {teacher.split.names[0]}; a student is judged by_time")
        if teacher.model.history_encoder != "sequence":
            raise ConfigError(
                f"{self.teacher}: its histories are read by its own backbone (model.history_encoder="
                f"{teacher.model.history_encoder}), which a student does not have; give a teacher trained with sequence"
            )
        return replace(
            teacher,
            data=replace(teacher.data, source=self.source or teacher.data.source),
            output=self.output,
            split=replace(teacher.split, names=("by_time",)),
            backbone=self.backbone,
            adapt=self.train,
            drift=None,
            privacy=None,
            membership=None,
            evaluation=self.evaluation,
            seeds=(self.seed,),
            leave_one_out_seeds=None,
            resume=self.resume,
            trackers=(),
        )
