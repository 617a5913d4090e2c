"""Which items may be recommended: a mask, or conditions on their fields as people type them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data.catalog import ItemCatalog
from llmrec.data.interactions import Mask
from llmrec.data.templates import field_texts
from llmrec.errors import ConfigError

Where: TypeAlias = "Mask | str | Sequence[str]"
EXAMPLES = 5


def allowed(catalog: ItemCatalog, where: Where) -> Mask:
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
    mask = np.ones(len(catalog), dtype=np.bool_)
    for condition in [where] if isinstance(where, str) else where:
        mask &= _meets(catalog, condition)
    if not mask.any():
        raise ConfigError(f"where={where!r}: each condition is met by some items, and no item meets them all")
    return mask


def _meets(catalog: ItemCatalog, condition: str) -> Mask:
    field, sign, value = _cut(condition)
    if field not in catalog.fields.column_names:
        names = ", ".join(catalog.fields.column_names)
        raise ConfigError(f"where={condition!r}: items have no field {field!r}; they have {names}")
    column = catalog.fields[field]
    if sign == "=" and (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        mask = np.array([value in map(str, listed or ()) for listed in column.to_pylist()], dtype=np.bool_)
    else:
        text = field_texts(field, catalog.fields)
        met = pc.equal(text, value) if sign == "=" else pc.match_substring(text, value, ignore_case=True)
        mask = np.asarray(met.fill_null(False), dtype=np.bool_)
    if not mask.any():
        some = ", ".join(
            repr(one) for one in field_texts(field, catalog.fields).drop_null().unique()[:EXAMPLES].to_pylist()
        )
        raise ConfigError(f"where={condition!r}: no item has it; values look like {some}")
    return mask


def _cut(condition: str) -> tuple[str, str, str]:
    """Field, sign and value, cut at the first sign."""
    places = [place for sign in "=~" if (place := condition.find(sign)) > 0]
    if not places:
        raise ConfigError(f"where={condition!r} is no condition; write field=value, or field~part of it")
    first = min(places)
    return condition[:first].strip(), condition[first], condition[first + 1 :].strip()
