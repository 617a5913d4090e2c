"""Units of time."""

from __future__ import annotations

SECONDS_PER_DAY = 86_400
