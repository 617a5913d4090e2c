"""What goes from one domain's model to another's: every weight but those of single items."""

from dataclasses import replace

import pytest
import torch

from llmrec.config.model import ModelConfig
from llmrec.errors import ConfigError
from llmrec.models.recommender_model import RecommenderModel
from llmrec.models.weight_transfer import TransferWeights, load_transfer_weights

CONFIG = ModelConfig(dim=8, n_layers=1, n_heads=2, max_history=5)


def model(n_items: int, seed: int, config: ModelConfig = CONFIG, width: int = 12) -> RecommenderModel:
    torch.manual_seed(seed)
    return RecommenderModel(config, torch.ones(n_items, dtype=torch.bool), torch.randn(n_items, width))


def test_everything_is_taken_over_but_single_items() -> None:
    source, target = model(20, 0), model(30, 1)
    own = target.items.ids.weight.detach().clone()  # type: ignore[union-attr]
    load_transfer_weights(target, TransferWeights.from_model(source))
    theirs = dict(source.named_parameters())
    for name, weight in target.named_parameters():
        assert torch.equal(weight, own if name == "items.ids.weight" else theirs[name])
        assert weight.requires_grad


def test_features_are_the_adaptor_alone_and_stay() -> None:
    source, target = model(20, 0), model(30, 1)
    before = {name: weight.detach().clone() for name, weight in target.named_parameters()}
    load_transfer_weights(target, TransferWeights.from_model(source).select_adaptor())
    moved = {name for name, weight in target.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {"items.adaptor.weight", "items.adaptor.bias"}
    assert {name for name, weight in target.named_parameters() if not weight.requires_grad} == moved


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (model(30, 1, replace(CONFIG, dim=4)), r"items.adaptor.weight: \(8, 12\) against \(4, 12\)"),
        (model(30, 1, replace(CONFIG, item_affinity=0.0)), r"affinity.scale: \(8,\) against none"),
        (model(30, 1, width=10), r"items.adaptor.weight: \(8, 12\) against \(8, 10\)"),
    ],
)
def test_other_layers_are_refused_and_nothing_changes(other: RecommenderModel, named: str) -> None:
    before = {name: weight.detach().clone() for name, weight in other.named_parameters()}
    with pytest.raises(ConfigError, match=named):
        load_transfer_weights(other, TransferWeights.from_model(model(20, 0)))
    assert all(torch.equal(weight, before[name]) for name, weight in other.named_parameters())


def test_fingerprints_tell_knowledge_apart() -> None:
    one, same, other = (TransferWeights.from_model(model(20, seed)) for seed in (0, 0, 1))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    assert (
        one.fingerprint()
        != one.select_adaptor().fingerprint()
        != replace(one.select_adaptor(), fixed=False).fingerprint()
    )
