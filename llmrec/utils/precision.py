"""Sums that want more bits than autocast leaves them."""

from __future__ import annotations

import torch
from torch import Tensor


def upcast_to_fp32(tensor: Tensor) -> Tensor:
    """fp32 for fewer bits; as it is for more, in which tests compare."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
