"""Run the job of a command, in this process or in several."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial
from importlib import import_module
from typing import Any

import typer

from llmrec.cli.options import SettingsCommand, split_settings
from llmrec.cli.render import render_json

JOBS = {  # command: job and class of its configuration
    "train": ("finetune", "FinetuneConfig"),
    "pretrain": ("pretrain", "PretrainConfig"),
    "distill": ("distill", "DistillConfig"),
    "transfer": ("transfer", "TransferConfig"),
    "rerank": ("rerank", "RerankConfig"),
    "evaluate": ("evaluate", "EvaluateConfig"),
    "encode-catalog": ("encode_catalog", "EncodeConfig"),
    "recommend-all": ("recommend", "RecommendConfig"),
}
LAUNCHER_OPTIONS = ("--processes", "--accelerate-config")


class JobCommand(SettingsCommand):
    """Command of a job, which takes every option that is not its own as a setting."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command's own arguments, and keep settings aside.

        Args:
            ctx: Context of the command; its `obj` gets all arguments but those of the launcher.
            args: Arguments after the command's name.

        Returns:
            Arguments that are left, none.
        """
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        kept, settings = split_settings(args, own)
        rest = super().parse_args(ctx, kept)
        ctx.args = settings
        ctx.obj = drop_options(args, LAUNCHER_OPTIONS)
        return rest


def drop_options(arguments: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return arguments without some options and their values.

    Args:
        arguments: Arguments of a command.
        names: Options that take a value.

    Returns:
        The other arguments.

    Example:
        >>> drop_options(["--a", "1", "--b=2", "--c", "3"], ["--a", "--b"])
        ['--c', '3']
    """
    kept, rest = list[str](), list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument in names:
            del rest[:1]
        elif argument.partition("=")[0] not in names:
            kept.append(argument)
    return kept


def load_config_class(command: str) -> type[Any]:
    """Return the class of a command's configuration.

    Args:
        command: Name of the command.

    Returns:
        A dataclass.
    """
    job, name = JOBS[command]
    kind: type[Any] = getattr(import_module(f"llmrec.config.jobs.{job}"), name)
    return kind


def run_command(
    context: typer.Context,
    config: Sequence[str] | None,
    *,
    processes: int | None = None,
    accelerate_config: str | None = None,
    given: Sequence[str] = (),
    json_output: bool = False,
) -> None:
    """Run the job of a command: here, or by accelerate's launcher in several processes.

    Args:
        context: Context of the command.
        config: Presets or files of settings; later ones win.
        processes: Number of processes; None for this one.
        accelerate_config: Configuration of the launcher, by name or path; None for processes on this machine.
        given: Settings from the command's own options.
        json_output: Print the output folder and the report as JSON, and tables on the error stream.
    """
    from llmrec.config.loader import parse_config
    from llmrec.config.presets import get_preset
    from llmrec.engines.launcher import check_process_count, launch

    command = str(context.info_name)
    check_process_count()
    verbose = ["--verbose"] if context.find_root().params["verbose"] else []
    files = [word for name in config or () for word in ("--config", name)]
    arguments = [*files, *given, *context.args, *verbose]
    kind = load_config_class(command)
    if processes is None and accelerate_config is None:
        from llmrec.jobs.runner import run_job

        run = partial(_run, JOBS[command][0], json_output=json_output)
        run_job(run, kind, arguments=arguments, program=f"llmrec {command}")
        return
    parse_config(kind, arguments)  # mistakes are named before processes start
    file = (
        None if accelerate_config is None else get_preset(accelerate_config, "accelerate", flag="--accelerate-config")
    )
    launch([*verbose, command, *context.obj], processes, config_file=file)


def _run(job: str, config: Any, *, json_output: bool) -> None:
    """Import a job, which is heavy, and run it."""
    run = getattr(import_module(f"llmrec.jobs.{job}"), f"run_{job}")
    if not json_output:
        run(config)
        return
    with redirect_stdout(sys.stderr):
        result = run(config)
    if os.environ.get("RANK", "0") == "0":
        output = getattr(config, "output", None)
        report = None if result is None else result.report.to_record()
        render_json({"output": None if output is None else str(output), "report": report})
