"""Values of new items as their column holds them: one rule for each pair of what is given and what the column is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from llmrec.data.readers.rows import build_column
from llmrec.data.readers.values import NoPlainValueError
from llmrec.data.texts.field_texts import format_values
from llmrec.data.times.timestamps import EARLY, parse_times

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
TRUTHS = {"true": True, "false": False}
JOINT = ", "  # between the entries of a list that is written as text


def build_item_column(values: Sequence[object], kind: pa.DataType | None) -> pa.Array:
    """Build a column of the type of a catalog from Python values.

    Text and lists are the same thing in two forms: a list in a column of text is joined by ", ", a text in a column of
    lists is cut there. Numbers, dates and truths may be given as text.

    Args:
        values: Values, (n,).
        kind: Type of the column; None goes by the values.

    Returns:
        The column, (n,).

    Raises:
        pa.ArrowInvalid: If a value does not fit the type.
    """
    try:
        plain = [_to_python(value) for value in values]
        return build_column(plain) if kind is None else pa.array([_fit(value, kind) for value in plain], kind)
    except (ValueError, OverflowError, InvalidOperation, NoPlainValueError, pa.ArrowTypeError) as error:
        if isinstance(error, pa.ArrowInvalid):
            raise
        raise pa.ArrowInvalid(str(error)) from error


def _to_python(value: Any) -> Any:
    """Return NumPy values and NaN as Python has them."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, (np.ndarray, np.generic)):
        if value.dtype.kind == "f":  # digits as the narrow type shows them
            value = np.asarray(value.astype(str).astype(np.float64))
        elif value.dtype.kind == "M":
            value = value.astype("datetime64[us]")
        value = value.tolist()
    return None if isinstance(value, float) and value != value else value


def _fit(value: Any, kind: pa.DataType) -> Any:
    """Return a value as a column of the type holds it."""
    if value is None:
        return None
    if isinstance(kind, pa.DictionaryType):
        return _fit(value, kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        entries = (
            value.split(JOINT) if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
        )
        return [_fit(_to_python(entry), kind.value_type) for entry in entries if entry != ""]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _fit_text(value)
    if isinstance(value, str) and not value.strip():
        return None
    fitted = _fit_scalar(value.strip() if isinstance(value, str) else value, kind)
    if fitted is None:
        raise ValueError(f"{value!r} is not of type {kind}")
    return fitted


def _fit_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return JOINT.join(_fit_text(entry) for entry in map(_to_python, value) if entry is not None)
    if not isinstance(value, (bool, int, float, Decimal, date, time)):
        raise ValueError(f"{value!r} is no text")
    if type(value) is int:  # of any size
        return str(value)
    return str(format_values(pa.array([value]))[0].as_py())


def _fit_scalar(value: Any, kind: pa.DataType) -> Any:
    """Return a value as a plain column holds it; None if it does not fit."""
    is_number = isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
    if pa.types.is_boolean(kind):
        return value if isinstance(value, bool) else TRUTHS.get(str(value).lower())
    if pa.types.is_integer(kind) and (is_number or isinstance(value, str)):
        number = Decimal(str(value))
        return int(number) if number == number.to_integral_value() else None
    if pa.types.is_floating(kind) and (is_number or isinstance(value, str)):
        return float(value)
    if pa.types.is_decimal(kind) and (is_number or isinstance(value, str)):
        return Decimal(str(value))
    if pa.types.is_date(kind) and isinstance(value, (str, date)) and not _is_number(value):
        moment = _parse_moment(value)
        return moment.date()
    if pa.types.is_timestamp(kind) and (is_number or isinstance(value, (str, date))):
        moment = _parse_moment(value)
        return moment if kind.tz is not None else moment.replace(tzinfo=None)
    if pa.types.is_time(kind) and isinstance(value, (str, time)):
        return value if isinstance(value, time) else time.fromisoformat(value)
    return None


def _is_number(value: Any) -> bool:
    """Return True for text that is a number, which is no date."""
    return isinstance(value, str) and value.replace(".", "", 1).isdigit()


def _parse_moment(value: Any) -> datetime:
    """Parse one time as the times of a log are read."""
    times = parse_times(pa.chunked_array([pa.array([value])]))
    if any(fault.what != EARLY for fault in times.faults):
        raise ValueError(f"{value!r} is no time")
    return EPOCH + timedelta(seconds=int(times.seconds[0]), microseconds=int(times.fraction[0]) // 1000)
