"""Adapt a backbone by the items of a training task, before a model is fitted on its vectors."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.config.adaptation import ItemAdaptConfig
from llmrec.data.splits import Split
from llmrec.errors import ConfigError
from llmrec.models.recommender_model import RecommenderModel
from llmrec.training.checkpoints import Progress, compute_identity
from llmrec.training.distributed.collectives import is_fsdp_requested
from llmrec.training.item_adaptation.held_out_items import HeldOutItems
from llmrec.training.item_adaptation.item_adapter import ItemAdapter, ItemObjective
from llmrec.training.item_adaptation.make_item_loss import make_item_loss
from llmrec.training.task import TrainingTask
from llmrec.training.training_loop import RunState


def adapt_items(
    name: str,
    task: TrainingTask,
    config: ItemAdaptConfig,
    *,
    reader: CatalogEncoder,
    model: RecommenderModel,
    second_texts: Sequence[str] | None,
    seed: int,
) -> Progress:
    """Train a backbone by align or contrast; nothing about validation and test is used.

    Args:
        name: Name of the fit in logs and checkpoints.
        task: Training task.
        config: Method and settings.
        reader: Encoder of the catalog; its backbone is trained in place.
        model: Model fitted on the text vectors of the backbone as it is, whose item vectors align learns.
        second_texts: Texts that lack some fields, N of them; None to read whole texts alone.
        seed: Seed of all draws.

    Returns:
        The progress; its best step is 0 if held-out items were ranked best before training.

    Raises:
        ConfigError: If the processes share the weights of the backbone by FSDP.
        DataError: If the training part is too small.
    """
    if model.items.text is None:
        raise ValueError("a model without text has nothing to adapt")
    facts = [name, task.split.name, task.inputs, str(reader.backbone.config), dataclasses.asdict(config), seed]
    place = re.sub(r"[^\w.]+", "-", f"{task.split.name} {name} items {seed}")
    folder, identity = task.folder / "checkpoints" / place, compute_identity(facts)
    return train_on_items(
        task.split,
        config,
        task.accelerator,
        reader=reader,
        targets=_get_item_vectors(model),
        text=model.items.text.detach().cpu().clone(),
        second_texts=second_texts,
        run=RunState(f"{name} items", folder, seed, task.resume, identity, task.checkpoints),
    )


def train_on_items(
    split: Split,
    config: ItemAdaptConfig,
    accelerator: Accelerator,
    *,
    reader: CatalogEncoder,
    targets: Tensor | None,
    text: Tensor,
    second_texts: Sequence[str] | None,
    run: RunState,
) -> Progress:
    """Train a backbone by the items of the training part of a split.

    Args:
        split: Split of the log.
        config: Method and settings.
        accelerator: Processes of the run.
        reader: Encoder of the catalog; its backbone is trained in place.
        targets: Item vectors that align learns, (N, D); None for contrast.
        text: Text vectors of the catalog before training, (N, D_text).
        second_texts: Texts that lack some fields, N of them; None to read whole texts alone.
        run: Identity of the fit.

    Returns:
        The progress.

    Raises:
        ConfigError: If the processes share the weights of the backbone by FSDP.
        DataError: If the training part is too small.
    """
    if is_fsdp_requested():
        raise ConfigError("adapt_items: it does not run with FSDP. Leave it out, or use DDP.")
    held_out = HeldOutItems.from_split(split, config, run.seed)
    with accelerator.main_process_first():
        reader, dropped = reader.with_hidden_state_cache(), None
        if second_texts is not None and config.dropped_share:
            dropped = CatalogEncoder.from_texts(reader.backbone, second_texts).with_hidden_state_cache()
    torch.manual_seed(run.seed)
    loss_function = make_item_loss(split, config, held=held_out.held, targets=targets, text=text)
    objective = ItemObjective(reader, dropped, loss_function, before=text, config=config)
    n_items = len(np.unique(split.train.item))
    return ItemAdapter(objective, held_out, config, accelerator, run=run, n_items=n_items).fit()


@torch.no_grad()
def _get_item_vectors(model: RecommenderModel) -> Tensor:
    """Return the fitted vectors of the catalog, (N, D), without text similarity."""
    training = model.training
    vectors: Tensor = model.eval().items()[:, : model.config.dim].cpu()
    model.train(training)
    return vectors
