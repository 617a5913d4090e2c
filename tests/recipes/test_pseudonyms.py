"""A whole run on pseudonyms: no raw id in any byte that it leaves or says; with the key, raw ids can be asked by."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec import Recommender
from llmrec.cli.main import main as command_line
from llmrec.config.data import PseudonymConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.loader import parse_config
from llmrec.data.pseudonyms import PSEUDONYM, Pseudonymizer
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.errors import ConfigError, DataError
from llmrec.hub.bundle import load_bundle
from llmrec.hub.remote import strip_private_paths
from llmrec.unlearning.id_search import find_ids, list_files

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
ENV, KEY = "LLMREC_TEST_USER_KEY", "fedcba9876543210" * 4
DRIFT = {"refresh_days": [7], "transition_half_lives_days": [30], "n_states": 2, "ablations": False}
Run = Callable[..., Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Run:
    """run(*arguments): what finetune.py leaves, in a folder with a log of raw ids and nothing else."""
    folder = tmp_path_factory.mktemp("pseudonyms")
    log, place = make_synthetic_log(n_users=60, n_items=50, events_per_user=8)[0], folder / "log"
    place.mkdir()
    events = log.interactions
    users = [f"{user}@example.com" for user in log.user_ids.take(pa.array(events.user)).to_pylist()]
    items = log.catalog.ids.take(pa.array(events.item))
    pq.write_table(
        pa.table({"user_id": users, "item_id": items, "timestamp": events.time}), place / "interactions.parquet"
    )
    pq.write_table(log.catalog.fields.select(["item_id", "title"]), place / "items.parquet")
    spec = importlib.util.spec_from_file_location("finetune", RECIPES / "finetune.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def finetuned(name: str, *arguments: str) -> Path:
        if not (folder / name).exists():
            settings: dict[str, Any] = {
                "data.source": place,
                "output": folder / name,
                "backbone.name": tiny_bert,
                "backbone.hub_id": "owner/tiny",
                "model.dim": 8,
                "train.epochs": 1,
                "trackers": "[tensorboard]",
                "drift": json.dumps(DRIFT),
                "evaluation.baselines": "[popularity]",
                "evaluation.bootstrap_samples": 20,
                "evaluation.max_valid_queries": 12,
                "evaluation.n_explained_users": 3,
            }
            given = [f"--{name}={value}" for name, value in settings.items()]
            module.run_finetune(parse_config(FinetuneConfig, [*given, *arguments]))
        return folder / name

    return finetuned


@pytest.fixture
def hidden(run: Run, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on pseudonyms, with the key in the environment."""
    monkeypatch.setenv(ENV, KEY)
    cache = tmp_path_factory.getbasetemp() / "cache-of-pseudonyms"
    monkeypatch.setenv("LLMREC_CACHE", str(cache))
    return run("hidden", f"--data.pseudonyms.key_env={ENV}")


def raw_ids(run: Path) -> list[str]:
    return sorted(set(pq.read_table(run.parent / "log" / "interactions.parquet")["user_id"].to_pylist()))


def assert_nothing_tells(run: Path, said: str = "") -> None:
    """Neither the files of a run and its caches, nor what was printed, holds a raw id or the key."""
    secrets = [*raw_ids(run), KEY]
    files = list_files([run, run.parent.parent / "cache-of-pseudonyms"])
    assert len(files) > 15
    assert not find_ids(files, secrets)
    assert not [secret for secret in secrets if secret in said]


