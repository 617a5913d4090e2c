"""Record of a run in its folder, next to its results.

    config.yaml    all settings as resolved; pass it as `--config` to repeat the run
    run.json       command, commit, machine, versions, environment, seeds, data, seconds of each phase, final status
    log.jsonl      all log records, one JSON object per line; further processes write log.1.jsonl, ...

The first two describe the last process started, and `run.json` is rewritten whenever there is something to add, so that
a killed run leaves it, too. The files of an earlier run stay until a phase after `load` is over, so that a run that is
refused for its input removes nothing. Logs are appended to.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from llmrec.runs.run_lock import lock_folder
from llmrec.utils import run_logging
from llmrec.utils.atomic_files import write_text_atomic
from llmrec.utils.folder_lock import unlock

RECORD, LOG, CONFIG = "run.json", "log.jsonl", "config.yaml"
MATTERS = tuple(
    "ACCELERATE_ CUDA_ CUBLAS_ FSDP_ GLOO_ HF_ LLMREC_CACHE LOCAL_RANK MKL_ NCCL_ OMP_ PYTHONHASHSEED PYTORCH_ RANK "
    "TOKENIZERS_PARALLELISM TORCH_ TRANSFORMERS_ WORLD_SIZE".split()
)  # prefixes of variable names; other LLMREC_ variables may hold the key of pseudonyms
SECRETS = ("TOKEN", "KEY", "SECRET", "PASSWORD", "SALT", "PEPPER", "CREDENTIAL")


class RunRecord(logging.Handler):
    """Logging handler that keeps the facts and phases of a run in run.json.

    Args:
        folder: Run folder.
        settings: Resolved settings in YAML, written next to the record.
        facts: Facts of `collect_provenance` and others.
    """

    def __init__(self, folder: Path, settings: str, facts: dict[str, Any]) -> None:
        super().__init__()
        self.path, self.content = (
            folder / RECORD,
            facts | {"started": _format_now(), "ended": None, "status": "running"},
        )
        self.content["seconds"] = {}
        self.settings: str | None = settings  # None once they are written
        self.reported, self.waits = False, self.path.exists()
        self._write()

    def emit(self, record: logging.LogRecord) -> None:
        """Add the facts of a log record, and write the file if there are any.

        Args:
            record: Log record, with `facts` of a phase or `run` entries for the record.
        """
        facts, added = getattr(record, "facts", {}), getattr(record, "run", {})
        if "phase" in facts and "seconds" in facts:
            spent = self.content["seconds"]
            spent[facts["phase"]] = round(spent.get(facts["phase"], 0.0) + facts["seconds"], 3)
            self.waits = self.waits and ("failed" in facts or facts["phase"] == "load")
        elif not added:
            return
        for name, value in added.items():
            old = self.content.get(name)
            self.content[name] = old | value if isinstance(old, dict) and isinstance(value, dict) else value
        if self.content["status"] != "running":
            self.content["ended"] = _format_now()
            self.waits = self.waits and self.content["status"] != "finished"
        self._write()

    def _write(self) -> None:
        """Write both files; if run.json cannot be written, report it once and continue."""
        if self.waits:
            return
        if self.settings is not None:
            write_text_atomic(self.path.with_name(CONFIG), self.settings)
            self.settings = None
        try:
            write_text_atomic(self.path, json.dumps(self.content, indent=1, default=str) + "\n")
        except OSError as error:
            if not self.reported:
                sys.stderr.write(f"{self.path}: {error}\n")
            self.reported = True


def open_record(config: Any, accelerator: Accelerator, facts: dict[str, Any]) -> None:
    """Log everything to the folder `config.output` from now on, and start its record.

    Args:
        config: Settings of the run.
        accelerator: Processes of the run.
        facts: Facts of `collect_provenance`.

    Raises:
        ConfigError: If another run holds the folder.
    """
    close_record()
    folder, rank = config.output, accelerator.process_index
    lock_folder(folder, accelerator)
    run_logging.add_json_file(folder / (LOG if rank == 0 else f"log.{rank}.jsonl"), rank)
    if rank == 0:
        seeds = {name: value for name, value in vars(config).items() if "seed" in name}
        run_logging.add_handler(
            RunRecord(folder, to_yaml(config), facts | {"environment": collect_environment(), "seeds": seeds})
        )


def close_record() -> None:
    """Stop logging to the folder of the run."""
    run_logging.remove_handlers(RunRecord)
    run_logging.remove_handlers(run_logging.JsonFileHandler)
    unlock()


def collect_environment() -> dict[str, str]:
    """Collect the environment variables that change a run's results or speed, without possible secrets.

    Returns:
        Values by name.
    """
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(MATTERS) and not any(word in name.replace("TOKENIZERS", "") for word in SECRETS)
    }


def to_yaml(config: Any) -> str:
    """Format the settings of a dataclass as YAML that its recipe can read.

    Args:
        config: Settings of a run.

    Returns:
        The YAML.
    """
    import yaml

    plain = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    return text


def _format_now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
