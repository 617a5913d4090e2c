"""Every way of multiplying gives the same product, and what is not there is passed over."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from llmrec.backbones import linear_kernels
from llmrec.backbones.linear_kernels import Arithmetic, choose_fastest, replace_linear_layers

WAYS = [Arithmetic(dtype, onednn) for dtype in (torch.float32, torch.bfloat16) for onednn in (False, True)]


@pytest.fixture
def forgetful() -> None:
    """What was measured before is measured again, here and in later tests."""
    yield choose_fastest.cache_clear()
    choose_fastest.cache_clear()


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_linear_layers_keep_their_results(way: Arithmetic) -> None:
    if not linear_kernels._is_accurate(way):
        pytest.skip("not on this machine")
    model = nn.Sequential(nn.Linear(48, 96), nn.Linear(96, 32, bias=False), Conv1D(40, 32))
    x = torch.randn(70, 48)  # another number of rows than weights are laid out for
    expected = model(x)
    replace_linear_layers(model.to(way.dtype), way)
    error = (model(x.to(way.dtype)).float() - expected).norm() / expected.norm()
    assert error <= 2 * linear_kernels.ERROR[way.dtype]


@pytest.mark.usefixtures("forgetful")
def test_without_reduced_precision_all_is_fp32() -> None:
    assert choose_fastest(reduced=False).dtype == torch.float32
    assert choose_fastest(reduced=True) in WAYS


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("failure", ["absent", "wrong"])
def test_operators_that_are_gone_or_changed_are_not_used(failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Operators:
        """As of another release of torch."""

        if failure == "wrong":
            _reorder_linear_weight = staticmethod(lambda weight, rows: weight)
            _linear_pointwise = staticmethod(lambda x, weight, *rest: 1.01 * nn.functional.linear(x, weight, rest[0]))

    linear_kernels._make_layer.cache_clear()
    monkeypatch.setattr(torch.ops, "mkldnn", Operators)
    assert choose_fastest(reduced=False) == Arithmetic(torch.float32, onednn=False)
    linear_kernels._make_layer.cache_clear()


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize(("seconds", "chosen"), [(0.9, False), (0.7, True)])
def test_plain_torch_is_left_for_a_clear_gain_alone(
    seconds: float, chosen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    onednn = Arithmetic(torch.float32, onednn=True)
    if not linear_kernels._is_accurate(onednn):
        pytest.skip("not on this machine")
    monkeypatch.setattr(linear_kernels, "_measure_seconds", lambda way: seconds if way == onednn else 1.0)
    assert choose_fastest(reduced=False).onednn is chosen
