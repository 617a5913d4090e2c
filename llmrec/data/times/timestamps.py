"""Times in seconds since the epoch, from integers, ISO 8601 text, and Arrow dates and timestamps."""

from __future__ import annotations

import zoneinfo
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data.problems import ColumnProblem
from llmrec.data.times.time_forms import ISO_FORMS, SAMPLE, WRITTEN, find_look_alikes, require_form
from llmrec.data.times.time_text import (
    ReadTimes,
    parse_written,
    read_nothing,
    read_number_form,
    suggest_written,
    to_utc,
)
from llmrec.errors import ConfigError
from llmrec.utils.arrays import Rows

TimeUnit = Literal["auto", "s", "ms", "us", "ns"]
Resolution = Literal["day", "hour", "minute", "second", "sub-second", "order"]

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
EARLY = "time before 1970"
TIME_REMEDY = "Write ISO 8601 (2024-01-31T12:00:00Z) or epoch seconds, in one unit for all rows, or set time_format"
END_OF_TIME = 253_402_300_800  # the year 10000: later times were read in the wrong unit
CHUNK_ROWS = 1 << 20  # times that are checked at a time
NUMBER = r"^-?\d{1,18}(?:\.\d*)?(?:[eE][+-]?\d{1,2})?$"
PLAUSIBLE_FROM = 662_688_000  # 1991: earlier epoch numbers are of no log; .NET's ticks would be of 1990
PLAUSIBLE_TO = 2_000_000_000  # 2033: later ones look like YYYYMMDDHH


class ParsedTimes(NamedTuple):
    """Times of a column of E events."""

    seconds: Rows
    """Seconds since the epoch in UTC, rounded down, (E,)."""
    fraction: Rows
    """Nanoseconds above `seconds`, (E,)."""
    resolution: Resolution
    """Coarsest clock on which all times are whole; `order` if they are none but places in an order."""
    faults: list[ColumnProblem]
    """Times that could not be read or are out of range."""


def parse_times(
    column: pa.ChunkedArray, unit: TimeUnit = "auto", *, timezone: str = "UTC", form: str = "auto"
) -> ParsedTimes:
    """Parse a column of times.

    Args:
        column: Times, (E,).
        unit: Unit of epoch numbers; `auto` infers it from the median.
        timezone: Time zone of dates, datetimes and text that carry none. An hour that the clock shows twice is taken as
            the first, an hour that it skips as the moment of the jump.
        form: Form of numbers and text, such as day_first, yyyymmdd or a pattern; `auto` for ISO 8601 and epoch numbers.

    Returns:
        Seconds, fractions, resolution and faults.

    Raises:
        ConfigError: If the time zone or the form is unknown.
    """
    _require_timezone(timezone)
    require_form(form)
    reading = _read(column, unit, timezone, form)
    late, early = reading.utc >= END_OF_TIME, reading.utc < 0
    good = ~(reading.unreadable | late | early)
    faults = [
        ColumnProblem("unreadable time", reading.unreadable, reading.remedy or _describe_remedy(form)),
        ColumnProblem(EARLY, early & ~reading.unreadable, "Correct or remove the row"),
        ColumnProblem(
            "time after the year 9999", late & ~reading.unreadable, "Set time_unit, and use one unit in all rows"
        ),
    ]
    faults = [fault for fault in faults if fault.rows.any()]  # masks take memory, and most logs need none
    local, fraction = (column if good.all() else column[good] for column in (reading.local, reading.fraction))
    return ParsedTimes(reading.utc, reading.fraction, _infer_resolution(local, fraction), faults)


def _describe_remedy(form: str) -> str:
    return TIME_REMEDY if form == "auto" else f"Write all times as time_format={form!r} says, or set another one"


def format_iso(seconds: int) -> str:
    """Format a time as ISO 8601 in UTC.

    Args:
        seconds: Seconds since the epoch.

    Returns:
        Text such as 2024-01-31T12:00:00Z.
    """
    return f"{np.datetime64(seconds, 's')}Z"


