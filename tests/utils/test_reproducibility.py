"""Products have the same bits wherever their numbers lie, unless the user has chosen another mode of MKL."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from llmrec.utils.reproducibility import STRICT, VARIABLE

REPORT = f"""
{{before}}
import llmrec, os
from llmrec.utils.reproducibility import are_products_reproducible
print(os.environ.get("{VARIABLE}"), are_products_reproducible())
"""


def report(before: str = "", **environment: str) -> list[str]:
    """Return the variable and the verdict of a process of its own."""
    inherited = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(before=before)],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize("before", ["", "import torch, transformers"])
@pytest.mark.parametrize("instructions", [{}, {"MKL_ENABLE_INSTRUCTIONS": "AVX2"}, {"ATEN_CPU_CAPABILITY": "default"}])
def test_importing_is_enough(before: str, instructions: dict[str, str]) -> None:
    assert report(before, **instructions) == [STRICT, "True"]


def test_the_users_choice_is_kept() -> None:
    assert report(**{VARIABLE: "COMPATIBLE"})[0] == "COMPATIBLE"
    assert report(**{VARIABLE: ""})[0] in ("True", "False")  # an empty value leaves MKL its own choice
