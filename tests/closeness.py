"""Comparisons of numbers that are computed twice: to the bit where that is promised, else within rounding."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from llmrec.utils.reproducibility import are_products_reproducible

RELATIVE, ABSOLUTE = 1e-4, 1e-5  # of sums in fp32 that MKL makes in another order


def assert_same(actual: Any, expected: Any) -> None:
    """Assert equality: of floats to the bit where products are reproducible, else within rounding.

    Args:
        actual: Tensor, array, number, text, or a container or dataclass of these.
        expected: The same.
    """
    if isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for name, value in expected.items():
            assert_same(actual[name], value)
    elif is_dataclass(expected):
        assert type(actual) is type(expected)
        for field in fields(expected):
            assert_same(getattr(actual, field.name), getattr(expected, field.name))
    elif are_products_reproducible() or not _is_real(expected):
        np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))
    else:
        np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=RELATIVE, atol=ABSOLUTE)


def _is_real(value: Any) -> bool:
    return np.asarray(value).dtype.kind == "f"
