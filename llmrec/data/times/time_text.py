"""Times from text and numbers of a known form, by the calendar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llmrec.data.times.time_forms import (
    COMMON_PATTERNS,
    COUNTS,
    MONTHS,
    PACKED,
    PIVOT,
    compile_pattern,
    is_valid_packed,
    split_packed,
    to_whole,
)
from llmrec.utils.arrays import Mask, Rows
from llmrec.utils.units import SECONDS_PER_DAY

CLOCK_UNITS = (("second", 1), ("minute", 60), ("hour", 3600))  # seconds, the finest first
NANO = 10**9
LAST_SECOND = 253_402_300_800  # the year 10000


class ReadTimes(NamedTuple):
    """Times of a column of E events, before they are checked."""

    local: Rows
    """Seconds on the clock as written, (E,)."""
    utc: Rows
    """Seconds since the epoch in UTC, (E,)."""
    fraction: Rows
    """Nanoseconds above the seconds, (E,)."""
    unreadable: Mask
    """True for times that could not be read, (E,)."""
    remedy: str = ""
    """Instruction for those that could not be read; "" for the usual one."""


def read_nothing(n_rows: int) -> ReadTimes:
    """Return times none of which can be read.

    Args:
        n_rows: Number of events.

    Returns:
        The times.
    """
    zeros = np.zeros(n_rows, dtype=np.int64)
    return ReadTimes(zeros, zeros.copy(), zeros.copy(), np.ones(n_rows, dtype=np.bool_))


def to_utc(local: Rows, timezone: str) -> Rows:
    """Convert seconds on the clock of a time zone to seconds since the epoch in UTC.

    Args:
        local: Seconds on the local clock, (E,).
        timezone: Name of the time zone.

    Returns:
        Seconds in UTC, (E,).
    """
    if timezone == "UTC":
        return local
    stamps = pa.array(local).cast(pa.timestamp("s"))
    return np.asarray(pc.assume_timezone(stamps, timezone, ambiguous="earliest", nonexistent="latest").cast(pa.int64()))


def parse_written(text: pa.LargeStringArray, forms: Sequence[str], timezone: str) -> ReadTimes:
    """Parse text by the first of some forms that it has.

    Args:
        text: Times, (E,).
        forms: Names of written forms, or patterns.
        timezone: Time zone of times without an offset.

    Returns:
        The parsed times.
    """
    read = _parse_form(text, forms[0], timezone)
    for form in forms[1:]:
        open_rows = read.unreadable
        if not open_rows.any():
            break
        rest = _parse_form(text.filter(pa.array(open_rows)), form, timezone)
        rows = np.flatnonzero(open_rows)
        for into, values in zip(read[:4], rest[:4], strict=True):
            into[rows] = values
    return read


def suggest_written(text: pa.LargeStringArray) -> str:
    """Return the remedy for text that is not ISO 8601 but has another form.

    Args:
        text: Times that could not be read, (n,).

    Returns:
        An instruction; "" if most have no known form.
    """
    some = text.drop_null()[:1000]
    forms = ("day_first", "month_first", *COMMON_PATTERNS)
    fitting = [form for form in forms if len(some) and _count_read(some, form) > len(some) / 2]
    if not fitting:
        return ""
    named = " or ".join(f"time_format: {form!r}" if "%" in form else f"time_format: {form}" for form in fitting)
    return f"They look like {' or '.join(fitting)} dates: set {named}"


def _count_read(text: pa.LargeStringArray, form: str) -> int:
    return int((~_parse_form(text, form, "UTC").unreadable).sum())


def read_number_form(values: NDArray[np.generic], unreadable: Mask, form: str, timezone: str) -> ReadTimes:
    """Read numbers of a named form.

    Args:
        values: Numbers, (E,).
        unreadable: True for numbers that are missing, (E,).
        form: Name of a form, or a pattern for whole numbers as text.
        timezone: Time zone of dates.

    Returns:
        The times.
    """
    if form in COUNTS:
        return _read_counts(values, unreadable, form, timezone)
    whole = to_whole(values)
    unreadable = unreadable | (whole != values)
    if form not in PACKED:
        read = parse_written(pa.array(whole).cast(pa.large_string()), [form], timezone)
        return read._replace(unreadable=read.unreadable | unreadable)
    parts = split_packed(whole, form)
    good = is_valid_packed(parts) & ~unreadable
    if "short_year" in parts:
        parts["year"] = _widen_years(parts["short_year"])
    fraction = parts.pop("milli", np.zeros(len(whole), dtype=np.int64)) * 10**6
    return _from_parts(parts, fraction, good, timezone)


def _read_counts(values: NDArray[np.generic], unreadable: Mask, form: str, timezone: str) -> ReadTimes:
    unit, epoch = COUNTS[form]
    if unit < 1:  # whole numbers of many digits are exact as such
        per_second = round(1 / unit)
        ticks = to_whole(values) - int(epoch)
        seconds, fraction = ticks // per_second, ticks % per_second * (NANO // per_second)
    else:
        moments = np.round((values.astype(np.float64) - epoch) * unit, 3)
        seconds = np.floor(np.clip(moments, -LAST_SECOND, LAST_SECOND)).astype(np.int64)
        fraction = np.clip((moments - seconds) * NANO, 0, NANO - 1).round(-6).astype(np.int64)
        if unit == SECONDS_PER_DAY:  # a second is 1e-5 days, of which few digits are written
            seconds, fraction = seconds + (fraction >= NANO // 2), np.zeros(len(seconds), dtype=np.int64)
    utc = to_utc(seconds, timezone) if unit == SECONDS_PER_DAY else seconds
    return ReadTimes(seconds, utc, fraction, unreadable)


def _parse_form(text: pa.LargeStringArray, form: str, timezone: str) -> ReadTimes:
    pattern = compile_pattern(form)
    found = pc.extract_regex(text, pattern)
    names = [field.name for field in found.type]
    good = np.asarray(found.is_valid())
    parts = {
        name: _to_numbers(found.field(name)) for name in names if name not in ("month", "fraction", "half", "zone")
    }
    if "month" in names:
        parts["month"] = _read_months(found.field("month"))
    if "year" in names:
        short = np.asarray(pc.fill_null(pc.less_equal(pc.utf8_length(found.field("year")), 2), fill_value=False))
        parts["year"] = np.where(short, _widen_years(parts["year"]), parts["year"])
    if "half" in names:
        parts["hour"], in_half = _apply_half(parts["hour"], found.field("half"))
        good = good & in_half
    fraction = np.zeros(len(text), dtype=np.int64)
    if "fraction" in names:
        fraction = _scale_fractions(parts, _read_fractions(found.field("fraction")))
    zones = found.field("zone") if "zone" in names else None
    return _from_parts(parts, fraction, good, timezone, zones=zones)


def _to_numbers(text: pa.LargeStringArray) -> Rows:
    """Convert digits to numbers (E,), -1 where there are none."""
    digits = pc.if_else(pc.equal(text, ""), None, text).cast(pa.int64())
    return np.array(pc.fill_null(digits, -1), dtype=np.int64)


def _read_months(text: pa.LargeStringArray) -> Rows:
    """Return the months that numbers and English names mean (E,), 0 for others."""
    encoded = text.dictionary_encode()
    numbers = [_read_month(name) for name in encoded.dictionary.to_pylist()]
    months: Rows = np.array([*numbers, 0], dtype=np.int64)[np.asarray(encoded.indices.fill_null(-1))]
    return months


def _read_month(name: str) -> int:
    if name.isdigit():
        return int(name)
    return MONTHS.index(name[:3].lower()) + 1 if name[:3].lower() in MONTHS else 0


def _apply_half(hour: Rows, text: pa.LargeStringArray) -> tuple[Rows, Mask]:
    """Apply AM and PM to hours (E,), and return which hours are possible (E,)."""
    sign = pc.utf8_lower(text)
    afternoon, given = (
        np.asarray(pc.fill_null(pc.equal(sign, "p"), fill_value=False)),
        np.asarray(pc.is_in(sign, pa.array(["a", "p"], text.type))),
    )
    return np.where(given, hour % 12 + 12 * afternoon, hour), ~given | ((hour >= 1) & (hour <= 12))


def _read_fractions(text: pa.LargeStringArray) -> Rows:
    digits = pc.replace_substring_regex(pc.utf8_rpad(text, 9, "0"), "^$", "0")
    return np.asarray(pc.fill_null(digits.cast(pa.int64()), 0))


def _scale_fractions(parts: dict[str, Rows], fraction: Rows) -> Rows:
    """Return nanoseconds (E,) of fractions of the finest part that is written: of a minute in 10:30.5."""
    if "second" not in parts:
        return fraction
    unit = np.where(parts["second"] >= 0, 1, np.where(parts.get("minute", parts["second"]) >= 0, 60, 3600))
    return fraction * unit


def _widen_years(years: Rows) -> Rows:
    """Return years of two digits in full."""
    return np.where(years < PIVOT, years + 2000, years + 1900)


def _from_parts(
    parts: Mapping[str, Rows], fraction: Rows, good: Mask, timezone: str, *, zones: pa.LargeStringArray | None = None
) -> ReadTimes:
    """Compute times from parts of the calendar, of which -1 means that it is not written."""
    days, in_calendar = _count_days(parts)
    good = good & in_calendar
    seconds = days * SECONDS_PER_DAY
    for name, unit in CLOCK_UNITS:
        if name in parts:
            value = np.maximum(parts[name], 0)
            good = good & (value <= (24 if name == "hour" else 60 if name == "second" else 59))
            seconds = seconds + value * unit
    good = good & (seconds <= (days + 1) * SECONDS_PER_DAY)  # 24:00 is the end of the day, and no more
    local = np.where(good, seconds + fraction // NANO, 0)
    offset, zoned = (np.zeros_like(local), np.zeros(len(local), np.bool_)) if zones is None else _parse_offsets(zones)
    utc = np.where(zoned, local - offset, to_utc(local, timezone))
    return ReadTimes(local, utc, np.where(good, fraction % NANO, 0), ~good)


def _count_days(parts: Mapping[str, Rows]) -> tuple[Rows, Mask]:
    """Count the days since 1970 of dates (E,), and return which dates exist (E,)."""
    year = parts["year"]
    if "week" in parts:
        return _count_week_days(year, parts["week"], np.maximum(parts["weekday"], 1))
    if "yearday" in parts:
        first, day = _first_of_month((year - 1970) * 12), parts["yearday"]
        return first + day - 1, (day >= 1) & (day <= _first_of_month((year - 1969) * 12) - first)
    month, day = parts.get("month", np.ones_like(year)), np.abs(parts.get("day", np.ones_like(year)))
    months = (year - 1970) * 12 + np.clip(month, 1, 12) - 1
    first = _first_of_month(months)
    length = _first_of_month(months + 1) - first
    return first + day - 1, (month >= 1) & (month <= 12) & (day >= 1) & (day <= length)


def _first_of_month(months: Rows) -> Rows:
    """Return the day since 1970 on which months since 1970 begin, (E,)."""
    days: Rows = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return days


def _count_week_days(year: Rows, week: Rows, weekday: Rows) -> tuple[Rows, Mask]:
    """Count the days since 1970 of ISO weeks: week 1 has the fourth of January."""

    def first_monday(years: Rows) -> Rows:
        fourth = _first_of_month((years - 1970) * 12) + 3
        return fourth - (fourth + 3) % 7

    start = first_monday(year)
    days = start + (week - 1) * 7 + weekday - 1
    return days, (week >= 1) & (days < first_monday(year + 1))


def _parse_offsets(zones: pa.LargeStringArray) -> tuple[Rows, Mask]:
    """Parse zones to seconds east of UTC (E,), and return which times have an offset (E,)."""
    encoded = zones.dictionary_encode()
    codes = np.asarray(encoded.indices.fill_null(-1))
    names = [*encoded.dictionary.to_pylist(), ""]
    seconds = np.array([_parse_offset(name) for name in names], dtype=np.int64)
    return seconds[codes], np.array([bool(name) for name in names])[codes]


def _parse_offset(zone: str) -> int:
    if not zone.startswith(("+", "-")):
        return 0
    hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
    return (-1 if zone[0] == "-" else 1) * (hours * 3600 + minutes * 60)
