"""Texts that stand in one row are read as if each stood alone, exactly or fast."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from llmrec.backbones import fast_encoding, packing
from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.length_batches import batch_by_length
from llmrec.backbones.linear_kernels import Arithmetic
from llmrec.backbones.packing import PackedModel, pack_rows
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig, LoraConfig

WORDS = ["space", "robot", "love", "war", "night", "river", "mountain", "garden", "kitchen", "cream", "face", "hair"]
FP32, BF16, FP16 = (Arithmetic(dtype, onednn=False) for dtype in (torch.float32, torch.bfloat16, torch.float16))
REAL = BackboneConfig(name="packaged:all-MiniLM-L6-v2", max_tokens=256)


def texts_of(n: int, most: int = 12) -> list[str]:
    """Of 1 to `most` words."""
    draw = np.random.default_rng(0)
    return [" ".join(draw.choice(WORDS, draw.integers(1, most + 1))) for _ in range(n)]


def one_by_one(backbone: TextBackbone, texts: list[str]) -> Tensor:
    """By the model itself, without padding, mask or batches."""
    read = []
    for text in texts:
        ids, _ = backbone.tokenize([text]).get_batch(np.arange(1), backbone.device)
        with torch.no_grad():
            hidden = backbone.model(input_ids=ids).last_hidden_state[0]
        pooled = {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[backbone.pooling]
        read.append(functional.normalize(pooled, dim=0))
    return torch.stack(read)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few the texts; rows are short, so that there are several."""
    monkeypatch.setattr(fast_encoding, "COPIED_FROM", 1)
    monkeypatch.setattr(packing, "TOKENS_AT_ONCE", 200)


