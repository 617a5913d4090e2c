"""Personal details in texts are found by their form, counted, and taken out; what has no form stays."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("phonenumbers", reason="needs phonenumbers (extra: scrub)")
pytest.importorskip("stdnum", reason="needs python-stdnum (extra: scrub)")

from llmrec.config.data import DataConfig, PiiConfig
from llmrec.data.audit import audit_log
from llmrec.data.loading import load_catalog, load_log
from llmrec.data.log import format_log_facts
from llmrec.data.pii import PiiRedactor
from llmrec.data.splits import split_by_time
from llmrec.errors import ConfigError, missing_extra
from llmrec.recommender import Recommender
from llmrec.reports.audit_text import format_audit

FOUND = [
    ("Write to ada@example.com, or Ada.B+x@mail.example.co.uk!", "Write to [email], or [email]!"),
    ("Call (650) 253-0000 or +49 30 303986300 now", "Call [phone] or [phone] now"),
    ("from 020 7031 3000", "from [phone]"),
    ("Visa 4111 1111 1111 1111, Amex 378282246310005", "Visa [credit_card], Amex [credit_card]"),
    ("to DE89 3704 0044 0532 0130 00.", "to [iban]."),
    ("seen from 192.168.1.17 and 2001:db8::1", "seen from [ip] and [ip]"),
]
KEPT = [
    "Blade Runner 2049 (2017)",
    "2001: A Space Odyssey",
    "ISBN 978-3-16-148410-0, EAN 4006381333931, ASIN B000123456",
    "card 4111 1111 1111 1112",  # a wrong check digit
    "DE89 3704 0044 0532 0130 01",
    "256.1.1.1, std::vector, 12:30:45, 10 x 20.5 cm, 1999-2000",
    "user@localhost",
    "Ada Lovelace, 12 St James's Square, born 10 December 1815",  # names, addresses and dates have no form
]


@pytest.fixture(scope="module")
def scrubber() -> PiiRedactor:
    return PiiRedactor(PiiConfig())


@pytest.mark.parametrize(("text", "expected"), [*FOUND, *zip(KEPT, KEPT, strict=True)])
def test_details_become_their_kind(scrubber: PiiRedactor, text: str, expected: str) -> None:
    counts = Counter[str]()
    assert scrubber.redact_array(pa.array([text]), counts).to_pylist() == [expected] == scrubber.redact_texts([text])
    assert counts.total() == expected.count("[")
    assert scrubber.redact_text(expected) == expected


def test_only_what_is_asked_for_is_looked_for() -> None:
    text = "ada@example.com, 020 7031 3000, 650 253 0000"
    assert PiiRedactor(PiiConfig(kinds=("email",))).redact_text(text) == "[email], 020 7031 3000, 650 253 0000"
    assert PiiRedactor(PiiConfig(kinds=("phone",), phone_regions=("GB",))).redact_text(text).count("[phone]") == 1
    with pytest.raises(ConfigError, match=r"XX.* are not countries"):
        PiiRedactor(PiiConfig(phone_regions=("XX",)))
    with pytest.raises(ConfigError, match="kinds is empty"):
        PiiConfig(kinds=())


@pytest.mark.parametrize("package", ["phonenumbers", "stdnum"])
def test_what_is_not_installed_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=re.escape(f"{package} is not installed. {missing_extra('scrub')}")):
        load_log(DataConfig(str(folder), pii=PiiConfig()))
    log = load_log(DataConfig(str(folder), text_template="{title} {price}"))
    found = audit_log(log, split_by_time(log.interactions, log.n_users, log.n_items))
    assert found.details is None
    assert f"personal details in item texts: not searched for. {missing_extra('scrub')}" in format_audit(found)


def test_long_texts_take_no_longer_than_their_length(scrubber: PiiRedactor) -> None:
    for text in ("a" * 100_000 + "@", "1 " * 50_000 + "@", "a@" * 50_000, "a:" * 50_000 + "1.1.1.1"):
        began = time.process_time()
        scrubber.redact_text(text)
        assert time.process_time() - began < 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fields = {
        "item_id": ["ada@example.com", "b", "c", "d"],
        "title": pa.array(["Lamp, ask bob@example.com", "Desk", None, "Pen +44 20 7031 3000"]).dictionary_encode(),
        "notes": [["1.2.3.4", "x"], None, [], ["bob@example.com"]],
        "price": [1.5, 2.0, 3.0, 4.0],
    }
    pq.write_table(pa.table(fields), tmp_path / "items.parquet")
    events = {"user_id": list("uv") * 5, "item_id": list("bcd") * 3 + ["b"], "timestamp": list(range(10))}
    pq.write_table(pa.table(events), tmp_path / "interactions.parquet")
    return tmp_path


def test_a_catalog_is_scrubbed_when_it_is_read(folder: Path) -> None:
    given = DataConfig(str(folder), text_template="{title} {notes} {price}", pii=PiiConfig())
    log = load_log(given)
    fields = log.catalog.fields.to_pydict()
    assert fields["title"] == ["Lamp, ask [email]", "Desk", None, "Pen [phone]"]
    assert fields["notes"] == [["[ip]", "x"], None, [], ["[email]"]]
    assert fields["item_id"][0] == "ada@example.com"  # ids stay what they are
    assert log.catalog.list_texts()[0] == "Lamp, ask [email] [ip], x 1.5"
    assert log.facts.n_scrubbed == {"email": 2, "ip": 1, "phone": 1}
    assert "redacted in item texts: 2 email, 1 ip, 1 phone" in format_log_facts(log.facts)
    assert load_catalog(given).text_array.equals(log.catalog.text_array)
    assert pq.read_table(folder / "items.parquet")["notes"][0].as_py() == ["1.2.3.4", "x"]  # the source too


def test_the_audit_counts_details(folder: Path) -> None:
    lines = []
    for scrub in (None, PiiConfig(kinds=("email",))):
        log = load_log(DataConfig(str(folder), text_template="{title} {notes} {price}", pii=scrub))
        found = audit_log(log, split_by_time(log.interactions, log.n_users, log.n_items))
        lines.append(next(line for line in format_audit(found) if "personal" in line))
    assert lines[0].startswith("personal details in item texts: 2 email, 1 ip, 1 phone; data.pii takes them out")
    assert lines[1].startswith("personal details in item texts: 1 ip, 1 phone, 2 email taken out; data.pii")
    assert lines[1].endswith("(names are not looked for)")


def test_words_that_are_asked_with_are_scrubbed(make_bundle, tmp_path: Path, tiny_bert: Path) -> None:
    from dataclasses import replace

    from llmrec.hub.bundle import save_bundle

    bundle = make_bundle("frozen")
    read = {}
    for name, scrub in (("plain", None), ("scrubbed", PiiConfig())):
        config = replace(bundle.config, data=replace(bundle.config.data, pii=scrub))
        save_bundle(tmp_path / name, replace(bundle, config=config))
        recommender = read[name] = Recommender.from_pretrained(tmp_path / name, backbone=str(tiny_bert))
        assert recommender.config.data.pii == scrub
    words, clean = "space robot, ask bob@example.com", "space robot, ask [email]"
    texts = [{"text": words}, {"text": clean}]
    assert read["plain"].score([], texts)[0] != read["plain"].score([], texts)[1]
    assert read["scrubbed"].score([], texts)[0] == pytest.approx(read["plain"].score([], texts)[1], rel=1e-5)
    ranked = read["scrubbed"].recommend([], k=5, query=words)
    expected = read["plain"].recommend([], k=5, query=clean)
    assert [found.item for found in ranked] == [found.item for found in expected]
    assert [found.score for found in ranked] == pytest.approx([found.score for found in expected], rel=1e-5)
    read["scrubbed"].catalog.add([{"item_id": "new", "title": words}])
    assert read["scrubbed"].catalog.label("new") == clean
