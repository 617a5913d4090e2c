"""Checkpoints of what trains, in safetensors and JSON, written whole or not at all.

A checkpoint is taken where validation was just measured. It holds the trainable weights, the optimizer's and
schedule's state, the best weights so far and each process's random state: resuming gives the same bits.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llmrec.errors import ConfigError


@dataclass
class Progress:
    """How far a run is. epoch, batch: where it goes on; best: validation metric; stale: measurements without gain."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float = float("-inf")
    best_epoch: float = 0.0
    stale: int = 0
    finished: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


def trainable_state(module: nn.Module) -> dict[str, Tensor]:
    """Copies (CPU) of the parameters that train, by name."""
    return {
        name: parameter.detach().cpu().clone()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


@torch.no_grad()
def load_trainable(module: nn.Module, state: dict[str, Tensor]) -> None:
    parameters = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if parameters.keys() != state.keys():
        odd = sorted(parameters.keys() ^ state.keys())[:4]
        raise ConfigError(f"checkpoint and model train different weights ({odd} ...): the configuration has changed")
    for name, parameter in parameters.items():
        parameter.copy_(state[name])


def save_checkpoint(
    folder: Path,
    progress: Progress,
    module: nn.Module,
    best: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    scheduler_state: dict[str, Any],
    random_states: list[Tensor],
    identity: str,
) -> None:
    """Replace the checkpoint in `folder`. identity: hash of config and data, checked on resume."""
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    moments, groups = _flatten(optimizer.state_dict())
    save_file(trainable_state(module), partial / "weights.safetensors")
    save_file(best, partial / "best.safetensors")
    save_file(moments, partial / "optimizer.safetensors")
    save_file({f"rank{rank}": state for rank, state in enumerate(random_states)}, partial / "random.safetensors")
    facts = {"progress": vars(progress), "groups": groups, "scheduler": scheduler_state, "identity": identity}
    (partial / "state.json").write_text(json.dumps(facts))
    old = folder.with_name(f"{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    partial.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True)
class Checkpoint:
    progress: Progress
    weights: dict[str, Tensor]
    best: dict[str, Tensor]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    random_states: list[Tensor]


def load_checkpoint(folder: Path, identity: str, n_processes: int, strict: bool = True) -> Checkpoint | None:
    """The checkpoint in `folder`, or the one before it where a write was cut off; None where there is none.

    Raises:
        ConfigError: `strict`, and the checkpoint belongs to another configuration or log, or to another number of
            processes; else that counts as none.
    """
    source = next(
        (at for at in (folder, folder.with_name(f"{folder.name}.old")) if (at / "state.json").is_file()), None
    )
    if source is None:
        return None
    facts = json.loads((source / "state.json").read_text())
    if facts["identity"] != identity and not strict:
        return None
    if facts["identity"] != identity:
        raise ConfigError(f"{source}: made with another configuration or log; remove it, or give another output folder")
    random = load_file(source / "random.safetensors")
    if len(random) != n_processes and not strict:
        return None
    if len(random) != n_processes:
        raise ConfigError(f"{source}: made by {len(random)} processes, not {n_processes}; start as many, or remove it")
    return Checkpoint(
        Progress(**facts["progress"]),
        load_file(source / "weights.safetensors"),
        load_file(source / "best.safetensors"),
        _unflatten(load_file(source / "optimizer.safetensors"), facts["groups"]),
        facts["scheduler"],
        [random[f"rank{rank}"] for rank in range(len(random))],
    )


def random_state() -> Tensor:
    """The random state of this process, CPU and current accelerator, as one row of bytes."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_available():
        states.append(torch.cuda.get_rng_state())
    return torch.cat(states)


def set_random_state(state: Tensor) -> None:
    size = len(torch.get_rng_state())
    torch.set_rng_state(state[:size].contiguous())
    if torch.cuda.is_available() and len(state) > size:
        torch.cuda.set_rng_state(state[size:].contiguous())


def _flatten(state: dict[str, Any]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Adam's state dict as tensors named "row.key", and its parameter groups."""
    moments = {
        f"{row}.{key}": torch.as_tensor(value).contiguous()
        for row, values in state["state"].items()
        for key, value in values.items()
    }
    return moments, state["param_groups"]


def _unflatten(moments: dict[str, Tensor], groups: list[dict[str, Any]]) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in moments.items():
        row, key = name.split(".", 1)
        state.setdefault(int(row), {})[key] = value
    return {"state": state, "param_groups": groups}
