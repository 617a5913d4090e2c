"""Ranked lists of a catalog's items, and which items may stand in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from llmrec.data.catalog import ItemCatalog
from llmrec.data.templates import format_field
from llmrec.errors import ConfigError
from llmrec.utils.arrays import Mask

Where: TypeAlias = "Mask | str | Sequence[str]"
EXAMPLES = 5
CONDITION = re.compile(r"\s*(?P<field>[^=~]*[^=~\s])\s*(?P<sign>[=~])\s*(?P<value>.*\S)\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One item of a ranked list: rank from 1, the item's id and label, and its score on the scale it was ranked by."""

    rank: int
    item: str
    label: str
    score: float


def top_recommendations(catalog: ItemCatalog, scores: Tensor, k: int) -> list[Recommendation]:
    """The k best of (N,) scores on the CPU, those at -inf left out."""
    return to_recommendations(catalog, *scores.topk(min(k, len(scores))))


def to_recommendations(catalog: ItemCatalog, scores: Tensor, rows: Tensor) -> list[Recommendation]:
    """Items at `rows` (k,), best first, those whose score (k,) is -inf left out."""
    scored = zip(scores.tolist(), rows.tolist(), strict=True)
    pairs = [(score, row) for score, row in scored if score != -float("inf")]
    return [
        Recommendation(rank, str(catalog.ids[row]), catalog.label(row), score)
        for rank, (score, row) in enumerate(pairs, start=1)
    ]


def check_k(k: int) -> None:
    """Raises ConfigError where not even one is asked for."""
    if k < 1:
        raise ConfigError(f"k={k}: ask for at least one")


def filter_mask(catalog: ItemCatalog, where: Where) -> Mask:
    """(N,) the items that all conditions hold for: a mask (N,), `field=value`, `field~part`, or several of these.

    `=` compares a field's text, of a list each of its values; `~` looks for a part of it, capitals aside.

    Raises:
        ConfigError: a mask of another length, no condition, a field that the catalog lacks, or nothing that meets it.
    """
    if isinstance(where, np.ndarray):
        if where.shape != (len(catalog),) or where.dtype != np.bool_:
            shape = f"{where.dtype} of shape {where.shape}"
            raise ConfigError(f"where: a mask is bool of shape ({len(catalog)},), one for each item; this is {shape}")
        return where
    conditions = [where] if isinstance(where, str) else where
    if not conditions:
        raise ConfigError("where: no condition; write field=value, or field~part of it")
    mask: Mask = np.logical_and.reduce([_match_condition(catalog, condition) for condition in conditions])
    if not mask.any():
        raise ConfigError(f"where={where!r}: each condition is met by some items, and no item meets them all")
    return mask


def _match_condition(catalog: ItemCatalog, condition: str) -> Mask:
    found = CONDITION.fullmatch(condition)
    if found is None:
        raise ConfigError(f"where={condition!r} is no condition; write field=value, or field~part of it")
    field, sign, value = found["field"], found["sign"], found["value"]
    if field not in catalog.fields.column_names:
        names = ", ".join(catalog.fields.column_names)
        raise ConfigError(f"where={condition!r}: items have no field {field!r}; they have {names}")
    column, text = catalog.fields[field], format_field(field, catalog.fields)
    if sign == "=" and (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        mask = np.array([value in map(str, listed or ()) for listed in column.to_pylist()], dtype=np.bool_)
    else:
        met = pc.equal(text, value) if sign == "=" else pc.match_substring(text, value, ignore_case=True)
        mask = np.asarray(met.fill_null(False), dtype=np.bool_)
    if not mask.any():
        chunk = ", ".join(map(repr, text.drop_null().unique()[:EXAMPLES].to_pylist()))
        hint = f"; {field}~{value} looks for a part of it" if sign == "=" else ""
        raise ConfigError(f"where={condition!r}: no item has it{hint}; values look like {chunk}")
    return mask
