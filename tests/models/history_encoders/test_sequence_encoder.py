"""States see their own past and nothing else."""

from dataclasses import replace

import pytest
import torch

from llmrec.config.model import ModelConfig
from llmrec.data.batches import HistoryBatch
from llmrec.models.history_encoders.sequence_encoder import SequenceEncoder

CONFIG = ModelConfig(dim=16, n_layers=2, n_heads=2, max_history=6, dropout=0.0)


def batch_of(lengths: list[int], steps: int) -> HistoryBatch:
    mask = torch.arange(steps) < torch.tensor(lengths)[:, None]
    time = torch.arange(steps).expand(len(lengths), steps) * 3600
    query = torch.cat([time[:, :1], time], dim=1)
    empty = torch.zeros(0, dtype=torch.int64)
    return HistoryBatch(torch.zeros(len(lengths), steps, dtype=torch.int64), mask, time, query, empty, empty)


def encoder(**changes: object) -> SequenceEncoder:
    torch.manual_seed(0)
    module = SequenceEncoder(replace(CONFIG, **changes)).eval()
    for parameter in module.parameters():  # biases start at zero: give every part something to do
        torch.nn.init.normal_(parameter, std=0.3)
    return module


@pytest.mark.parametrize("block", ["sasrec", "ligr"])
@pytest.mark.parametrize("time_bias", [True, False])
def test_a_later_event_changes_no_earlier_state(block: str, time_bias: bool) -> None:
    module, vectors, batch = encoder(block=block, time_bias=time_bias), torch.randn(2, 5, 16), batch_of([5, 5], 5)
    before = module(vectors, batch)
    changed = vectors.clone()
    changed[:, 3] = torch.randn(16)
    after = module(changed, batch)
    assert before.shape == (2, 6, 16)
    torch.testing.assert_close(after[:, :4], before[:, :4])  # state 3 has seen events 0 to 2
    assert not torch.allclose(after[:, 4], before[:, 4])


def test_padding_changes_nothing() -> None:
    module, vectors = encoder(), torch.randn(2, 5, 16)
    together = module(vectors, batch_of([5, 2], 5))
    alone = module(vectors[1:, :2], batch_of([2], 2))
    torch.testing.assert_close(together[1, :3], alone[0])


def test_elapsed_time_matters_only_with_the_time_bias() -> None:
    vectors, batch = torch.randn(1, 4, 16), batch_of([4], 4)
    later = batch._replace(query_time=batch.query_time + 90 * 86_400)
    for time_bias in (True, False):
        module = encoder(time_bias=time_bias)
        assert torch.allclose(module(vectors, batch), module(vectors, later)) is not time_bias


def test_an_empty_history_has_a_state() -> None:
    states = encoder()(torch.zeros(1, 1, 16), batch_of([0], 1))
    assert torch.isfinite(states[:, 0]).all()


def test_with_an_input_norm_states_do_not_depend_on_the_scale_of_items() -> None:
    vectors, batch = torch.randn(2, 4, 16), batch_of([4, 4], 4)
    for input_norm in (True, False):
        module = encoder(input_norm=input_norm)
        torch.nn.init.zeros_(module.position.weight)
        assert torch.allclose(module(vectors, batch), module(100 * vectors, batch), atol=1e-3) is input_norm


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("time_bias", [True, False])
def test_a_single_state_is_the_same_alone(layers: int, time_bias: bool) -> None:
    module, vectors, batch = (
        encoder(n_layers=layers, time_bias=time_bias),
        torch.randn(3, 5, 16),
        batch_of([5, 0, 2], 5),
    )
    source = torch.arange(3) * 6 + torch.tensor([5, 0, 2])
    every = module(vectors, batch).flatten(0, 1)[source]
    torch.testing.assert_close(module.encode(vectors, batch._replace(source=source)), every)
    torch.testing.assert_close(module.encode(vectors, batch._replace(source=source.flip(0))), every.flip(0))
