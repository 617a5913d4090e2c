"""Checkpoints: whole or not there, as many as are asked for, checked when read, and not lost to a full disk."""

from __future__ import annotations

import logging
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from llmrec.errors import ConfigError, StorageError
from llmrec.training.checkpoints import Checkpoint, Progress, get_random_state, load_checkpoint, save_checkpoint

MINE, OTHERS = "a" * 32, "b" * 32
FILES = ("weights.safetensors", "best.safetensors", "optimizer.safetensors", "random.safetensors", "state.json")


def save(folder: Path, step: int, identity: str = MINE, kept: int = 2, width: int = 8) -> None:
    torch.manual_seed(step)
    module = nn.Linear(width, width)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(width)).sum().backward()
    optimizer.step()
    best = {"weight": module.weight.detach().clone()}
    progress = Progress(step=step, loss=step / 3, history=[{"epoch": 0.1 * step}])
    save_checkpoint(
        folder,
        progress,
        module,
        best,
        optimizer=optimizer,
        scheduler_state={"last": step},
        random_states=[get_random_state()],
        identity=identity,
        kept=kept,
    )


def load(folder: Path, strict: bool = True) -> Checkpoint | None:
    return load_checkpoint(folder, MINE, 1, strict=strict)


def step_of(folder: Path) -> int:
    found = load(folder)
    assert found is not None
    return found.progress.step


def newest(folder: Path) -> Path:
    return max(folder.iterdir())


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    save(tmp_path, 3)
    found = load(tmp_path)
    assert found is not None
    assert found.progress == Progress(step=3, loss=1.0, history=[{"epoch": 0.1 * 3}])
    assert torch.equal(found.weights["weight"], found.best["weight"])
    assert found.optimizer["state"][0]["exp_avg"].shape == (8, 8)
    assert found.scheduler == {"last": 3}
    assert found.table is None
    assert {path.name for path in newest(tmp_path).iterdir()} == {*FILES, "sha256.json"}


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_the_newest_are_kept_and_no_others(tmp_path: Path, kept: int) -> None:
    save(tmp_path, 99, OTHERS)
    for step in (1, 2, 10, 11):
        save(tmp_path, step, kept=kept)
        (tmp_path / "step-x.partial").mkdir()  # as a run that was killed leaves it
    assert sorted(int(path.name.split("-")[1]) for path in tmp_path.glob("step-0*")) == [1, 2, 10, 11][-kept:]
    assert step_of(tmp_path) == 11


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
@pytest.mark.parametrize("name", [*FILES, "sha256.json"])
def test_a_damaged_one_is_told_of_and_the_one_before_it_is_used(
    tmp_path: Path, damage: object, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    damage(newest(tmp_path) / name)  # type: ignore[operator]
    with caplog.at_level(logging.WARNING):
        assert step_of(tmp_path) == 1
    assert f"{newest(tmp_path)} is damaged" in caplog.text
    save(tmp_path, 2)  # the run has come there again
    assert step_of(tmp_path) == 2


def test_where_none_is_whole_the_run_stops_or_starts_anew_as_it_was_asked(tmp_path: Path) -> None:
    save(tmp_path, 1, kept=1)
    flip(newest(tmp_path) / "weights.safetensors")
    with pytest.raises(ConfigError, match="every checkpoint is damaged"):
        load(tmp_path)
    assert load(tmp_path, strict=False) is None


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of 256 KiB, mounted there."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def small_files(folder: Path) -> Iterator[None]:
    """No file above 32 KiB may be written."""
    folder.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (32 << 10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("limit", "told"), [(small_disk, "No space left on device"), (small_files, "File too large")], ids=["disk", "files"]
)
def test_a_full_disk_is_told_of_and_leaves_the_last_checkpoint(tmp_path: Path, limit: object, told: str) -> None:
    folder = tmp_path / "full"
    with limit(folder):  # type: ignore[operator]
        save(folder, 1)
        with pytest.raises(StorageError, match=f"step-000000002-.*{told}.*--resume true"):
            save(folder, 2, width=128)  # 64 KiB a matrix, four of them
        assert [path.name for path in folder.iterdir()] == [f"step-000000001-{MINE}"]
        assert step_of(folder) == 1


def test_another_configurations_are_refused_or_passed_over(tmp_path: Path) -> None:
    save(tmp_path, 1, OTHERS)
    with pytest.raises(ConfigError, match="another configuration"):
        load(tmp_path)
    assert load(tmp_path, strict=False) is None
    with pytest.raises(ConfigError, match="made by 1 processes, not 2"):
        load_checkpoint(tmp_path, OTHERS, 2)
    assert load_checkpoint(tmp_path / "nothing", MINE, 1) is None
