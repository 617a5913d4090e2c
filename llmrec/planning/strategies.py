"""The ways of transfer that a plan compares, each as the configuration that its run would have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from llmrec.config.jobs.distill import DistillConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.train import TrainConfig
from llmrec.models.losses import FULL_ITEMS

PlannedStrategy = Literal["frozen", "last_k", "lora", "full", "distil"]
WAYS: tuple[PlannedStrategy, ...] = get_args(PlannedStrategy)
STUDENT_LAYERS = 2
SAMPLED_NEGATIVES = 4096  # of distillation, on catalogs that are too large for all


def config_for_strategy(config: FinetuneConfig, way: PlannedStrategy) -> FinetuneConfig:
    """The run's configuration by another strategy; `distill`: of recipes/distill.py with a student of two layers.

    Raises:
        ConfigError: a configuration that has no such variant.
    """
    if way != "distil":
        return replace(config, backbone=replace(config.backbone, strategy=way))
    layers = min(config.backbone.layers or STUDENT_LAYERS, STUDENT_LAYERS)
    backbone = replace(config.backbone, layers=layers, strategy="full")
    student = DistillConfig(Path("teacher"), backbone=backbone, evaluation=config.evaluation, seed=config.seeds[0])
    return replace(student.student_config(config), train=replace(config.train, refit=False))


def distillation_losses(config: TrainConfig, n_items: int) -> TrainConfig:
    """How a student is taught on a catalog of this size."""
    too_many = config.negatives == "full" and n_items > FULL_ITEMS
    return replace(config, negatives=SAMPLED_NEGATIVES) if too_many else config
