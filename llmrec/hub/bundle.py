"""Bundle: a recommender as a folder of safetensors, JSON and parquet, without users' histories.

It has PEFT's adapter, the heads, the catalog with its vectors, and a record of everything.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.typed_settings import config_from_dict
from llmrec.data.items.catalog import ItemCatalog
from llmrec.drift.fitted import FittedDrift
from llmrec.hub.adapter import read_target_modules
from llmrec.hub.base_model import (
    BaseModelInfo,
    StoredWeights,
    compare_environments,
    open_backbone,
    set_base_name,
)
from llmrec.hub.bundle_record import read_record, translate_read_errors
from llmrec.hub.card import RepoRef, render_card
from llmrec.hub.catalog_io import load_bundle_catalog, save_bundle_catalog
from llmrec.hub.drift_io import load_drift, save_drift
from llmrec.hub.layout import (
    FORMAT,
    LAYOUT,
    TUNED,
    atomic_folder,
    bundle_file,
    hash_files,
    recover_folder,
    verify_hashes,
)
from llmrec.hub.probe import check_encoding, check_probe, list_dtypes, make_probe
from llmrec.models.history_encoders.protocol import BackboneHistoryEncoder
from llmrec.models.recommender_model import RecommenderModel
from llmrec.training.checkpoints import get_trainable_state
from llmrec.utils.meta_device import build_on_meta
from llmrec.utils.timing import timer
from llmrec.utils.versions import get_package_versions


@dataclass(frozen=True)
class Bundle:
    """Content of a bundle."""

    config: FinetuneConfig
    """Settings of the run that trained it."""
    catalog: ItemCatalog
    """Catalog of items."""
    model: RecommenderModel
    """Trained model; it answers without the drift head."""
    base: BaseModelInfo | None
    """Pretrained model; None for a model with ids only."""
    trained_backbone: TextBackbone | StoredWeights | None
    """Backbone with trained weights, or the files that hold them; None if the backbone is frozen."""
    facts: dict[str, Any]
    """Facts about the log."""
    evaluation: dict[str, Any]
    """Rows, protocol and main model of the report."""
    drift: FittedDrift | None = None
    """Fitted drift head; None without one."""
    removed: tuple[str, ...] = ()
    """Ids of items of the catalog that are not recommended any more."""


@timer.section("bundle")
def save_bundle(folder: Path, bundle: Bundle, *, address: RepoRef | None = None) -> None:
    """Save a bundle to a folder, completely or not at all; an older bundle there is replaced.

    Args:
        folder: Folder to write.
        bundle: The bundle.
        address: Repository on the Hub, for the card; None if it stays a folder.

    Raises:
        BundleError: If the folder has something other than a bundle.
    """
    with atomic_folder(folder) as partial:
        _save_tensors(partial, bundle)
        record = {
            "format": FORMAT,
            "config": json.loads(json.dumps(dataclasses.asdict(bundle.config), default=str)),
            "catalog": save_bundle_catalog(partial, bundle.catalog),
            "base": None if bundle.base is None else dataclasses.asdict(bundle.base),
            "facts": bundle.facts,
            "evaluation": bundle.evaluation,
            "drift": None if bundle.drift is None else bundle.drift.to_record(),
            "removed": list(bundle.removed),
            "versions": get_package_versions(),
            "made_with": {"dtype": list_dtypes(load_file(partial / LAYOUT.heads))},
            "probe": make_probe(bundle.model),
            "files": hash_files(partial),
        }  # fmt: skip
        (partial / LAYOUT.settings).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        card = render_card(record, bundle.catalog.ids[:2].to_pylist(), address=address)
        (partial / LAYOUT.card).write_text(card, encoding="utf-8")


def load_bundle(folder: Path, backbone: str | None = None) -> Bundle:
    """Load and verify a bundle, without its backbone unless that encodes histories.

    Args:
        folder: Folder of the bundle.
        backbone: Folder or Hub id of the base; None as in `load_backbone`.

    Returns:
        The bundle.

    Raises:
        BundleError: If it is not a bundle, its format is newer, a file is missing or changed, or scores do not
            reproduce.
        BackboneError: If the base is needed and cannot be loaded.
    """
    if not folder.exists():
        recover_folder(folder.resolve())
    record = read_record(folder)
    with translate_read_errors(folder):
        verify_hashes(folder, record["files"], with_all=True)
        config = config_from_dict(FinetuneConfig, record["config"])
        base = None if record["base"] is None else BaseModelInfo(**record["base"])
        tuned = {name: record["files"][name] for name in TUNED[config.backbone.strategy]}
        weights = StoredWeights(folder, tuned) if tuned else None
        if (adapter := config.backbone.adapter) is not None and base is not None:
            read_target_modules(folder, adapter, base.hub_id)
        items = load_file(bundle_file(folder, LAYOUT.items))
        catalog = load_bundle_catalog(folder, record["catalog"], len(items["known"]))
        reader = None
        if config.model.history_encoder != "sequence":
            reader = CatalogEncoder.from_texts(
                open_backbone(folder, config, base, weights, backbone=backbone), catalog.list_texts()
            )
        model = _load_model(folder, config, items, reader)
        then, now = compare_environments(folder, base, None if reader is None else reader.backbone)
        if reader is not None:
            check_encoding(model, reader.backbone, catalog.list_texts()[:8], then, present=now)
        check_probe(model, record["probe"], then, now)
        drift = _load_drift(folder, record, config, model)
        removed = tuple(record.get("removed", ()))
        catalog.find_rows(removed)
        return Bundle(config, catalog, model, base, weights, record["facts"], record["evaluation"], drift, removed)


def load_base_backbone(folder: Path, bundle: Bundle, *, backbone: str | None = None) -> TextBackbone:
    """Load the base of a bundle as it was before any training.

    Args:
        folder: Folder of the bundle.
        bundle: The loaded bundle.
        backbone: Folder or Hub id of the base; None for an installed package's copy, else the Hub.

    Returns:
        The base.

    Raises:
        BundleError: If the bundle has ids only, or the base is not the bundle's.
        BackboneError: If the base cannot be loaded.
    """
    return open_backbone(folder, bundle.config, bundle.base, None, backbone=backbone)


def load_backbone(folder: Path, bundle: Bundle, *, backbone: str | None = None) -> TextBackbone:
    """Load the backbone of a bundle with its trained weights, and verify it.

    Args:
        folder: Folder of the bundle.
        bundle: The loaded bundle.
        backbone: Folder or Hub id of the base; None for an installed package's copy, else the Hub.

    Returns:
        The backbone.

    Raises:
        BundleError: If the bundle has ids only, the base is not the bundle's, or vectors do not reproduce.
        BackboneError: If the base cannot be loaded.
    """
    if isinstance(bundle.model.histories, BackboneHistoryEncoder):
        return bundle.model.histories.backbone  # loaded with the bundle
    loaded = open_backbone(folder, bundle.config, bundle.base, bundle.trained_backbone, backbone=backbone)
    recorded, present = compare_environments(folder, bundle.base, loaded)
    check_encoding(bundle.model, loaded, bundle.catalog.list_texts()[:8], recorded, present=present)
    return loaded


def _save_tensors(folder: Path, bundle: Bundle) -> None:
    model = bundle.model
    heads = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    save_file(heads, folder / LAYOUT.heads)
    items: dict[str, Tensor] = {"known": model.items.known.cpu().to(torch.uint8)}
    if model.items.text is not None:
        items["text"] = model.items.text.cpu().contiguous()
    save_file(items, folder / LAYOUT.items)
    if bundle.drift is not None:
        save_drift(folder, bundle.drift, model.items.text)
    if isinstance(bundle.trained_backbone, StoredWeights):
        verify_hashes(bundle.trained_backbone.folder, bundle.trained_backbone.files)
        for name in bundle.trained_backbone.files:
            shutil.copyfile(bundle.trained_backbone.folder / name, folder / name)
    elif bundle.trained_backbone is not None and bundle.config.backbone.adapter is not None:
        tuned: Any = bundle.trained_backbone.model
        tuned.save_pretrained(folder, save_embedding_layers=False)
        (folder / LAYOUT.card).unlink(missing_ok=True)  # PEFT's card, which llmrec's replaces
    elif bundle.trained_backbone is not None:
        save_file(get_trainable_state(bundle.trained_backbone.model), folder / LAYOUT.backbone)
    if bundle.base is not None and (folder / LAYOUT.adapter_config).exists():
        set_base_name(folder / LAYOUT.adapter_config, bundle.base)


def _load_model(
    folder: Path, config: FinetuneConfig, items: dict[str, Tensor], reader: CatalogEncoder | None
) -> RecommenderModel:
    """Load the model after checking weights against settings, which then cannot request more memory."""
    settings, heads = replace(config.model, adaptor_start="random"), load_file(bundle_file(folder, LAYOUT.heads))
    if reader is None:
        with build_on_meta():
            text = items["text"].to("meta") if "text" in items else None
            sketch = RecommenderModel(settings, items["known"].to("meta"), text)
        sketch.load_state_dict({name: weight.to("meta") for name, weight in heads.items()}, strict=True)
    model = RecommenderModel(settings, items["known"].bool(), items.get("text"), reader=reader)
    model.load_state_dict(heads, strict=True)
    return model.eval()


def _load_drift(
    folder: Path, record: dict[str, Any], config: FinetuneConfig, model: RecommenderModel
) -> FittedDrift | None:
    """Load the drift head; None for a bundle without one, such as older bundles."""
    kept = record.get("drift")
    if kept is None or config.drift is None:
        return None
    return load_drift(folder, config.drift, model.items.text, **kept)
