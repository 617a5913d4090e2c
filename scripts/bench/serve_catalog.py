"""A bundle over a generated catalog with a tiny random backbone: what its size costs, and nothing of its sense."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, BertTokenizerFast

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.config.drift import DriftConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.data.items.catalog import ItemCatalog
from llmrec.data.log import LogFacts
from llmrec.drift.fitted import FittedDrift
from llmrec.drift.head import DriftHead
from llmrec.drift.terms.latent_chain import LatentChain
from llmrec.drift.text_neighbors import center_and_normalize, find_text_neighbors
from llmrec.hub.base_model import BaseModelInfo
from llmrec.hub.bundle import Bundle, save_bundle
from llmrec.models.recommender_model import RecommenderModel

WORDS = "space robot love war night river mountain garden kitchen cream face hair oil drama comedy horror".split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TITLE_WORDS = 4


def save_generated(folder: Path, n_items: int, with_drift: bool) -> Path:
    """Write `folder`/bundle and the folder of its backbone, which is returned."""
    torch.manual_seed(0)
    path = _save_backbone(folder / "backbone")
    words = torch.randint(len(WORDS), (n_items, TITLE_WORDS)).tolist()
    titles = [f"{' '.join(WORDS[word] for word in row)} {number % 97}" for number, row in enumerate(words)]
    ids = pa.array([f"g{number}" for number in range(n_items)], pa.large_string())
    catalog = ItemCatalog(pa.table({"item_id": ids, "title": pa.array(titles, pa.large_string())}))
    backbone_config = BackboneConfig(name=str(path), hub_id="generated/tiny")
    config = FinetuneConfig(DataConfig(source="generated"), backbone=backbone_config, model=ModelConfig())
    backbone = TextBackbone.load(backbone_config)
    text = backbone.encode(backbone.tokenize(titles))
    model = RecommenderModel(
        config.model, torch.ones(n_items, dtype=torch.bool), text, reader=CatalogEncoder.from_texts(backbone, titles)
    ).eval()
    facts = LogFacts("generated", 0, 0, n_items, 0, "second", "never", "never", 0, 0, 0, "generated")
    evaluation = {"main": "llmrec", "primary": "ndcg@10", "protocol": {}, "rows": []}
    bundle = Bundle(config, catalog, model, BaseModelInfo.from_backbone(backbone), None, asdict(facts), evaluation)
    if with_drift:
        drift_config = DriftConfig()
        head = DriftHead(drift_config, LatentChain(center_and_normalize(text)[: drift_config.n_states])).requires_grad_(
            False
        )
        near = find_text_neighbors(center_and_normalize(text), drift_config.n_text_neighbors)
        drift = FittedDrift(head, 60.0, text, text.mean(0), text_neighbors=near)
        bundle = replace(bundle, config=replace(config, drift=drift_config), drift=drift)
    save_bundle(folder / "bundle", bundle)
    return path


def _save_backbone(folder: Path) -> Path:
    tokens = [*SPECIAL, *WORDS, *map(str, range(100))]
    tokenizer = Tokenizer(models.WordPiece({token: row for row, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    size = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    BertModel(BertConfig(vocab_size=len(tokens), max_position_embeddings=64, **size)).save_pretrained(folder)
    BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=64).save_pretrained(folder)
    return folder
