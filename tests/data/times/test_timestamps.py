"""Times of every kind come out as seconds in UTC, and what cannot be read is named."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.times.timestamps import ParsedTimes, TimeUnit, format_iso, parse_times
from llmrec.errors import ConfigError

NOON = 1_577_880_000  # 2020-01-01T12:00:00Z


def parse(values: object, unit: TimeUnit = "auto", zone: str = "UTC", kind: pa.DataType | None = None) -> ParsedTimes:
    return parse_times(pa.chunked_array([pa.array(values, kind)]), unit, timezone=zone)


def complaints(times: ParsedTimes) -> dict[str, list[int]]:
    return {fault.what: np.flatnonzero(fault.rows).tolist() for fault in times.faults if fault.rows.any()}


@pytest.mark.parametrize(
    "values",
    [
        [NOON],
        [NOON * 10**3],
        [NOON * 10**6],
        [NOON * 10**9],
        [float(NOON)],
        [str(NOON)],
        ["2020-01-01T12:00:00Z"],
        ["2020-01-01 12:00"],
        ["2020-01-01T14:00:00+02:00"],
        ["2020-01-01T07:00:00-0500"],
        [" 2020-01-01T12:00:00.000 UTC "],
        [datetime(2020, 1, 1, 12)],
        [datetime(2020, 1, 1, 14, tzinfo=timezone(timedelta(hours=2)))],
        pa.array(["2020-01-01 12:00"]).dictionary_encode(),
    ],
)
def test_every_kind_of_time(values: object) -> None:
    times = parse(values)
    assert (times.seconds.tolist(), times.fraction.tolist(), complaints(times)) == ([NOON], [0], {})
    assert times.resolution == "hour"


def test_a_named_unit_beats_the_guess() -> None:
    assert parse([5, 10_000], "ms").seconds.tolist() == [0, 10]
    assert parse([5, 10_000], "s").seconds.tolist() == [5, 10_000]


@pytest.mark.parametrize(
    ("values", "resolution"),
    [
        ([date(2020, 1, 1), date(2020, 7, 1)], "day"),
        (["2020-01-01", "2020-07-01T00:00:00"], "day"),
        (["2020-01-01T12:00:00", "2020-07-01"], "hour"),
        (["2020-01-01T12:30:00", "2020-07-01"], "minute"),
        (["2020-01-01T12:30:01"], "second"),
        (["2020-01-01T12:30:01.25"], "sub-second"),
        ([NOON * 1000 + 1], "sub-second"),
    ],
)
def test_resolution_is_that_of_the_clock_that_was_written(values: object, resolution: str) -> None:
    assert parse(values, zone="Europe/Berlin").resolution == resolution


def test_fractions_are_kept_apart() -> None:
    for values in (
        ["2020-01-01T12:00:00.25"],
        [NOON + 0.25],
        [NOON * 1000 + 250],
        [datetime(2020, 1, 1, 12, 0, 0, 250_000)],
    ):
        times = parse(values)
        assert (times.seconds.tolist(), times.fraction.tolist()) == ([NOON], [250_000_000])


def test_times_without_a_zone_are_taken_in_the_one_named() -> None:
    times = parse(["2020-01-01T13:00", "2020-07-01T14:00", "2020-07-01T14:00Z"], zone="Europe/Berlin")
    assert [format_iso(int(s)) for s in times.seconds] == [
        "2020-01-01T12:00:00Z",
        "2020-07-01T12:00:00Z",
        "2020-07-01T14:00:00Z",
    ]


def test_hours_that_a_clock_skips_or_shows_twice() -> None:
    times = parse(["2020-03-29T02:30", "2020-10-25T02:30"], zone="Europe/Berlin")
    assert [format_iso(int(s)) for s in times.seconds] == ["2020-03-29T01:00:00Z", "2020-10-25T00:30:00Z"]


@settings(deadline=None)
@given(
    st.lists(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)), min_size=1),
    st.sampled_from(["UTC", "Asia/Tokyo"]),
)
def test_iso_text_agrees_with_python(moments: list[datetime], zone: str) -> None:
    times = parse([moment.isoformat() for moment in moments], zone=zone)
    expected = [int(moment.replace(microsecond=0, tzinfo=ZoneInfo(zone)).timestamp()) for moment in moments]
    assert times.seconds.tolist() == expected
    assert times.fraction.tolist() == [moment.microsecond * 1000 for moment in moments]


def test_what_cannot_be_read_is_told_by_row() -> None:
    text = parse(["2020-01-01", "2020-02-30", "2020-13-01", "soon", None, "", "2020-01-01T25:00", "-4"])
    assert complaints(text) == {"unreadable time": [1, 2, 3, 4, 5, 6], "time before 1970": [7]}
    numbers = parse([float(NOON), float("nan"), float("inf"), None, -1.0])
    assert complaints(numbers) == {"unreadable time": [1, 2, 3], "time before 1970": [4]}
    assert complaints(parse([date(1969, 1, 1), date(1970, 1, 1)])) == {"time before 1970": [0]}
    assert complaints(parse([[1]])) == {"unreadable time": [0]}
    assert complaints(parse([None])) == {"unreadable time": [0]}


def test_mixed_units_do_not_pass() -> None:
    assert complaints(parse([NOON, NOON, NOON * 1000])) == {"time after the year 9999": [2]}
    assert complaints(parse([NOON * 1000, NOON * 1000, NOON])) == {"unreadable time": [2]}
    assert complaints(parse([NOON * 1000], "s")) == {"time after the year 9999": [0]}


@pytest.mark.parametrize("values", [[20200101, 20201231], [2019, 2020], ["20200101"]])
def test_dates_written_as_numbers_are_not_taken_for_seconds(values: object) -> None:
    assert complaints(parse(values)) == {"unreadable time": list(range(len(values)))}


def test_an_unknown_time_zone() -> None:
    with pytest.raises(ConfigError, match="Europe/Atlantis"):
        parse(["2020-01-01"], zone="Europe/Atlantis")


def test_nothing_at_all() -> None:
    assert len(parse([], kind=pa.int64()).seconds) == len(parse([], kind=pa.string()).seconds) == 0
