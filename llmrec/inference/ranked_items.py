"""Ranked lists of items, and filters on the fields of items."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from llmrec.data.items.catalog import ItemCatalog
from llmrec.data.texts.field_texts import format_entries, format_field
from llmrec.errors import ConfigError
from llmrec.inference.score_units import UNIT_HEADS, ScoreUnit, format_score
from llmrec.utils.arrays import Mask
from llmrec.utils.result_list import ResultList

Filters: TypeAlias = "Mask | str | Sequence[str]"
EXAMPLES = 5
CONDITION = re.compile(r"\s*(?P<field>[^=~]*[^=~\s])\s*(?P<sign>[=~])\s*(?P<value>.*\S)\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One item of a ranked list."""

    rank: int
    """Position in the list, from 1."""
    item: str
    """Id."""
    label: str
    """Short name."""
    score: float
    """Number that the list is sorted by."""
    unit: ScoreUnit = "logit"
    """Unit of the score: a log-probability of being next, a logit (differences are log-odds), or a cosine."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Text of the display columns, without empty ones."""

    @property
    def score_text(self) -> str:
        """The score as people read it: a chance in percent, else a number."""
        return format_score(self.score, self.unit)

    def to_cells(self) -> dict[str, str]:
        """Return the cells of a table."""
        shown = {UNIT_HEADS[self.unit]: self.score_text, "item": f"{self.label}  [{self.item}]"}
        return {"rank": str(self.rank), **shown, **self.fields}


def top_recommendations(
    catalog: ItemCatalog, scores: Tensor, k: int, *, unit: ScoreUnit = "logit"
) -> ResultList[Recommendation]:
    """Return the k items with the best scores, without those at -inf.

    Args:
        catalog: Items of the bundle.
        scores: Scores of all items, (N,), on the CPU.
        k: Number of items.
        unit: Unit of the scores.

    Returns:
        At most k items, best first.
    """
    return to_recommendations(catalog, *scores.topk(min(k, len(scores))), unit=unit)


def to_recommendations(
    catalog: ItemCatalog, scores: Tensor, rows: Tensor, *, unit: ScoreUnit = "logit"
) -> ResultList[Recommendation]:
    """List items with their scores, without those whose score is -inf.

    Args:
        catalog: Items of the bundle.
        scores: Scores, (k,), best first.
        rows: Catalog rows, (k,).
        unit: Unit of the scores.

    Returns:
        At most k items, best first.
    """
    scored = zip(scores.tolist(), rows.tolist(), strict=True)
    pairs = [(score, row) for score, row in scored if score != -float("inf")]
    return ResultList(
        Recommendation(rank, str(catalog.ids[row]), catalog.label(row), score, unit, catalog.get_display_values(row))
        for rank, (score, row) in enumerate(pairs, start=1)
    )


def check_k(k: int) -> None:
    """Check a number of items or users.

    Args:
        k: Number requested.

    Raises:
        ConfigError: If k is below 1.
    """
    if k < 1:
        raise ConfigError(f"k={k}: ask for at least one")


def filter_mask(catalog: ItemCatalog, filters: Filters) -> Mask:
    """Select the items that meet all filters.

    Args:
        catalog: The items.
        filters: A mask (N,), `field=value`, `field~part`, or several of these. `=` compares the text of a field, of a
            list each of its values; `~` looks for a part of it, ignoring case.

    Returns:
        (N,)

    Raises:
        ConfigError: If a mask has another length, a filter cannot be read, its field is unknown, or no item meets it.
    """
    if isinstance(filters, np.ndarray):
        if filters.shape != (len(catalog),) or filters.dtype != np.bool_:
            shape = f"{filters.dtype} of shape {filters.shape}"
            raise ConfigError(f"filters: a mask is bool of shape ({len(catalog)},), one for each item; this is {shape}")
        return filters
    conditions = [filters] if isinstance(filters, str) else filters
    if not conditions:
        raise ConfigError("filters: no condition; write field=value, or field~part of it")
    mask: Mask = np.logical_and.reduce([_match_condition(catalog, condition) for condition in conditions])
    if not mask.any():
        raise ConfigError(f"filters={filters!r}: each condition is met by some items, and no item meets them all")
    return mask


def _match_condition(catalog: ItemCatalog, condition: str) -> Mask:
    match = CONDITION.fullmatch(condition)
    if match is None:
        raise ConfigError(f"filters={condition!r} is no condition; write field=value, or field~part of it")
    field, sign, value = match["field"], match["sign"], match["value"]
    if field not in catalog.fields.column_names:
        names = ", ".join(catalog.fields.column_names)
        raise ConfigError(f"filters={condition!r}: items have no field {field!r}; they have {names}")
    column, text = catalog.fields[field], format_field(field, catalog.fields)
    if sign == "=" and (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        mask = np.array([value in (listed or ()) for listed in format_entries(column).to_pylist()], dtype=np.bool_)
    else:
        met = pc.equal(text, value) if sign == "=" else pc.match_substring(text, value, ignore_case=True)
        mask = np.asarray(met.fill_null(fill_value=False), dtype=np.bool_)
    if not mask.any():
        some = ", ".join(map(repr, text.drop_null().unique()[:EXAMPLES].to_pylist()))
        hint = f"; {field}~{value} looks for a part of it" if sign == "=" else ""
        raise ConfigError(f"filters={condition!r}: no item has it{hint}; values look like {some}")
    return mask