@pytest.fixture
def tiny_roberta(tiny_bert: Path, tmp_path: Path) -> Path:
    """Counts its positions from 2, as its padding is 1; the tokenizer is BERT's."""
    from transformers import AutoTokenizer, RobertaConfig, RobertaModel

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=130, pad_token_id=1, **sizes)
    RobertaModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("name", ["tiny_bert", "tiny_roberta", "tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize("strategy", ["frozen", "lora", "dora"])
def test_a_text_is_read_as_if_it_stood_alone(name: str, strategy: str, request: pytest.FixtureRequest) -> None:
    lora = LoraConfig(rank=2, use_dora=strategy == "dora")
    config = BackboneConfig(name=str(request.getfixturevalue(name)), hub_id="owner/tiny", lora=lora)
    config = replace(config, strategy="frozen" if strategy == "frozen" else "lora")
    backbone = TextBackbone.load(config)
    apply_strategy(backbone, config)
    with torch.no_grad():
        for weight in backbone.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn_like(weight))
    before = backbone.fingerprint()
    texts = texts_of(60)
    tokens = backbone.tokenize(texts)
    assert backbone.fast_encoding.choose_arithmetic(tokens) is not None
    torch.testing.assert_close(backbone.encode(tokens), one_by_one(backbone, texts), atol=1e-5, rtol=0)
    assert backbone.fingerprint() == before
    assert {weight.dtype for weight in backbone.parameters()} == {torch.float32}


@pytest.mark.usefixtures("always")
def test_few_texts_long_ones_and_all_poolings(tiny_bert: Path) -> None:
    for pooling in ("mean", "cls", "last"):
        backbone = TextBackbone.load(BackboneConfig(name=str(tiny_bert), pooling=pooling, max_tokens=128))
        for texts in (["hats"], texts_of(5, most=120)):
            found = backbone.encode(backbone.tokenize(texts))
            torch.testing.assert_close(found, one_by_one(backbone, texts), atol=1e-5, rtol=0)
    assert backbone.encode(backbone.tokenize([])).shape == (0, 32)


@pytest.mark.usefixtures("always")
def test_an_architecture_that_reads_one_text_a_row_only(tiny_bert: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, MPNetConfig, MPNetModel

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    MPNetModel(MPNetConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path)  # positions by distance
    tokenizer.save_pretrained(tmp_path)
    backbone, texts = TextBackbone.load(BackboneConfig(name=str(tmp_path))), texts_of(20)
    tokens = backbone.tokenize(texts)
    assert backbone.fast_encoding.choose_arithmetic(tokens) is None
    torch.testing.assert_close(backbone.encode(tokens), one_by_one(backbone, texts), atol=1e-5, rtol=0)


@pytest.mark.usefixtures("always")
def test_a_broken_call_is_an_error_and_no_slow_reading(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = TextBackbone.load(BackboneConfig(name=str(tiny_bert)))
    tokens = backbone.tokenize(texts_of(20))
    monkeypatch.setattr(packing.PackedModel, "encode", lambda self: iter(()))  # takes no tokens
    with pytest.raises(TypeError):
        backbone.fast_encoding.choose_arithmetic(tokens)


def test_rows_are_full_and_hold_each_text_once() -> None:
    lengths = np.array([3, 9, 3, 4, 20, 3])
    rows = pack_rows(lengths, tokens_at_once=10)
    assert [row.tolist() for row in rows] == [[0, 2, 5], [3], [1], [4]]  # 9 tokens, 4, 9, and one longer than a row
    assert pack_rows(lengths[:0], 10) == []


def test_hidden_states_have_no_padding_but_to_a_round_length(tiny_bert: Path) -> None:
    backbone = TextBackbone.load(BackboneConfig(name=str(tiny_bert)))
    seen: list[int] = []
    model = PackedModel(backbone.model, FP32)
    model.model.register_forward_pre_hook(lambda _, __, given: seen.append(given["input_ids"].shape), with_kwargs=True)
    tokens = backbone.tokenize(texts_of(200))
    with torch.no_grad():
        runs = [(len(rows), hidden.shape[1]) for rows, hidden in model.encode(tokens)]
    assert sum(n * length for n, length in runs) == len(tokens.flat)
    assert all(rows == 1 and row % packing.ROUND == 0 for rows, row in seen)
    assert sum(row for _, row in seen) - len(tokens.flat) < packing.ROUND * len(seen)


@pytest.mark.usefixtures("always")
def test_what_fp16_cannot_hold_is_read_exactly(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_encoding, "choose_fastest", lambda reduced: FP16 if reduced else FP32)
    backbone = TextBackbone.load(BackboneConfig(name=str(tiny_bert), encode_precision="auto"))
    texts = [*texts_of(60), "space robot shoes"]
    row = backbone.tokenizer(texts[-1:], add_special_tokens=False)["input_ids"][0][-1]
    with torch.no_grad():
        backbone.model.get_input_embeddings().weight[row] *= 1e8  # beyond 65,504
    tokens = backbone.tokenize(texts)
    with torch.no_grad():
        (_, hidden), *_ = PackedModel(backbone.model, FP16).encode(tokens.take(np.array([60])))
    assert not hidden.isfinite().all()
    expected = one_by_one(backbone, texts)
    cosine = (backbone.encode(tokens) * expected).sum(1)
    assert float(cosine[:-1].min()) < 1 - 1e-7  # fp16 was used
    assert float(cosine.min()) > 0.9999


@pytest.fixture
def titles(shared_data: Callable[[str], Path]) -> list[str]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(shared_data("amazon14_beauty") / "items.parquet", columns=["title"])
    return [title for title in table["title"].to_pylist() if title][::60]


@pytest.mark.usefixtures("minilm")
def test_minilm_read_exactly_and_fast(titles: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_encoding, "COPIED_FROM", 1)
    monkeypatch.setattr(fast_encoding, "choose_fastest", lambda reduced: BF16 if reduced else FP32)
    exact, fast = TextBackbone.load(REAL), TextBackbone.load(replace(REAL, encode_precision="auto"))
    tokens = exact.tokenize(titles)
    vectors, near = exact.encode(tokens), fast.encode(tokens)
    plain = torch.empty_like(vectors)
    with torch.no_grad():
        for rows in batch_by_length(tokens.lengths, 1024):
            plain[torch.from_numpy(rows)] = exact(*tokens.get_batch(rows, exact.device))
    assert float((vectors * plain).sum(1).min()) > 1 - 1e-6
    assert 0.9999 < float((near * plain).sum(1).min()) < 1 - 1e-6  # bf16 was used
    top = [(table @ table.T).fill_diagonal_(-1).topk(10).indices for table in (plain, near)]
    overlap = (top[0][:, :, None] == top[1][:, None]).any(2).float().mean()
    assert float(overlap) >= 0.98


@pytest.mark.usefixtures("always")
def test_bf16_that_comes_not_near_enough_is_not_used(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_encoding, "FAST", 0.9999999)
    monkeypatch.setattr(fast_encoding, "choose_fastest", lambda reduced: BF16 if reduced else FP32)
    exact = TextBackbone.load(BackboneConfig(name=str(tiny_bert)))
    fast = TextBackbone.load(BackboneConfig(name=str(tiny_bert), encode_precision="auto"))
    tokens = exact.tokenize(texts_of(30))
    with pytest.warns(UserWarning, match=r"encode_precision=auto.*read exactly"):
        found = fast.encode(tokens)
    assert torch.equal(found, exact.encode(tokens))
