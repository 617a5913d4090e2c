"""Log lines for people on the error stream and JSON objects in a file."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmrec.utils import run_logging
from llmrec.utils.run_logging import (
    ConsoleHandler,
    JsonFileHandler,
    add_console_handler,
    add_json_file,
    enable_debug_output,
    remove_handlers,
)
from llmrec.utils.timing import timer

logger = logging.getLogger("llmrec.of.a.test")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = list(logging.getLogger("llmrec").handlers)  # of runs in this process that other tests have opened
    yield
    remove_handlers(JsonFileHandler)
    remove_handlers(ConsoleHandler)
    assert set(logging.getLogger("llmrec").handlers) <= set(before)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_file_has_an_object_a_line(tmp_path: Path) -> None:
    add_json_file(tmp_path / "log.jsonl", rank=3)
    logger.info("%d items\nand more: ü", 5, extra={"facts": {"n_items": 5}, "run": {"source": Path("here")}})
    try:
        raise KeyError("gone")
    except KeyError:
        logger.exception("failed")
    told, failed = lines(tmp_path / "log.jsonl")
    assert (told["level"], told["process"], told["logger"]) == ("info", 3, "llmrec.of.a.test")
    assert (told["message"], told["n_items"], told["source"]) == ("5 items\nand more: ü", 5, "here")
    assert str(told["time"]).endswith("+00:00")
    assert "KeyError: 'gone'" in str(failed["traceback"])


def test_a_file_goes_on_after_a_line_that_a_kill_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"message": "before"}\n{"mess')
    add_json_file(path, rank=0)
    logger.info("after")
    first, cut, last = path.read_text().splitlines()
    assert (json.loads(first)["message"], cut, json.loads(last)["message"]) == ("before", '{"mess', "after")


@pytest.mark.parametrize(("rank", "verbose"), [("0", False), ("0", True), ("1", False), ("1", True)])
def test_the_console_hears_the_first_process_and_errors_of_the_others(
    rank: str, verbose: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    add_console_handler()
    if verbose:
        enable_debug_output()
    logger.debug("a detail")
    logger.info("a step")
    logger.error("a fault")
    out, err = capsys.readouterr()
    assert out == ""
    first = rank == "0"
    assert ("a step" in err, "a detail" in err, "a fault" in err) == (first, first and verbose, True)
    assert ("llmrec.of.a.test" in err) == (first and verbose)


def test_a_silent_section_is_named_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_logging, "SILENCE_SECONDS", 0.0)
    heard = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "fit/validate of llmrec: still running":
                heard.set()

    listener = run_logging.add_handler(Listener())
    add_console_handler()
    try:
        with timer.section("fit"), timer.section("validate", of="llmrec"):
            assert heard.wait(60)
    finally:
        logging.getLogger("llmrec").removeHandler(listener)
    assert "fit/validate of llmrec: still running" in capsys.readouterr().err
