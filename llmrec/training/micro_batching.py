"""Find a micro-batch size that fits in memory, and explain out-of-memory errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from accelerate.utils import find_executable_batch_size
from accelerate.utils.memory import should_reduce_batch_size

from llmrec.errors import MemoryLimitError
from llmrec.training.checkpoints import get_random_state, set_random_state
from llmrec.training.objectives import Objective

STATES = 3  # copies of the trainable weights: Adam's two moments, and the gradient buckets of DDP
STEPS = (
    "train.micro_batches (adapt.micro_batches where the backbone trains): auto, or in how many parts a process runs "
    "its share of a batch, which changes no result; a smaller batch_targets with a larger gradient_accumulation_steps; "
    "model.max_history; a number for negatives; mixed_precision: bf16"
)
BACKBONE = (
    "backbone.gradient_checkpointing; adapt.trainable_items_per_step; backbone.max_tokens; backbone.strategy: last_k, "
    "or lora with lora.last_k, which train fewer layers; recipes/accelerate/fsdp.yaml, by which each GPU holds a part"
)
PRETRAINING = (
    "train.text_batch_size; train.pair_batch_size; contrast.n_negatives; backbone.max_tokens; backbone.last_k; "
    "mixed_precision: bf16"
)


@contextmanager
def dry_run(objective: Objective) -> Iterator[None]:
    """Undo all effects of the code within, which has as much memory as real steps will have.

    Args:
        objective: Objective to try; memory for the states of its optimizer is reserved meanwhile.
    """
    text, state = objective.model.items.text, get_random_state()
    kept = None if text is None else text.clone()
    weights = [weight for weight in objective.parameters() if weight.requires_grad]
    room = [torch.empty_like(weight) for weight in weights for _ in range(STATES)]
    objective.train()
    try:
        yield
    finally:
        room.clear()
        objective.zero_grad()
        set_random_state(state)
        if text is not None and kept is not None:
            text.copy_(kept)


def find_micro_batches(trial: Callable[[int], None], n_rows: int) -> int:
    """Find the smallest power of two of micro-batches with which a batch fits in memory.

    Args:
        trial: Runs one of the given number of micro-batches.
        n_rows: Histories of the batch.

    Returns:
        The number of micro-batches.

    Raises:
        MemoryLimitError: If not even a single row fits.
    """
    size = max(n_rows, 1)

    def half() -> int:
        nonlocal size
        size //= 2
        return size

    @find_executable_batch_size(starting_batch_size=size, reduce_batch_size_fn=half)  # type: ignore[untyped-decorator]
    def attempt(batch_size: int) -> int:
        n_micro_batches = -(-max(n_rows, 1) // batch_size)
        trial(n_micro_batches)
        return n_micro_batches

    try:
        return int(attempt())
    except RuntimeError as error:
        if "No executable batch size" not in str(error):
            raise
        raise MemoryLimitError("not even one history of a batch", BACKBONE) from error


@contextmanager
def explain_out_of_memory(settings: str) -> Iterator[None]:
    """Convert out-of-memory errors into errors that name the settings that use less memory.

    Args:
        settings: Settings to name.

    Raises:
        MemoryLimitError: If the code within runs out of memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not should_reduce_batch_size(error):
            raise
        raise MemoryLimitError(str(error).partition("\n")[0] or "no room for an array", settings) from error
