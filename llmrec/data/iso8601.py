"""ISO 8601 text as seconds, a column at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.utils.arrays import Mask, Rows

ISO_8601 = (
    r"^(?P<date>\d{4}-\d{2}-(?P<day>\d{2}))"
    r"(?:[T ](?P<clock>\d{2}:\d{2})(?P<seconds>:\d{2})?(?:[.,](?P<fraction>\d{1,9})\d*)?"
    r" ?(?P<zone>Z|z|UTC|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?)?$"
)


class Reading(NamedTuple):
    """local: (E,) seconds on the clock that was written down; utc, fraction: (E,); unreadable: (E,)."""

    local: Rows
    utc: Rows
    fraction: Rows
    unreadable: Mask


def to_utc(local: Rows, timezone: str) -> Rows:
    if timezone == "UTC":
        return local
    stamps = pa.array(local).cast(pa.timestamp("s"))
    return np.asarray(pc.assume_timezone(stamps, timezone, ambiguous="earliest", nonexistent="latest").cast(pa.int64()))


def read_iso(text: pa.LargeStringArray, timezone: str) -> Reading:
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
    offset, zoned = _offsets(part["zone"])
    utc = np.where(zoned, local - offset, to_utc(local, timezone))
    digits = pc.replace_substring_regex(pc.utf8_rpad(part["fraction"], 9, "0"), "^$", "0")
    fraction = np.where(unreadable, 0, np.asarray(digits.cast(pa.int64()).fill_null(0)))
    return Reading(local.copy(), utc, fraction, unreadable)


def _offsets(zones: pa.LargeStringArray) -> tuple[Rows, Mask]:
    """(E,) seconds east of UTC, and (E,) whether an offset was written at all."""
    encoded = zones.dictionary_encode()
    codes = np.asarray(encoded.indices.fill_null(-1))
    names = [*encoded.dictionary.to_pylist(), ""]
    seconds = np.array([_offset(name) for name in names], dtype=np.int64)
    return seconds[codes], np.array([bool(name) for name in names])[codes]


def _offset(zone: str) -> int:
    if not zone.startswith(("+", "-")):
        return 0
    hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
    return (-1 if zone[0] == "-" else 1) * (hours * 3600 + minutes * 60)
