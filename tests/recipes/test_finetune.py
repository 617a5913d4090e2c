"""The recipe: every YAML loads, a whole run leaves what it promises, and two processes give what one gives."""

import importlib.util
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from llmrec import Recommender
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.cli.main import main as command_line
from llmrec.config.adaptation import ItemAdaptConfig, ItemMethod
from llmrec.config.backbone import BackboneConfig, LoraConfig
from llmrec.config.data import DataConfig
from llmrec.config.drift import DriftConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.finetune import FinetuneConfig, SasrecConfig
from llmrec.config.loader import parse_config
from llmrec.config.model import HistoryEncoderName, HistoryTextConfig, ModelConfig
from llmrec.config.split import SplitConfig
from llmrec.config.train import TrainConfig
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.errors import ConfigError
from llmrec.evaluation.deletion_test import DeletionResult
from llmrec.hub.bundle import load_backbone, load_bundle

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
FROZEN, LORA, STATIC = "llmrec (frozen backbone)", "llmrec (LoRA)", "llmrec + drift, static"
DAILY, WEEKLY = "llmrec + drift, refreshed daily", "llmrec + drift, refreshed every 7 days"
YAMLS = sorted((RECIPES / "finetune").glob("*.yaml"))


@pytest.fixture(scope="module")
def main() -> Callable[[FinetuneConfig], None]:
    spec = importlib.util.spec_from_file_location("finetune", RECIPES / "finetune.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[[FinetuneConfig], None] = module.run_finetune
    return function


@pytest.fixture(scope="module")
def log_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    log = make_synthetic_log(n_users=60, n_items=50, events_per_user=8)[0]
    folder, events = tmp_path_factory.mktemp("planted"), log.interactions
    users, items = log.user_ids.take(pa.array(events.user)), log.catalog.ids.take(pa.array(events.item))
    readers = [f"reader-{user}" for user in users.to_pylist()]  # a word that is nowhere else
    table = pa.table({"user_id": readers, "item_id": items, "timestamp": events.time})
    pq.write_table(table, folder / "interactions.parquet")
    pq.write_table(log.catalog.fields.select(["item_id", "title"]), folder / "items.parquet")
    return folder


@pytest.fixture
def config(log_folder: Path, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FinetuneConfig:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    model = ModelConfig(dim=8, max_history=6, dropout=0.0, id_dropout=0.0)
    train = TrainConfig(epochs=2, batch_targets=64, learning_rate=5e-3)
    return FinetuneConfig(
        DataConfig(source=str(log_folder)),
        output=tmp_path / "run",
        split=SplitConfig(names=("by_time", "leave_one_out"), leave_one_out_ties="file_order"),
        backbone=BackboneConfig(name=str(tiny_bert), hub_id="owner/tiny", strategy="lora", lora=LoraConfig(rank=2)),
        model=model,
        train=train,
        adapt=replace(train, epochs=1, trainable_items_per_step=16, backbone_learning_rate=1e-2),
        drift=DriftConfig(refresh_days=(7.0,), transition_half_lives_days=(30.0,), n_states=3, ablations=False),
        sasrec=SasrecConfig(model, train),
        evaluation=EvaluationConfig(
            baselines=("popularity", "item_knn", "nearest_text", "sasrec", "sasrec_sampled"),
            bootstrap_samples=50,
            tuning_budget=2,
        ),
        leave_one_out_seeds=(0, 1),
    )


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_every_yaml_loads_and_opens_with_its_launch_line(path: Path) -> None:
    assert parse_config(FinetuneConfig, ["--config", str(path)]).output.parts[0] == "runs"
    assert path.read_text().startswith(f"# accelerate launch recipes/finetune.py --config recipes/finetune/{path.name}")


WRONG = [
    ("--train.lr=1", "train.lr"),
    ("--train.epochs=many", "train.epochs"),
    ("--split.names=[leave_one_out]", "by_time"),
]


@pytest.mark.parametrize(("argument", "named"), WRONG)
def test_wrong_settings_are_named(argument: str, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((SystemExit, ValueError)) as stopped:
        parse_config(FinetuneConfig, ["--config", str(YAMLS[0]), argument])
    assert named in capsys.readouterr().err + str(stopped.value)


def test_a_whole_run_leaves_report_figures_and_bundle(
    main: Callable[[FinetuneConfig], None], config: FinetuneConfig, tiny_bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(replace(config, trackers=("tensorboard",)))
    out = config.output
    assert list(out.rglob("events.out.tfevents.*"))
    report = json.loads((out / "report.json").read_text())
    assert set(report) == {"schema", "primary", "bootstrap_samples", "rows", "splits", "run"}
    of_model, of_number = ["model", "kind", "strategy", "refresh", "seed"], ["value", "low", "high", "n"]
    assert list(report["rows"][0]) == [*of_model, "split", "slice", "metric", *of_number]
    fitted = {FROZEN, LORA, "SASRec", "SASRec, sampled negatives"}
    models = fitted | {"popularity", "ItemKNN", "nearest text"}
    in_split = {"by_time": {WEEKLY, STATIC}, "leave_one_out": {DAILY}}
    assert {split: part["headline"] for split, part in report["splits"].items()} == {
        "by_time": WEEKLY, "leave_one_out": DAILY,
    }  # fmt: skip
    weeks = {row["slice"] for row in report["splits"]["by_time"]["weekly"]}
    assert weeks == set(map(str, range(1, len(weeks) + 1)))
    for split, moving in in_split.items():
        assert {row["model"] for row in report["rows"] if row["split"] == split} == models | moving
    assert {"overall", "warm_item", "history_5-9"} <= {row["slice"] for row in report["rows"]}
    spread = report["splits"]["leave_one_out"]["seeds"]
    assert {row["model"] for row in spread} == fitted | in_split["leave_one_out"]
    printed = capsys.readouterr().out
    assert f"{WEEKLY} *" in printed
    assert report["run"]["adaptation"]["by_time"] in printed
    told = (out / "report.md").read_text()
    assert "in the file's order" in told
    assert f"The counts of these models are updated during the test: {WEEKLY}." in told
    assert f"### Paired comparisons of {WEEKLY}" in told
    opening = told.partition("<details>")[0]
    assert 4 <= opening.count("\n|") <= 8
    assert opening.count("![") == 1
    assert report["run"]["adaptation"]["by_time"] in opening
    assert not re.search(r"None|True|False|[{\[(]'", told)
    assert {path.name for path in (out / "figures").iterdir()} == {
        "ndcg_by_model.png",
        "ndcg_by_slice.png",
        "training.png",
        *(f"drift_{name}.png" for name in ("shares", "moves", "interest", "change", "decay", "weeks")),
    }
    assert "## Preferences that move" in told
    assert "## What explanations name" in told
    tests = [DeletionResult.from_record(test) for test in report["run"]["explanations"]]
    assert [test.n_deleted for test in tests] == [1, 3]
    assert all(2 <= test.n_explained <= 100 for test in tests)
    assert report["run"]["drift"]["learned"]["transition_half_life_days"] == 30.0
    kept = load_bundle(out / "bundle").drift
    assert kept is not None
    assert kept.head.describe().items() <= report["run"]["drift"]["learned"].items()
    recommender = Recommender.from_pretrained(out / "bundle", backbone=str(tiny_bert))
    assert len(recommender.recommend([str(recommender.catalog.ids[0])], k=3)) == 3
    assert len(recommender.score([], [{"title": "new red hat"}])) == 1
    assert not [path for path in out.rglob("*") if path.is_file() and b"reader-" in path.read_bytes()]
    card = (out / "bundle" / "README.md").read_text()
    assert "* What people went on to counts half after " in card
    assert "None" not in card
    overall = [row for row in report["rows"] if (row["slice"], row["metric"]) == ("overall", "ndcg@10")]
    assert len(overall) == len(models) * 2 + sum(map(len, in_split.values()))
    for row in overall:
        headline = report["splits"][row["split"]]["headline"]
        name = f"**{row['model']}**" if row["model"] == headline else row["model"]
        assert f"| {name} | {row['value']:.4f} |" in card

    capsys.readouterr()
    command_line(["evaluate", str(out / "bundle")])
    again = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    for (model, split, part, _), value in values(report).items():
        if (model, split) == (WEEKLY, "by_time") and not part.startswith("interest_"):  # by the run's own text
            assert f" {value:.4f}" in again[part]

    main(replace(config, resume=True))  # everything is there: nothing is trained again, and nothing changes
    assert json.loads((out / "report.json").read_text())["rows"] == report["rows"]


@pytest.mark.parametrize("method", ["align", "contrast"])
def test_a_whole_run_that_adapts_by_items(
    main: Callable[[FinetuneConfig], None], config: FinetuneConfig, tiny_bert: Path, method: ItemMethod
) -> None:
    items = ItemAdaptConfig(method, epochs=2, evals=2, items_per_step=32, learning_rate=5e-3, min_events=2)
    few = replace(config.evaluation, baselines=("nearest_text",))
    main(replace(config, adapt_items=items, drift=None, evaluation=few, leave_one_out_seeds=None))
    report = json.loads((config.output / "report.json").read_text())
    assert {row["model"] for row in report["rows"]} == {FROZEN, LORA, "nearest text"}
    for split, sentence in report["run"]["adaptation"].items():
        kept = "adapted weights kept" in sentence
        assert kept or "the frozen backbone is used" in sentence
        assert report["splits"][split]["headline"] == (LORA if kept else FROZEN)
        seed = report["splits"][split]["settings"][LORA]["seeds"]["0"]
        assert seed["items"][0]["step"] == 0
    recommender = Recommender.from_pretrained(config.output / "bundle", backbone=str(tiny_bert))
    assert len(recommender.score([], [{"title": "new red hat"}])) == 1


@pytest.mark.parametrize("encoder", ["text", "backbone"])
def test_a_whole_run_with_histories_by_the_backbone(
    main: Callable[[FinetuneConfig], None],
    config: FinetuneConfig,
    tiny_bert: Path,
    tiny_gpt2: Path,
    encoder: HistoryEncoderName,
) -> None:
    path = tiny_gpt2 if encoder == "backbone" else tiny_bert
    model = replace(
        config.model, history_encoder=encoder, history_text=HistoryTextConfig(max_tokens=128, targets_per_history=2)
    )
    config = replace(
        config,
        backbone=replace(config.backbone, name=str(path)),
        model=model,
        train=replace(config.train, epochs=1),
        evaluation=replace(config.evaluation, baselines=("popularity",)),
        leave_one_out_seeds=None,
    )
    main(config)
    report = json.loads((config.output / "report.json").read_text())
    models = {FROZEN, LORA, "popularity"}
    for split, moving in {"by_time": {WEEKLY, STATIC}, "leave_one_out": {DAILY}}.items():
        assert {row["model"] for row in report["rows"] if row["split"] == split} == models | moving
    recommender = Recommender.from_pretrained(config.output / "bundle", backbone=str(path))
    events = [(str(recommender.catalog.ids[row]), 1_700_000_000 + row) for row in range(3)]
    best = recommender.recommend(events, k=3, at=1_700_000_002)
    named, scores = [found.item for found in best], [found.score for found in best]
    again = recommender.recommend(events[:2], k=3)
    assert ([found.item for found in again], [found.score for found in again]) == (
        named,
        pytest.approx(scores, abs=1e-5),
    )
    command_line(["evaluate", str(config.output / "bundle"), "--backbone", str(path)])
    assert recommender.score(events[:2], named) == pytest.approx(scores, abs=1e-5)


def values(report: dict[str, Any]) -> dict[tuple[str, ...], float]:
    names = ("model", "split", "slice", "metric")
    return {tuple(row[name] for name in names): row["value"] for row in report["rows"]}


def test_two_processes_give_what_one_gives(
    main: Callable[[FinetuneConfig], None],
    config: FinetuneConfig,
    tmp_path: Path,
    tiny_bert: Path,
    two_processes: Callable[..., "subprocess.CompletedProcess[str]"],
) -> None:
    few = replace(config.evaluation, baselines=("popularity",))
    two = replace(config, split=SplitConfig(), evaluation=few, leave_one_out_seeds=None, drift=None)
    two = replace(
        two, output=tmp_path / "two", model=replace(two.model, text_similarity=False)
    )  # so that LoRA improves on it
    settings = tmp_path / "two.yaml"
    settings.write_text(json.dumps(asdict(two), default=str))  # JSON is YAML
    done = two_processes(RECIPES / "finetune.py", "--config", str(settings))
    assert (two.output / "report.json").is_file(), done.stderr[-2000:]
    report = json.loads((two.output / "report.json").read_text())
    assert report["run"]["processes"] == 2
    for rank, name in enumerate(("log.jsonl", "log.1.jsonl")):  # each process's own, line by line
        told = [json.loads(line) for line in (two.output / name).read_text().splitlines()]
        assert {line["process"] for line in told} == {rank}
        assert told[-1]["status"] == "finished"
    assert done.stderr.count(f"{FROZEN} epoch 1.00") == 1
    record = json.loads((two.output / "run.json").read_text())
    assert record["status"] == "finished"
    assert {"load", "read/encode", "fit", "fit/validate", "adapt", "evaluate", "bundle"} <= record["seconds"].keys()
    (facts,) = record["data"].values()
    assert facts["fingerprint"] == report["run"]["data"]["fingerprint"]

    main(replace(two, output=tmp_path / "one"))
    expected = values(json.loads((tmp_path / "one" / "report.json").read_text()))
    found = values(report)
    assert {key[0] for key in found} == {LORA, FROZEN, "popularity"}
    assert found == pytest.approx(expected, abs=1e-4)

    # Each process read half of the catalog with its own backbone: they agree only if the backbones do.
    bundle = load_bundle(two.output / "bundle")
    backbone = load_backbone(two.output / "bundle", bundle, backbone=str(tiny_bert))
    read = backbone.encode(backbone.tokenize(bundle.catalog.list_texts()))
    torch.testing.assert_close(bundle.model.items.text, read, atol=1e-5, rtol=0)
    assert not torch.allclose(
        read, TextBackbone.load(two.backbone).encode(backbone.tokenize(bundle.catalog.list_texts()))
    )

    with pytest.raises(ConfigError, match="2 processes"):
        main(replace(two, resume=True))
    main(replace(two, resume="auto"))
    assert json.loads((two.output / "report.json").read_text())["run"]["processes"] == 1
