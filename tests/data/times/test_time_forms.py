"""Times in every written and packed form are read to the second, and numbers that look like dates are refused."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.times.time_forms import COUNTS, PACKED
from llmrec.data.times.timestamps import ParsedTimes, parse_times
from llmrec.errors import ConfigError

EPOCH = datetime(1970, 1, 1)
QUICK = settings(max_examples=40, deadline=None)
MOMENTS = st.lists(st.datetimes(datetime(1995, 1, 1), datetime(2049, 12, 31)), min_size=1, max_size=9)
CODES = {"year": "%Y", "short_year": "%y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M", "second": "%S"}
CODES["yearday"] = "%j"


def parse(values: object, form: str = "auto", kind: pa.DataType | None = None, **options: Any) -> ParsedTimes:
    return parse_times(pa.chunked_array([pa.array(values, kind)]), form=form, **options)


def seconds_of(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(seconds=1)


def remedies(times: ParsedTimes) -> str:
    return "; ".join(fault.remedy for fault in times.faults)


def cut(moment: datetime, parts: tuple[str, ...]) -> datetime:
    """The moment as far as the parts tell it."""
    first = {"month": 1, "day": 1, "hour": 0, "minute": 0, "second": 0}
    kept = (*parts, "month", "day") if "yearday" in parts else parts
    left_out = {name: value for name, value in first.items() if name not in kept}
    return moment.replace(microsecond=0, **left_out)


@QUICK
@given(MOMENTS, st.sampled_from(list(PACKED)), st.sampled_from([pa.int64(), pa.string(), pa.float64()]))
def test_packed_digits_are_read_by_their_form(moments: list[datetime], form: str, kind: pa.DataType) -> None:
    if kind == pa.float64() and form == "yyyymmddhhmmssfff":  # more digits than a fraction has
        return
    codes = "".join(CODES.get(name, "") for name in PACKED[form])
    texts = [
        moment.strftime(codes) + (f"{moment.microsecond // 1000:03}" if "fff" in form else "") for moment in moments
    ]
    values = texts if kind == pa.string() else [int(text) if kind == pa.int64() else float(text) for text in texts]
    times = parse(values, form, kind)
    assert not times.faults
    assert times.seconds.tolist() == [seconds_of(cut(moment, PACKED[form])) for moment in moments]


@QUICK
@given(MOMENTS, st.sampled_from(list(COUNTS)))
def test_counts_since_some_day_are_read_by_their_form(moments: list[datetime], form: str) -> None:
    moments = [moment.replace(microsecond=0) for moment in moments]
    unit, epoch = COUNTS[form]
    if unit < 1:
        values: list[Any] = [int(epoch) + seconds_of(moment) * round(1 / unit) for moment in moments]
    else:
        values = [epoch + seconds_of(moment) / unit for moment in moments]
    times = parse(values, form)
    assert not times.faults
    assert times.seconds.tolist() == [seconds_of(moment) for moment in moments]


WRITTEN = [
    ("day_first", "%d/%m/%Y"),
    ("day_first", "%d.%m.%Y %H:%M"),
    ("day_first", "%d-%b-%Y"),
    ("day_first", "%A, %d %B %Y %H:%M:%S"),
    ("month_first", "%m/%d/%Y %I:%M:%S %p"),
    ("month_first", "%m/%d/%y %H:%M"),
    ("month_first", "%B %d, %Y"),
    ("%a %b %d %H:%M:%S +0000 %Y", "%a %b %d %H:%M:%S +0000 %Y"),
    ("%d.%m.%Y %T", "%d.%m.%Y %H:%M:%S"),
    ("%Y%m%d", "%Y%m%d"),
    ("auto", "%Y-%m-%d %H:%M:%S"),
    ("auto", "%Y/%m/%d %H:%M"),
    ("auto", "%Y.%m.%d"),
    ("auto", "%Y%m%dT%H%M%SZ"),
    ("auto", "%Y-%m-%dT%H"),
    ("auto", "%G-W%V-%u"),
    ("auto", "%Y-%jT%H:%M:%S,500"),
    ("auto", "%Y-%m-%dT%H:%M:%S+00:00[Europe/London]"),
    ("auto", "%Y-%m-%d %H:%M:%S GMT"),
]


@pytest.mark.parametrize(("form", "code"), WRITTEN)
@given(MOMENTS)
@QUICK
def test_written_times_are_read_by_their_form(form: str, code: str, moments: list[datetime]) -> None:
    times = parse([moment.strftime(code) for moment in moments], form)
    assert not times.faults
    wanted = []
    for moment in moments:
        kept = {"hour": any(sign in code for sign in ("%H", "%I")), "minute": "%M" in code, "second": "%S" in code}
        wanted.append(moment.replace(microsecond=0, **{name: 0 for name, there in kept.items() if not there}))
    assert times.seconds.tolist() == [seconds_of(moment) for moment in wanted]


@pytest.mark.parametrize(
    ("text", "moment", "nano"),
    [
        ("2020-01-01T10:30.5", datetime(2020, 1, 1, 10, 30, 30), 0),
        ("2020-01-01T24:00", datetime(2020, 1, 2), 0),
        ("2020-01-01T23:59:60Z", datetime(2020, 1, 2), 0),
        ("2020-02", datetime(2020, 2, 1), 0),
        ("2020-01-01t10:30:00.123456789012z", datetime(2020, 1, 1, 10, 30), 123_456_789),
        ("2020-01-01 10:30:00 -0800", datetime(2020, 1, 1, 18, 30), 0),
        ("2020-W53-5", datetime(2021, 1, 1), 0),
    ],
)
def test_rarer_forms_of_iso_8601(text: str, moment: datetime, nano: int) -> None:
    times = parse([text])
    assert (times.seconds.tolist(), times.fraction.tolist(), times.faults) == ([seconds_of(moment)], [nano], [])


@pytest.mark.parametrize(
    "text", ["2020-02-30", "2021-W53-1", "2021-366", "2020-01-01T24:01", "2020-01-01T10:60", "2020-00"]
)
def test_times_that_are_in_no_calendar(text: str) -> None:
    assert [fault.what for fault in parse([text]).faults] == ["unreadable time"]


DAYS = [datetime(2020, 1, 1, 10, 30) + timedelta(days=day) for day in range(40)]
LOOKS = [
    *(("".join(CODES.get(name, "") for name in PACKED[form]), form) for form in PACKED if form not in (
        "yyyymmddhhmmssfff", "yyyy", "yymmddhhmm", "ddmmyyyyhhmmss", "mmddyyyyhhmmss")),
]  # fmt: skip
TOO_LARGE = ("yyyymmddhhmmss", "yyyymmddhhmm", "yymmddhhmmss", "ddmmyyyyhhmm", "mmddyyyyhhmm")  # for seconds


@pytest.mark.parametrize(("code", "form"), LOOKS)
@pytest.mark.parametrize("share", [1.0, 0.7])
@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), pa.float64()])
def test_numbers_that_look_like_dates_are_refused_with_their_form(
    code: str, form: str, share: float, kind: pa.DataType
) -> None:
    numbers = [int(moment.strftime(code)) for moment in DAYS]
    numbers[int(share * len(numbers)) :] = [1_600_000_000] * (len(numbers) - int(share * len(numbers)))
    times = parse([str(number) if kind == pa.string() else number for number in numbers], kind=kind)
    assert times.faults[0].rows.all()
    assert f"time_format: {form}" in remedies(times)
    assert not parse(numbers, unit="s").faults or form in TOO_LARGE


@pytest.mark.parametrize(("code", "form"), [("%d%m%Y%H%M%S", "ddmmyyyyhhmmss"), ("%m%d%Y%H%M%S", "mmddyyyyhhmmss")])
def test_dates_that_would_be_plausible_milliseconds_are_refused(code: str, form: str) -> None:
    times = parse([int(moment.strftime(code)) for moment in DAYS])
    assert times.faults[0].rows.all()
    assert f"time_format: {form}" in remedies(times)


@pytest.mark.parametrize(
    "pattern", ["%a %b %d %H:%M:%S %Y", "%d/%b/%Y:%H:%M:%S +0000", "%Y-%m-%d_%H:%M:%S", "%Y-%b-%d", "%b %Y"]
)
def test_written_times_are_refused_with_their_pattern(pattern: str) -> None:
    texts = [moment.strftime(pattern) for moment in DAYS]
    (fault,) = parse(texts).faults
    form = fault.remedy.split("time_format: ")[1].strip("'")
    assert form == pattern.replace("+0000", "%z")
    assert not parse(texts, form).faults


def test_numbers_with_an_exponent_are_numbers() -> None:
    assert parse(["1.7e9", "1.700000001E+09"]).seconds.tolist() == [1_700_000_000, 1_700_000_001]


@pytest.mark.parametrize("form", [form for form in COUNTS if form != "apple_seconds"])
def test_counts_are_refused_with_their_form(form: str) -> None:
    unit, epoch = COUNTS[form]
    counts = [epoch + seconds_of(moment) / unit for moment in DAYS]
    times = parse([int(count) for count in counts] if unit < 1 else counts)
    assert times.faults[0].rows.all()
    assert f"time_format: {form}" in remedies(times)


@pytest.mark.parametrize(("code", "forms"), [("%d/%m/%Y", ["day_first"]), ("%m/%d/%Y", ["month_first"])])
def test_dates_of_another_order_are_refused_with_their_form(code: str, forms: list[str]) -> None:
    assert [form in remedies(parse([day.strftime(code) for day in DAYS])) for form in forms] == [True]
    both = remedies(parse(["01/02/2020", "03/04/2020"]))
    assert "day_first" in both
    assert "month_first" in both


@QUICK
@given(
    st.lists(st.integers(946_684_800, 1_893_456_000), min_size=1, max_size=60),
    st.sampled_from([1, 10**3, 10**6, 10**9]),
)
def test_epoch_numbers_look_like_nothing_else(seconds: list[int], per_second: int) -> None:
    times = parse([second * per_second for second in seconds])
    assert not times.faults
    assert times.seconds.tolist() == seconds


def test_a_zone_counts_for_dates_without_one() -> None:
    for form, value in (("yyyymmddhh", 2020010112), ("day_first", "1.1.2020 12:00"), ("excel_days", 43_831.5)):
        noon = parse([value], form, timezone="Europe/Berlin").seconds.tolist()
        assert noon == [int(datetime(2020, 1, 1, 11, tzinfo=timezone.utc).timestamp())]


@pytest.mark.parametrize("form", ["", "daily", "%Q", "%d.%m", "%Y %Y"])
def test_an_unknown_form_is_refused(form: str) -> None:
    with pytest.raises(ConfigError, match="time_format"):
        parse([1], form)


def test_rows_that_do_not_fit_the_form_are_named() -> None:
    times = parse([20200101, 20201301, None], "yyyymmdd")
    assert np.flatnonzero(times.faults[0].rows).tolist() == [1, 2]
    assert "time_format='yyyymmdd'" in remedies(times)
