"""How commands end: one message, an exit status that says whose turn it is, and a traceback only in a file."""

import errno
import io
from pathlib import Path

import pytest

from llmrec.errors import ConfigError
from llmrec.utils.exit_status import exit_with_message


def ended(raised: BaseException) -> int:
    with pytest.raises(SystemExit) as stopped, exit_with_message("llmrec audit"):
        raise raised
    return int(str(stopped.value.code))


def test_what_a_user_can_mend_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(ConfigError("k=0: give at least 1")) == 2
    assert capsys.readouterr() == ("", "llmrec audit: k=0: give at least 1\n")


def test_what_the_machine_refuses_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/runs/one/report.json")
    for raised, told in [
        (full, "/runs/one/report.json: no space left"),
        (MemoryError("7 GiB"), "out of memory (7 GiB)"),
    ]:
        assert ended(raised) == 1
        assert told in capsys.readouterr().err
    assert ended(KeyboardInterrupt()) == 130


def test_a_fault_of_our_own_keeps_its_traceback_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(IndexError("out of range")) == 1
    err = capsys.readouterr().err
    assert err.startswith(
        "llmrec audit: IndexError: out of range\nInternal error. Please report it with the traceback in "
    )
    kept = Path(err.rsplit("traceback in ", 1)[1].strip().removesuffix("."))
    assert "Traceback" in kept.read_text()
    kept.unlink()


def test_a_terminal_that_lacks_a_sign_shows_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with exit_with_message("llmrec"):
        print("\N{CLAPPER BOARD} \udcff")
    assert raw.getvalue() == b"\\U0001f3ac \\udcff\n"
