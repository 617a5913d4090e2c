"""The recipe: each text is read once, whatever was killed and however many share it, and fine-tuning finds it."""

import contextlib
import fcntl
import os
import pty
import re
import runpy
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.backbones.text_vector_cache import Shard, TextVectorCache
from llmrec.config.backbone import BackboneConfig
from llmrec.config.data import DataConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.encode_catalog import EncodeConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.loader import parse_config
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.errors import ConfigError, DataError

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "encode_catalog.py"
TITLES = [f"{number} robot of the {word}" for word in ("night", "river", "garden") for number in range(300)]
SETTINGS = ["--data.text_template", "The {title}", "--texts_per_shard", "16"]


@pytest.fixture
def items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "items.parquet"
    titles = [*TITLES, TITLES[0]]  # two items of one text
    ids = [f"i{row}" for row in range(len(titles))]
    pq.write_table(pa.table({"item_id": ids, "title": titles, "picture": [b"not text"] * len(ids)}), path)
    return path


def arguments(items: Path, tiny_bert: Path) -> list[str]:
    return ["--data.items", str(items), "--backbone.name", str(tiny_bert), *SETTINGS]


def kept(tmp_path: Path) -> list[bytes]:
    return [
        key for path in (tmp_path / "cache").rglob("*.safetensors") for key in Shard.open_mapped(path).keys.tolist()
    ]


def read_all(screen: int, printed: bytearray) -> None:
    """Until the other end is closed, which a terminal tells as an error."""
    with os.fdopen(screen, "rb", buffering=0) as terminal, contextlib.suppress(OSError):
        while part := terminal.read(1 << 16):
            printed += part


def test_two_processes_go_on_where_a_killed_one_was(
    items: Path,
    tiny_bert: Path,
    tmp_path: Path,
    two_processes: Callable[..., "subprocess.CompletedProcess[str]"],
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 100, 0, 0))  # without columns nothing is drawn
    command = [sys.executable, str(RECIPE), *arguments(items, tiny_bert)]
    shown = {key: value for key, value in os.environ.items() if key != "TQDM_DISABLE"}
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=terminal, env=shown)
    os.close(terminal)
    printed = bytearray()
    reading = threading.Thread(target=read_all, args=(screen, printed))  # a full terminal would hold the process up
    reading.start()
    until = time.monotonic() + 250
    while len(list((tmp_path / "cache").rglob("*.safetensors"))) < 5 and time.monotonic() < until:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    reading.join()
    assert re.search(rb"encoding item text: .*item/s", printed)
    there = kept(tmp_path)
    assert 5 * 16 <= len(there) < len(TITLES)

    done = two_processes(RECIPE, *arguments(items, tiny_bert))
    told = f"901 items with 900 texts: {900 - len(there)} read by 2 process(es)"
    assert told in done.stdout, done.stderr[-2000:]
    keys = kept(tmp_path)
    assert len(keys) == len(set(keys)) == 900  # nothing twice
    runpy.run_path(str(RECIPE))["run_encode_catalog"](parse_config(EncodeConfig, arguments(items, tiny_bert)))
    assert "900 texts: 0 read by 1" in capsys.readouterr().out


def test_fine_tuning_reads_nothing_again(
    items: Path,
    tiny_bert: Path,
    tmp_path: Path,
    planted_log: Callable[..., DataConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, backbone = planted_log(tmp_path / "log"), BackboneConfig(name=str(tiny_bert), hub_id="owner/tiny")
    main = runpy.run_path(str(RECIPE))["run_encode_catalog"]
    main(EncodeConfig(data, replace(backbone, strategy="lora")))
    assert "read by 1 process" in capsys.readouterr().out
    frozen = TextBackbone.load(backbone)
    keys = kept(tmp_path)
    texts = pq.read_table(tmp_path / "log" / "items.parquet")["title"].to_pylist()
    found = TextVectorCache(frozen).get_vectors(texts)
    torch.testing.assert_close(found, frozen.encode(frozen.tokenize(texts)), atol=1e-5, rtol=0)

    def never(*given: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(TextBackbone, "encode", never)
    train, few = TrainConfig(epochs=1, batch_targets=64), EvaluationConfig(bootstrap_samples=20, baselines=())
    config = FinetuneConfig(data, tmp_path / "run", backbone=backbone, model=ModelConfig(dim=8), train=train)
    runpy.run_path(str(RECIPE.parent / "finetune.py"))["run_finetune"](replace(config, evaluation=few))
    assert kept(tmp_path) == keys


def test_what_cannot_be_read_is_refused(items: Path) -> None:
    found = parse_config(EncodeConfig, ["--data.items", "x.parquet", "--texts_per_shard", "9"])
    assert found == EncodeConfig(DataConfig(items="x.parquet"), texts_per_shard=9)
    with pytest.raises(ConfigError, match="nothing to read with"):
        EncodeConfig(DataConfig(), BackboneConfig(strategy="none"))
    with pytest.raises(ConfigError, match="texts_per_shard=0"):
        parse_config(EncodeConfig, ["--data.items", "x.parquet", "--texts_per_shard", "0"])
    main = runpy.run_path(str(RECIPE))["run_encode_catalog"]
    with pytest.raises(
        ConfigError, match=r"items\.parquet has no column brand. Use some of its columns item_id, title"
    ):
        main(EncodeConfig(DataConfig(items=str(items), text_template="{brand}")))
    pq.write_table(pa.table({"item_id": ["a", "a"], "title": ["hat", ""]}), items)
    with pytest.raises(DataError, match="duplicate item id") as refused:
        main(EncodeConfig(DataConfig(items=str(items))))
    assert "empty text" in str(refused.value)
    assert np.array_equal(list(items.parent.glob("cache/*")), [])
