"""Logs as nobody should write them, made by code: what is laid on disk, and what has to come of it."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

N = 40
DAY = 86_400
START = 1_600_000_000
USERS = [f"u{row % 8}" for row in range(N)]
ITEMS = [f"i{(row * 7) % 10}" for row in range(N)]
TIMES = [START + row * DAY // 4 for row in range(N)]
IDS = [f"i{row}" for row in range(10)]
TITLES = [f"title {row}" for row in range(10)]
GOOD = {"n_users": 8, "n_items": 10, "n_items_with_events": 10}
WHOLE = GOOD | {"n_events": N, "n_repeats_dropped": 0}


class Case(NamedTuple):
    """lay: writes the files. told: what the refusal says; nothing: it is accepted. facts: of the log, then.

    options: of `llmrec audit`, beside the source.
    """

    name: str
    lay: Callable[[Path], object]
    told: tuple[str, ...] = ()
    facts: Mapping[str, object] = MappingProxyType({})
    options: tuple[str, ...] = ()


def write(path: Path, table: pa.Table) -> None:
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()), encoding="utf-8")


def events(**columns: Any) -> pa.Table:
    """A sound log, with some columns in place of its own."""
    return pa.table({"user_id": USERS, "item_id": ITEMS, "timestamp": TIMES} | columns)


def items(**columns: Any) -> pa.Table:
    return pa.table({"item_id": IDS, "title": TITLES} | columns)


def laid(log: pa.Table | None = None, catalog: pa.Table | None = None, suffix: str = ".parquet") -> Callable:
    def lay(folder: Path) -> None:
        write(folder / f"interactions{suffix}", events(repeat=list(range(N))) if log is None else log)
        write(folder / f"items{suffix}", items() if catalog is None else catalog)

    return lay


def changed(change: Callable[[Path], object], suffix: str = ".parquet") -> Callable[[Path], None]:
    """A sound log, and then `change(folder)`."""

    def lay(folder: Path) -> None:
        laid(suffix=suffix)(folder)
        change(folder)

    return lay


def as_bytes(name: str, content: bytes) -> Callable[[Path], None]:
    """A sound log with one of its files in these bytes."""

    def lay(folder: Path) -> None:
        laid()(folder)
        (folder / name).with_suffix(".parquet").unlink()
        (folder / name).write_bytes(content)

    return lay


def cut(share: float) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "interactions.parquet"
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])

    return changed(change)


def replaced(name: str, put: Callable[[Path], object], suffix: str = ".parquet") -> Callable[[Path], None]:
    """A sound log whose file `name` makes place for what `put(path)` puts there."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        put(folder / name)

    return changed(change, suffix)


def linked(path: Path) -> None:
    """A link to a sound file that lies elsewhere."""
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    write(elsewhere / path.name, events())
    path.symlink_to(elsewhere / path.name)


def csv_of(titles: list[str], encoding: str = "utf-8") -> bytes:
    rows = "".join(f'{item},"{title}"\n' for item, title in zip(IDS, titles, strict=True))
    return f"item_id,title\n{rows}".encode(encoding)


def times(values: Any, kind: pa.DataType | None = None) -> Callable[[Path], None]:
    return laid(events(timestamp=pa.array(values, kind)))


def users(values: Any, kind: pa.DataType | None = None) -> Callable[[Path], None]:
    return laid(events(user_id=pa.array(values, kind)))


def doubled(suffix: str) -> Callable[[Path], None]:
    """Two columns of one name."""
    names = ["user_id", "item_id", "timestamp", "user_id"]
    return laid(pa.Table.from_arrays([pa.array(c) for c in (USERS, ITEMS, TIMES, USERS)], names), suffix=suffix)


def broken_text() -> pa.Array:
    """Titles of which the third is no UTF-8, as other writers leave them in parquet."""
    raw = pa.array([b"\xff\xfe" if row == 2 else title.encode() for row, title in enumerate(TITLES)], pa.binary())
    return pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())


def first(value: Any, values: list[Any]) -> list[Any]:
    return [value, *values[1:]]