def test_a_run_leaves_no_raw_id(hidden: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = load_bundle(hidden / "bundle")
    user, item = raw_ids(hidden)[7], str(bundle.catalog.ids[0])
    recommender = Recommender.from_pretrained(hidden / "bundle")
    recommender.live.observe(user, item, "2030-01-01")
    recommender.live.observe("newcomer@example.com", item, "2030-01-01")
    recommender.live.save(hidden / "state")
    data = ["--data.source", str(hidden.parent / "log"), "--data.pseudonyms.key_env", ENV]
    asked = [str(hidden / "bundle")]
    command_line(["audit", *data])
    command_line(["recommend", *asked, "--user", user])
    command_line(["similar-users", *asked, "--user", user])
    command_line(["drift", *asked, "--user", user, "--output", str(hidden / "drift")])
    for unknown in ("recommend", "drift"):
        with pytest.raises(SystemExit):
            command_line([unknown, *asked, "--user", raw_ids(hidden)[3] + "x"])
    with pytest.raises(DataError, match=r"unknown user 'p-[0-9a-f]{32}'"):
        recommender.recommend(raw_ids(hidden)[3] + "x")
    said = capfd.readouterr()
    assert Pseudonymizer(bundle.config.data.pseudonyms).pseudonym(raw_ids(hidden)[3] + "x") in said.err
    assert_nothing_tells(hidden, said.out + said.err)
    assert not find_ids(list_files([hidden]), ["newcomer@example.com"])


def test_the_same_model_comes_of_it(hidden: Path, run: Run) -> None:
    plain = run("plain")
    one, other = load_bundle(plain / "bundle"), load_bundle(hidden / "bundle")
    for name in ("heads.safetensors", "drift.safetensors", "world.safetensors"):
        assert (plain / "bundle" / name).read_bytes() == (hidden / "bundle" / name).read_bytes()
    assert one.facts["n_users"] == other.facts["n_users"] == 60
    assert (one.facts["pseudonyms"], len(other.facts["pseudonyms"])) == (None, 16)
    raw, known = Recommender.from_pretrained(plain / "bundle"), Recommender.from_pretrained(hidden / "bundle")
    for user in raw_ids(hidden)[:3]:
        assert raw.recommend(user, k=5) == known.recommend(user, k=5)
        name = known.live.names.pseudonym(user)
        assert PSEUDONYM.fullmatch(name)
        assert known.live.history(user) == raw.live.history(user) == known.live.history(name)
    alike = known.similar_users(raw_ids(hidden)[0], k=2)
    assert [known.live.names.pseudonym(one.user) for one in raw.similar_users(raw_ids(hidden)[0], k=2)] == [
        one.user for one in alike
    ]


def test_without_the_key_raw_ids_are_refused(
    hidden: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    user = raw_ids(hidden)[0]
    name = Recommender.from_pretrained(hidden / "bundle").live.names.pseudonym(user)
    for key, why in (("x" * 40, "is not the one that the pseudonyms were made with"), (None, f"{ENV} is not set")):
        monkeypatch.delenv(ENV) if key is None else monkeypatch.setenv(ENV, key)
        recommender = Recommender.from_pretrained(hidden / "bundle")
        with pytest.raises(ConfigError, match=why):
            recommender.recommend(user)
        with pytest.raises(ConfigError, match=why):
            recommender.live.observe(user, "i1", 5)
        assert recommender.recommend([str(recommender.catalog.ids[0])], k=3)  # histories need no name
        with pytest.raises(SystemExit) as stopped:
            command_line(["recommend", str(hidden / "bundle"), "--user", user])
        assert stopped.value.code == 2
        said = capsys.readouterr().err
        assert why in said
        assert user not in said
    recommender.live.observe(name, "i1", 5)  # who is known by the pseudonym needs no key
    assert recommender.live.history(name) == [("i1", 5)]


def test_what_is_pushed_tells_no_place_of_the_key(hidden: Path, tmp_path: Path) -> None:
    (tmp_path / "user.key").write_text(KEY)
    bundle = load_bundle(hidden / "bundle")
    data = dataclasses.replace(bundle.config.data, pseudonyms=PseudonymConfig(key_file=str(tmp_path / "user.key")))
    shared = strip_private_paths(dataclasses.replace(bundle, config=dataclasses.replace(bundle.config, data=data)))
    assert shared.config.data.pseudonyms == PseudonymConfig(key_file="user.key")


def test_the_service_keeps_pseudonyms_and_is_asked_by_raw_ids(
    hidden: Path, tiny_bert: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("fastapi", reason="needs FastAPI (extra: serve)")
    pytest.importorskip("sqlalchemy", reason="needs SQLAlchemy (extra: serve)")
    from starlette.testclient import TestClient

    from llmrec.inference.live.store.event_store import EventStore
    from llmrec.service.app import create_app
    from llmrec.service.settings import ServiceSettings

    recommender = Recommender.from_pretrained(hidden / "bundle", backbone=str(tiny_bert))
    user, other, item = *raw_ids(hidden)[:2], str(recommender.catalog.ids[0])
    url = f"sqlite:///{hidden / 'live.db'}"
    settings = ServiceSettings(snapshots=hidden / "snapshots", page=True)
    with TestClient(create_app(recommender, settings, EventStore(url))) as client:
        events = [{"user": user, "item": item, "at": "2030-01-01", "key": f"{user}-7"}]
        assert client.post("/events", json={"events": events}).json() == {"stored": 1, "repeated": 0}
        assert client.post("/events", json={"events": events}).json() == {"stored": 0, "repeated": 1}
        answers = [
            client.post("/recommend", json={"user": user}),
            client.get(f"/users/{user}"),
            client.get("/page/users", params={"words": user}),
            client.delete(f"/users/{other}"),
            client.delete(f"/users/{other}"),
            client.post("/recommend", json={"user": other}),
            client.get("/metrics"),
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 404, 404, 200]
    name = recommender.live.names.pseudonym(user)
    assert answers[1].json()["user"] == name == answers[2].json()[0]["user"]
    assert answers[1].json()["events"][-1]["item"] == item
    said = capfd.readouterr()
    everything = " ".join(answer.text for answer in answers) + said.out + said.err + caplog.text
    assert list((hidden / "snapshots").iterdir())
    assert_nothing_tells(hidden, everything)
