"""The configurations of `accelerate launch`: each is read by Accelerate, and what it asks for happens or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType

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
