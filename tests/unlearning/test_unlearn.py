"""Users forgotten: what was counted is what it would be without them, to the bit, and nothing tells of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import torch

from llmrec.cli.main import main
from llmrec.config.data import DataConfig, PseudonymConfig
from llmrec.data.loading import load_log
from llmrec.data.log import Log
from llmrec.data.splits import make_split
from llmrec.drift.fitted import count_stream
from llmrec.errors import ConfigError
from llmrec.hub.bundle import Bundle, load_bundle, save_bundle
from llmrec.recommender import Recommender
from llmrec.unlearning.id_search import find_ids, list_files
from llmrec.unlearning.removal import ForgetResult
from llmrec.unlearning.unlearn import ForgetRequest, forget_users
from llmrec.utils.arrays import Arrays

DAY = 86_400


@dataclass(frozen=True)
class World:
    """A bundle with counts, its log, and the user that only one item of the training part has."""

    folder: Path
    bundle: Path
    data: DataConfig
    user: str

    @property
    def recommender(self) -> Recommender:
        return Recommender.from_pretrained(self.bundle)

    def wish(self, **changes: object) -> ForgetRequest:
        return replace(ForgetRequest(self.bundle, (self.user,), output=self.folder / "out"), **changes)


def write_log(folder: Path, log: Log, without: str | None = None) -> DataConfig:
    events, folder = log.interactions, folder / "log"
    users = [f"{user}-lovelace" for user in log.user_ids.take(pa.array(events.user)).to_pylist()]
    table = pa.table(
        {"user_id": users, "item_id": log.catalog.ids.take(pa.array(events.item)), "timestamp": events.time}
    )
    folder.mkdir(parents=True)
    pyarrow.csv.write_csv(table.filter(pa.array([user != without for user in users])), folder / "interactions.csv")
    pyarrow.csv.write_csv(log.catalog.fields.select(["item_id", "title"]), folder / "items.csv")
    return DataConfig(str(folder))


def counted(bundle: Bundle, log: Log) -> Arrays:
    split, ties = make_split("by_time", log.interactions, log.n_users, log.n_items, config=bundle.config.split)
    return count_stream(bundle.drift.build_stream(bundle.config.drift, split, ties))


@pytest.fixture
def make_world(
    make_bundle: Callable[..., Bundle], add_drift: Callable[..., Bundle], tmp_path: Path, log: Log
) -> Callable[..., World]:
    def make(name: str = "world", without: str | None = None, **settings: object) -> World:
        data = replace(write_log(tmp_path / name, log, without), **settings)
        bundle, read = add_drift(make_bundle("frozen")), load_log(data)
        bundle = replace(bundle, config=replace(bundle.config, data=data), facts=asdict(read.facts))
        split, _ = make_split("by_time", read.interactions, read.n_users, read.n_items, config=bundle.config.split)
        bundle.model.items.known.copy_(torch.from_numpy(~split.cold_item_mask()))
        bundle = replace(bundle, drift=replace(bundle.drift, counts=counted(bundle, read)))
        save_bundle(tmp_path / name / "bundle", bundle)
        return World(tmp_path / name, tmp_path / name / "bundle", data, "u3-lovelace")

    return make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


def assert_never_there(bundle: Path, other: World) -> None:
    """The bundle counts what one does that was made from the log without the user."""
    left, right = load_bundle(bundle), load_bundle(other.bundle)
    assert left.drift.counts.keys() == right.drift.counts.keys()
    for name, sums in right.drift.counts.items():
        np.testing.assert_array_equal(left.drift.counts[name], sums)
    assert (bundle / "world.safetensors").read_bytes() == (other.bundle / "world.safetensors").read_bytes()
    facts = {name: value for name, value in left.facts.items() if name not in ("source", "n_forgotten")}
    assert facts == {name: value for name, value in right.facts.items() if name != "source"}


@pytest.mark.parametrize("settings", [{}, {"k_core": 4}])
def test_copies_without_a_user_are_as_if_they_had_never_been(
    make_world: Callable[..., World], settings: dict[str, int]
) -> None:
    world = make_world(**settings)
    never, out = make_world("never", without=world.user, **settings), world.folder / "out"
    before = {path: path.read_bytes() for path in world.folder.rglob("*") if path.is_file()}
    done = forget_users(world.wish())
    assert isinstance(done, ForgetResult)
    assert (done.log.n_users, done.log.n_events, done.log.n_left) == (1, 6, 174)
    assert (out / "log" / "interactions.csv").read_bytes() == (never.folder / "log/interactions.csv").read_bytes()
    assert_never_there(out / "bundle", never)
    assert not done.traces
    assert done.n_searched > 10
    assert {path: path.read_bytes() for path in before} == before  # all else is as it was
    read = Recommender.from_pretrained(out / "bundle")
    assert load_bundle(out / "bundle").facts["n_forgotten"] == 1
    assert "are without 1 user(s) who" in (out / "bundle" / "README.md").read_text()
    assert world.user not in read.live.users
    assert read.live.users.keys() == never.recommender.live.users.keys()
    sums = [
        one.live.state.counts_at(0).export_counts() for one in (read, never.recommender)
    ]  # of states that begin with the logs
    for name, of_log in sums[1].items():
        np.testing.assert_array_equal(sums[0][name], of_log)


def test_in_place_and_once_more(world: World, make_world: Callable[..., World]) -> None:
    never = make_world("never", without=world.user)
    wish = world.wish(output=None)
    forget_users(wish)
    assert_never_there(world.bundle, never)
    assert (world.folder / "log/interactions.csv").read_bytes() == (never.folder / "log/interactions.csv").read_bytes()
    assert not [path for path in world.folder.rglob("*") if "partial" in path.name]
    with pytest.raises(ConfigError, match="no such user in the log or a state, and nothing was changed"):
        forget_users(wish)
    assert_never_there(world.bundle, never)
    forget_users(replace(wish, users=("u4-lovelace",)))
    assert load_bundle(world.bundle).facts["n_forgotten"] == 2


def test_items_that_nobody_else_touched_are_new_again(world: World) -> None:
    log = load_log(world.data)
    loaded = load_bundle(world.bundle)
    split, _ = make_split("by_time", log.interactions, log.n_users, log.n_items, config=loaded.config.split)
    train = split.train
    rows = [log.find_user_row(f"u{user}-lovelace") for user in range(15)]
    mine = np.isin(train.user, rows)
    alone = np.setdiff1d(train.item[mine], train.item[~mine])
    assert len(alone)
    done = forget_users(world.wish(users=tuple(f"u{user}-lovelace" for user in range(15))))
    assert (done.n_new, done.log.n_users) == (len(alone), 15)
    assert done.log.n_trained == mine.sum()
    model = load_bundle(world.folder / "out" / "bundle").model
    assert not model.items.known[torch.from_numpy(alone)].any()
    assert not model.items.ids.weight[torch.from_numpy(alone)].any()
    assert int(model.items.known.sum()) == int(loaded.model.items.known.sum()) - len(alone)


def test_a_saved_state_forgets_too(world: World, make_world: Callable[..., World], log: Log) -> None:
    never, at = make_world("never", without=world.user), int(log.interactions.time[-1]) + DAY
    for one in (world, never):
        recommender = one.recommender
        recommender.live.replay_log()
        recommender.live.observe_many([("u5-lovelace", "i1", at), ("newcomer", "i2", at)])
        if one is world:
            recommender.live.observe(world.user, "i7", at - 1)
        recommender.live.save(one.folder / "state")
    done = forget_users(world.wish(states=(world.folder / "state",)))
    assert (done.n_states, done.traces) == (1, {})
    found, expected = Recommender.from_pretrained(world.folder / "out/bundle"), never.recommender
    found.live.load(world.folder / "out/states/state")
    expected.live.load(never.folder / "state")
    assert found.live.users.keys() == expected.live.users.keys()
    worlds = [one.live.state.counts_at(at + DAY) for one in (found, expected)]
    left, right = (one.environment.counts_at(at + DAY) for one in worlds)
    np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-12)
    tables = [sum(table.toarray() for table in one.transitions.tables) for one in worlds]
    scale = [one.transitions.decay_at(at + DAY) for one in worlds]
    np.testing.assert_allclose(tables[0] * scale[0], tables[1] * scale[1], rtol=1e-9, atol=1e-12)
    for user in ("u5-lovelace", "newcomer"):
        scores = [one.score(user, ["i3", "i4"], at=at + DAY) for one in (found, expected)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    state = (world.folder / "out/states/state").read_bytes()
    assert b"u5-lovelace" in state
    assert world.user.encode() not in state


def test_a_store_and_its_snapshots_forget_too(world: World) -> None:
    pytest.importorskip("sqlalchemy", reason="needs SQLAlchemy (extra: state)")
    from llmrec.inference.live.store.event_store import EventStore
    from llmrec.inference.live.store.stored_events import NewEvent

    url, snapshots = f"sqlite:///{world.folder / 'live.db'}", world.folder / "snapshots"
    store = EventStore(url)
    store.append([NewEvent(world.user, "i1", 5, key=f"{world.user}-1"), NewEvent("bob", "i2", 6)])
    snapshots.mkdir()
    (snapshots / f"{store.id}-2-0").write_text(world.user)
    done = forget_users(world.wish(output=None, store=url, snapshots=snapshots))
    assert (done.n_stored_events, done.traces) == (1, {})
    assert not list(snapshots.iterdir())
    assert [event.user for event in store.read_events()] == ["bob"]
    assert store.deleted_user_digests() == {store.digest_user(world.user)}
    with pytest.raises(ConfigError, match="a database can only be changed in place"):
        world.wish(store=url)


def test_who_has_a_pseudonym_is_forgotten_by_either_name(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMREC_TEST_USER_KEY", "k" * 40)
    hidden = PseudonymConfig(key_env="LLMREC_TEST_USER_KEY")
    world, never = make_world(pseudonyms=hidden), make_world("never", without="u3-lovelace", pseudonyms=hidden)
    recommender = world.recommender
    recommender.live.replay_log()
    recommender.live.save(world.folder / "state")
    name = recommender.live.names.pseudonym(world.user)
    outputs = world.folder / "by id", world.folder / "by pseudonym"
    for output, user in zip(outputs, (world.user, name), strict=True):
        done = forget_users(world.wish(users=(user,), output=output, states=(world.folder / "state",)))
        assert (done.log.n_events, done.traces) == (6, {})
        assert_never_there(output / "bundle", never)
        assert not find_ids(list_files([output]), [world.user, name])
        assert b"lovelace" in (output / "log/interactions.csv").read_bytes()  # the log has the others' ids, as before
    monkeypatch.delenv("LLMREC_TEST_USER_KEY")
    with pytest.raises(ConfigError, match="LLMREC_TEST_USER_KEY is not set"):
        forget_users(world.wish(output=world.folder / "third"))


def test_the_command_line_tells_what_stays(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(world.folder / "out")
    main(["forget", str(world.bundle), "--user", world.user, "--user", "u4-lovelace", "--output", out])
    told = capsys.readouterr().out
    assert "log: 12 events of 2 user(s) left out, 168 of others stay" in told
    assert "heads.safetensors, drift.safetensors learned" in told
    assert f"--config {out}/finetune.yaml" in told
    assert told.rstrip().endswith("no trace of an id")
    assert "lovelace" not in told
    asked = ["forget", str(world.bundle), "--user", world.user]
    for wrong in ([], ["--in-place", "--output", out]):
        with pytest.raises(SystemExit) as stopped:
            main([*asked, *wrong])
        assert stopped.value.code == 2
    assert "one of the two" in capsys.readouterr().err


def test_what_to_train_anew_by_is_a_recipe_s_configuration(world: World) -> None:
    from llmrec.config.jobs.finetune import FinetuneConfig
    from llmrec.config.loader import parse_config

    forget_users(world.wish())
    found = parse_config(FinetuneConfig, ["--config", str(world.folder / "out" / "finetune.yaml")])
    assert found == replace(load_bundle(world.bundle).config, data=DataConfig(str(world.folder / "out" / "log")))


def test_a_trace_that_is_left_is_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    items = world.folder / "log" / "items.csv"
    items.write_text(items.read_text().replace("\n", f" by {world.user}\n", 2).replace(f" by {world.user}\n", "\n", 1))
    log = load_log(world.data)
    loaded = load_bundle(world.bundle)
    save_bundle(world.bundle, replace(loaded, catalog=log.catalog, facts=asdict(log.facts)))
    asked = ["forget", str(world.bundle), "--user", world.user, "--output", str(world.folder / "out")]
    with pytest.raises(SystemExit) as stopped:
        main([*asked, "--json"])
    assert stopped.value.code == 1
    found = json.loads(capsys.readouterr().out)["traces"]
    assert {Path(path).name for path in found} == {"items.csv", "catalog.parquet"}