HUGE = "x" * (10 << 20)
FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-2", "@SUM(A1)", "=HYPERLINK('http://a')", "\t=1", "%0A=1", "=1", "==", "=@"]
SPOKEN = [
    "🎬👩‍👩‍👧 film",
    "שלום עולם",
    "مرحبا",
    "e\u0301tude",
    "\u202egnp.exe",
    "零幅\u200b字",
    "Z͑ͫ̓a̴l͛g̷o",
    "🏳️‍🌈",
    "ﷺ" * 40,
    "\ufeffbom",
]
COMMANDS = [
    "\x1b[2J\x1b[31mred",
    "bell\x07",
    "a\rb",
    "line\nbreak",
    "nul\x00byte",
    "\x9b1m",
    "\u2028",
    "a\tb",
    "\x7f",
    "\x08\x08",
]
COMMANDS = [f"{sign} title" for sign in COMMANDS]
LATER = [f"i{row % 5}" if row < 32 else f"i{5 + row % 5}" for row in range(N)]  # the test's items are its own
TOO_FEW = "cannot make three parts"

FILES = [
    *(Case(f"parquet cut at {share:.0%}", cut(share), ("interactions.parquet: unreadable as parquet", "Repair it"))
      for share in (0.0, 0.001, 0.2, 0.5, 0.9, 0.999)),
    Case("text called parquet", as_bytes("items.parquet", b"item_id,title\n"), ("items.parquet: unreadable",)),
    Case("zip called csv", as_bytes("items.csv", b"PK\x03\x04" + bytes(range(256)) * 9), ("items.csv",)),
    Case("nothing called jsonl", as_bytes("items.jsonl", b""), ("items.jsonl: unreadable as jsonl",)),
    Case("jsonl of lists", as_bytes("items.jsonl", b"[1]\n[2]\n"), ("items.jsonl: unreadable as jsonl",)),
    Case("jsonl that nests deeply", as_bytes("items.jsonl", b'{"a":' * 99_000 + b"1" + b"}" * 99_000),
         ("line 1 nests",)),
    Case("a list that nests deeply", as_bytes("items.jsonl", b'{"a": 1}\n{"a":' + b"[" * 99_000), ("line 2 nests",)),
    Case("brackets in a title", laid(catalog=items(title=first("[{" * 999, TITLES)), suffix=".jsonl"), facts=WHOLE),
    Case("jsonl with half a surrogate", as_bytes("items.jsonl", b'{"item_id": "i0", "title": "\\ud800"}\n'),
         ("item without catalog entry",)),
    Case("no rows", laid(events().slice(0, 0), items().slice(0, 0)), ("items.parquet: no items", "no events")),
    Case("no columns", laid(pa.table({}), None), ("column 'user_id': missing among none",)),
    Case("semicolons", as_bytes("items.csv", b"item_id;title\ni0;a\n"), ("item without catalog entry",)),
    Case("csv in Latin-1", as_bytes("items.csv", csv_of(["caf\u00e9", *TITLES[1:]], "latin-1")),
         ("column 'title'", "UTF-8")),
    Case("csv in UTF-16", as_bytes("items.csv", csv_of(TITLES, "utf-16")), facts=WHOLE),
    Case("csv with Latin-1 ids", as_bytes("items.csv", b"item_id,title\n\xe9,a\n"), ("items.csv: unreadable", "UTF8")),
    Case("csv with a byte order mark", as_bytes("items.csv", csv_of(TITLES, "utf-8-sig")), facts=WHOLE),
    Case("csv of Windows", as_bytes("items.csv", csv_of(TITLES).replace(b"\n", b"\r\n")), facts=WHOLE),
    Case("csv with a quote that never ends", as_bytes("items.csv", b'item_id,title\ni0,"a\ni1,b\ni2,c\n'),
         ("row 1 opens a quote that never ends",)),
    Case("csv with NUL bytes", as_bytes("items.csv", csv_of([t.replace(" ", "\0") for t in TITLES])), facts=WHOLE),
    Case("parquet that is not UTF-8", laid(catalog=items(title=broken_text())), ("column 'title'", "UTF-8")),
    Case("a column twice, csv", doubled(".csv"), ("'user_id' name more than one column",)),
    Case("a column twice, parquet", doubled(".parquet"), ("'user_id' name more than one column",)),
    Case("a link to a file", replaced("interactions.parquet", linked), facts=WHOLE),
    Case("a link to nothing", replaced("items.parquet", lambda p: p.symlink_to("nowhere")), ("items.parquet",)),
    Case("a link to itself", replaced("items.parquet", lambda p: p.symlink_to(p.name)), ("items.parquet",)),
    Case("a folder for a file", replaced("items.parquet", Path.mkdir), ("items.parquet",)),
    Case("a pipe for a file", replaced("items.parquet", os.mkfifo), ("items.parquet",)),
    Case("an explicit folder", laid(), ("no column title",), options=("--data.items", "{folder}")),
    Case("an endless device", laid(), ("/dev/zero: no such file",), options=("--data.items", "/dev/zero")),
    Case("a name that is too long", laid(), ("too long",), options=("--data.items", "x" * 5000 + ".csv")),
    Case("a template of no column", laid(), ("items.parquet has no column plot",),
         options=("--data.text_template", "{plot}")),
    Case("a time zone of nowhere", laid(), ("timezone='Atlantis'",), options=("--data.timezone", "Atlantis")),
]  # fmt: skip

