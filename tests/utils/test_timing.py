"""Seconds and memory of sections, in records and in the log."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmrec.utils.run_logging import JsonFileHandler, add_json_file, remove_handlers
from llmrec.utils.timing import ALL, Timer, elapsed_since, peak_memory_mib, read_clock


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    add_json_file(tmp_path / "log.jsonl", rank=0)
    yield tmp_path / "log.jsonl"
    remove_handlers(JsonFileHandler)


def work() -> None:
    began = time.process_time()
    while time.process_time() - began < 0.03:
        pass


def test_sections_of_one_name_and_subject_add_up_and_the_whole_holds_all() -> None:
    timer = Timer()
    with timer.section("fit", of="first"):
        work()
    with timer.section("rest") as rest:
        time.sleep(0.03)
    with timer.section("fit", of="second"):
        pass
    with timer.section("fit", of="first"):
        work()
    record = {(one["phase"], one["of"]): one for one in timer.to_record()}
    assert list(record) == [("fit", "first"), ("rest", None), ("fit", "second"), (ALL, None)]
    fit, whole = record["fit", "first"], record[ALL, None]
    assert fit["cpu"] >= 0.06
    assert rest.wall >= 0.03 > rest.cpu
    for key in ("wall", "cpu"):
        assert whole[key] >= fit[key] + record["rest", None][key] - 0.02  # each is rounded
    assert 0 < fit["peak_mib"] <= whole["peak_mib"] <= peak_memory_mib() + 1


def test_a_restart_forgets_what_was_before() -> None:
    timer = Timer()
    with timer.section("work"):
        work()
    timer.restart()
    assert [one["phase"] for one in timer.to_record()] == [ALL]
    assert timer.minutes == 0.0


def test_a_section_that_fails_is_measured_too() -> None:
    timer = Timer()
    with pytest.raises(ValueError, match="no"), timer.section("work"):
        raise ValueError("no")
    assert timer.to_record()[0]["phase"] == "work"
    assert min(elapsed_since(read_clock())) >= 0


def test_sections_are_logged_within_each_other(log: Path) -> None:
    timer = Timer()

    @timer.section("checkpoint")
    def save() -> int:
        return 7

    with timer.section("fit", of="llmrec"):
        assert save() == 7
        with pytest.raises(ValueError, match="no"), timer.section("validate"):
            raise ValueError("no")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["phase"], "seconds" in line, line.get("of"), line.get("failed")) for line in lines] == [
        ("fit", False, "llmrec", None),
        ("fit/checkpoint", False, None, None),
        ("fit/checkpoint", True, None, None),
        ("fit/validate", False, None, None),
        ("fit/validate", True, None, "ValueError"),
        ("fit", True, "llmrec", None),
    ]
    assert [one["phase"] for one in timer.to_record()] == ["fit/checkpoint", "fit/validate", "fit", ALL]
