"""Fitting from Python gives the same numbers for every kind of table and path, and names what is wrong."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.csv
import pytest

import llmrec
from llmrec import BackboneConfig, DataConfig, EvaluationConfig, FinetuneConfig, FitResult, ModelConfig, TrainConfig
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.errors import ConfigError, DataError

Tables = tuple[pa.Table, pa.Table]


@pytest.fixture(scope="module")
def tables() -> Tables:
    """480 events by 60 users on 50 items, with column names that have to be guessed."""
    log = make_synthetic_log(n_users=60, n_items=50, events_per_user=8)[0]
    events, catalog = log.interactions, log.catalog
    users, items = log.user_ids.take(pa.array(events.user)), catalog.ids.take(pa.array(events.item))
    times = pa.array(events.time).cast(pa.timestamp("s"))
    genres = pa.array(np.where(np.arange(len(catalog)) % 2, "drama", "comedy"))
    return (
        pa.table({"userId": users, "movieId": items, "rating": np.ones(len(users)), "watched": times}),
        pa.table({"movieId": catalog.ids, "title": catalog.fields["title"], "genres": genres}),
    )


@pytest.fixture(scope="module")
def config(tiny_bert: Path) -> dict[str, object]:
    """Settings of the smallest run."""
    train = {"epochs": 1, "batch_targets": 64}
    return {
        "backbone": {"name": str(tiny_bert)},
        "model": {"dim": 8, "n_layers": 1, "n_heads": 1},
        "train": train,
        "evaluation": {"baselines": ["popularity"], "bootstrap_samples": 20, "n_explained_users": 0},
    }


@pytest.fixture(scope="module")
def result(tables: Tables, config: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    """The recommender of Arrow tables, in the default folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        fitted = llmrec.fit(*tables, config=config)
        assert [path.name for path in Path().iterdir()] == ["runs"], "only the run's folder is written"
        return replace(fitted, folder=fitted.folder.resolve())


def write_csv(tables: Tables, folder: Path) -> tuple[Path, Path]:
    paths = folder / "events.csv", folder / "films.csv"
    for table, path in zip(tables, paths, strict=True):
        pyarrow.csv.write_csv(table, path)
    return paths


