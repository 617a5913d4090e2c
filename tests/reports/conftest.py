"""The log and the splits that evaluation is tested on."""

from __future__ import annotations

from tests.evaluation.conftest import log, split

__all__ = ["log", "split"]
