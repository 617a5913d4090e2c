"""States of the encoders that a backbone serves: they see their own past and nothing else, whatever stands beside."""

from pathlib import Path

import pytest
import torch

from llmrec.backbones.catalog_encoder import CatalogEncoder
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.config.model import HistoryEncoderName, HistoryTextConfig, ModelConfig
from llmrec.data.batches import HistoryBatch
from llmrec.errors import ConfigError
from llmrec.models.recommender_model import RecommenderModel

TEXTS = ["space robot", "love", "war night river mountain", "garden kitchen", "face cream", "hair oil"]
STEPS = 4
KINDS: list[tuple[HistoryEncoderName, str]] = [("backbone", "gpt2"), ("text", "gpt2"), ("text", "bert")]


@pytest.fixture
def tiny(tiny_bert: Path, tiny_gpt2: Path) -> dict[str, Path]:
    return {"bert": tiny_bert, "gpt2": tiny_gpt2}


def model_of(path: Path, encoder: HistoryEncoderName, max_history: int = STEPS) -> RecommenderModel:
    torch.manual_seed(0)
    config = ModelConfig(
        dim=8, max_history=max_history, history_encoder=encoder, history_text=HistoryTextConfig(max_tokens=32)
    )
    backbone = TextBackbone.load(BackboneConfig(name=str(path)))
    text = backbone.encode(backbone.tokenize(TEXTS))
    return RecommenderModel(
        config, torch.ones(6, dtype=torch.bool), text, reader=CatalogEncoder.from_texts(backbone, TEXTS)
    ).eval()


def batch_of(*histories: list[int], steps: int = STEPS) -> HistoryBatch:
    """Every state of every history is asked for."""
    history = torch.tensor([rows + [0] * (steps - len(rows)) for rows in histories])
    length = torch.tensor([len(rows) for rows in histories])
    mask = torch.arange(steps) < length[:, None]
    time = torch.zeros_like(history)
    source = torch.cat([row * (steps + 1) + torch.arange(n + 1) for row, n in enumerate(length.tolist())])
    return HistoryBatch(history, mask, time, torch.zeros(len(length), steps + 1), source, torch.zeros_like(source))


@torch.no_grad()
def states(model: RecommenderModel, *histories: list[int], steps: int = STEPS) -> torch.Tensor:
    return model.encode_histories(model.items(), batch_of(*histories, steps=steps))


@pytest.mark.parametrize(("encoder", "family"), KINDS)
def test_a_later_event_changes_no_earlier_state(
    tiny: dict[str, Path], encoder: HistoryEncoderName, family: str
) -> None:
    model = model_of(tiny[family], encoder)
    before, after = states(model, [3, 1, 5, 2]), states(model, [3, 1, 4, 0])
    assert before.shape == (5, 8)
    torch.testing.assert_close(after[:3], before[:3])
    assert (after[3:] - before[3:]).abs().amax(1).min() > 1e-3


@pytest.mark.parametrize(("encoder", "family"), KINDS)
def test_padding_and_company_change_nothing(tiny: dict[str, Path], encoder: HistoryEncoderName, family: str) -> None:
    model = model_of(tiny[family], encoder)
    together = states(model, [3, 1], [2, 4, 5, 0], [])
    assert together.shape == (3 + 5 + 1, 8)
    assert torch.isfinite(together).all()
    torch.testing.assert_close(together[:3], states(model, [3, 1], steps=2))
    torch.testing.assert_close(together[8:], states(model, [], steps=1))


@pytest.mark.parametrize(("encoder", "family"), KINDS)
def test_order_makes_a_difference(tiny: dict[str, Path], encoder: HistoryEncoderName, family: str) -> None:
    model = model_of(tiny[family], encoder)
    assert not torch.allclose(states(model, [3, 1])[-1], states(model, [1, 3])[-1], atol=1e-3)


@pytest.mark.parametrize(("encoder", "family"), KINDS)
def test_a_process_without_a_share_of_the_batch_goes_along(
    tiny: dict[str, Path], encoder: HistoryEncoderName, family: str
) -> None:
    model = model_of(tiny[family], encoder)
    empty = HistoryBatch(*(column[:0] for column in batch_of([1])))
    states = model.encode_histories(model.items(), empty)
    assert states.shape == (0, 8)
    states.sum().backward()  # other processes wait for the gradients of all
    assert all(weight.grad is not None for name, weight in model.named_parameters() if "histories" in name)


def test_one_that_looks_ahead_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(ConfigError, match=r"BertModel of backbone.name=.* attends to later events.* text or sequence"):
        model_of(tiny_bert, "backbone")


def test_a_history_has_to_fit_the_positions(tiny_gpt2: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_history=128: GPT2Model has 128 positions.* at most 127"):
        model_of(tiny_gpt2, "backbone", max_history=128)
    assert model_of(tiny_gpt2, "backbone", max_history=127)


@pytest.mark.parametrize("encoder", ["backbone", "text"])
def test_the_backbone_follows_to_another_type_of_number(tiny_gpt2: Path, encoder: HistoryEncoderName) -> None:
    model = model_of(tiny_gpt2, encoder).double()  # as .to(device) does, which a machine without one cannot show
    assert model.histories.reader.backbone.model.wte.weight.dtype == torch.float64
    assert not any("wte" in name for name in model.state_dict())
