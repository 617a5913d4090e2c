"""Named forms of times other than ISO 8601 and epoch numbers: packed digits, counts since some day, written dates."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import ConfigError
from llmrec.utils.arrays import Mask, Rows
from llmrec.utils.units import SECONDS_PER_DAY

WIDTHS = {
    "year": 4,
    "short_year": 2,
    "month": 2,
    "day": 2,
    "hour": 2,
    "minute": 2,
    "second": 2,
    "milli": 3,
    "yearday": 3,
}
PACKED: dict[str, tuple[str, ...]] = {
    "yyyymmddhhmmssfff": ("year", "month", "day", "hour", "minute", "second", "milli"),
    "yyyymmddhhmmss": ("year", "month", "day", "hour", "minute", "second"),
    "yyyymmddhhmm": ("year", "month", "day", "hour", "minute"),
    "yyyymmddhh": ("year", "month", "day", "hour"),
    "yyyymmdd": ("year", "month", "day"),
    "yyyymm": ("year", "month"),
    "yyyy": ("year",),
    "yymmddhhmmss": ("short_year", "month", "day", "hour", "minute", "second"),
    "yymmddhhmm": ("short_year", "month", "day", "hour", "minute"),
    "yymmddhh": ("short_year", "month", "day", "hour"),
    "yymmdd": ("short_year", "month", "day"),
    "ddmmyyyyhhmmss": ("day", "month", "year", "hour", "minute", "second"),
    "mmddyyyyhhmmss": ("month", "day", "year", "hour", "minute", "second"),
    "ddmmyyyyhhmm": ("day", "month", "year", "hour", "minute"),
    "mmddyyyyhhmm": ("month", "day", "year", "hour", "minute"),
    "ddmmyyyy": ("day", "month", "year"),
    "mmddyyyy": ("month", "day", "year"),
    "ddmmyy": ("day", "month", "short_year"),
    "mmddyy": ("month", "day", "short_year"),
    "yyyyddd": ("year", "yearday"),
}


class CountForm(NamedTuple):
    """Count of units since some moment."""

    unit: float
    """Seconds of a unit."""
    epoch: float
    """Count at 1970-01-01."""


COUNTS = {
    "excel_days": CountForm(SECONDS_PER_DAY, 25_569),
    "epoch_days": CountForm(SECONDS_PER_DAY, 0),
    "epoch_hours": CountForm(3600, 0),
    "epoch_minutes": CountForm(60, 0),
    "julian_days": CountForm(SECONDS_PER_DAY, 2_440_587.5),
    "modified_julian_days": CountForm(SECONDS_PER_DAY, 40_587),
    "matlab_days": CountForm(SECONDS_PER_DAY, 719_529),
    "dotnet_ticks": CountForm(1e-7, 621_355_968_000_000_000),
    "windows_ticks": CountForm(1e-7, 116_444_736_000_000_000),
    "webkit_microseconds": CountForm(1e-6, 11_644_473_600_000_000),
    "apple_seconds": CountForm(1, -978_307_200),
}
CLOCK = (
    r"(?P<hour>\d{1,2})(?::?(?P<minute>\d{2})(?::?(?P<second>\d{2}))?)?(?:[.,](?P<fraction>\d{1,9})\d*)?"
    r"(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?"
    r"(?: ?(?P<zone>Z|z|UTC|GMT|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)(?:\[[^\]]*\])?)?"
)
DAY, MONTH, NAMED_MONTH, YEAR = (
    r"(?P<day>\d{1,2})",
    r"(?P<month>\d{1,2})",
    r"(?P<month>\d{1,2}|[A-Za-z]{3,9})",
    r"\d{4}",
)
ORDINAL = "(?:st|nd|rd|th)?"  # codespell:ignore
WRITTEN = {
    "iso": rf"^(?P<year>{YEAR})[-/.]{MONTH}[-/.]{DAY}(?:[Tt ]\s*{CLOCK})?$",
    "iso_basic": rf"^(?P<year>{YEAR})(?P<month>\d{{2}})(?P<day>\d{{2}})[Tt ]{CLOCK}$",
    "iso_month": r"^(?P<year>\d{4})-(?P<month>\d{2})$",
    "iso_week": rf"^(?P<year>\d{{4}})-?W(?P<week>\d{{2}})(?:-?(?P<weekday>[1-7]))?(?:[Tt ]{CLOCK})?$",
    "iso_ordinal": rf"^(?P<year>\d{{4}})-(?P<yearday>\d{{3}})(?:[Tt ]{CLOCK})?$",
    "day_first": rf"^(?:[A-Za-z]{{3,9}},? +)?{DAY}{ORDINAL}[-/. ]+{NAMED_MONTH}[-/., ]+(?P<year>\d{{4}}|\d{{2}})"
    rf"(?:[Tt, ]+{CLOCK})?$",
    "month_first": rf"^(?:[A-Za-z]{{3,9}},? +)?{NAMED_MONTH}[-/. ]+{DAY}{ORDINAL}[-/., ]+"
    rf"(?P<year>\d{{4}}|\d{{2}})(?:[Tt, ]+{CLOCK})?$",
}
ISO_FORMS = ("iso", "iso_basic", "iso_month", "iso_week", "iso_ordinal")
DIRECTIVES = {
    "Y": r"(?P<year>\d{4})", "y": r"(?P<year>\d{2})", "m": r"(?P<month>\d{1,2})", "d": DAY, "e": r" ?" + DAY,
    "H": r"(?P<hour>\d{1,2})", "I": r"(?P<hour>\d{1,2})", "M": r"(?P<minute>\d{1,2})", "S": r"(?P<second>\d{1,2})",
    "f": r"(?P<fraction>\d{1,9})", "p": r"(?P<half>[AaPp])\.?[Mm]\.?", "b": r"(?P<month>[A-Za-z]{3,9})\.?",
    "B": r"(?P<month>[A-Za-z]{3,9})", "a": r"[A-Za-z]{2,9}\.?", "A": r"[A-Za-z]{2,9}", "j": r"(?P<yearday>\d{1,3})",
    "z": r"(?P<zone>Z|z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)", "Z": r"(?P<zone>UTC|GMT|Z)", "%": "%",
}  # fmt: skip
# Written forms that are suggested.
COMMON_PATTERNS = (
    "%a %b %d %H:%M:%S %Y",
    "%a %b %d %H:%M:%S %z %Y",
    "%d/%b/%Y:%H:%M:%S %z",
    "%H:%M:%S %d/%m/%Y",
    "%Y-%m-%d_%H:%M:%S",
    "%Y-%m-%d-%H-%M-%S",
    "%Y-%m-%d %H.%M.%S",
    "%Y %m %d",
    "%Y-%b-%d",
    "%b %Y",
    "%Y年%m月%d日",
)
COMPOUND = {"%T": "%H:%M:%S", "%R": "%H:%M", "%F": "%Y-%m-%d", "%D": "%m/%d/%y", "%h": "%b"}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
FEWER_DIGITS = {"yymmdd": 1, "ddmmyy": 2, "mmddyy": 2}  # digits less than all that a form may have
NAMED = ("auto", "day_first", "month_first", *PACKED, *COUNTS)
PIVOT = 69  # two digits of a year from here on are of the last century
MOST, ALL_BUT_FEW, DISTINCT = 0.5, 0.99, 20  # shares of numbers, and how many different ones rule out chance
LARGEST = 10.0**18
SAMPLE = 4096  # numbers that are looked at first
FIRST_YEAR, LAST_YEAR = 1900, 2200


@lru_cache
def compile_pattern(form: str) -> str:
    """Return the regular expression of a written form.

    Args:
        form: Name of a form, or a pattern with directives such as %Y.

    Returns:
        An expression with named groups.

    Raises:
        ConfigError: If the form is unknown.
    """
    if form in WRITTEN:
        return WRITTEN[form]
    if "%" not in form:
        raise ConfigError(f"time_format={form!r}: unknown. Use {', '.join(NAMED)}, or a pattern such as %d.%m.%Y.")
    pattern = form
    for short, long in COMPOUND.items():
        pattern = pattern.replace(short, long)
    tokens = re.split(r"(%.|\s+)", pattern)
    names = [name for token in tokens for name in re.findall(r"\(\?P<(\w+)>", DIRECTIVES.get(token[1:], ""))]
    unknown = [token for token in tokens if token.startswith("%") and token[1:] not in DIRECTIVES]
    if unknown or len(set(names)) < len(names) or "year" not in names:
        raise ConfigError(
            f"time_format={form!r}: no such pattern. Use each of %Y, %m, %d, %H, %M, %S, %z and so on once."
        )
    return f"^{''.join(_compile_token(token) for token in tokens)}$"


def _compile_token(token: str) -> str:
    if token.startswith("%"):
        return DIRECTIVES[token[1:]]
    return r"\s+" if token.isspace() else re.escape(token)


def require_form(form: str) -> None:
    """Check that a form of times is known.

    Args:
        form: Name of a form, or a pattern.

    Raises:
        ConfigError: If it is neither.
    """
    if form not in NAMED:
        compile_pattern(form)


def split_packed(values: Rows, form: str) -> dict[str, Rows]:
    """Split packed digits into their parts.

    Args:
        values: Numbers, (E,).
        form: Name of a packed form.

    Returns:
        Parts by name, (E,) each; `rest` is what is left of the first.
    """
    parts, rest = {}, values
    for name in reversed(PACKED[form]):
        base = 10 ** WIDTHS[name]
        parts[name], rest = rest % base, rest // base
    return parts | {"rest": rest}


def to_whole(values: NDArray[np.generic]) -> Rows:
    """Return numbers without their fractions, (E,); those of more than 18 digits are cut to them."""
    if values.dtype.kind != "f":
        return values.astype(np.int64)
    return np.clip(values.astype(np.float64), -LARGEST, LARGEST).astype(np.int64)


def is_valid_packed(parts: dict[str, Rows]) -> Mask:
    """Return which parts make a time, (E,)."""
    good: Mask = parts["rest"] == 0
    limits = {"year": (FIRST_YEAR, LAST_YEAR), "month": (1, 12), "day": (1, 31), "hour": (0, 23), "minute": (0, 59)}
    limits["yearday"] = (1, 366)
    for name, (low, high) in {**limits, "second": (0, 59)}.items():
        if name in parts:
            good = good & (parts[name] >= low) & (parts[name] <= high)
    return good


def find_look_alikes(values: NDArray[np.generic], *, plausible: bool) -> list[str]:
    """List the forms that most numbers look like.

    Args:
        values: Numbers without missing ones, (E,).
        plausible: Whether they are plausible epoch numbers, so that chance has to be ruled out.

    Returns:
        Names of forms, the most fitting first; empty if they look like none.
    """
    if not len(values):
        return []
    found = _find_look_alikes(values[:: max(1, len(values) // SAMPLE)], plausible=plausible)  # most logs end here
    return _find_look_alikes(values, plausible=plausible) if found and len(values) > SAMPLE else found


def _find_look_alikes(values: NDArray[np.generic], *, plausible: bool) -> list[str]:
    middle = float(np.abs(np.median(values.astype(np.float64))))
    whole = to_whole(values)
    exact = np.asarray(whole == values)
    shares = {}
    for form, names in PACKED.items():
        width = sum(WIDTHS[name] for name in names)
        min_digits = width - FEWER_DIGITS.get(form, 3)  # small numbers of any kind would be
        if 10**min_digits < middle < 10**width:
            shares[form] = float((is_valid_packed(split_packed(whole, form)) & exact).mean())
    best = max(shares.values(), default=0.0)
    enough = best >= ALL_BUT_FEW and len(np.unique(whole)) >= DISTINCT if plausible else best > MOST
    if enough:
        return [form for form, share in shares.items() if share == best]
    return [] if plausible else _find_counts(values)


def _find_counts(values: NDArray[np.generic]) -> list[str]:
    """List the counts that nearly all numbers are, of the years 1995 to 2050."""
    low, high = 9_131 * SECONDS_PER_DAY, 29_220 * SECONDS_PER_DAY
    found = []
    for form, (unit, epoch) in COUNTS.items():
        if form == "apple_seconds":  # small numbers of any kind would be
            continue
        seconds = (values.astype(np.float64) - epoch) * unit
        if float(((seconds >= low) & (seconds <= high)).mean()) >= ALL_BUT_FEW:
            found.append(form)
    return found
