"""Find presets, the YAML files of the recipes, by name in the installed package or in a checkout."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from llmrec.errors import ConfigError


def get_recipes_folder() -> Path:
    """Return the folder of the recipes: in the installed package, or next to the package in a checkout.

    Returns:
        The folder.
    """
    package = Path(__file__).parents[1]
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def list_presets(job: str) -> dict[str, Path]:
    """List the presets of a job.

    Args:
        job: Name of the job, such as `finetune`; `accelerate` for configurations of its launcher.

    Returns:
        Files by name: those in the job's folder, and the one with its name.
    """
    folder = get_recipes_folder()
    return {path.stem: path for path in sorted([*folder.glob(f"{job}/*.yaml"), *folder.glob(f"{job}.yaml")])}


def get_preset(name: str, job: str, *, flag: str = "--config") -> Path:
    """Return the file that a name means: a preset of the job unless it is a file.

    Args:
        name: Name of a preset, or path of a YAML file.
        job: Name of the job.
        flag: Option that gave the name, for the message.

    Returns:
        The file; a path that does not exist is returned as it is.

    Raises:
        ConfigError: If a name without folder and suffix is neither a file nor a preset.
    """
    path = Path(name)
    if path.name != name or path.suffix or path.is_file():
        return path
    presets = list_presets(job)
    if name not in presets:
        close = get_close_matches(name, presets, n=1)
        remedy = f"Did you mean {close[0]}?" if close else f"Presets: {', '.join(presets) or 'none'}."
        raise ConfigError(f"{flag} {name}: no such file or preset of {job}. {remedy}")
    return presets[name]


def resolve_presets(arguments: list[str], job: str) -> list[str]:
    """Replace presets by their files in `--config NAME` and `--config=NAME`.

    Args:
        arguments: Arguments of a job.
        job: Name of the job.

    Returns:
        The arguments, with paths.

    Raises:
        ConfigError: If there is neither such a file nor such a preset.
    """
    resolved = list[str]()
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if before == "--config":
            resolved.append(str(get_preset(argument, job)))
        elif argument.startswith("--config="):
            resolved.append(f"--config={get_preset(argument.removeprefix('--config='), job)}")
        else:
            resolved.append(argument)
    return resolved
