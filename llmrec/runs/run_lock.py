"""Lock of the folder that a run's processes write to."""

from __future__ import annotations

from pathlib import Path

from accelerate import Accelerator

from llmrec.engines.accelerator import all_reduce_sum
from llmrec.errors import ConfigError
from llmrec.utils import folder_lock


def lock_folder(folder: Path, accelerator: Accelerator) -> None:
    """Lock the folder of a run; the first process does it for all.

    Args:
        folder: Folder, which is created.
        accelerator: Processes of the run.

    Raises:
        ConfigError: If another run holds it; the message names its process, host and start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder_lock.lock(folder) if accelerator.process_index == 0 else None
    if all_reduce_sum(int(holder is not None), accelerator):
        named = holder or "another run, which the first process names,"
        raise ConfigError(f"output={folder}: {named} writes to it. Wait until it ends, or give another output.")