KINDS: dict[str, Callable[[Tables, Path], tuple[object, object]]] = {
    "pandas": lambda tables, folder: tuple(table.to_pandas() for table in tables),
    "polars": lambda tables, folder: tuple(pytest.importorskip("polars").from_arrow(table) for table in tables),
    "datasets": lambda tables, folder: tuple(datasets.Dataset(table) for table in tables),
    "paths": write_csv,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_gives_the_same_numbers(
    kind: str, tables: Tables, config: dict[str, object], result: FitResult, tmp_path: Path
) -> None:
    fitted = llmrec.fit(*KINDS[kind](tables, tmp_path), config=config, output=tmp_path / "run")
    assert fitted.report.rows == result.report.rows
    assert fitted.folder == tmp_path / "run"


def test_columns_are_guessed_and_the_log_is_recorded_as_tables(result: FitResult) -> None:
    data = result.recommender.config.data
    assert (data.user_column, data.item_column, data.time_column) == ("userId", "movieId", "watched")
    assert data.text_template == "{title}. Genres: {genres}"
    assert (data.source, data.interactions, data.items) == ("memory", None, None)


def test_a_result_recommends_knows_its_log_and_shows_its_report(result: FitResult) -> None:
    log = result.recommender.training_log.read()
    user = log.user_ids[0].as_py()
    assert len(result.recommender.recommend([log.catalog.ids[0].as_py()], k=3)) == 3
    assert len(result.recommender.similar_users(user, k=3)) == 3
    assert {path.name for path in result.folder.iterdir()} >= {"report.md", "report.json", "bundle", "run.json"}
    assert "ndcg@10" in repr(result)
    assert result._repr_html_().startswith("<table><caption>by_time</caption><tr><th>model</th><th>ndcg@10</th>")
    assert str(result.folder) in result._repr_html_()
    assert repr(result.report).startswith("by_time\nmodel")


def test_evaluating_a_result_gives_the_numbers_of_its_report(result: FitResult, tables: Tables, tmp_path: Path) -> None:
    report = llmrec.evaluate(result, *tables, output=tmp_path / "evaluated")
    fitted = {(row.slice, row.metric): row.value for row in result.report.rows if row.model == report.rows[0].model}
    evaluated = {(row.slice, row.metric): row.value for row in report.rows}
    assert ("overall", "ndcg@10") in evaluated
    assert evaluated.items() <= fitted.items()
    with pytest.raises(DataError, match=r"passed as tables, of which no copy is kept\. Pass"):
        llmrec.evaluate(result, output=tmp_path / "refused")
    with pytest.raises(DataError, match="no copy is kept"):
        llmrec.Recommender.from_pretrained(result.bundle).training_log.read()


@pytest.mark.parametrize("form", ["path", "dataclass"])
def test_a_configuration_may_be_a_path_or_a_dataclass_and_overrides_win(
    form: str, tables: Tables, config: dict[str, object], result: FitResult, tiny_bert: Path, tmp_path: Path
) -> None:
    given: dict[str, object] = {
        "path": result.folder / "config.yaml",
        "dataclass": FinetuneConfig(
            DataConfig(),
            backbone=BackboneConfig(name=str(tiny_bert)),
            model=ModelConfig(dim=8, n_layers=1, n_heads=1),
            train=TrainConfig(epochs=5, batch_targets=64),
            evaluation=EvaluationConfig(baselines=("popularity",), bootstrap_samples=20, n_explained_users=0),
        ),
    }
    fitted = llmrec.fit(*tables, config=given[form], train__epochs=1, output=tmp_path)
    assert fitted.report.rows == result.report.rows


def test_a_preset_is_known_by_its_name(tables: Tables) -> None:
    with pytest.raises(ConfigError, match=r"quickstrat.*Did you mean quickstart"):
        llmrec.fit(*tables, config="quickstrat")
    with pytest.raises(ConfigError, match=r"epochs=0\.5"):  # read after the preset, which has no mistake
        llmrec.fit(*tables, config="quickstart", train__epochs=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"train__epoch": 3}, r"train\.epoch.*Did you mean train\.epochs", id="unknown setting"),
        pytest.param({"items": None}, "items: None. Pass both", id="no items"),
        pytest.param({"items": "items.csv"}, "one is a path and one a table", id="a path and a table"),
        pytest.param({"config": 3}, "config: int. Pass a preset", id="no configuration"),
    ],
)
def test_wrong_arguments_are_named(tables: Tables, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        llmrec.fit(**{"events": tables[0], "items": tables[1]} | arguments)


def test_tables_are_checked_as_strictly_as_files(tables: Tables, config: dict[str, object], tmp_path: Path) -> None:
    events, items = (table.to_pandas() for table in tables)
    events.loc[3, "userId"] = None
    events.loc[4, "watched"] = pandas.NaT
    items.loc[1, "movieId"] = items.loc[0, "movieId"]
    with pytest.raises(DataError) as refused:
        llmrec.fit(events, items, config=config, output=tmp_path)
    told = str(refused.value)
    for problem in ("events, column 'userId': missing id", "events, column 'watched'", "items, column 'movieId': dupl"):
        assert problem in told
    with pytest.raises(DataError, match=r"events: list is no table\. Pass a pandas"):
        llmrec.fit([1, 2], items, config=config, output=tmp_path)
    with pytest.raises(DataError, match="column 'user_id': missing among who, movieId"):
        llmrec.fit(events.rename(columns={"userId": "who"}), items, config=config, output=tmp_path)


@pytest.mark.slow
def test_the_other_jobs_take_tables_too(
    tables: Tables, config: dict[str, object], result: FitResult, tiny_bert: Path, tmp_path: Path
) -> None:
    steps = {"max_steps": 2, "eval_every_steps": 1, "max_held_out_samples": 8}
    backbone = llmrec.pretrain(*tables, backbone__name=tiny_bert, train=steps, output=tmp_path / "pretrained")
    assert (backbone / "config.json").is_file()

    short = {"evaluation": config["evaluation"], "train": {"epochs": 1}}
    student = {"name": str(backbone), "n_layers": 1, "strategy": "full"}
    distilled = llmrec.distill(result, *tables, config=short, backbone=student, output=tmp_path / "distilled")
    assert distilled.recommender.config.data.source == "memory"
    assert distilled.recommender.config.data.user_column == "userId"

    source = tuple(table.to_pandas() for table in tables)
    moved = llmrec.transfer([source], *tables, config=config, output=tmp_path / "transferred", train_fraction=0.5)
    assert len(moved.recommender.recommend((), k=3)) == 3
