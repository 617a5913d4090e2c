"""The command env. Heavy imports wait inside the functions."""

from __future__ import annotations

from typing import Any

import typer

from llmrec.cli.options import JsonOption

app = typer.Typer()


@app.command()
def env(*, json_output: JsonOption = False) -> None:
    """Show versions, devices, the cache and installed extras.

    Also says whether products of matrices have the same bits in every run.
    """
    from llmrec.cli.render import render_json, render_lines

    facts = collect_environment_facts()
    if json_output:
        render_json(facts)
        return
    width = max(map(len, facts))
    render_lines(f"{name:<{width}}  {_format_fact(value)}" for name, value in facts.items())


def collect_environment_facts() -> dict[str, Any]:
    """Collect what a report of a problem should say about the machine and the installation.

    Returns:
        Facts by name.
    """
    import os
    import platform

    import torch

    from llmrec.utils.paths import get_cache_dir
    from llmrec.utils.reproducibility import are_products_reproducible
    from llmrec.utils.versions import get_package_versions, list_missing_packages

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    missing = list_missing_packages()
    return {
        "versions": get_package_versions(),
        "system": platform.platform(),
        "devices": gpus or [f"{platform.machine()} CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads"],
        "cache": str(get_cache_dir()),
        "extras installed": [name for name, packages in missing.items() if not packages],
        "extras missing": {name: packages for name, packages in missing.items() if packages},
        "bit-reproducible products": are_products_reproducible(),
    }


def _format_fact(value: Any) -> str:
    """Format a fact as one line."""
    if isinstance(value, dict):
        parts = [f"{name} {_format_fact(part)}" if part else name for name, part in value.items()]
        return ", ".join(parts) or "none"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
