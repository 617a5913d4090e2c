"""What a run leaves of itself in its folder, beside its results.

    config.yaml    every setting, as it was resolved: `--config` of a run that is to be the same
    run.json       command, commit, machine, versions, environment, seeds, data, seconds of each phase, and how it ended
    log.jsonl      everything that was logged, a JSON object a line; of further processes log.1.jsonl, ...

The first two are of the process that was started last, and `run.json` is written anew whenever there is something to
add: a run that is killed leaves it, too. Those of an earlier run stay until a phase after `load` is over, so that a run
that is refused, for what it was given, takes nothing away. Logs go on where they were.
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

from llmrec.utils import run_logging
from llmrec.utils.atomic_files import write_text_atomic

RECORD, LOG, CONFIG = "run.json", "log.jsonl", "config.yaml"
MATTERS = tuple(
    "ACCELERATE_ CUDA_ CUBLAS_ FSDP_ GLOO_ HF_ LLMREC_CACHE LOCAL_RANK MKL_ NCCL_ OMP_ PYTHONHASHSEED PYTORCH_ RANK "
    "TOKENIZERS_PARALLELISM TORCH_ TRANSFORMERS_ WORLD_SIZE".split()
)  # names of variables begin so; others of LLMREC_ may hold the key of pseudonyms
SECRETS = ("TOKEN", "KEY", "SECRET", "PASSWORD", "SALT", "PEPPER", "CREDENTIAL")


class RunRecord(logging.Handler):
    """Listens to what is logged and keeps the run's facts and phases of it in a file. settings: go beside it."""

    def __init__(self, folder: Path, settings: str, facts: dict[str, Any]) -> None:
        super().__init__()
        self.path, self.content = (
            folder / RECORD,
            facts | {"started": _format_now(), "ended": None, "status": "running"},
        )
        self.content["seconds"] = {}
        self.settings: str | None = settings  # until they are written
        self.told, self.waits = False, self.path.exists()
        self._write()

    def emit(self, record: logging.LogRecord) -> None:
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
        """Where that cannot be, a run goes on without."""
        if self.waits:
            return
        if self.settings is not None:
            write_text_atomic(self.path.with_name(CONFIG), self.settings)
            self.settings = None
        try:
            write_text_atomic(self.path, json.dumps(self.content, indent=1, default=str) + "\n")
        except OSError as error:
            if not self.told:
                sys.stderr.write(f"{self.path}: {error}\n")
            self.told = True


def open_record(config: Any, accelerator: Accelerator, facts: dict[str, Any]) -> None:
    """From now on everything is logged to the folder `config.output`, of this run alone. facts: of
    `collect_provenance`.
    """
    close_record()
    folder, rank = config.output, accelerator.process_index
    folder.mkdir(parents=True, exist_ok=True)
    run_logging.add_json_file(folder / (LOG if rank == 0 else f"log.{rank}.jsonl"), rank)
    if rank == 0:
        seeds = {name: value for name, value in vars(config).items() if "seed" in name}
        run_logging.add_handler(
            RunRecord(folder, to_yaml(config), facts | {"environment": collect_environment(), "seeds": seeds})
        )


def close_record() -> None:
    run_logging.remove_handlers(RunRecord)
    run_logging.remove_handlers(run_logging.JsonFileHandler)


def collect_environment() -> dict[str, str]:
    """Variables that change what a run does or how fast, without those that may be secret."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(MATTERS) and not any(word in name.replace("TOKENIZERS", "") for word in SECRETS)
    }


def to_yaml(config: Any) -> str:
    """The settings of a dataclass, as its recipe reads them."""
    import yaml

    plain = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    return text


def _format_now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