IDENTITIES = [
    Case("null users", users(first(None, USERS)), ("missing id in 1 row (row 1: null)",)),
    Case("empty users", users(first("", USERS)), ("missing id in 1 row",)),
    Case("blank users", users(first("  ", USERS)), ("missing id in 1 row",)),
    Case("users that are all null", users([None] * N), (f"missing id in {N} rows",)),
    Case("NaN users", users(first(float("nan"), [1.0] * N)), ("missing id in 1 row",)),
    Case("infinite users", users(first(float("inf"), [1.0] * N)), ("unusable id in 1 row",)),
    Case("users that are lists", users([["a"]] * N), ("unusable id",)),
    Case("users that are structs", users([{"a": 1}] * N), ("unusable id",)),
    Case("users that are bytes", users([b"\xff"] * N), ("unusable id",)),
    Case("users that are text in bytes", users([user.encode() for user in USERS]), facts=WHOLE),
    Case("users that are UUIDs in bytes", users([uuid.UUID(int=row % 8).bytes for row in range(N)], pa.uuid()),
         facts=WHOLE),
    Case("users that are truths", users([True] * N), ("unusable id",)),
    Case("negative users", users([-(row % 8) for row in range(N)]), facts=WHOLE),
    Case("users up to 2^64", users([2**64 - 1 - row % 8 for row in range(N)], pa.uint64()), facts=WHOLE),
    Case("users of 10,000 letters", users([user * 5000 for user in USERS]), facts=WHOLE),
    Case("users that command a terminal", users([f"\x1b[2J{user}" for user in USERS]), facts=WHOLE),
    Case("null items", laid(catalog=items(item_id=first(None, IDS))), ("missing id in 1 row", "without catalog entry")),
    Case("items twice", laid(catalog=items(item_id=first("i1", IDS))), ("duplicate item id in 1 row (row 2: 'i1')",)),
    Case("events on unknown items", laid(events(item_id=first("i99", ITEMS))),
         ("without catalog entry in 1 row (row 1: 'i99')",)),
    Case("events on unknown items, dropped", laid(events(item_id=first("i99", ITEMS))),
         facts={"n_unknown_items_dropped": 1, "n_events": N - 1}, options=("--data.unknown_items", "drop")),
    Case("events on unknown items alone", laid(events(item_id=["i99"] * N)),
         (f"no event of {N} is left after unknown_items=drop",),
         options=("--data.unknown_items", "drop")),
    Case("items nobody touched", laid(events(item_id=[f"i{row % 3}" for row in range(N)])),
         facts={"n_items": 10, "n_items_with_events": 3}),
    Case("a core that nobody is in", laid(), (f"no event of {N} is left after k_core=99",),
         options=("--data.k_core", "99")),
    Case("a core below nothing", laid(), ("k_core=-1",), options=("--data.k_core", "-1")),
]  # fmt: skip

