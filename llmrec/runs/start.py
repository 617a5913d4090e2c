"""Start a run: its processes, trackers, log, record and seeds."""

from __future__ import annotations

import dataclasses
import logging
import os
from typing import Any

from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import patch_environment, set_seed

from llmrec.config.jobs.evaluate import EvaluateConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.jobs.pretrain import PretrainConfig
from llmrec.config.jobs.rerank import RerankConfig
from llmrec.config.validation import validate_bounds
from llmrec.engines.accelerator import PATIENT, open_accelerator
from llmrec.errors import ConfigError
from llmrec.runs.provenance import collect_provenance
from llmrec.runs.run_record import open_record
from llmrec.training.distributed.collectives import is_fsdp_requested
from llmrec.utils.timing import timer

logger = logging.getLogger(__name__)


def start_run(config: FinetuneConfig | PretrainConfig | RerankConfig) -> Accelerator:
    """Start a run that trains or ranks: seed it, and open its trackers, log and record.

    Args:
        config: Settings of the run.

    Returns:
        The accelerator of this process.

    Raises:
        ConfigError: If a number is out of bounds, a launcher requests something that this run does not support, its
            processes do not meet, or another run writes to the folder.
    """
    validate_bounds(config)  # one that was built in Python has been through no parser
    timer.restart()
    sharded = _get_sharding_plugin(config)
    with patch_environment(ACCELERATE_USE_FSDP="false"):  # llmrec shards itself, see training/sharded_trainer.py
        accelerator = open_accelerator(
            mixed_precision=config.mixed_precision,
            log_with=list(config.trackers) or None,
            project_dir=config.output,
            # Each process updates its own buffer of text vectors; sending it with each step would be slow.
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False), PATIENT],
        )
    open_record(config, accelerator, collect_provenance(accelerator))
    if sharded is not None:
        logger.info(sharded if accelerator.num_processes > 1 else "FSDP: one process, so nothing is sharded")
    set_seed(config.seeds[0] if isinstance(config, FinetuneConfig) else config.seed)
    if config.trackers:
        accelerator.init_trackers("llmrec", config=_flatten(dataclasses.asdict(config)))
    return accelerator


def _get_sharding_plugin(config: FinetuneConfig | PretrainConfig | RerankConfig) -> str | None:
    """Return the message about FSDP if it is requested, else None; refuse other engines."""
    for other in ("DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{other}", "false").lower() == "true":
            raise ConfigError(
                f"distributed_type {other}: between steps the model is read, ranked and saved outside of the engine "
                "that this would hold it in; launch with recipes/accelerate/fsdp.yaml, which shards as much, or ddp"
            )
    if not is_fsdp_requested():
        return None
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # else transformers loads weights in one process alone
    if isinstance(config, PretrainConfig):
        raise ConfigError(
            "distributed_type FSDP: pretraining is data parallel; launch with recipes/accelerate/ddp.yaml"
        )
    if isinstance(config, RerankConfig) or config.backbone.strategy in ("none", "frozen"):
        return "FSDP: no backbone trains here, and what does is small: it is whole in each process, data parallel (DDP)"
    return "FSDP: the backbone is sharded while it trains; the fit before it, on stored vectors, is data parallel (DDP)"


def join_run(config: EvaluateConfig | None = None) -> Accelerator:
    """Start a process that shares work without training.

    Args:
        config: Settings of a run with a folder, whose log and record are opened; None for a run without one.

    Returns:
        The accelerator of this process.
    """
    timer.restart()
    accelerator = open_accelerator(kwargs_handlers=[PATIENT])
    if config is not None:
        open_record(config, accelerator, collect_provenance(accelerator))
    return accelerator


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as `a.b: value`, which trackers can show."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, (int, float, str, bool)) else str(value)
    return flat
