"""Versions of the packages that a result was made with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

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
