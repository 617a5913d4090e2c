"""Users by keyed hashes: the same events by other names, and no raw id in anything that is said."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from llmrec.config.data import DataConfig, PseudonymConfig
from llmrec.data.audit import audit_log
from llmrec.data.loading import load_log
from llmrec.data.pseudonyms import PSEUDONYM, Pseudonymizer
from llmrec.data.splits import split_by_time
from llmrec.errors import ConfigError, DataError
from llmrec.reports.audit_text import format_audit

KEY = "0123456789abcdef" * 4
ENV = "LLMREC_TEST_USER_KEY"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV, KEY)


def by_env(**options: Any) -> PseudonymConfig:
    return PseudonymConfig(key_env=ENV, **options)


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """By the definition in RFC 2104."""
    key = hashlib.sha256(key).digest() if len(key) > 64 else key
    key = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).digest()


def test_a_pseudonym_is_the_hmac_of_the_id() -> None:
    own = hmac_sha256(KEY.encode(), b"llmrec pseudonyms\0shop")
    expected = "p-" + hmac_sha256(own, b"user\0ada").hex()[:32]
    names = Pseudonymizer(by_env(salt="shop"))
    assert names.pseudonym("ada") == expected == names.pseudonym(expected)
    assert names.pseudonyms(pa.array(["ada", "bob"], pa.large_string())).to_pylist() == [
        expected,
        names.pseudonym("bob"),
    ]
    assert names.key_check == hmac_sha256(own, b"check").hex()[:16]
    assert (
        len(
            {
                names.pseudonym("ada"),
                Pseudonymizer(by_env()).pseudonym("ada"),
                names.pseudonym("Ada"),
                names.event_key("ada", "1"),
            }
        )
        == 4
    )
    assert PSEUDONYM.fullmatch(names.pseudonym("\ud800"))
    assert Pseudonymizer().pseudonym("ada") == "ada"
    assert KEY not in repr(names) + repr(vars(type(names))) + str(asdict(by_env()))


def test_a_log_by_pseudonyms_has_the_same_events(log_folder: str) -> None:
    raw = load_log(DataConfig(log_folder))
    log = load_log(DataConfig(log_folder, pseudonyms=by_env()))
    for name in ("user", "item", "time"):
        np.testing.assert_array_equal(getattr(log.interactions, name), getattr(raw.interactions, name))
    assert log.user_ids.to_pylist() == [Pseudonymizer(by_env()).pseudonym(user) for user in raw.user_ids.to_pylist()]
    assert (
        log.find_user_row("u3")
        == raw.find_user_row("u3")
        == log.find_user_row(str(log.user_ids[raw.find_user_row("u3")]))
    )
    assert (log.facts.pseudonyms, raw.facts.pseudonyms) == (log.names.key_check, None)
    with pytest.raises(ConfigError) as told:
        log.find_user_row("somebody-else")
    assert "somebody-else" not in str(told.value)
    assert log.names.pseudonym("somebody-else") in str(told.value)


def test_numbers_are_named_as_their_text_is(tmp_path: Path) -> None:
    items = "item_id,title\nx,X\n"
    (tmp_path / "items.csv").write_text(items)
    (tmp_path / "interactions.jsonl").write_text('{"user_id": 12.0, "item_id": "x", "timestamp": 1}\n')
    log = load_log(DataConfig(str(tmp_path), pseudonyms=by_env()))
    assert log.user_ids.to_pylist() == [Pseudonymizer(by_env()).pseudonym("12")]


def test_no_key_no_names(tmp_path: Path, log_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    file = PseudonymConfig(key_file=str(tmp_path / "key"))
    assert Pseudonymizer(file).pseudonym("ada") == Pseudonymizer(by_env()).pseudonym("ada")
    with pytest.raises(ConfigError, match="is not the one that the pseudonyms were made with"):
        Pseudonymizer(file, check="0" * 16).pseudonym("ada")
    (tmp_path / "key").write_text("secret")
    with pytest.raises(ConfigError, match="fewer than 32 characters") as told:
        load_log(DataConfig(log_folder, pseudonyms=file))
    assert "secret " not in str(told.value)
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file"):
        Pseudonymizer(replace(file, key_file=str(tmp_path / "none"))).pseudonym("ada")
    monkeypatch.delenv(ENV)
    with pytest.raises(ConfigError, match=f"the variable {ENV} is not set"):
        Pseudonymizer(by_env()).pseudonym("ada")
    known = "p-" + 32 * "0"
    assert Pseudonymizer(by_env()).pseudonym(known) == known  # which takes no key
    for neither in ({}, {"key_env": ENV, "key_file": "key"}):
        with pytest.raises(ConfigError, match="give key_env"):
            PseudonymConfig(**neither)


BROKEN = {
    "misplaced": "user_id,item_id,timestamp\nada-lovelace,x,1\n,ada-lovelace,ada-lovelace\n",
    "torn": "user_id,item_id,timestamp\nada-lovelace,x\n",
    "unordered": "user_id,item_id,timestamp,n\nada-lovelace,x,1,ada-lovelace\n",
    "unnumbered": "user_id,item_id,timestamp,n\nada-lovelace,x,1,\nada-lovelace,x,1,2\n",
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_is_told_without_quoting(tmp_path: Path, what: str) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\nx,X\n")
    (tmp_path / "interactions.csv").write_text(BROKEN[what])
    given = DataConfig(str(tmp_path), order_column="n" if what.startswith("un") else None)
    with pytest.raises(DataError) as quoted:
        load_log(given)
    with pytest.raises(DataError) as told:
        load_log(replace(given, pseudonyms=by_env()))
    assert "lovelace" not in str(told.value)
    assert len(told.value.problems) == len(quoted.value.problems)
    assert told.value.__suppress_context__ or told.value.__cause__ is None
    if what == "misplaced":
        assert "lovelace" in str(quoted.value)
        assert "column 'item_id': item without catalog entry in 1 row (row 2). Add it" in str(told.value)


def test_the_audit_names_nobody(log_folder: str) -> None:
    log = load_log(DataConfig(log_folder, pseudonyms=by_env()))
    found = audit_log(log, split_by_time(log.interactions, log.n_users, log.n_items))
    raw = set(load_log(DataConfig(log_folder)).user_ids.to_pylist())
    assert not raw & set(" ".join(format_audit(found)).replace(",", " ").split())
