"""Seconds and memory of phases."""

import time

import pytest

from llmrec.utils.timing import ALL, Timer, elapsed_since, peak_memory_mib, read_clock


def test_phases_of_one_name_add_up_and_the_whole_holds_all() -> None:
    phases = Timer()
    with phases.section("work"):
        began = time.process_time()
        while time.process_time() - began < 0.03:
            pass
    with phases.section("rest"):
        time.sleep(0.03)
    with phases.section("work"):
        began = time.process_time()
        while time.process_time() - began < 0.03:
            pass
    record = {one["phase"]: one for one in phases.to_record()}
    assert list(record) == ["work", "rest", ALL]
    assert record["work"]["cpu"] >= 0.06
    assert record["rest"]["wall"] >= 0.03 > record["rest"]["cpu"]
    for key in ("wall", "cpu"):
        assert record[ALL][key] >= record["work"][key] + record["rest"][key] - 0.02  # each is rounded
    assert 0 < record["work"]["peak_mib"] <= record[ALL]["peak_mib"] <= peak_memory_mib() + 1


def test_a_phase_that_fails_is_told_too() -> None:
    phases = Timer()
    with pytest.raises(ValueError, match="no"), phases.section("work"):
        raise ValueError("no")
    assert phases.to_record()[0]["phase"] == "work"
    assert min(elapsed_since(read_clock())) >= 0
