"""Strategies that a plan compares, and the configuration of a run with each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from llmrec.config.jobs.distill import DistillConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.train import TrainConfig
from llmrec.models.losses import FULL_ITEMS

PlannedStrategy = Literal["frozen", "last_k", "lora", "full", "distill"]
WAYS: tuple[PlannedStrategy, ...] = get_args(PlannedStrategy)
STUDENT_LAYERS = 2
SAMPLED_NEGATIVES = 4096  # in distillation on catalogs that are too large for the full softmax


def config_for_strategy(config: FinetuneConfig, way: PlannedStrategy) -> FinetuneConfig:
    """Return the configuration of a run with another strategy.

    Args:
        config: Settings of the run.
        way: The strategy; `distill` gives that of recipes/distill.py with a student of two layers.

    Returns:
        The changed settings.

    Raises:
        ConfigError: If the configuration has no such variant.
    """
    if way != "distill":
        return replace(config, backbone=replace(config.backbone, strategy=way))
    layers = min(config.backbone.n_layers or STUDENT_LAYERS, STUDENT_LAYERS)
    backbone = replace(config.backbone, n_layers=layers, strategy="full")
    student = DistillConfig(Path("teacher"), backbone=backbone, evaluation=config.evaluation, seed=config.seeds[0])
    return replace(student.student_config(config), train=replace(config.train, refit=False))


def distillation_losses(config: TrainConfig, n_items: int) -> TrainConfig:
    """Return the training settings of a student for the size of a catalog.

    Args:
        config: Settings of training.
        n_items: Number of items of the catalog.

    Returns:
        The settings, with sampled negatives on large catalogs.
    """
    too_many = config.negatives == "full" and n_items > FULL_ITEMS
    return replace(config, negatives=SAMPLED_NEGATIVES) if too_many else config
