"""Verbs that ask a bundle something else than what comes next: answers for people and machines, mistakes in words."""

import json
from collections.abc import Callable
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path

import pytest

from llmrec.cli.main import main
from llmrec.config.backbone import Strategy
from llmrec.data.log import Log
from llmrec.hub.bundle import Bundle, save_bundle
from llmrec.inference.queries import to_text_history
from llmrec.recommender import Recommender

Ask = Callable[..., str]


@pytest.fixture
def folder(make_bundle: Callable[[Strategy], Bundle], tmp_path: Path) -> Path:
    """bundle/, and tuned/, whose backbone has moved away."""
    save_bundle(tmp_path / "bundle", make_bundle("frozen"))
    save_bundle(tmp_path / "tuned", make_bundle("lora"))
    return tmp_path


@pytest.fixture
def recommender(folder: Path, tiny_bert: Path) -> Recommender:
    return Recommender.from_pretrained(folder / "bundle", backbone=str(tiny_bert))


@pytest.fixture
def ask(folder: Path, log_folder: str, tiny_bert: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """ask(verb, argument, ...): what is printed; LOG stands for where the log is."""

    def asked(verb: str, *arguments: str) -> str:
        given = [one for a in arguments for one in (["--data.source", log_folder] if a == "LOG" else [a])]
        main([verb, str(folder / "bundle"), "--backbone", str(tiny_bert), *given])
        return capsys.readouterr().out

    return asked


@pytest.fixture
def refused(ask: Ask, capsys: pytest.CaptureFixture[str]) -> Ask:
    """What is said to a mistake."""

    def asked(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            ask(*arguments)
        assert stopped.value.code == 2
        message = capsys.readouterr().err
        assert "Traceback" not in message
        return message

    return asked


def test_similar_items(ask: Ask, recommender: Recommender, folder: Path) -> None:
    lines = ask("similar-items", "--item", "i3", "-k", "4").splitlines()
    assert lines[0] == f"like {recommender.catalog.label('i3')}, by text"
    assert lines[1] == "rank, cosine, item"
    assert [line.rpartition("[")[2].strip("]") for line in lines[2:]] == [
        one.item for one in recommender.similar_items("i3", k=4)
    ]
    told = json.loads(ask("similar-items", "--text", "red mini", "--json"))
    assert told == [asdict(one) for one in recommender.similar_items({"text": "red mini"})]
    by_model = json.loads(ask("similar-items", "--item", "i3", "--by", "model", "--json"))
    assert by_model == [asdict(one) for one in recommender.similar_items("i3", by="model")]
    across = ask("similar-items", "--item", "i3", "--in-bundle", str(folder / "bundle"), "-k", "1").splitlines()
    assert across[0].endswith(f"by text, in {folder / 'bundle'}")
    assert across[2].split()[:2] == ["1", "1.000"]


def test_friends(ask: Ask, recommender: Recommender, log: Log) -> None:
    out = ask("similar-users", "--user", "u3", "-k", "3", "LOG")
    found = recommender.similar_users("u3", k=3, log=log)
    assert out.splitlines()[0] == "like user u3"
    for one in found:
        assert f"{one.similarity:8.3f}  user {one.user}" in out
        assert f"{one.n_shared:>4} shared" in out
        pair = one.similar_pairs[0]
        assert f"{pair.similarity:8.3f}  {recommender.catalog.label(pair.own)} ~ " in out
    told = json.loads(ask("similar-users", "i1", "i2", "--json", "LOG"))
    expected = [asdict(one) for one in recommender.similar_users(["i1", "i2"], log=log)]
    assert told == json.loads(json.dumps(expected))


def test_topics(ask: Ask, recommender: Recommender) -> None:
    labels = ["love war", "night river"]
    label_options = [word for label in labels for word in ("--label", label)]
    lines = ask("topics", "i1", "i2", *label_options).splitlines()
    shares = recommender.topics(["i1", "i2"], labels)
    assert lines[0].startswith("after 2 events")
    assert lines[1:] == [f"{one.share:6.1%}  {one.label}" for one in shares]
    told = json.loads(ask("topics", "--user", "u3", *label_options, "--json", "LOG"))
    assert sum(one["share"] for one in told) == pytest.approx(1)
    of_items = json.loads(
        ask("topics", "--item", "i1", "--item", "i2", *label_options, "--template", "{label} movie", "--json")
    )
    expected = recommender.batch.item_topics(["i1", "i2"], labels, template="{label} movie")
    assert of_items == {item: [asdict(one) for one in row] for item, row in zip(["i1", "i2"], expected, strict=True)}
    shown = ask("topics", "--item", "i1", *label_options).splitlines()
    assert shown[0].endswith("[i1]")
    assert all(label in shown[1] for label in labels)


def test_audience(ask: Ask, recommender: Recommender, log: Log) -> None:
    lines = ask("audience", "--text", "red mini", "-k", "3", "LOG").splitlines()
    assert lines[:2] == ["for red mini, among 40 items", "user  times the mean chance  rank of the item  events"]
    found = recommender.audience({"text": "red mini"}, k=3, log=log)
    assert [line.split() for line in lines[2:]] == [
        [one.user, f"{one.lift:.1f}", str(one.place), str(one.n_events)] for one in found
    ]
    told = json.loads(ask("audience", "--item", "i3", "--json", "LOG"))
    assert told == [asdict(one) for one in recommender.audience("i3", log=log)]


def test_recommend_by_words_and_conditions(ask: Ask, recommender: Recommender) -> None:
    lines = ask("recommend", "--query", "love war", "-k", "2").splitlines()
    assert lines[:2] == ["after 0 events, the last: none", "query: love war"]
    word = str(recommender.catalog.items.fields["title"][0]).split()[0]
    given = ["i1", "--query", "love war", "--topic", "war", "--filter", f"title~{word}", "--json"]
    expected = recommender.recommend(["i1"], query="love war", topic="war", filters=f"title~{word}")
    assert json.loads(ask("recommend", *given)) == [asdict(one) for one in expected]


def test_a_history_of_another_domain(ask: Ask, recommender: Recommender, folder: Path, log: Log) -> None:
    there = str(folder / "tuned")
    history = to_text_history(recommender.catalog.items, ["i1", "i2"])
    found = json.loads(ask("recommend", "i1", "i2", "--history-bundle", there, "-k", "40", "--json"))
    assert found == [asdict(one) for one in recommender.recommend(history, k=40)]
    assert {"i1", "i2"} <= {one["item"] for one in found}  # seen there, not here
    (scored,) = json.loads(ask("score", "i1", "i2", "--history-bundle", there, "--item", "i3", "--json"))
    assert scored["score"] == pytest.approx(recommender.score(history, ["i3"])[0])
    assert ask("recommend", "--user", "u3", "--history-bundle", there, "LOG").startswith("after 6 events")


def test_mistakes_are_told_in_words(refused: Ask, folder: Path) -> None:
    one = "give one item: --item ID, or --text"
    for arguments in ([], ["--item", "i1", "--item", "i2"], ["--item", "i1", "--text", "a"]):
        assert one in refused("similar-items", *arguments)
        assert one in refused("audience", *arguments)
    assert "--by color: " in refused("similar-items", "--item", "i1", "--by", "color")
    assert "trained apart" in refused("similar-items", "--item", "i1", "--in-bundle", str(folder / "tuned"))
    assert ": not a bundle (no llmrec.json)" in refused("similar-items", "--item", "i1", "--in-bundle", str(folder))
    assert "give the item ids of one after BUNDLE, or --user ID" in refused("similar-users", "LOG")
    assert "a user or the items of a history, not both" in refused("similar-users", "i1", "--user", "u3", "LOG")
    assert "Give an id such as u" in refused("similar-users", "--user", "x", "LOG")
    assert "no events before" in refused("audience", "--item", "i1", "--at", "1980-01-01", "LOG")
    labels = ["--label", "love", "--label", "war"]
    assert "either --item" in refused("topics", "--item", "i1", "i1", *labels)
    assert "give the item ids of one" in refused("topics", *labels)
    assert "at least two" in refused("topics", "i1", "--label", "love")
    assert "label" in refused("topics", "i1")
    assert "no events (before `at`)" in refused("topics", "--user", "u3", "--at", "1980-01-01", *labels, "LOG")
    assert "is no condition" in refused("recommend", "--filter", "Soap")
    assert "query is empty" in refused("recommend", "--query", "")
    assert ": not a bundle (no llmrec.json)" in refused("recommend", "i1", "--history-bundle", str(folder))


def test_explain(ask: Ask, recommender: Recommender) -> None:
    told = recommender.explain(["i1", "i2"], "i9")
    lines = ask("explain", "i1", "i2", "--item", "i9").splitlines()
    assert lines[:2] == [told.label, told.sentence]
    by_term, by_event = (text.splitlines() for text in "\n".join(lines).split("by term:\n")[1].split("\n\nby event:\n"))
    for rows in (by_term, by_event):
        *parts, total = [Decimal(row.split()[0]) for row in rows]
        assert sum(parts) == total == Decimal(f"{told.score:.3f}")
    events = [f"[{told.events[place].item}]" for place in told.rank_events()]
    assert [row.split()[-1] for row in by_event[1:3]] == events
    best = recommender.recommend(["i1", "i2"], k=1)[0]
    found = json.loads(ask("explain", "i1", "i2", "--json"))
    assert (found["item"], found["score"]) == (best.item, pytest.approx(best.score))
    assert found["start"] + sum(part["points"] for part in found["parts"]) == pytest.approx(found["total"])


def test_explain_words(ask: Ask, refused: Ask) -> None:
    pytest.importorskip("captum")
    assert (
        ask("explain", "--user", "u1", "LOG", "--text", "space robot", "--tokens")
        .splitlines()[-1]
        .startswith("words: ")
    )
    assert "give the item ids of one after BUNDLE, or --user ID" in refused("explain", "--item", "i1")
