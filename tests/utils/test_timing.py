"""Seconds and memory of phases."""

import time

import pytest

from llmrec.utils.timing import ALL, Phases, clock, peak_mib, since


def test_phases_of_one_name_add_up_and_the_whole_holds_all() -> None:
    phases = Phases()
    with phases.phase("work"):
        began = time.process_time()
        while time.process_time() - began < 0.03:
            pass
    with phases.phase("rest"):
        time.sleep(0.03)
    with phases.phase("work"):
        began = time.process_time()
        while time.process_time() - began < 0.03:
            pass
    record = {one["phase"]: one for one in phases.record()}
    assert list(record) == ["work", "rest", ALL]
    assert record["work"]["cpu"] >= 0.06
    assert record["rest"]["wall"] >= 0.03 > record["rest"]["cpu"]
    for key in ("wall", "cpu"):
        assert record[ALL][key] >= record["work"][key] + record["rest"][key] - 0.02  # each is rounded
    assert 0 < record["work"]["peak_mib"] <= record[ALL]["peak_mib"] <= peak_mib() + 1


def test_a_phase_that_fails_is_told_too() -> None:
    phases = Phases()
    with pytest.raises(ValueError, match="no"), phases.phase("work"):
        raise ValueError("no")
    assert phases.record()[0]["phase"] == "work"
    assert min(since(clock())) >= 0