MOMENTS = [
    Case("2^63 - 1 as a time", times(first(2**63 - 1, TIMES)), ("time after the year 9999 in 1 row",)),
    Case("-2^63 as a time", times(first(-(2**63), TIMES)), ("time before 1970 in 1 row",)),
    Case("2^63 as a time", times(first(2**63, TIMES), pa.uint64()), ("time after the year 9999 in 1 row",)),
    Case("2^63 as text", times(first(str(2**63), [str(time) for time in TIMES])), ("unreadable time in 1 row",)),
    Case("1e300 as a time", times(first(1e300, [float(t) for t in TIMES])), ("time after the year 9999",)),
    Case("NaN as a time", times(first(float("nan"), [float(t) for t in TIMES])), ("unreadable time in 1 row",)),
    Case("infinity as a time", times(first(float("-inf"), [float(t) for t in TIMES])), ("unreadable time in 1 row",)),
    Case("null as a time", times(first(None, TIMES)), ("unreadable time in 1 row (row 1: null)",)),
    Case("negative times", times(first(-5, TIMES)), ("time before 1970 in 1 row (row 1: -5)",)),
    Case("decimal times", times([Decimal(time) for time in TIMES], pa.decimal128(38, 3)), facts=WHOLE),
    Case("times that are structs", times([{"at": 1}] * N), (f"unreadable time in {N} rows",)),
    Case("times that are lists", times([[1]] * N), (f"unreadable time in {N} rows",)),
    Case("times that are durations", times([timedelta(days=row) for row in range(N)]),
         (f"unreadable time in {N} rows",)),
    Case("times that Python has no object for", times([2**60] * N, pa.timestamp("ms")), ("time after the year 9999",)),
    Case("times of another unit here and there", times(first(TIMES[0] * 1000, TIMES)), ("year 9999 in 1 row",)),
    Case("offsets that no clock has", times(["2024-01-01T00:00+99:00"] * N), (f"unreadable time in {N} rows",)),
    Case("the 30th of February", times(["2024-02-30"] * N), (f"unreadable time in {N} rows",)),
    Case("time that runs backwards", laid(events().take(list(range(N))[::-1])), facts=WHOLE),
    Case("time that stands still", times([START] * N), ("too few distinct times",)),
    Case("every event twice", laid(pa.concat_tables([events(), events()])),
         facts=GOOD | {"n_events": N, "n_repeats_dropped": N}),
    Case("two events", laid(events().slice(0, 2)), (TOO_FEW,)),
    Case("one user", users(["only"] * N), facts={"n_users": 1, "n_events": 10, "n_repeats_dropped": N - 10}),
    Case("one item", laid(events(item_id=["i0"] * N), items().slice(0, 1)), facts={"n_items": 1, "n_events": 8}),
    Case("a test of new items alone", laid(events(user_id=[f"u{row}" for row in range(N)], item_id=LATER)),
         facts={"n_events": N}),
]  # fmt: skip

TEXTS = [
    Case("titles of 10 MB, parquet", laid(catalog=items(title=first(HUGE, TITLES))), facts=WHOLE),
    Case("titles of 10 MB, csv", laid(catalog=items(title=first(HUGE, TITLES)), suffix=".csv"), facts=WHOLE),
    Case("titles of 20 MB, jsonl", laid(catalog=items(title=first(HUGE * 2, TITLES)), suffix=".jsonl"), facts=WHOLE),
    Case("titles that are formulas", laid(catalog=items(title=FORMULAS), suffix=".csv"), facts=WHOLE),
    Case("titles of all scripts", laid(catalog=items(title=SPOKEN), suffix=".jsonl"), facts=WHOLE),
    Case("titles that command a terminal", laid(catalog=items(title=COMMANDS), suffix=".jsonl"), facts=WHOLE),
    Case("titles that are null", laid(catalog=items(title=pa.nulls(10))), ("item with an empty text in 10 rows",)),
    Case("a title that is blank", laid(catalog=items(title=first(" \t ", TITLES))), ("empty text in 1 row",)),
    Case("titles that are structs", laid(catalog=items(title=[{"en": "a"}] * 10)), ("'title': type struct",)),
    Case("titles that are bytes", laid(catalog=items(title=[b"\xff"] * 10)), ("'title': type binary",)),
    Case("titles that are lists", laid(catalog=items(title=[["a", None, "b"]] * 10)), facts=WHOLE),
    Case("titles that are NaN", laid(catalog=items(title=[float("nan")] * 10)), ("empty text in 10 rows",)),
]  # fmt: skip

CASES = [*FILES, *IDENTITIES, *MOMENTS, *TEXTS]
