"""Too little memory: a batch is run in pieces, with the same result, or the message says what takes less."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from llmrec.config.data import DataConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.model import ModelConfig
from llmrec.config.train import TrainConfig
from llmrec.data.synthetic_log import make_synthetic_log
from llmrec.errors import MemoryLimitError
from llmrec.training.micro_batching import explain_out_of_memory, find_micro_batches
from llmrec.training.task import make_task
from llmrec.training.trainer import Trainer
from llmrec.training.two_stage import fit_model
from tests.training.processes import gradients_of_steps, in_processes

WORLD = make_synthetic_log(n_users=240, n_items=60, events_per_user=10)[0]
MODEL = ModelConfig(dim=8, n_layers=1, n_heads=2, max_history=10, dropout=0.0, id_dropout=0.0)
# One batch, whose logits take 120 MiB, several times over: blocks that the allocator gives back when they are free.
TRAIN = TrainConfig(epochs=1, batch_targets=10_000, negatives=16_384, learning_rate=1e-3)
ROOM = 100 << 20


def fit(folder: Path, pieces: Any, poor: int | None) -> dict[str, Any]:
    """poor: the process with little room beyond what it has by now, if any has."""
    accelerator = Accelerator(cpu=True)
    task = make_task("by_time", WORLD, FinetuneConfig(DataConfig(), output=folder), accelerator)
    tried: list[int] = []
    fit_model("warm", task, MODEL, replace(TRAIN, negatives=8), text=None, seed=0)  # whatever is loaded at first use
    if accelerator.process_index == poor:
        limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    chosen = Trainer._find_micro_batches

    def kept(self: Trainer) -> int:
        tried.append(chosen(self))
        return tried[-1]

    Trainer._find_micro_batches = kept  # type: ignore[method-assign]
    try:
        with gradients_of_steps() as gradients:
            fit_model("model", task, MODEL, replace(TRAIN, micro_batches=pieces), text=None, seed=0)
    finally:
        Trainer._find_micro_batches = chosen  # type: ignore[method-assign]
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return {"pieces": tried, "gradients": gradients, "processes": accelerator.num_processes}


@pytest.mark.parametrize("n_processes", [1, 2])
def test_pieces_are_as_few_as_fit_everywhere_and_change_nothing(n_processes: int, tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", 1, None)
    told = in_processes(n_processes, fit, tmp_path, tmp_path / "pieces", "auto", n_processes - 1)
    assert whole["pieces"] == []
    pieces = [one["pieces"] for one in told]
    assert pieces == [pieces[0]] * n_processes  # also of those who have room
    assert pieces[0][0] in (4, 8, 16, 32)
    for one in told:
        for name, gradient in whole["gradients"][0].items():
            torch.testing.assert_close(one["gradients"][0][name], gradient, rtol=1e-4, atol=1e-6)


def test_without_pieces_the_message_names_what_takes_less(tmp_path: Path) -> None:
    told = in_processes(1, refused, tmp_path, tmp_path / "run")[0]
    assert "can't allocate memory" in told["message"]
    for knob in ("micro_batches", "batch_targets", "gradient_accumulation_steps", "negatives", "max_history"):
        assert knob in told["message"]


def refused(folder: Path) -> dict[str, Any]:
    with pytest.raises(MemoryLimitError) as caught:
        fit(folder, 1, poor=0)
    return {"message": str(caught.value), "processes": 1}


def test_halves_until_it_fits() -> None:
    def room_for(rows: int, asked: list[int]) -> Any:
        def trial(pieces: int) -> None:
            asked.append(pieces)
            if -(-100 // pieces) > rows:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        return trial

    tried: list[int] = []
    assert find_micro_batches(room_for(30, tried), 100) == 4
    assert tried == [1, 2, 4]
    assert find_micro_batches(room_for(100, []), 100) == 1
    with pytest.raises(MemoryLimitError, match="trainable_items_per_step"):
        find_micro_batches(room_for(0, []), 100)


def test_what_is_no_want_of_memory_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes"), explain_out_of_memory("less"):
        raise RuntimeError("shapes differ")
    with pytest.raises(MemoryLimitError, match="less"), explain_out_of_memory("less"):
        raise MemoryError
