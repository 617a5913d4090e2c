"""Checkpoints of what trains, in safetensors and JSON, written whole or not at all.

A checkpoint is taken where validation was just measured, or in between when it is time. It holds the trainable weights,
the optimizer's and schedule's state, the best weights so far and each process's random state: resuming gives the same
bits. Each file's sha256 is checked before anything is gone on with; where it is another, the checkpoint before it is.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llmrec.errors import ConfigError
from llmrec.utils.atomic_files import fsync_rename, sha256_file, translate_disk_full

logger = logging.getLogger(__name__)
STATE, DIGESTS = "state.json", "sha256.json"


@dataclass
class Progress:
    """How far a run is. epoch, batch: where it goes on; best: validation metric; stale: measurements without gain.

    loss: summed over `n_losses` targets or steps since the last measurement.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float = float("-inf")
    best_epoch: float = 0.0
    stale: int = 0
    finished: bool = False
    loss: float = 0.0
    n_losses: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def get_trainable_state(module: nn.Module) -> dict[str, Tensor]:
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
    kept: int = 2,
    table: Tensor | None = None,
) -> None:
    """Add a checkpoint to those in `folder`, then remove all but the newest `kept` and those of other identities.

    identity: hash of config and data, by which a resume finds its own. table: (N, D_text) text vectors as steps have
    left them, where they are not what the backbone would read now.

    Raises:
        StorageError: no room; the checkpoints before are left as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{progress.step:09d}-{identity}"
    for left in folder.glob("*.partial"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    partial = target.with_name(f"{target.name}.partial")
    moments, groups = _flatten(optimizer.state_dict())
    tensors = {
        "weights": get_trainable_state(module),
        "best": best,
        "optimizer": moments,
        "random": {f"rank{rank}": state for rank, state in enumerate(random_states)},
    } | ({} if table is None else {"table": {"text": table.detach().cpu().contiguous()}})
    facts = {"progress": vars(progress), "groups": groups, "scheduler": scheduler_state}
    try:
        with translate_disk_full(partial, "; --resume true goes on from the checkpoint before"):
            partial.mkdir()
            for name, state in tensors.items():
                save_file(state, partial / f"{name}.safetensors")
            (partial / STATE).write_text(json.dumps(facts))
            (partial / DIGESTS).write_text(json.dumps({path.name: sha256_file(path) for path in partial.iterdir()}))
            shutil.rmtree(target, ignore_errors=True)  # of the same step: a damaged one, or another run's
            fsync_rename(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    own = [
        path for path in _list_checkpoints(folder, identity) if path <= target
    ]  # a later one was damaged, or is another run's
    for old in {*_list_checkpoints(folder)} - {*own[-kept:]}:
        shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True)
class Checkpoint:
    progress: Progress
    weights: dict[str, Tensor]
    best: dict[str, Tensor]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    random_states: list[Tensor]
    table: Tensor | None


def load_checkpoint(folder: Path, identity: str, n_processes: int, strict: bool = True) -> Checkpoint | None:
    """The newest checkpoint in `folder` that is whole; None where there is none.

    Raises:
        ConfigError: `strict`, and the checkpoints belong to another configuration or log, or to another number of
            processes, or are damaged, all of them; else that counts as none.
    """
    found = _list_checkpoints(folder, identity)
    if not found and strict and (others := _list_checkpoints(folder)):
        raise ConfigError(
            f"{others[-1]}: made with another configuration or log; remove it, or give another output folder"
        )
    for source in reversed(found):
        try:
            checkpoint = _read(source)
        except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
            logger.warning("%s is damaged (%s), and left aside", source, error)
            continue
        if (made_by := len(checkpoint.random_states)) == n_processes:
            return checkpoint
        if strict:
            raise ConfigError(f"{source}: made by {made_by} processes, not {n_processes}; start as many, or remove it")
        return None
    if found and strict:
        raise ConfigError(f"{folder}: every checkpoint is damaged; remove the folder to train from the start")
    return None


def _list_checkpoints(folder: Path, identity: str = "*") -> list[Path]:
    """Checkpoints, the oldest first."""
    return sorted(path for path in folder.glob(f"step-*-{identity}") if path.suffix != ".partial")


def _read(source: Path) -> Checkpoint:
    """Raises ValueError where a file is not what was written."""
    expected: dict[str, str] = json.loads((source / DIGESTS).read_text())
    for name, digest in expected.items():
        if sha256_file(source / name) != digest:
            raise ValueError(f"{name} has changed since it was written")
    facts = json.loads((source / STATE).read_text())
    weights, best, optimizer, random = (
        load_file(source / f"{name}.safetensors") for name in ("weights", "best", "optimizer", "random")
    )
    table = load_file(source / "table.safetensors")["text"] if "table.safetensors" in expected else None
    return Checkpoint(
        Progress(**facts["progress"]),
        weights,
        best,
        _unflatten(optimizer, facts["groups"]),
        facts["scheduler"],
        [random[f"rank{rank}"] for rank in range(len(random))],
        table,
    )


def get_random_state() -> Tensor:
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
