"""States to a vector."""

import torch

from llmrec.backbones.pooling import pool


def test_pooling_by_hand() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [100.0]], [[2.0], [4.0], [6.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert pool(hidden, mask, "mean").tolist() == [[2.0], [4.0]]
    assert pool(hidden, mask, "cls").tolist() == [[1.0], [2.0]]
    assert pool(hidden, mask, "last").tolist() == [[3.0], [6.0]]
    assert pool(hidden, mask, "echo").tolist() == [[3.0], [6.0]]
    assert pool(torch.arange(5.0)[None, :, None], None, "echo").tolist() == [[3.5]]
