"""Checkpoints of the trainable state in safetensors and JSON, written completely or not at all.

A checkpoint is written after a validation, or between two of them when it is due. It holds the trainable weights, the
states of optimizer and schedule, the best weights so far and the random state of each process: a resumed run gives
the same bits. The sha256 of each file is verified before resuming; if one differs, the previous checkpoint is used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
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
    """Position of a run in its training, with its measurements so far."""

    epoch: int = 0
    """Epoch in which training continues, from 0."""
    batch: int = 0
    """Group of batches of that epoch with which training continues, from 0."""
    step: int = 0
    """Optimizer steps taken."""
    best: float = float("-inf")
    """Highest validation metric so far."""
    best_epoch: float = 0.0
    """Epoch or step of that metric."""
    stale: int = 0
    """Consecutive measurements without improvement."""
    finished: bool = False
    """True once training is over."""
    loss: float = 0.0
    """Loss summed over `n_losses` targets or steps since the last measurement."""
    n_losses: int = 0
    """Number of targets or steps in `loss`."""
    history: list[dict[str, float]] = field(default_factory=list)
    """Measurements so far, oldest first."""

    @property
    def ends_at_best(self) -> bool:
        """True if the last measurement is that of the best weights."""
        return bool(self.history) and self.history[-1]["epoch"] == self.best_epoch


def get_trainable_state(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of the trainable parameters on the CPU.

    Args:
        module: Module to read.

    Returns:
        The tensors by parameter name.
    """
    return {
        name: parameter.detach().cpu().clone()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


@torch.no_grad()
def load_trainable(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Copy saved values into the trainable parameters of a module.

    Args:
        module: Module to change in place.
        state: Tensors by parameter name, as from `get_trainable_state`.

    Raises:
        ConfigError: If the module trains other parameters than were saved.
    """
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
    *,
    optimizer: torch.optim.Optimizer,
    scheduler_state: dict[str, Any],
    random_states: list[Tensor],
    identity: str,
    kept: int = 2,
    table: Tensor | None = None,
) -> None:
    """Write a checkpoint, then remove all but the newest `kept` and those of other identities.

    Args:
        folder: Folder of the checkpoints of a fit; created if missing.
        progress: Position of the run.
        module: Module whose trainable weights are saved.
        best: The best weights so far, by name.
        optimizer: Optimizer whose state is saved.
        scheduler_state: State of the learning-rate schedule.
        random_states: Random state of each process, as from `get_random_state`.
        identity: Hash of configuration and data by which a resume finds its own checkpoints.
        kept: Checkpoints to keep.
        table: Text vectors, (N, D_text), if steps have changed them since the last complete reading.

    Raises:
        StorageError: If there is no room; earlier checkpoints are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{progress.step:09d}-{identity}"
    for left in folder.glob("*.partial"):  # of a run that was killed
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
            shutil.rmtree(target, ignore_errors=True)  # of the same step: damaged, or written by another run
            fsync_rename(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    own = [
        path for path in _list_checkpoints(folder, identity) if path <= target
    ]  # a later one is damaged, or was written by another run
    for old in {*_list_checkpoints(folder)} - {*own[-kept:]}:
        shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True)
class Checkpoint:
    """Loaded state of a run, from which it resumes."""

    progress: Progress
    """Position of the run."""
    weights: dict[str, Tensor]
    """Trainable weights by parameter name."""
    best: dict[str, Tensor]
    """Best weights so far by parameter name."""
    optimizer: dict[str, Any]
    """State dict of the optimizer."""
    scheduler: dict[str, Any]
    """State dict of the learning-rate schedule."""
    random_states: list[Tensor]
    """Random state of each process, in the order of ranks."""
    table: Tensor | None
    """Text vectors, (N, D_text), if steps had changed them since the last complete reading."""


def compute_identity(facts: Sequence[Any]) -> str:
    """Compute the hash of everything that a fit depends on, by which a resume finds its own checkpoints.

    Args:
        facts: Values that JSON can hold, or that have a text.

    Returns:
        32 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def load_checkpoint(folder: Path, identity: str, n_processes: int, *, strict: bool = True) -> Checkpoint | None:
    """Load the newest intact checkpoint of a fit.

    Args:
        folder: Folder of the checkpoints.
        identity: Hash of configuration and data of the fit.
        n_processes: Processes of this run.
        strict: Raise if no checkpoint fits, rather than return None.

    Returns:
        The checkpoint, or None if there is none.

    Raises:
        ConfigError: If `strict` is set and the checkpoints belong to another configuration, log or number of processes,
            or all of them are damaged.
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
    """Return the checkpoints of a folder, oldest first."""
    return sorted(path for path in folder.glob(f"step-*-{identity}") if path.suffix != ".partial")


def _read(source: Path) -> Checkpoint:
    """Read a checkpoint; raise ValueError if a file has changed since it was written."""
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
    """Return the random state of this process, CPU and current accelerator.

    Returns:
        One row of bytes.
    """
    states = [torch.get_rng_state()]
    if torch.cuda.is_available():
        states.append(torch.cuda.get_rng_state())
    return torch.cat(states)


def set_random_state(state: Tensor) -> None:
    """Restore a random state of `get_random_state` in this process.

    Args:
        state: One row of bytes.
    """
    size = len(torch.get_rng_state())
    torch.set_rng_state(state[:size].contiguous())
    if torch.cuda.is_available() and len(state) > size:
        torch.cuda.set_rng_state(state[size:].contiguous())


def _flatten(state: dict[str, Any]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Return Adam's state dict as tensors named "row.key", and its parameter groups."""
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
