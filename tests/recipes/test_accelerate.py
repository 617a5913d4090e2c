"""The configurations of `accelerate launch`: each is read by Accelerate, and what it asks for happens or is refused."""

from __future__ import annotations

import json
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType

from llmrec.config.backbone import BackboneConfig, Strategy
from llmrec.config.data import DataConfig
from llmrec.config.evaluation import EvaluationConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.jobs.pretrain import PretrainConfig
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.errors import ConfigError
from llmrec.runs.start import start_run

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "accelerate"
FILES = sorted(FOLDER.glob("*.yaml"))
KINDS = {
    "ddp": DistributedType.MULTI_GPU,
    "multi_node": DistributedType.MULTI_GPU,
    "fsdp": DistributedType.FSDP,
    "deepspeed_zero3": DistributedType.DEEPSPEED,
}


def test_there_is_a_file_for_each_way() -> None:
    assert {path.stem for path in FILES} == KINDS.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_accelerate_reads_each_file(path: Path) -> None:
    config = load_config_from_file(str(path))  # which refuses keys that it does not know
    assert isinstance(config, ClusterConfig)
    assert config.distributed_type == KINDS[path.stem]
    assert config.mixed_precision == "bf16"
    assert set(yaml.safe_load(path.read_text())) <= {*vars(config)}
    assert path.read_text().startswith("#")  # what it is for


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_accelerate_launch_takes_each_file(path: Path) -> None:
    """As the launcher merges it with the command line. What it knows nothing of, in a section, it would pass over."""
    arguments = launch_command_parser().parse_args(["--config_file", str(path), "recipes/finetune.py"])
    known, config = {*vars(arguments)}, load_config_from_file(str(path))
    assert {*config.fsdp_config, *config.deepspeed_config} <= known
    found, _, _ = _validate_launch_command(arguments)
    assert (found.num_processes, found.num_machines) == (config.num_processes, config.num_machines)
    assert (found.use_fsdp, found.use_deepspeed) == (path.stem == "fsdp", path.stem == "deepspeed_zero3")
    assert found.multi_gpu == (path.stem in ("ddp", "multi_node"))
    assert found.mixed_precision == "bf16"


def launched(folder: Path, strategy: Strategy, name: str = "packaged:all-MiniLM-L6-v2") -> FinetuneConfig:
    backbone = BackboneConfig(name, "owner/tiny", strategy=strategy, last_k=1, max_tokens=16)
    few = EvaluationConfig(baselines=("popularity",), bootstrap_samples=20, n_explained_users=0)
    train = TrainConfig(epochs=1, batch_targets=64)
    model = ModelConfig(dim=8, n_heads=2, max_history=6, dropout=0.0, id_dropout=0.0)
    adapt = TrainConfig(epochs=2, batch_targets=64, trainable_items_per_step=20, backbone_learning_rate=1e-2)
    return FinetuneConfig(
        DataConfig(), output=folder, backbone=backbone, model=model, train=train, adapt=adapt, evaluation=few
    )


@pytest.mark.parametrize("name", ["DEEPSPEED", "MEGATRON_LM"])
def test_what_the_trainer_cannot_work_under_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ConfigError, match=rf"distributed_type {name}.*fsdp.yaml"):
        start_run(launched(tmp_path, "lora"))


def test_what_shards_cannot_do_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="pretraining is data parallel"):
        start_run(PretrainConfig(DataConfig(), output=tmp_path))
    monkeypatch.setenv("FSDP_OFFLOAD_PARAMS", "true")
    with pytest.raises(ConfigError, match="fsdp_offload_params: true is not offered"):
        start_run(launched(tmp_path, "lora"))


def test_a_launch_with_fsdp_shards_on_cpus_too(
    planted_log: Callable[..., DataConfig], tmp_path: Path, tiny_bert: Path
) -> None:
    """Where Accelerate alone would go on as DDP without a word. All is measured as by one process."""
    config = replace(launched(tmp_path / "two", "full", str(tiny_bert)), data=planted_log(tmp_path / "log"))
    (tmp_path / "two.yaml").write_text(json.dumps(asdict(config), default=str))  # JSON is YAML
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(FOLDER / "fsdp.yaml")]
    recipe = [str(FOLDER.parent / "finetune.py"), "--config", str(tmp_path / "two.yaml")]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--num_processes", "2", "--mixed_precision", "no", *recipe],
        capture_output=True, text=True, env=environment, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[done.stderr.find("Traceback") :][:3000]
    assert "weights are sharded among 2 processes" in done.stdout
    two = json.loads((config.output / "report.json").read_text())
    assert two["run"]["processes"] == 2
    runpy.run_path(recipe[0])["run_finetune"](replace(config, output=tmp_path / "one"))
    one = json.loads((tmp_path / "one" / "report.json").read_text())
    assert [row["value"] for row in two["rows"]] == pytest.approx([row["value"] for row in one["rows"]], abs=1e-4)
    measured = [
        run["splits"]["by_time"]["settings"]["llmrec (full backbone)"]["seeds"]["0"]["valid_ndcg"] for run in (two, one)
    ]
    assert len(measured[0]) == 2
    assert measured[0] == pytest.approx(measured[1], abs=2e-4)  # of the steps on shards


@pytest.mark.slow
def test_two_machines_are_one_run(tmp_path: Path, planted_log: Callable[..., DataConfig], tiny_bert: Path) -> None:
    """Each with its own launcher, which here find each other on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = planted_log(tmp_path / "log")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(FOLDER / "multi_node.yaml")]
    command += ["--num_processes", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", str(port)]
    command += ["--mixed_precision", "no", "--machine_rank"]
    recipe = [str(FOLDER.parent / "encode_catalog.py"), f"--data.source={data.source}", f"--backbone.name={tiny_bert}"]
    environment = os.environ | {
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "LLMREC_CACHE": str(tmp_path / "cache"),
    }
    machines = [
        subprocess.Popen([*command, str(rank), *recipe], stdout=subprocess.PIPE, text=True, env=environment)
        for rank in (0, 1)
    ]
    told = [machine.communicate(timeout=600)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0]
    assert "50 items with 50 texts: 50 read by 2 process(es)" in "".join(told)
