"""The command line: answers for people and machines, and mistakes in one message."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest
from typer.main import get_command

from llmrec import __version__
from llmrec.cli.main import build_app, main
from llmrec.config.backbone import Strategy
from llmrec.config.data import DataConfig
from llmrec.config.drift import DriftConfig
from llmrec.data.log import Log
from llmrec.drift.fitted import FittedDrift
from llmrec.drift.head import DriftHead
from llmrec.drift.terms.latent_chain import LatentChain
from llmrec.drift.text_neighbors import center_and_normalize
from llmrec.hub.bundle import Bundle, save_bundle
from llmrec.hub.training_log import override_data_config
from llmrec.recommender import Recommender

COMMANDS = list(get_command(build_app()).commands)


@pytest.fixture
def bundle(make_bundle: Callable[[Strategy], Bundle], tmp_path: Path) -> str:
    save_bundle(tmp_path / "bundle", make_bundle("frozen"))
    return str(tmp_path / "bundle")


@pytest.fixture
def drifting(make_bundle: Callable[[Strategy], Bundle], tmp_path: Path) -> str:
    """A bundle with a drift head that has learned nothing."""
    plain = make_bundle("frozen")
    text = plain.model.items.text
    assert text is not None
    settings = DriftConfig(n_states=4)
    head = DriftHead(settings, LatentChain(center_and_normalize(text)[:4])).requires_grad_(False)
    drift = FittedDrift(head, 120.0, text, text.mean(0))
    save_bundle(tmp_path / "drifting", replace(plain, config=replace(plain.config, drift=settings), drift=drift))
    return str(tmp_path / "drifting")


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize("verb", ["", *COMMANDS])
def test_help_comes_without_torch(verb: str) -> None:
    code = (
        "import sys\nfrom llmrec.cli.main import main\ntry: main(sys.argv[1:])\nfinally: print('torch' in sys.modules)"
    )
    arguments = [argument for argument in (verb, "--help") if argument]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("False")
    assert f"Usage: llmrec {verb}" in done.stdout
    assert verb or all(name in done.stdout for name in COMMANDS)


def test_without_arguments_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    printed = capsys.readouterr()
    assert printed.out.startswith("Usage: llmrec")
    assert not printed.err
    main(["--version"])
    assert capsys.readouterr().out == f"llmrec {__version__}\n"


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_option_has_a_help_with_its_default(verb: str) -> None:
    command = get_command(build_app()).commands[verb]
    for parameter in command.params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            assert parameter.help, parameter.name
            told = parameter.required or parameter.default is not None or "[default: " in parameter.help
            assert told or "[required]" in parameter.help, parameter.name
        else:
            assert parameter.help or parameter.name == "help"
    assert command.help
    assert len(command.help.splitlines()[0]) <= 60  # whole in the list of commands
    assert command.help.splitlines()[0].endswith(".")


def test_recommend_prints_a_table_or_json(bundle: str, log_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["recommend", bundle, "i1", "i2", "--k", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("after 2 events, the last: ")
    assert lines[1] == "rank, score (log-odds), item"
    assert [line.split()[0] for line in lines[2:]] == ["1", "2", "3"]
    main(["recommend", bundle, "--user", "u3", "--data.source", log_folder, "--json"])
    assert len(json.loads(capsys.readouterr().out)) == 10


def test_a_user_s_history_is_that_of_the_log(
    bundle: str, log: Log, log_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = log.interactions.take(log.interactions.user == log.user_ids.index("u3").as_py())
    events = [(f"i{item}", int(time)) for item, time in zip(mine.item, mine.time, strict=True)]
    assert len(events) == 6
    asked = ["recommend", bundle, "--user", "u3", "--data.source", log_folder, "--json"]
    recommender = Recommender.from_pretrained(bundle)
    for at in (None, int(mine.time[3])):
        day = [] if at is None else ["--at", f"{datetime.fromtimestamp(at, timezone.utc).isoformat()}"]
        main([*asked, *day, "--k", "4"])
        found = json.loads(capsys.readouterr().out)
        assert found == [asdict(item) for item in recommender.recommend(events, k=4, at=at)]
    assert [item["rank"] for item in found] == [1, 2, 3, 4]


@pytest.mark.parametrize("history", [["0205616461", "0000000012"], ["1e5", "0205616461"], ["7", "null"]])
def test_ids_of_digits_are_ids_and_not_numbers(
    make_bundle: Callable[[Strategy], Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str], history: list[str]
) -> None:
    given = make_bundle("none")
    ids = ["0205616461", "0000000012", "1e5", "7", "null", *(f"i{row}" for row in range(35))]
    fields = given.catalog.fields.set_column(0, "item_id", pa.array(ids, pa.large_string()))
    save_bundle(tmp_path / "digits", replace(given, catalog=replace(given.catalog, fields=fields)))
    asked = [str(tmp_path / "digits"), "--json", *history]
    main(["score", *asked, "--item", "0000000012", "--item", "7"])
    assert [row["item"] for row in json.loads(capsys.readouterr().out)] == ["0000000012", "7"]
    main(["score", *asked, "--item", "7"])
    (row,) = json.loads(capsys.readouterr().out)
    recommender = Recommender.from_pretrained(tmp_path / "digits")
    assert row["score"] == pytest.approx(recommender.score(history, ["7"])[0])


def test_one_id_is_a_history_and_one_text_may_hold_brackets(
    bundle: str, tiny_bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["recommend", bundle, "i3"])
    assert capsys.readouterr().out.startswith("after 1 events")
    main(["score", bundle, "i3", "--backbone", str(tiny_bert), "--text", "[new] hat: red"])
    assert capsys.readouterr().out.splitlines()[-1].endswith("of 41  [new] hat: red")  # itself and the catalog's


def test_score_tells_the_place_in_the_catalog(bundle: str, tiny_bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["score", bundle, "i1", "--backbone", str(tiny_bert), "--json"]
    main([*given, "--item", "i2", "--text", "new red hat", "--text", "old shoe"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["item"] for row in rows] == ["i2", "new red hat", "old shoe"]
    assert all(1 <= row["place"] <= row["of"] for row in rows)
    assert [row["of"] for row in rows] == [40, 41, 41]
    main([*given, "--text", "new red hat"])
    assert json.loads(capsys.readouterr().out)[0]["score"] == pytest.approx(rows[1]["score"])


def test_evaluate_ranks_the_test_part(bundle: str, log_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["evaluate", bundle, "--data.source", log_folder])
    out = capsys.readouterr().out
    assert "overall" in out
    assert "ndcg@10" in out
    main(["evaluate", bundle, "--data.source", log_folder, "--split", "leave_one_out"])
    assert capsys.readouterr().out.startswith("llmrec (frozen backbone) on leave_one_out")


def test_audit_speaks_of_ties_and_cold_items(log_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["audit", "--data.source", log_folder])
    out = capsys.readouterr().out
    assert "ties" in out
    assert "cold" in out
    main(["audit", "--verbose", "--data.source", log_folder, "--json", "--split.test_fraction", "0.3"])
    printed = capsys.readouterr()
    assert isinstance(json.loads(printed.out), dict)
    assert "DEBUG llmrec.utils.timing: load: finished" in printed.err


def test_mistakes_end_in_one_message(bundle: str, log_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nope" in failure(capsys, "recommend", bundle, "nope")
    assert "not both" in failure(capsys, "recommend", bundle, "i1", "--user", "u3")
    assert "give the item ids of one after BUNDLE, or --user ID" in failure(capsys, "explain", bundle)
    assert "nothing to score" in failure(
        capsys,
        "score",
        bundle,
    )
    assert "log: not a bundle (no llmrec.json)" in failure(capsys, "recommend", log_folder)
    unknown = failure(capsys, "recommend", bundle, "--user", "x", "--data.source", log_folder)
    assert "Give an id such as u" in unknown
    assert "sorce" in failure(capsys, "audit", "--data.sorce", log_folder)
    assert "by_time" in failure(capsys, "audit", "--data.source", log_folder, "--split.names=[leave_one_out]")
    assert "/nowhere" in failure(capsys, "audit", "--data.source", "/nowhere")
    assert "missing argument 'BUNDLE'" in failure(capsys, "recommend")
    assert "never" in failure(capsys, "evaluate", bundle, "--split", "never")
    for given, named in [("--at=soon", "'soon'"), ("--k=0", "k=0"), ("--k=many", "many")]:
        assert named in failure(capsys, "recommend", bundle, "i1", given)
    assert "Did you mean 'recommend'" in failure(capsys, "recomend")
    assert "Did you mean --query?" in failure(capsys, "recommend", bundle, "--quary", "war")
    assert "Did you mean data.source?" in failure(capsys, "audit", "--data.sorce", log_folder)


def test_without_its_base_model_new_text_is_refused_and_known_items_are_not(
    bundle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["score", bundle, "i1", "--item", "i2"])
    assert "i2" in capsys.readouterr().out
    asked = ["score", bundle, "i1", "--text", "red hat"]
    assert "'owner/tiny'" in failure(capsys, *asked)
    assert "no such folder" in failure(capsys, *asked, "--backbone", "/nowhere")


def test_a_bundle_is_evaluated_on_its_own_items_only(
    bundle: str, log_folder: str, tiny_bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grown = Recommender.from_pretrained(bundle, backbone=str(tiny_bert))
    grown.catalog.add([{"item_id": "new", "title": "red hat"}])
    grown.save_pretrained(bundle)
    assert "differ from the bundle's" in failure(capsys, "evaluate", bundle, "--data.source", log_folder)


def test_several_values_are_arguments_or_repeat_a_flag(
    bundle: str, tiny_bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [bundle, "i1", "i2"]
    main(["recommend", *given, "-k", "2", "--json"])
    spaced = capsys.readouterr().out
    main(["recommend", "--json", "-k2", *given])
    assert spaced == capsys.readouterr().out
    items = ["--item", "i3", "--item", "i4", "--text", "null", "--text", "old shoe"]
    main(["score", *given, *items, "--backbone", str(tiny_bert), "--json"])
    assert [row["item"] for row in json.loads(capsys.readouterr().out)] == ["i3", "i4", "null", "old shoe"]
    main(["recommend", bundle, "-k", "2"])
    printed = capsys.readouterr()
    assert printed.out.startswith("after 0 events")
    assert printed.err.startswith("note: no history")


def test_a_user_s_later_events_are_not_shown(bundle: str, log_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["recommend", bundle, "--user", "u3", "--data.source", log_folder]
    main(given)
    assert capsys.readouterr().out.startswith("after 6 events")
    main([*given, "--at", "1980-01-01"])
    assert capsys.readouterr().out.startswith("after 0 events")


def test_a_log_keeps_the_bundle_s_settings_unless_they_are_given() -> None:
    trained = DataConfig(source="a", items="x.csv", user_column="who", k_core=5)
    assert override_data_config(trained, None) == trained
    moved = override_data_config(trained, DataConfig(source="b", time_unit="ms"))
    assert moved == DataConfig(source="b", user_column="who", k_core=5, time_unit="ms")


def test_evaluate_says_where_training_may_have_seen_the_test(
    bundle: str, log_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["evaluate", bundle, "--data.source", log_folder])
    assert "note:" not in capsys.readouterr().err
    main(["evaluate", bundle, "--data.source", log_folder, "--split", "leave_one_out"])
    assert "note: log or split differs" in capsys.readouterr().err


def test_drift_tells_of_a_user_and_draws(
    drifting: str, log: Log, log_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["drift", drifting, "--user", "u3", "--data.source", log_folder]
    main([*asked, "--output", str(tmp_path / "pictures")])
    out, err = capsys.readouterr()
    assert out.startswith("user u3: 6 events before ")
    for told in ("halves in", "interest in", "in 30 days", "left to, after a gap of"):
        assert told in out
    assert "interest.png" in err
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"interest.png", "shares.png"}
    mine = log.interactions.take(log.interactions.user == log.user_ids.index("u3").as_py())
    at = datetime.fromtimestamp(int(mine.time[3]), timezone.utc).isoformat()
    main([*asked, "--at", at, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["event_times"] == mine.time[:3].tolist()
    assert sum(found["interest"]["ahead"]) == pytest.approx(1, abs=1e-3)
    shares = [found["shares"]["parts"][part][0] for part in ("base", "transitions", "chain")]
    assert sum(shares) == pytest.approx(1, abs=1e-3)


def test_drift_says_what_it_lacks(
    bundle: str, drifting: str, log: Log, log_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["--data.source", log_folder]
    assert "holds no drift head" in failure(capsys, "drift", bundle, "--user", "u3", *here)
    asked = ["drift", drifting, *here, "--user"]
    assert "Give an id such as u" in failure(capsys, *asked, "x")
    assert "no events before 1980" in failure(capsys, *asked, "u3", "--at", "1980-01-01")
    assert "'soon'" in failure(capsys, *asked, "u3", "--at", "soon")
    assert "--user" in failure(capsys, "drift", drifting)
    items = log.catalog.fields.select(["item_id", "title"])
    pyarrow.csv.write_csv(items.take(list(range(len(items)))[::-1]), Path(log_folder) / "items.csv")
    assert "its items differ from the bundle's in ids or order. Give the bundle's log." in failure(capsys, *asked, "u3")


def test_a_service_takes_options_from_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMREC_PORT", "high")
    monkeypatch.setenv("LLMREC_CACHE", "nothing to do with it")
    assert "high" in failure(capsys, "serve", "nowhere")
    assert "nowhere: not a bundle (no llmrec.json)" in failure(capsys, "serve", "nowhere", "--port", "0")
    assert "must be above 0" in failure(capsys, "serve", "nowhere", "--port", "0", "--max-body-bytes", "0")
