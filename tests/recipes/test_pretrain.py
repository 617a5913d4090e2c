"""The recipe: every YAML loads, its backbone is what finetune.py takes, and two processes give what one gives."""

import importlib.util
import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.adaptation import ItemAdaptConfig
from llmrec.config.backbone import BackboneConfig, LoraConfig
from llmrec.config.data import DataConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.jobs.pretrain import ContrastConfig, PretrainConfig, PretrainTrainConfig
from llmrec.config.loader import parse_config
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.errors import BackboneError, BundleError, ConfigError
from llmrec.hub.bundle import load_bundle

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
YAMLS = sorted((RECIPES / "pretrain").glob("*.yaml"))


def main_of(name: str) -> Callable[[Any], None]:
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[[Any], None] = getattr(module, f"run_{name}")
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
def config(log_folder: Path, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PretrainConfig:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    return PretrainConfig(
        DataConfig(source=str(log_folder)),
        output=tmp_path / "run",
        objectives={"contrast": 1.0, "mlm": 0.5},
        backbone=BackboneConfig(name=str(tiny_bert), hub_id="owner/tiny", strategy="lora", lora=LoraConfig(rank=2)),
        contrast=ContrastConfig(n_negatives=8),
        train=PretrainTrainConfig(
            max_steps=4,
            eval_every_steps=2,
            text_batch_size=8,
            pair_batch_size=8,
            learning_rate=1e-2,
            held_out_fraction=0.1,
        ),
    )


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_every_yaml_loads_and_opens_with_its_launch_line(path: Path) -> None:
    assert parse_config(PretrainConfig, ["--config", str(path)]).output == Path(f"runs/pretrain_{path.stem}")
    assert path.read_text().startswith(f"# accelerate launch recipes/pretrain.py --config recipes/pretrain/{path.name}")
    assert all(f"# {word}:" in path.read_text() for word in ("Purpose", "Hardware", "Expect"))


WRONG = [
    ({"objectives": {"cls": 1.0}}, r"objectives: \['cls'\]; known: mlm, clm, histories, contrast, items"),
    ({"objectives": {}}, "none given"),
    ({"objectives": {"mlm": 0.0}}, "above 0"),
    ({"objectives": {"mlm": 1.0, "clm": 1.0}}, "a backbone is one of them"),
    ({"objectives": {"items": 1.0, "contrast": 1.0}}, "items goes by itself"),
    ({"objectives": {"items": 1.0}, "adapt_items": ItemAdaptConfig("align")}, "align needs a fitted recommender"),
    ({"backbone": BackboneConfig()}, "backbone.strategy=frozen: it leaves nothing to train"),
]


@pytest.mark.parametrize(("changes", "named"), WRONG)
def test_settings_that_cannot_be_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        PretrainConfig(DataConfig(), **changes)


def test_a_contrast_of_the_batch_alone_is_refused() -> None:
    given = ["--data.source", "movielens_small"]
    with pytest.raises(ConfigError, match=r"contrast\.n_negatives=0: give a number at least 1"):
        parse_config(PretrainConfig, [*given, "--contrast.n_negatives", "0"])
    with pytest.raises(ConfigError, match=r"train\.held_out_fraction=1\.0: give a number above 0"):
        parse_config(PretrainConfig, [*given, "--train.held_out_fraction", "1"])


def test_items_are_judged_by_held_out_ones(config: PretrainConfig, capsys: pytest.CaptureFixture[str]) -> None:
    items = ItemAdaptConfig("contrast", epochs=2, evals=2, items_per_step=32, learning_rate=5e-3, n_negatives=8)
    main_of("pretrain")(replace(config, objectives={"items": 1.0}, adapt_items=items))
    record = json.loads((config.output / "backbone" / "pretraining.json").read_text())
    measured = [point["held_out_items_ndcg"] for point in record["history"]]
    assert len(measured) == 3
    assert record["best_step"] == record["history"][measured.index(max(measured))]["step"]
    assert f"NDCG@10 of held-out items {max(measured):.4f}" in capsys.readouterr().out
    backbone = TextBackbone.load(BackboneConfig(str(config.output / "backbone"), "owner/new"))
    assert backbone.encode(backbone.tokenize(["new red hat"])).isfinite().all()


def test_a_pretrained_backbone_is_fine_tuned(config: PretrainConfig, tmp_path: Path, tiny_bert: Path) -> None:
    pretrain = main_of("pretrain")
    pretrain(config)
    out = config.output / "backbone"
    record = json.loads((out / "pretraining.json").read_text())
    assert record["base"]["hub_id"] == "owner/tiny"
    assert record["data"]["source"] == Path(str(config.data.source)).name
    assert record["history"][-1]["step"] == 4
    assert not [path for path in out.rglob("*") if path.is_file() and b"reader-" in path.read_bytes()]
    weights = (out / "model.safetensors").read_bytes()
    pretrain(replace(config, resume=True))  # everything is there: nothing is trained again
    assert (out / "model.safetensors").read_bytes() == weights

    train = TrainConfig(epochs=1, batch_targets=64)
    fine = FinetuneConfig(
        config.data,
        output=tmp_path / "fine",
        backbone=BackboneConfig(name=str(out), hub_id="owner/tiny-beauty", strategy="frozen"),
        model=ModelConfig(dim=8, max_history=6),
        train=train,
        evaluation=EvaluationConfig(baselines=("nearest_text",), bootstrap_samples=20, tuning_budget=1),
    )
    main_of("finetune")(fine)
    bundle = load_bundle(tmp_path / "fine" / "bundle")
    assert bundle.base is not None
    assert bundle.base.hub_id == "owner/tiny-beauty"
    read = TextBackbone.load(fine.backbone)
    text = bundle.model.items.text
    assert text is not None
    torch.testing.assert_close(text, read.encode(read.tokenize(bundle.catalog.list_texts())), atol=1e-5, rtol=0)


def test_nothing_is_written_where_the_backbone_cannot(config: PretrainConfig, tiny_gpt2: Path) -> None:
    decoder = replace(config, backbone=replace(config.backbone, name=str(tiny_gpt2)))
    with pytest.raises(BackboneError, match="Use clm or contrast"):
        main_of("pretrain")(decoder)
    assert not (config.output / "backbone").exists()
    (config.output / "backbone").mkdir(parents=True)
    (config.output / "backbone" / "mine.txt").write_text("x")
    with pytest.raises(BundleError, match="is not a pretrained backbone"):
        main_of("pretrain")(config)


def test_two_processes_give_what_one_gives(
    config: PretrainConfig, tmp_path: Path, two_processes: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    two = replace(config, output=tmp_path / "two")
    settings = tmp_path / "two.yaml"
    settings.write_text(json.dumps(asdict(two), default=str))  # JSON is YAML
    done = two_processes(RECIPES / "pretrain.py", "--config", str(settings))
    assert (two.output / "backbone" / "pretraining.json").is_file(), done.stderr[-2000:]
    record = json.loads((two.output / "backbone" / "pretraining.json").read_text())
    assert record["run"]["processes"] == 2
    main_of("pretrain")(config)
    one = json.loads((config.output / "backbone" / "pretraining.json").read_text())
    assert [set(point) for point in record["history"]] == [set(point) for point in one["history"]]
    for found, expected in zip(record["history"], one["history"], strict=True):
        assert found == pytest.approx(expected, abs=2e-4)
    assert one["history"][-1]["held_out"] < one["history"][0]["held_out"] - 0.01
    texts = ["red hat", "blue shoes and socks"]
    backbones = [TextBackbone.load(BackboneConfig(name=str(run.output / "backbone"))) for run in (two, config)]
    first, second = (backbone.encode(backbone.tokenize(texts)) for backbone in backbones)
    torch.testing.assert_close(first, second, atol=1e-3, rtol=0)
