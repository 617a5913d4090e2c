"""The command line: answers for people and machines, and mistakes in one message."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest

from llmrec.cli import VERBS, main
from llmrec.config import Strategy
from llmrec.data.log import Log
from llmrec.data.synthetic import planted_world
from llmrec.hub.bundle import Bundle, save_bundle


@pytest.fixture
def bundle(make_bundle: Callable[[Strategy], Bundle], tmp_path: Path) -> str:
    save_bundle(tmp_path / "bundle", make_bundle("frozen"))
    return str(tmp_path / "bundle")


@pytest.fixture
def log_folder(tmp_path: Path) -> str:
    """The planted log of `make_bundle`, as csv."""
    log: Log = planted_world(n_users=30, n_items=40, events_per_user=6)[0]
    events = log.interactions
    users, items = log.user_ids.take(pa.array(events.user)), log.catalog.ids.take(pa.array(events.item))
    folder = tmp_path / "log"
    folder.mkdir()
    table = pa.table({"user_id": users, "item_id": items, "timestamp": events.time})
    pyarrow.csv.write_csv(table, folder / "interactions.csv")
    pyarrow.csv.write_csv(log.catalog.fields.select(["item_id", "title"]), folder / "items.csv")
    return str(folder)


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_comes_without_torch(verb: str) -> None:
    code = "import sys\nfrom llmrec.cli import main\ntry: main(sys.argv[1:])\nfinally: print('torch' in sys.modules)"
    arguments = [argument for argument in (verb, "--help") if argument]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("False")
    assert (
        (f"--{'data.source' if verb == 'audit' else 'bundle'}" in done.stdout)
        if verb
        else all(name in done.stdout for name in VERBS)
    )


def test_recommend_prints_a_table_or_json(bundle: str, log_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["recommend", "--bundle", bundle, "--history", '["i1", "i2"]', "--k", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("after 2 events, the last: ")
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3"]
    main(["recommend", "--bundle", bundle, "--user", "u3", "--data.source", log_folder, "--as_json", "true"])
    assert len(json.loads(capsys.readouterr().out)) == 10


def test_score_tells_the_place_in_the_catalog(bundle: str, tiny_bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["score", "--bundle", bundle, "--history", '["i1"]', "--backbone", str(tiny_bert), "--as_json", "true"]
    main([*given, "--item", "i2", "--text", '["new red hat", "old shoe"]'])
    rows = json.loads(capsys.readouterr().out)
    assert [row["item"] for row in rows] == ["i2", "new red hat", "old shoe"]
    assert all(1 <= row["place"] <= 41 and row["of"] == 40 for row in rows)
    main([*given, "--text", "new red hat"])
    assert json.loads(capsys.readouterr().out)[0]["score"] == pytest.approx(rows[1]["score"])


def test_evaluate_ranks_the_test_part(bundle: str, log_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["evaluate", "--bundle", bundle, "--data.source", log_folder])
    out = capsys.readouterr().out
    assert "overall" in out
    assert "ndcg@10" in out


def test_audit_speaks_of_ties_and_cold_items(log_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["audit", "--data.source", log_folder])
    out = capsys.readouterr().out
    assert "ties" in out
    assert "cold" in out


def test_mistakes_end_in_one_message(bundle: str, log_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nope" in failure(capsys, "recommend", "--bundle", bundle, "--history", '["nope"]')
    assert "either --history" in failure(capsys, "recommend", "--bundle", bundle)
    assert "nothing to score" in failure(capsys, "score", "--bundle", bundle, "--history", "[]")
    assert "not a bundle" in failure(capsys, "recommend", "--bundle", log_folder, "--history", "[]")
    unknown = failure(capsys, "recommend", "--bundle", bundle, "--user", "x", "--data.source", log_folder)
    assert "ids there look like u" in unknown
    assert "sorce" in failure(capsys, "audit", "--data.sorce", log_folder)
