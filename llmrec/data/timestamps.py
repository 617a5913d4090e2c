"""Times in seconds since the epoch, from integers, ISO 8601 text, and Arrow dates and timestamps."""

from __future__ import annotations

import zoneinfo
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data.problems import ColumnProblem
from llmrec.errors import ConfigError
from llmrec.utils.arrays import Mask, Rows

TimeUnit = Literal["auto", "s", "ms", "us", "ns"]
Resolution = Literal["day", "hour", "minute", "second", "sub-second"]

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
EARLY = "time before 1970"
TIME_REMEDY = "Write ISO 8601 (2024-01-31T12:00:00Z) or epoch seconds, in one unit for all rows"
END_OF_TIME = 253_402_300_800  # the year 10000: later times were read in the wrong unit
CHUNK_ROWS = 1 << 20  # times that are checked at a time
NUMBER = r"^-?\d{1,18}(?:\.\d*)?$"


ISO_8601 = (
    r"^(?P<date>\d{4}-\d{2}-(?P<day>\d{2}))"
    r"(?:[T ](?P<clock>\d{2}:\d{2})(?P<seconds>:\d{2})?(?:[.,](?P<fraction>\d{1,9})\d*)?"
    r" ?(?P<zone>Z|z|UTC|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?)?$"
)


class ParsedTimes(NamedTuple):
    """Times of a column of E events."""

    seconds: Rows
    """Seconds since the epoch in UTC, rounded down, (E,)."""
    fraction: Rows
    """Nanoseconds above `seconds`, (E,)."""
    resolution: Resolution
    """Coarsest clock on which all times are whole."""
    faults: list[ColumnProblem]
    """Times that could not be read or are out of range."""


def parse_times(column: pa.ChunkedArray, unit: TimeUnit = "auto", timezone: str = "UTC") -> ParsedTimes:
    """Parse a column of times.

    Args:
        column: Times, (E,).
        unit: Unit of numbers; `auto` infers it from the median.
        timezone: Time zone of dates, datetimes and text that carry none. An hour that the clock shows twice is taken as
            the first, an hour that it skips as the moment of the jump.

    Returns:
        Seconds, fractions, resolution and faults.

    Raises:
        ConfigError: If the time zone is unknown.
    """
    _require_timezone(timezone)
    reading = _read(column, unit, timezone)
    late, early = reading.utc >= END_OF_TIME, reading.utc < 0
    good = ~(reading.unreadable | late | early)
    faults = [
        ColumnProblem("unreadable time", reading.unreadable, TIME_REMEDY),
        ColumnProblem(EARLY, early & ~reading.unreadable, "Correct or remove the row"),
        ColumnProblem(
            "time after the year 9999", late & ~reading.unreadable, "Set time_unit, and use one unit in all rows"
        ),
    ]
    faults = [fault for fault in faults if fault.rows.any()]  # masks take memory, and most logs need none
    local, fraction = (column if good.all() else column[good] for column in (reading.local, reading.fraction))
    return ParsedTimes(reading.utc, reading.fraction, _infer_resolution(local, fraction), faults)


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


def _read(column: pa.ChunkedArray, unit: TimeUnit, timezone: str) -> ParsedIsoTimes:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        return _from_text(_combine_chunks(column, pa.large_string()), unit, timezone)
    if pa.types.is_uint64(kind):  # the upper half would become times before 1970
        column = pc.min_element_wise(column.cast(kind), pa.scalar(2**63 - 1, kind), skip_nulls=False)
    if pa.types.is_integer(kind):
        return _from_numbers(_combine_chunks(column, pa.int64()), unit)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _from_numbers(_combine_chunks(column, pa.float64()), unit)
    if pa.types.is_date(kind):
        return _from_datetimes(_combine_chunks(column, pa.timestamp("s")), timezone)
    if pa.types.is_timestamp(kind):
        return _from_datetimes(_combine_chunks(column, kind), timezone)
    return _empty_times(len(column))


