"""A recommender as a folder: PEFT's adapter, our heads, the catalog with its vectors, and a record of everything.

safetensors, JSON and parquet only. Users' histories are not in it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from llmrec.config import FinetuneConfig
from llmrec.config_files import config_from
from llmrec.data.catalog import ItemCatalog
from llmrec.errors import BundleError, ConfigError
from llmrec.hub.card import render_card
from llmrec.hub.layout import FORMAT, LAYOUT, check_digests, digests, replacing
from llmrec.hub.probe import check_probe, check_reading, make_probe
from llmrec.models.backbone import Backbone
from llmrec.models.locate import packaged_copy_of
from llmrec.models.recommender_model import RecommenderModel
from llmrec.models.transfer import load_lora
from llmrec.training.checkpoints import load_trainable, trainable_state
from llmrec.versions import package_versions

UNREADABLE = (
    AttributeError, LookupError, RuntimeError, TypeError, ConfigError, SafetensorError, pa.ArrowException
)  # fmt: skip


@dataclass(frozen=True)
class BaseModel:
    """The pretrained model that a bundle builds on: its public name, revision, and a hash of weights and tokenizer."""

    hub_id: str
    revision: str | None
    fingerprint: str

    @classmethod
    def of(cls, backbone: Backbone) -> BaseModel:
        return cls(backbone.hub_id, backbone.config.revision, backbone.base_fingerprint)


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds.

    tuned: the backbone with its trained weights, None where it stayed frozen (or is not loaded: see `load_backbone`).
    base: None for a model on ids alone. facts: of the log. evaluation: rows, protocol and main model of the report.
    """

    config: FinetuneConfig
    catalog: ItemCatalog
    model: RecommenderModel
    base: BaseModel | None
    tuned: Backbone | None
    facts: dict[str, Any]
    evaluation: dict[str, Any]


def save_bundle(folder: Path, bundle: Bundle) -> None:
    """Write `bundle` to `folder`, whole or not at all; an older bundle there is replaced.

    Raises:
        BundleError: something else than a bundle is in the way.
    """
    with replacing(folder) as partial:
        _save_tensors(partial, bundle)
        pq.write_table(bundle.catalog.fields, partial / LAYOUT.catalog)
        record = {
            "format": FORMAT,
            "config": json.loads(json.dumps(dataclasses.asdict(bundle.config), default=str)),
            "catalog": {"id_column": bundle.catalog.id_column, "release_column": bundle.catalog.release_column,
                        "template": bundle.catalog.template},
            "base": None if bundle.base is None else dataclasses.asdict(bundle.base),
            "facts": bundle.facts,
            "evaluation": bundle.evaluation,
            "versions": package_versions(),
            "probe": make_probe(bundle.model),
            "files": digests(partial),
        }  # fmt: skip
        (partial / LAYOUT.settings).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        (partial / LAYOUT.card).write_text(render_card(record), encoding="utf-8")


def load_bundle(folder: Path) -> Bundle:
    """Read and verify a bundle, without its backbone: known items need none.

    Raises:
        BundleError: not a bundle, a newer format, a file missing or altered, or scores that do not reproduce.
    """
    record = read_record(folder)
    try:
        check_digests(folder, record["files"])
        config = config_from(FinetuneConfig, record["config"])
        catalog = _load_catalog(folder, record["catalog"])
        model = _load_model(folder, config)
        base = None if record["base"] is None else BaseModel(**record["base"])
        check_probe(model, record["probe"], record["versions"], package_versions())
        return Bundle(config, catalog, model, base, None, record["facts"], record["evaluation"])
    except UNREADABLE as error:
        raise BundleError(f"{folder}: not readable as a bundle ({error}); save or download it again") from error


def read_record(folder: Path) -> dict[str, Any]:
    """The bundle's llmrec.json."""
    path = folder / LAYOUT.settings
    if not path.is_file():
        raise BundleError(f"{folder} is not a bundle (no {LAYOUT.settings}); give the folder that finetune.py wrote")
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no UTF-8
        raise BundleError(f"{path} is damaged ({error}); copy or download the bundle again") from error
    found = record.get("format") if isinstance(record, dict) else None
    if found != FORMAT:
        raise BundleError(f"{path}: format {found}, this llmrec reads {FORMAT}; install a matching llmrec")
    return record


def load_backbone(folder: Path, bundle: Bundle, backbone: str | None = None) -> Backbone:
    """The backbone of a loaded bundle with its trained weights, verified against the base and the catalog's vectors.

    backbone: a folder or hub id to take the base from; else an installed package's copy, else the hub.

    Raises:
        BundleError: a bundle on ids alone, another base than the bundle's, or vectors that do not reproduce.
        BackboneError: the base cannot be loaded.
    """
    if bundle.base is None:
        raise BundleError(f"{folder}: this recommender knows items by id alone and cannot read text")
    name = backbone or str(packaged_copy_of(bundle.base.hub_id) or bundle.base.hub_id)
    config = replace(bundle.config.backbone, name=name, hub_id=bundle.base.hub_id)
    loaded = Backbone.load(config)
    if loaded.base_fingerprint != bundle.base.fingerprint:
        raise BundleError(
            f"backbone {name!r} is not the bundle's base {bundle.base.hub_id} (revision "
            f"{bundle.base.revision or 'default'}): weights or tokenizer differ; give the right one as backbone="
        )
    record = read_record(folder)
    if config.strategy == "lora":
        loaded.model = load_lora(loaded.model, folder)
    elif (folder / LAYOUT.backbone).is_file():
        state = load_file(folder / LAYOUT.backbone)
        for parameter_name, parameter in loaded.model.named_parameters():
            parameter.requires_grad_(parameter_name in state)
        load_trainable(loaded.model, state)
    check_reading(bundle.model, loaded, bundle.catalog.texts()[:8], record["versions"], package_versions())
    return loaded.requires_grad_(False)


def _save_tensors(folder: Path, bundle: Bundle) -> None:
    model = bundle.model
    heads = {name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()}
    save_file(heads, folder / LAYOUT.heads)
    items: dict[str, Tensor] = {"known": model.items.known.cpu().to(torch.uint8)}
    if model.items.text is not None:
        items["text"] = model.items.text.cpu().contiguous()
    save_file(items, folder / LAYOUT.items)
    if bundle.tuned is None:
        return
    if bundle.config.backbone.strategy == "lora":
        tuned: Any = bundle.tuned.model
        tuned.save_pretrained(folder, save_embedding_layers=False)
        (folder / LAYOUT.card).unlink(missing_ok=True)  # PEFT's own; ours takes its place
    else:
        save_file(trainable_state(bundle.tuned.model), folder / LAYOUT.backbone)


def _load_catalog(folder: Path, settings: dict[str, Any]) -> ItemCatalog:
    fields, released = pq.read_table(folder / LAYOUT.catalog), settings["release_column"]
    if released is not None:  # parquet has no seconds and gives milliseconds back
        place = fields.column_names.index(released)
        fields = fields.set_column(place, released, fields[released].cast(pa.timestamp("s", "UTC")))
    return ItemCatalog(fields, **settings)


def _load_model(folder: Path, config: FinetuneConfig) -> RecommenderModel:
    items = load_file(folder / LAYOUT.items)
    model = RecommenderModel(replace(config.model, whiten=False), items["known"].bool(), items.get("text"))
    model.load_state_dict(load_file(folder / LAYOUT.heads), strict=True)
    return model.eval()
