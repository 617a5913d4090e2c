"""Modules without weights, to look at the shapes of a model before memory is allocated for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

SAME_SHAPE = {Tensor.mul, Tensor.__mul__, Tensor.__rmul__, torch.logit}  # initial values, of their first argument


class _ShapesOnly(TorchFunctionMode):
    """Leave out the computation of initial values, for which torch would import its compiler on the meta device."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if func in SAME_SHAPE or getattr(func, "__module__", None) == torch.nn.init.__name__:
            return named["tensor"] if "tensor" in named else args[0]
        return torch.empty(*args, **named) if func is torch.randn else func(*args, **named)


@contextmanager
def build_on_meta() -> Iterator[None]:
    """Build modules inside on the meta device, without weights or initial values."""
    with torch.device("meta"), _ShapesOnly():
        yield
