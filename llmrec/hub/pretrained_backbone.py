"""Export of a pretrained backbone that AutoModel, sentence-transformers and `backbone.name` load.

The weights are plain: adapter layers are merged into them, and also saved in PEFT's folder `adapter/`.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from llmrec.backbones.model_files.resolve import is_hub_id, resolve_backbone
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.hub.layout import atomic_folder
from llmrec.hub.sentence_modules import save_modules, save_pooling

RECORD = "pretraining.json"
CARD = """---
{base}tags:
- feature-extraction
- llmrec
---

# {title}, trained further on {source}

By {objectives} ({strategy}, {step} steps), on {n_events} training events; `{record}` has the whole record.
Pooling: {pooling}. For fine-tuning: `recipes/finetune.py --backbone.name THIS_FOLDER --backbone.hub_id OWNER/NAME`.
Vectors are only right with the text template and split that were used here: a test window that begins earlier than this
one's would be judged by a backbone that has seen it.
"""


def save_pretrained(folder: Path, backbone: TextBackbone, record: dict[str, Any]) -> None:
    """Write weights, tokenizer, pooling and record of a backbone, completely or not at all.

    Args:
        folder: Folder to write.
        backbone: Backbone after continued pretraining.
        record: Record with `data`, `config`, `base`, `corpus` and `best_step`.

    Raises:
        BundleError: If the folder has something else.
    """
    with atomic_folder(folder, RECORD, kind="a pretrained backbone") as partial:
        _save_weights(partial, backbone)
        backbone.tokenizer.save_pretrained(partial)
        save_pooling(partial, backbone)
        recipe = backbone.recipe
        if recipe.is_sentence_model:  # without modules.json, a decoder's texts end in an EOS
            save_modules(partial, backbone, recipe.prompts, recipe.default_prompt, max_tokens=recipe.max_tokens)
        (partial / RECORD).write_text(json.dumps(record, indent=1, default=str))
        (partial / "README.md").write_text(_render_card(backbone, record))


def _save_weights(folder: Path, backbone: TextBackbone) -> None:
    model: Any = backbone.model
    if backbone.config.adapter is not None:
        model.save_pretrained(folder / "adapter", save_embedding_layers=False)
        model = copy.deepcopy(model).merge_and_unload()
    model.save_pretrained(folder)


def _render_card(backbone: TextBackbone, record: dict[str, Any]) -> str:
    title = resolve_backbone(backbone.config.name, backbone.config.hub_id).hub_id
    public = is_hub_id(title)
    return CARD.format(
        base=f"base_model: {title}\n" if public else "",
        title=title if public else "A model without a public name",
        source=record["data"]["source"],
        objectives=" and ".join(f"{name} x {weight:g}" for name, weight in record["config"]["objectives"].items()),
        strategy=backbone.config.strategy,
        step=f"{record['best_step']:g}",
        n_events=f"{record['corpus']['n_events']:,}",
        record=RECORD,
        pooling=backbone.pooling,
    )