def _combine_chunks(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """Combine the chunks of a column into one array of the given type (E,)."""
    return pa.concat_arrays(column.cast(kind, safe=False).chunks or [pa.array([], kind)])


def _empty_times(n_rows: int) -> ParsedIsoTimes:
    zeros = np.zeros(n_rows, dtype=np.int64)
    return ParsedIsoTimes(zeros, zeros.copy(), zeros.copy(), np.ones(n_rows, dtype=np.bool_))


def _from_numbers(numbers: pa.Array, unit: TimeUnit) -> ParsedIsoTimes:
    unreadable = np.asarray(pc.is_null(numbers, nan_is_null=True))
    values = np.asarray(numbers.fill_null(0))
    if pa.types.is_floating(numbers.type):
        unreadable = unreadable | ~np.isfinite(values)
    readable = values
    if unreadable.any():
        values, readable = np.where(unreadable, 0, values), values[~unreadable]
    if unit == "auto" and _is_date_like(readable):
        return _empty_times(len(values))
    chosen = _infer_unit(readable) if unit == "auto" else unit
    if unit == "auto" and chosen != "s":  # a few seconds among milliseconds would silently fall into 1970
        unreadable = unreadable | (np.abs(values) < 31_536_000 * PER_SECOND[chosen])
    per_second = PER_SECOND[chosen]
    if per_second == 1 and values.dtype.kind == "i":
        inside = not len(values) or (values.min() >= -END_OF_TIME and values.max() <= END_OF_TIME)
        seconds = values if inside else np.clip(values, -END_OF_TIME, END_OF_TIME)
        return ParsedIsoTimes(seconds, seconds, np.zeros(len(seconds), dtype=np.int64), unreadable)
    seconds = np.clip(values // per_second, -END_OF_TIME, END_OF_TIME).astype(np.int64)
    fraction = np.clip((values % per_second) * (10**9 // per_second), 0, 10**9 - 1).astype(np.int64)
    return ParsedIsoTimes(seconds, seconds, fraction, unreadable)


def _infer_unit(values: np.ndarray) -> str:
    """Return the unit in which the median falls between 1973 and 5138."""
    if not len(values) or max(abs(int(values.min())), abs(int(values.max()))) < 1e11:
        return "s"
    median = float(np.median(np.abs(values)))
    return next((unit for unit, limit in (("s", 1e11), ("ms", 1e14), ("us", 1e17)) if median < limit), "ns")


def _is_date_like(values: np.ndarray) -> bool:
    """Return whether all numbers are dates such as 20240131 or years; as seconds they would be in 1970."""
    if not len(values) or values.min() < 1900 or values.max() >= 2200_00_00:
        return False  # most logs end here, at little cost
    years, month, day = values // 10_000, values // 100 % 100, values % 100
    calendar = (years >= 1900) & (years < 2200) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    return bool(np.all(calendar) or np.all((values >= 1900) & (values < 2200)))


def _from_datetimes(stamps: pa.Array, timezone: str) -> ParsedIsoTimes:
    unreadable = np.asarray(pc.is_null(stamps))
    ticks = np.asarray(stamps.cast(pa.int64()).fill_null(0))
    per_second = PER_SECOND[stamps.type.unit]
    seconds, fraction = ticks // per_second, (ticks % per_second) * (10**9 // per_second)
    utc = seconds if stamps.type.tz is not None else to_utc(seconds, timezone)
    return ParsedIsoTimes(seconds, utc, fraction, unreadable)


def _from_text(text: pa.LargeStringArray, unit: TimeUnit, timezone: str) -> ParsedIsoTimes:
    text = pc.utf8_trim_whitespace(text)
    written = parse_iso8601(text, timezone)
    numeric = np.asarray(pc.fill_null(pc.match_substring_regex(text, NUMBER), False))
    if not numeric.any():
        return written
    numbers = text.filter(pa.array(numeric))
    exact = not pc.any(pc.match_substring(numbers, ".")).as_py()
    counted = _from_numbers(numbers.cast(pa.int64() if exact else pa.float64()), unit)
    for into, values in zip(written, counted, strict=True):
        into[numeric] = values
    return written


def _infer_resolution(local: Rows, fraction: Rows) -> Resolution:
    """Return the coarsest clock on which all times are whole; `second` if there are none."""
    if fraction.any():
        return "sub-second"
    steps: tuple[tuple[Resolution, int], ...] = (("day", 86_400), ("hour", 3_600), ("minute", 60))
    return next((name for name, step in steps if len(local) and _is_whole(local, step)), "second")


def _is_whole(local: Rows, step: int) -> bool:
    """Return whether all times are multiples of `step`, in chunks, since the first decides for most logs."""
    return not any((local[at : at + CHUNK_ROWS] % step).any() for at in range(0, len(local), CHUNK_ROWS))


class ParsedIsoTimes(NamedTuple):
    """Times of a column of E events, before they are checked."""

    local: Rows
    """Seconds on the clock as written, (E,)."""
    utc: Rows
    """Seconds since the epoch in UTC, (E,)."""
    fraction: Rows
    """Nanoseconds above the seconds, (E,)."""
    unreadable: Mask
    """True for times that could not be read, (E,)."""


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


def parse_iso8601(text: pa.LargeStringArray, timezone: str) -> ParsedIsoTimes:
    """Parse ISO 8601 text.

    Args:
        text: Times, (E,).
        timezone: Time zone of times without an offset.

    Returns:
        The parsed times.
    """
    found = pc.extract_regex(text, ISO_8601)
    part = {name: found.field(name) for name in ("date", "day", "clock", "seconds", "fraction", "zone")}
    clock = pc.replace_substring_regex(part["clock"], "^$", "00:00")
    seconds = pc.replace_substring_regex(part["seconds"], "^$", ":00")
    written = pc.binary_join_element_wise(part["date"], clock, seconds, pa.scalar("", pa.large_string()))
    stamps = pc.strptime(written, format="%Y-%m-%d%H:%M:%S", unit="s", error_is_null=True)
    # strptime turns 30 February into 1 March: the day must come back as it was written.
    day = pc.replace_substring_regex(part["day"], "^$", "0").cast(pa.int64())
    unreadable = ~np.asarray(pc.fill_null(pc.and_(found.is_valid(), pc.equal(pc.day(stamps), day)), False))
    local = np.where(unreadable, 0, np.asarray(stamps.cast(pa.int64()).fill_null(0)))
    offset, zoned = _parse_offsets(part["zone"])
    utc = np.where(zoned, local - offset, to_utc(local, timezone))
    digits = pc.replace_substring_regex(pc.utf8_rpad(part["fraction"], 9, "0"), "^$", "0")
    fraction = np.where(unreadable, 0, np.asarray(digits.cast(pa.int64()).fill_null(0)))
    return ParsedIsoTimes(local.copy(), utc, fraction, unreadable)


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
