"""Opening of a pretrained model: its files are found, read, loaded and checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from llmrec.backbones.layers import make_bidirectional, truncate_layers
from llmrec.backbones.model_files.checkpoint_checks import check_one_text, check_tokenizer
from llmrec.backbones.model_files.checkpoint_files import open_checkpoint
from llmrec.backbones.model_files.load_model import cannot_load, load_text_model, load_tokenizer, lower_case
from llmrec.backbones.model_files.resolve import resolve_backbone
from llmrec.backbones.model_files.vector_layers import VectorLayers
from llmrec.backbones.model_files.vector_recipe import VectorRecipe, read_recipe
from llmrec.backbones.pooling import is_causal
from llmrec.config.backbone import BackboneConfig
from llmrec.errors import BackboneError


@dataclass(frozen=True)
class OpenedModel:
    """Parts of a pretrained model."""

    model: Any
    """Model of transformers in fp32."""
    tokenizer: Any
    """Its tokenizer."""
    hub_id: str
    """Id of the model on the hub, which adapters record."""
    path: str = ""
    """Local folder, or id on the hub, that it was loaded from."""
    recipe: VectorRecipe = field(default_factory=VectorRecipe)
    """Statements of the checkpoint on its vectors."""
    layers: VectorLayers = field(default_factory=VectorLayers)
    """Layers after the pooling."""


def open_model(config: BackboneConfig) -> OpenedModel:
    """Load the model of a backbone in fp32 and its tokenizer.

    Args:
        config: Settings of the backbone; `name` is a folder or an id on the hub.

    Returns:
        The parts; the model is truncated to `config.n_layers` if set.

    Raises:
        BackboneError: If it cannot be loaded; the message carries the loader's own reason.
    """
    location = resolve_backbone(config.name, config.hub_id)
    path, revision = location.path, config.revision
    try:
        files = open_checkpoint(path, revision)
    except Exception as error:  # any kind: the Hub can fail in many ways
        raise cannot_load(config.name, revision, error) from error
    recipe = read_recipe(files, config.name)
    model = load_text_model(config.name, path, revision, recipe.subfolder, files=files, quantize=config.quantize)
    tokenizer = load_tokenizer(config.name, path, revision, recipe.subfolder)
    check_tokenizer(config.name, tokenizer, model)
    if recipe.lower_case:
        lower_case(tokenizer)
    if config.n_layers is not None:
        truncate_layers(model, config.n_layers)
    if config.bidirectional or not getattr(model.config, "is_causal", True):
        make_bidirectional(model)
        if is_causal(model):
            raise BackboneError(
                f"backbone.bidirectional: {type(model).__name__} looks back only, whatever its settings say. Leave "
                "backbone.bidirectional out, or use another decoder."
            )
    # PEFT records this name in the adapter; a local path would be useless to other people.
    model.name_or_path = location.hub_id
    model.config._name_or_path = location.hub_id
    check_one_text(config.name, model, torch.tensor([tokenizer("text", verbose=False).input_ids or [1]]))
    layers = VectorLayers.load(files.folder, recipe.layers, recipe.n_dims)
    return OpenedModel(model, tokenizer, location.hub_id, path, recipe, layers)
