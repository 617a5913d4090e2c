"""Versions of the packages that a result was made with."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version

PACKAGES = ("torch", "transformers", "peft", "accelerate", "numpy")


def get_package_versions() -> dict[str, str]:
    """Return the versions of llmrec, Python and the packages that affect numbers, by name."""
    from llmrec import __version__

    return {"llmrec": __version__, "python": platform.python_version()} | {
        name: _get_version(name) for name in PACKAGES
    }


def _get_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def list_missing_packages() -> dict[str, list[str]]:
    """Return the packages of each extra that are not installed, by the name of the extra.

    Returns:
        An empty list for an extra that can be used; no extras if llmrec itself is not installed.
    """
    try:
        declared = requires("llmrec") or []
    except PackageNotFoundError:
        return {}
    missing: dict[str, list[str]] = {}
    for line in declared:
        found = re.fullmatch(r"([\w.-]+).*extra == ['\"]([\w-]+)['\"]", line)
        if found is not None:
            absent = missing.setdefault(found[2], [])
            absent += [found[1]] if _get_version(found[1]) == "not installed" else []
    return missing