def _require_timezone(timezone: str) -> None:
    try:
        zoneinfo.ZoneInfo(timezone)
        to_utc(np.zeros(1, dtype=np.int64), timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:  # arrow's own errors are ValueErrors
        raise ConfigError(f"timezone='{timezone}' is unknown. Use a name such as Europe/Berlin.") from error


def _read(column: pa.ChunkedArray, unit: TimeUnit, timezone: str, form: str) -> ReadTimes:
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind, column = kind.value_type, column.cast(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        return _from_text(_combine_chunks(column, pa.large_string()), unit, timezone, form)
    if pa.types.is_date(kind):
        return _from_datetimes(_combine_chunks(column, pa.timestamp("s")), timezone)
    if pa.types.is_timestamp(kind):
        return _from_datetimes(_combine_chunks(column, kind), timezone)
    if pa.types.is_uint64(kind):  # the upper half would become times before 1970
        column = pc.min_element_wise(column.cast(kind), pa.scalar(2**63 - 1, kind), skip_nulls=False)
    whole = pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale <= 0 and kind.precision <= 18)
    if whole or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _from_numbers(_combine_chunks(column, pa.int64() if whole else pa.float64()), unit, timezone, form)
    return read_nothing(len(column))


def _combine_chunks(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """Combine the chunks of a column into one array of the given type (E,)."""
    return pa.concat_arrays(column.cast(kind, safe=False).chunks or [pa.array([], kind)])


def _from_numbers(numbers: pa.Array, unit: TimeUnit, timezone: str, form: str) -> ReadTimes:
    unreadable = np.asarray(pc.is_null(numbers, nan_is_null=True))
    values = np.asarray(numbers.fill_null(0))
    if pa.types.is_floating(numbers.type):
        unreadable = unreadable | ~np.isfinite(values)
    readable = values
    if unreadable.any():
        values, readable = np.where(unreadable, 0, values), values[~unreadable]
    if form != "auto":
        return read_number_form(values, unreadable, form, timezone)
    chosen = _infer_unit(readable) if unit == "auto" else unit
    if unit == "auto":
        if similar := find_look_alikes(readable, plausible=_is_plausible(readable, chosen)):
            return read_nothing(len(values))._replace(remedy=_describe_look_alikes(similar))
        if chosen != "s":  # a few seconds among milliseconds would silently fall into 1970
            unreadable = unreadable | (np.abs(values) < 31_536_000 * PER_SECOND[chosen])
    per_second = PER_SECOND[chosen]
    if per_second == 1 and values.dtype.kind == "i":
        inside = not len(values) or (values.min() >= -END_OF_TIME and values.max() <= END_OF_TIME)
        seconds = values if inside else np.clip(values, -END_OF_TIME, END_OF_TIME)
        return ReadTimes(seconds, seconds, np.zeros(len(seconds), dtype=np.int64), unreadable)
    seconds = np.clip(values // per_second, -END_OF_TIME, END_OF_TIME).astype(np.int64)
    fraction = np.clip((values % per_second) * (10**9 // per_second), 0, 10**9 - 1).astype(np.int64)
    return ReadTimes(seconds, seconds, fraction, unreadable)


def _describe_look_alikes(similar: list[str]) -> str:
    named = " or ".join(f"time_format: {form}" for form in similar)
    return f"They look like {' or '.join(similar)}: set {named}. If they are epoch numbers, set time_unit"


def _is_plausible(values: np.ndarray, unit: str) -> bool:
    """Return whether the median is an epoch number of the years 1991 to 2033."""
    median = float(np.median(values[:: max(1, len(values) // SAMPLE)])) / PER_SECOND[unit] if len(values) else 0
    return PLAUSIBLE_FROM <= median < PLAUSIBLE_TO


def _infer_unit(values: np.ndarray) -> str:
    """Return the unit in which the median falls between 1973 and 5138."""
    if not len(values) or max(abs(int(values.min())), abs(int(values.max()))) < 1e11:
        return "s"
    median = float(np.median(np.abs(values)))
    return next((unit for unit, limit in (("s", 1e11), ("ms", 1e14), ("us", 1e17)) if median < limit), "ns")


def _from_datetimes(stamps: pa.Array, timezone: str) -> ReadTimes:
    unreadable = np.asarray(pc.is_null(stamps))
    ticks = np.asarray(stamps.cast(pa.int64()).fill_null(0))
    per_second = PER_SECOND[stamps.type.unit]
    seconds, fraction = ticks // per_second, (ticks % per_second) * (10**9 // per_second)
    utc = seconds if stamps.type.tz is not None else to_utc(seconds, timezone)
    return ReadTimes(seconds, utc, fraction, unreadable)


def _from_text(text: pa.LargeStringArray, unit: TimeUnit, timezone: str, form: str) -> ReadTimes:
    text = pc.utf8_trim_whitespace(text)
    if form in WRITTEN or "%" in form:
        return parse_written(text, [form], timezone)
    numeric = np.asarray(pc.fill_null(pc.match_substring_regex(text, NUMBER), fill_value=False))
    if form == "auto" and not numeric.all():
        written = parse_written(text, ISO_FORMS, timezone)
        if written.unreadable.any():
            written = written._replace(remedy=suggest_written(text.filter(pa.array(written.unreadable))))
    else:
        written = read_nothing(len(text))
    if not numeric.any():
        return written
    numbers = text.filter(pa.array(numeric))
    exact = not pc.any(pc.match_substring_regex(numbers, "[.eE]")).as_py()
    counted = _from_numbers(numbers.cast(pa.int64() if exact else pa.float64()), unit, timezone, form)
    for into, values in zip(written[:4], counted[:4], strict=True):
        into[numeric] = values
    return written._replace(remedy=counted.remedy or written.remedy)


def _infer_resolution(local: Rows, fraction: Rows) -> Resolution:
    """Return the coarsest clock on which all times are whole; `second` if there are none."""
    if fraction.any():
        return "sub-second"
    steps: tuple[tuple[Resolution, int], ...] = (("day", 86_400), ("hour", 3_600), ("minute", 60))
    return next((name for name, step in steps if len(local) and _is_whole(local, step)), "second")


def _is_whole(local: Rows, step: int) -> bool:
    """Return whether all times are multiples of `step`, in chunks, since the first decides for most logs."""
    return not any((local[at : at + CHUNK_ROWS] % step).any() for at in range(0, len(local), CHUNK_ROWS))
