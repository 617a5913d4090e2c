"""The recipe: every user has the items that would be recommended, however often it was killed and whoever shared it."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from llmrec.config.backbone import Strategy
from llmrec.config.jobs.recommend import RecommendConfig
from llmrec.config.loader import parse_config
from llmrec.data.log import Log
from llmrec.errors import ConfigError
from llmrec.hub.bundle import Bundle, save_bundle
from llmrec.recommender import Recommender
from tests.closeness import assert_same

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "recommend.py"


@pytest.fixture
def bundle(make_bundle: Callable[[Strategy], Bundle], add_drift: Callable[..., Bundle], tmp_path: Path) -> Path:
    save_bundle(tmp_path / "bundle", add_drift(make_bundle("frozen")))
    return tmp_path / "bundle"


def run(*arguments: str) -> None:
    runpy.run_path(str(RECIPE))["run_recommend"](parse_config(RecommendConfig, list(arguments)))


def rows(folder: Path) -> list[dict[str, object]]:
    return pq.read_table(folder).to_pylist()


def test_everyone_has_what_would_be_recommended(
    bundle: Path, log: Log, log_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    arguments = ["--bundle", str(bundle), "--data.source", log_folder, "--output", str(output), "--k", "4",
                 "--users_per_part", "8", "--batch_size", "3"]  # fmt: skip
    run(*arguments)
    assert "30 users by 1 process(es)" in capsys.readouterr().out
    found = rows(output)
    assert len(found) == 30 * 4
    recommender = Recommender.from_pretrained(bundle)
    recommender.live.replay_log(log)
    at = int(log.interactions.time[-1]) + 1
    for user in log.user_ids.to_pylist()[::9]:
        mine = [row for row in found if row["user_id"] == user]
        same = recommender.recommend(user, k=4, at=at)
        assert [(row["rank"], row["item_id"]) for row in mine] == [(item.rank, item.item) for item in same]
        assert [row["score"] for row in mine] == pytest.approx([item.score for item in same], abs=1e-4)

    parts = sorted(output.glob("part-*"))
    assert len(parts) == 4
    before = parts[0].stat().st_mtime_ns
    parts[2].unlink()
    (output / ".part-000002.parquet.1.partial").write_bytes(b"half")
    run(*arguments)
    assert "8 users by 1 process(es)" in capsys.readouterr().out
    assert parts[0].stat().st_mtime_ns == before
    assert not list(output.glob(".*partial"))
    assert rows(output) == found
    with pytest.raises(ConfigError, match="answers with another k; give another folder"):
        run(*arguments[:-6], "--k", "5", *arguments[-4:])


def test_two_processes_share_the_users(
    bundle: Path, log_folder: str, tmp_path: Path, two_processes: Callable[..., object]
) -> None:
    given = ["--bundle", str(bundle), "--data.source", log_folder, "--users_per_part", "4", "--k", "3"]
    done = two_processes(RECIPE, *given, "--output", str(tmp_path / "two"))
    assert "30 users by 2 process(es)" in done.stdout, done.stderr[-2000:]
    run(*given, "--output", str(tmp_path / "one"))
    assert_same(rows(tmp_path / "two"), rows(tmp_path / "one"))


def test_another_folder_is_left_alone(bundle: Path, log_folder: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="holds something else"):
        run("--bundle", str(bundle), "--data.source", log_folder, "--output", str(tmp_path / "mine"))
    for name in ("k", "users_per_part", "batch_size"):
        with pytest.raises(ConfigError, match=f"{name}=0"):
            run("--bundle", str(bundle), "--data.source", log_folder, f"--{name}", "0")
