"""Export of a bundle's text encoder to sentence-transformers."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmrec.backbones.model_files.resolve import is_hub_id
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.errors import BackboneError, BundleError
from llmrec.hub.bundle import Bundle
from llmrec.hub.layout import atomic_folder
from llmrec.hub.sentence_modules import save_modules, save_pooling

ENCODER = "llmrec_encoder.json"
CARD = """---
{base}library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags:
- sentence-transformers
- feature-extraction
- llmrec
---

# The text encoder of a recommender on {source}

From {title}, transferred as `{strategy}`. It reads an item's text as the recommender does, whose texts are made by
the template `{template}` and cut at {max_tokens} tokens; log `{fingerprint}`. Vectors have length one.

```python
from sentence_transformers import SentenceTransformer

encoder = SentenceTransformer("path/to/this/folder")
vectors = encoder.encode(["an item's text"])
```

What was learned on top of these vectors, of users and of items by their ids, is not in here; the recommender has it.
"""


def export_merged_encoder(folder: Path, backbone: TextBackbone, bundle: Bundle) -> None:
    """Export the text encoder of a bundle, with which sentence-transformers gives the bundle's vectors.

    Args:
        folder: Folder to write.
        backbone: Backbone of the bundle.
        bundle: The bundle.

    Raises:
        BundleError: If the folder has something else, or the prompt has words after the text, which
            sentence-transformers does not support.
        BackboneError: If the tokenizer of a decoder is not a fast one, which can end texts with EOS.
    """
    if backbone.config.quantize is not None:
        raise BundleError(
            "backbone.quantize: adapters cannot be merged into layers of few bits. Load the bundle's adapter with PEFT."
        )
    if backbone.pooling == "echo":
        raise BundleError(
            "backbone.pooling=echo: sentence-transformers cannot read a text twice. Encode texts with "
            "recommender.catalog.text_space.encode, or train with another pooling."
        )
    before, after = backbone.prompt.split("{text}", 1)
    if after:
        raise BundleError(
            f"backbone.prompt={backbone.prompt!r}: sentence-transformers does not support words after the text. "
            "Encode texts with recommender.catalog.text_space.encode, or train with a prompt that ends in {text}."
        )
    with atomic_folder(folder, ENCODER, kind="an exported encoder") as partial:
        model: Any = backbone.model
        merged = copy.deepcopy(model).merge_and_unload() if backbone.config.adapter is not None else model
        merged.save_pretrained(partial)
        make_eos_tokenizer(backbone).save_pretrained(partial)
        save_pooling(partial, backbone)
        save_modules(partial, backbone, {"item": before} if before else {}, before, max_tokens=backbone.max_tokens)
        record = {
            "base": asdict(bundle.base) if bundle.base is not None and is_hub_id(bundle.base.hub_id) else None,
            "data": bundle.facts,
            "template": bundle.catalog.template,
        }
        (partial / ENCODER).write_text(json.dumps(record, indent=1))
        (partial / "README.md").write_text(_render_card(backbone, bundle))


def make_eos_tokenizer(backbone: TextBackbone) -> Any:
    """Make a tokenizer that, for a decoder, ends each text with EOS by itself.

    Args:
        backbone: Backbone of the bundle.

    Returns:
        The tokenizer.

    Raises:
        BackboneError: If the tokenizer of a decoder is not a fast one.
    """
    tokenizer = backbone.tokenizer
    if not backbone.appends_eos:
        return tokenizer
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise BackboneError(
            f"tokenizer of {backbone.hub_id!r}: not a fast tokenizer, so it cannot end texts with EOS. Use a backbone "
            "with a fast one."
        )
    rules = json.loads(backend.to_str()) | {"padding": None, "truncation": None}
    _append_eos_rule(rules, tokenizer.eos_token, tokenizer.eos_token_id)
    fast: Any = PreTrainedTokenizerFast  # untyped
    return fast(
        tokenizer_object=Tokenizer.from_str(json.dumps(rules)),
        model_max_length=tokenizer.model_max_length,
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
        pad_token=tokenizer.pad_token or tokenizer.eos_token,
    )


def _append_eos_rule(rules: dict[str, Any], eos: str, eos_id: int) -> None:
    """Add EOS after a text to the rules of a tokenizer."""
    # The second of two templates in a sequence has no effect, so an existing one (for a BOS) is extended.
    given = rules["post_processor"] or {"type": "Sequence", "processors": []}
    steps = given["processors"] if given["type"] == "Sequence" else [given]
    template = next((step for step in steps if step["type"] == "TemplateProcessing"), None)
    if template is None:
        pair: list[dict[str, Any]] = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
        template = {"type": "TemplateProcessing", "single": pair[:1], "pair": pair, "special_tokens": {}}
        steps.append(template)
    template["single"].append({"SpecialToken": {"id": eos, "type_id": 0}})
    template["special_tokens"][eos] = {"id": eos, "ids": [eos_id], "tokens": [eos]}
    rules["post_processor"] = {"type": "Sequence", "processors": steps}


def _render_card(backbone: TextBackbone, bundle: Bundle) -> str:
    public = bundle.base is not None and is_hub_id(bundle.base.hub_id)
    return CARD.format(
        base=f"base_model: {backbone.hub_id}\n" if public else "",
        title=backbone.hub_id if public else "a model without a public name",
        strategy=backbone.config.strategy,
        source=bundle.facts["source"],
        fingerprint=bundle.facts["fingerprint"],
        template=bundle.catalog.template,
        max_tokens=backbone.max_tokens,
    )
