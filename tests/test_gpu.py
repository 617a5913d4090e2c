"""What a GPU gives, beside what a CPU gives: `CUDA_VISIBLE_DEVICES=0 scripts/test tests/test_gpu.py`."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch.nn import functional

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.hidden_state_cache import HiddenStateCache
from llmrec.backbones.open_model import OpenedModel
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.hub.bundle import Bundle, save_bundle
from llmrec.models.losses import full_softmax_loss
from llmrec.recommender import Recommender
from llmrec.search.quantized_table import Precision, QuantizedTable
from llmrec.search.row_pairs import RowPairs
from llmrec.search.topk import top_k
from tests.conftest import WORDS

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU, which tests do not see unless CUDA_VISIBLE_DEVICES names it"
)
GPU = "cuda"
PLAIN = BackboneConfig()


@pytest.fixture(autouse=True)
def whole_precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("name", ["tiny_bert", "tiny_gpt2", "tiny_llama"])
def test_texts_are_read_as_a_cpu_reads_them(name: str, request: pytest.FixtureRequest) -> None:
    config = BackboneConfig(name=str(request.getfixturevalue(name)), hub_id="owner/tiny")
    texts = [" ".join(WORDS[row % 7 : row % 7 + 1 + row % 9]) for row in range(4000)]
    on_cpu = TextBackbone.load(config)
    expected = on_cpu.encode(on_cpu.tokenize(texts))
    exact, fast = TextBackbone.load(config).to(GPU), TextBackbone.load(replace(config, encode_precision="auto")).to(GPU)
    torch.testing.assert_close(exact.encode(exact.tokenize(texts)), expected, atol=1e-5, rtol=0)
    assert fast.fast_encoding.choose_arithmetic(fast.tokenize(texts)) is not None
    assert float((fast.encode(fast.tokenize(texts)) * expected).sum(1).min()) >= 0.9999


def test_the_loss_and_its_gradients() -> None:
    torch.manual_seed(0)
    states, items = torch.randn(300, 16).requires_grad_(), torch.randn(5000, 16).requires_grad_()
    target = torch.randint(5000, (300,))
    functional.cross_entropy(states @ items.T, target, reduction="sum").backward()
    others = [tensor.detach().to(GPU).requires_grad_() for tensor in (states, items)]
    full_softmax_loss(*others, target.to(GPU)).backward()
    for own, other in zip((states, items), others, strict=True):
        torch.testing.assert_close(other.grad.cpu(), own.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("precision", get_args(Precision))
@pytest.mark.parametrize("n_queries", [1, 600])
def test_the_best_items(precision: Precision, n_queries: int) -> None:
    torch.manual_seed(0)
    items, queries = torch.randn(50_000, 32), torch.randn(n_queries, 32)
    without = RowPairs(torch.arange(n_queries), torch.randint(50_000, (n_queries,)))
    scores = queries.double() @ items.double().T
    scores[without.query, without.item] = -torch.inf
    table = QuantizedTable.from_vectors(items.to(GPU), precision)
    found = top_k(table, queries.to(GPU), 20, without=without.to(torch.device(GPU)))
    best = scores.topk(20)
    torch.testing.assert_close(found.score.cpu().double(), best.values, atol=1e-4, rtol=0)
    assert float((found.item.cpu() == best.indices).double().mean()) > 0.999  # near ties may change places


@pytest.mark.parametrize("strategy", ["frozen", "lora"])
def test_a_bundle_scores_as_on_a_cpu(strategy: str, make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    bundle = make_bundle(strategy)
    save_bundle(tmp_path / "bundle", bundle)
    base, events = bundle.config.backbone.name, [("i1", 10), ("i2", 20)]
    wanted = ["i3", "i4", {"item_id": "new", "title": "red hats"}]
    one, other = (
        Recommender.from_pretrained(tmp_path / "bundle", backbone=base, device=device) for device in ("cpu", GPU)
    )
    assert other.score(events, wanted) == pytest.approx(one.score(events, wanted), abs=1e-4)


def test_a_compiled_copy_follows_the_weights(tiny_bert: Path) -> None:
    backbone = TextBackbone.load(BackboneConfig(name=str(tiny_bert), encode_precision="auto", compile=True)).to(GPU)
    tokens = backbone.tokenize([" ".join(WORDS[row % 7 : row % 7 + 1 + row % 9]) for row in range(4000)])
    before = backbone.encode(tokens)
    with torch.no_grad():
        for weight in backbone.model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    found = backbone.encode(tokens)
    expected = TextBackbone.encode(
        TextBackbone(OpenedModel(backbone.model, backbone.tokenizer, "owner/tiny"), PLAIN), tokens
    )
    assert float((before * found).sum(1).max()) < 0.999
    assert float((found * expected).sum(1).min()) >= 0.9999


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_kept_states_lie_on_the_gpu(dtype: str, tiny_bert: Path, tmp_path: Path) -> None:
    config = BackboneConfig(name=str(tiny_bert), strategy="last_k", last_k=1)
    backbone = TextBackbone.load(config).to(GPU)
    apply_strategy(backbone, config)
    tokens = backbone.tokenize([" ".join(WORDS[row : row + 1 + row % 5]) for row in range(20)])
    lower = HiddenStateCache.load_or_compute(backbone, tokens, kept=dtype, cache_dir=tmp_path)
    assert lower is not None
    assert lower.states.is_cuda
    torch.testing.assert_close(
        backbone.encode_with_grad(tokens, lower),
        backbone.encode_with_grad(tokens),
        atol=1e-5 if dtype == "fp32" else 1e-2,
        rtol=0,
    )
