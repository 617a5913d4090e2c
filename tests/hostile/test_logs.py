"""Broken, sloppy and hostile logs: one message that names what is wrong, or the right numbers; nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmrec.cli.main import main
from llmrec.config.data import DataConfig
from llmrec.data.loading import load_log
from llmrec.data.log import Log
from llmrec.errors import ConfigError, DataError
from tests.hostile.corpus import CASES, COMMANDS, FORMULAS, SPOKEN, Case, events, items, laid, write

if TYPE_CHECKING:
    from llmrec.hub.bundle import Bundle

Count = Callable[[int], None]
Seen = Callable[[Path], dict[str, str]]


def every(n: int, cases: list[Case]) -> list[Any]:
    """All of the cases, those between every n-th as slow tests: what is read is the same as in `test_audit`."""
    return [
        pytest.param(case, id=case.name, marks=() if place % n == 0 else pytest.mark.slow)
        for place, case in enumerate(cases)
    ]


def arguments(case: Case, folder: Path) -> list[str]:
    return ["--data.source", str(folder), *(option.replace("{folder}", str(folder)) for option in case.options)]


def outcome(capsys: pytest.CaptureFixture[str], *given: str) -> tuple[int, str, str]:
    """Exit status and both streams of the command."""
    status = 0
    try:
        main(list(given))
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    return (status, *capsys.readouterr())


LARGE = pytest.mark.slow
RECORDS = ("config.yaml", "run.json", "log.jsonl")  # of what was asked, and of how it ended


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name, marks=LARGE if "20 MB" in c.name else ()) for c in CASES])
def test_audit(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], seen: Seen, count: Count) -> None:
    count(1)
    case.lay(tmp_path)
    before = seen(tmp_path)
    status, out, err = outcome(capsys, "audit", *arguments(case, tmp_path), "--json")
    assert seen(tmp_path) == before
    if case.told:
        assert status == 2, (status, out[:500], err[:500])
        assert err.startswith(("llmrec audit: ", "usage: "))
        assert all(words in err for words in case.told), err[:2000]
        assert len(err) < 20_000
        assert "Traceback" not in err
        return
    assert status == 0, err[:2000]
    facts = json.loads(out)["facts"]
    assert {name: facts[name] for name in case.facts} == case.facts


@pytest.fixture(scope="module")
def shared_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile") / "bundle"


@pytest.fixture
def bundle(shared_bundle: Path, make_bundle: Callable[..., Bundle]) -> str:
    from llmrec.hub.bundle import save_bundle  # the log is read without torch, and tested so on other Pythons

    if not shared_bundle.exists():
        save_bundle(shared_bundle, make_bundle("none"))
    return str(shared_bundle)


@pytest.mark.parametrize("case", every(10, CASES))
def test_recommend_to_a_user_of_the_log(
    case: Case, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], count: Count
) -> None:
    """The bundle has the items i0 to i39, those of the corpus i0 to i9."""
    count(1)
    case.lay(tmp_path)
    asked = ["recommend", bundle, "--user", "u3", *arguments(case, tmp_path), "--json"]
    status, out, err = outcome(capsys, *asked)
    assert "Traceback" not in err
    if status == 0:
        assert len(json.loads(out)) == 10
        return
    assert status == 2
    assert not out
    unknown = "'u3': no events in" in err
    assert unknown if not case.told else unknown or all(words in err for words in case.told), err[:2000]


@pytest.mark.parametrize("case", every(6, [case for case in CASES if case.told]))
def test_a_recipe_leaves_its_output_as_it_was(
    case: Case,
    tmp_path: Path,
    recipe: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    seen: Seen,
    count: Count,
    tiny_bert: Path,
) -> None:
    count(1)
    (tmp_path / "log").mkdir()
    case.lay(tmp_path / "log")
    kept = tmp_path / "run" / "bundle"
    kept.mkdir(parents=True)
    (kept / "llmrec.json").write_text("of an earlier run")
    before = seen(tmp_path)
    given = [*arguments(case, tmp_path / "log"), "--output", str(tmp_path / "run"), "--backbone.name", str(tiny_bert)]
    with pytest.raises(SystemExit) as stopped:
        recipe(*given)
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert all(words in err for words in case.told), err[:2000]
    after = {name: content for name, content in seen(tmp_path).items() if Path(name).name not in RECORDS}
    assert after == before


@pytest.mark.parametrize(
    ("titles", "suffix"), [(FORMULAS, ".csv"), (SPOKEN, ".jsonl"), (COMMANDS, ".jsonl"), (SPOKEN, ".csv")]
)
def test_titles_stay_as_they_are_written(titles: list[str], suffix: str, tmp_path: Path, count: Count) -> None:
    """Also those that a spreadsheet would run: llmrec writes no csv, and text is text elsewhere."""
    count(len(titles))
    laid(catalog=items(title=titles), suffix=suffix)(tmp_path)
    catalog = load_log(DataConfig(source=str(tmp_path))).catalog
    assert catalog.fields["title"].to_pylist() == titles
    labels = [catalog.label(row) for row in range(len(titles))]
    assert not any(sign in label for label in labels for sign in "\x1b\x07\x08\r\n\x00\x9b\u2028\u202e")
    assert all(labels)


def rows_of(log: Log) -> int:
    facts = log.facts
    return facts.n_events + facts.n_repeats_dropped + facts.n_unknown_items_dropped + facts.n_dropped_by_k_core


VALUES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "uint64": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "int8": (pa.int8(), st.integers(-128, 127)),
    "double": (pa.float64(), st.floats()),
    "float": (pa.float32(), st.floats(width=32)),
    "string": (pa.string(), st.text(st.characters(exclude_categories=["Cs"]), max_size=8)),
    "large_string": (pa.large_string(), st.sampled_from(["a", "1.0", "-7", "nan", "2024-01-31T12:00:00Z", "9" * 19])),
    "view": (pa.string_view(), st.sampled_from(["a", "b"])),
    "binary": (pa.binary(), st.binary(max_size=4)),
    "bool": (pa.bool_(), st.booleans()),
    "date": (pa.date32(), st.integers(-(2**31), 2**31 - 1)),
    "seconds": (pa.timestamp("s"), st.integers(-(2**62), 2**62)),
    "nanoseconds": (pa.timestamp("ns", "Asia/Tokyo"), st.integers(-(2**63), 2**63 - 1)),
    "duration": (pa.duration("ms"), st.integers(0, 2**40)),
    "list": (pa.list_(pa.int64()), st.lists(st.integers(0, 5), max_size=2)),
    "struct": (pa.struct({"a": pa.string()}), st.fixed_dictionaries({"a": st.text("ab")})),
    "decimal": (pa.decimal128(38, 2), st.decimals(-(10**20), 10**20, places=2)),
    "null": (pa.null(), st.none()),
}  # fmt: skip


@st.composite
def columns(draw: st.DrawFn, n_rows: int) -> pa.Array:
    """A column of any type, often sparse, sometimes encoded."""
    kind, values = VALUES[draw(st.sampled_from(list(VALUES)))]
    some = draw(st.lists(st.none() | values, min_size=1, max_size=3))
    column = pa.array([some[row % len(some)] for row in range(n_rows)], kind)
    return column.dictionary_encode() if draw(st.booleans()) and pa.types.is_string(kind) else column


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Table, pa.Table]:
    """A log and its items, sound but for some of their columns."""
    n_events, n_items = draw(st.integers(0, 8)), draw(st.integers(0, 4))
    log, catalog = events().slice(0, n_events), items().slice(0, n_items)
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, 2))
        log = log.set_column(place, log.column_names[place], draw(columns(n_events)))
    if draw(st.booleans()):
        place = draw(st.integers(0, 1))
        catalog = catalog.set_column(place, catalog.column_names[place], draw(columns(n_items)))
    return log, catalog


def test_columns_of_any_type(tmp_path: Path, count: Count) -> None:
    """Every row is an event or is counted as dropped, or the log is refused."""
    tried = []

    @settings(max_examples=90, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(tables(), st.sampled_from(["error", "drop"]), st.sampled_from(["auto", "s", "ns"]))
    def check(given_tables: tuple[pa.Table, pa.Table], unknown: Any, unit: Any) -> None:
        tried.append(unknown)
        log, catalog = given_tables
        write(tmp_path / "interactions.parquet", log)
        write(tmp_path / "items.parquet", catalog)
        try:
            read = load_log(DataConfig(source=str(tmp_path), unknown_items=unknown, time_unit=unit))
        except (DataError, ConfigError):
            return
        assert rows_of(read) == log.num_rows
        assert len(read.catalog) == catalog.num_rows
        assert set(read.user_ids.to_pylist()) <= {str(user) for user in read.user_ids.to_pylist()} - {""}
        assert np.all(np.diff(read.interactions.time) >= 0)

    check()
    count(len(tried))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_bytes_that_were_damaged(suffix: str, tmp_path: Path, count: Count) -> None:
    """Cut anywhere, or with bytes changed: a log that can be told from a sound one is refused, never half read."""
    laid(suffix=suffix)(tmp_path)
    path, tried = tmp_path / f"interactions{suffix}", []
    whole = path.read_bytes()

    def attempt(content: bytes) -> None:
        tried.append(len(content))
        path.write_bytes(content)
        try:
            read = load_log(DataConfig(source=str(tmp_path)))
        except (DataError, ConfigError):
            return
        assert rows_of(read) <= len(whole)

    for at in np.linspace(0, len(whole) - 1, 60).astype(int):
        attempt(whole[:at])

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), min_size=1, max_size=4))
    def changed(changes: list[tuple[int, int]]) -> None:
        content = bytearray(whole)
        for place, value in changes:
            content[place] = value
        attempt(bytes(content))

    changed()
    count(len(tried))


ODD = [
    "",
    " ",
    "\x00",
    "\udcff",
    "i1\x00",
    "[",
    "[[",
    "[1,2",
    "{a: b}",
    "&a [*a]",
    "null",
    "🎬",
    "\u202e",
    "-",
    "=cmd",
    "a" * 9999,
    "NaN",
    "../x",
    "%s",
    "--",
]
WHEN = [
    "",
    "soon",
    "9999-99-99",
    "1e999",
    "-1",
    "2024-02-30",
    "99999999999999999999",
    "NaN",
    "0001-01-01",
    "2024-01-01T00:00+99:00",
    "\udcff",
]
QUESTIONS = [
    *(("--", odd) for odd in ODD),
    *(("i1", "--at", when) for when in WHEN),
    *(("i1", "-k", k) for k in ("0", "-1", "1.5", "1e3", "many", "", "99999999999999999999", "NaN")),
    *(("i1", "--filter", condition) for condition in ("=", "~", "title", "titel=x", "title~\x00", "title=\udcff")),
    *(("--user", odd) for odd in ODD),
]  # fmt: skip


@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda asked: ascii(" ".join(asked))[:40])
def test_odd_questions(
    asked: tuple[str, ...], bundle: str, log_folder: str, capsys: pytest.CaptureFixture[str], count: Count
) -> None:
    count(1)
    status, out, err = outcome(capsys, "recommend", bundle, "--data.source", log_folder, *asked)
    assert status in (0, 2), err
    assert "Traceback" not in err
    assert bool(out) is (status == 0)
