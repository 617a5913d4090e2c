"""A private run from log to card: what is spent and what an attack finds is told in report, record and card."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llmrec import Recommender
from llmrec.config.backbone import BackboneConfig, LoraConfig
from llmrec.config.data import DataConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.config.privacy import MembershipConfig, PrivacyConfig
from llmrec.config.split import SplitConfig
from llmrec.config.train import TrainConfig
from llmrec.hub.bundle import load_bundle

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "finetune.py"


def test_a_private_run_says_what_it_guarantees(
    planted_log: Callable[[Path], DataConfig], tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opacus")
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    spec = importlib.util.spec_from_file_location("finetune", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    train = TrainConfig(epochs=2, learning_rate=5e-3, trainable_items_per_step=12)
    config = FinetuneConfig(
        planted_log(tmp_path / "log"),
        output=tmp_path / "run",
        backbone=BackboneConfig(name=str(tiny_bert), hub_id="owner/tiny", strategy="lora", lora=LoraConfig(rank=2)),
        model=ModelConfig(dim=8, max_history=6),
        train=train,
        adapt=train,
        privacy=PrivacyConfig(epsilon=3.0, users_per_step=15),
        split=SplitConfig(held_out_user_fraction=0.4),
        membership=MembershipConfig(reference=True),
        evaluation=EvaluationConfig(baselines=("popularity",), bootstrap_samples=50, n_explained_users=0),
    )
    module.run_finetune(config)
    run = json.loads((config.output / "report.json").read_text())["run"]
    spent = run["privacy"]
    assert spent["epsilon"] == pytest.approx(3.0, abs=0.02)
    assert spent["secure"]
    assert spent["n_users"] < 40  # some were held out
    assert [attack["n_non_members"] for attack in run["membership"]] == 2 * [run["membership"][0]["n_non_members"]]
    told = (config.output / "report.md").read_text()
    card = (config.output / "bundle" / "README.md").read_text()
    for text in (told, card):
        assert "User-level differential privacy: epsilon = 3 " in text
        assert "Outside of it:" in text
        assert "with an AUC of" in text
        assert "## Privacy" in text
    bundle = load_bundle(config.output / "bundle")
    assert bundle.config.privacy == config.privacy
    assert bundle.evaluation["privacy"]["privacy"]["steps"] == spent["steps"]
    assert bool(bundle.model.items.known.all())
    assert Recommender.from_pretrained(config.output / "bundle").recommend([bundle.catalog.ids[0].as_py()], k=3)
