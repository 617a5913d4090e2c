"""Start a command of llmrec in several processes, by accelerate's launcher in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llmrec.errors import ConfigError

EXPECTED_PROCESSES = "LLMREC_PROCESSES"  # the number of processes, which each process compares


def launch(arguments: Sequence[str], n_processes: int | None = None, *, config_file: Path | None = None) -> None:
    """Start `python -m llmrec ARGUMENTS` in several processes, as `accelerate launch` does, and wait for them.

    Args:
        arguments: Arguments of the `llmrec` command.
        n_processes: Number of processes; None for what the file says.
        config_file: YAML that `accelerate config` wrote; None for processes on this machine alone.

    Raises:
        SystemExit: With the status of the first process that failed.
    """
    import torch
    from accelerate.commands.launch import _validate_launch_command, launch_command, launch_command_parser
    from accelerate.utils import patch_environment

    given = ["--config_file", str(config_file)] if config_file else ["--mixed_precision", "no", "--num_machines", "1"]
    if n_processes is not None:
        given += ["--num_processes", str(n_processes)]
    if config_file is None:
        given += ["--dynamo_backend", "no", *(["--multi_gpu"] if (n_processes or 1) > 1 else [])]
    parser = launch_command_parser()
    command = [*given, "--module", "llmrec", *arguments]
    expected, _, _ = _validate_launch_command(parser.parse_args(command))
    environment = {EXPECTED_PROCESSES: str(expected.num_processes)}
    if not torch.cuda.is_available():
        environment["ACCELERATE_USE_CPU"] = "true"  # `--cpu` would start one process alone
    with patch_environment(**environment):
        _wait(launch_command, parser.parse_args(command))


def check_process_count() -> None:
    """Check that as many processes run as were requested.

    Raises:
        ConfigError: If the launcher started another number of them.
    """
    expected, started = os.environ.get(EXPECTED_PROCESSES), os.environ.get("WORLD_SIZE", "1")
    if expected is not None and expected != started:
        raise ConfigError(
            f"--processes {expected}: the launcher started {started}. Check distributed_type and num_processes of "
            "--accelerate-config"
        )


def _wait(launcher: Callable[[Any], None], arguments: Any) -> None:
    """Run the launcher; the failure of a process, which has printed its message, becomes the exit status."""
    from subprocess import CalledProcessError

    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        launcher(arguments)
    except CalledProcessError as error:
        raise SystemExit(error.returncode) from None
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        raise SystemExit(failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode) from None
