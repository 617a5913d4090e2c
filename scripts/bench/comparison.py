"""Ours beside a peer's: rows of a table, which are also written as JSON together with what they were measured on."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from machine import describe, write_record

from llmrec.utils.text import format_table


@dataclass(frozen=True)
class Row:
    """ours, peer: medians over the rounds, in `unit`; ratio: how many times better ours is, and from `low` to `high` in
    single rounds. Without a peer the last four are None.
    """

    work: str
    ours: float
    unit: str
    peer: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def rates(cls, work: str, ours: Sequence[float], peer: Sequence[float], unit: str) -> Row:
        """Of rounds in pairs, where more is better."""
        ratios = [one / other for one, other in zip(ours, peer, strict=True)]
        return cls._of(work, ours, peer, unit, ratios)

    @classmethod
    def costs(cls, work: str, ours: Sequence[float], peer: Sequence[float], unit: str) -> Row:
        """Of rounds in pairs, where less is better."""
        ratios = [other / one for one, other in zip(ours, peer, strict=True)]
        return cls._of(work, ours, peer, unit, ratios)

    @classmethod
    def _of(cls, work: str, ours: Sequence[float], peer: Sequence[float], unit: str, ratios: Sequence[float]) -> Row:
        middle = statistics.median
        return cls(work, middle(ours), unit, middle(peer), middle(ratios), min(ratios), max(ratios))

    def cells(self) -> list[str]:
        """For people."""
        if self.peer is None or self.ratio is None:
            return [self.work, f"{self.ours:,.4g}", "", "", "", self.unit]
        spread = f"{self.low:.2f} to {self.high:.2f}"
        return [self.work, f"{self.ours:,.4g}", f"{self.peer:,.4g}", f"{self.ratio:.2f}", spread, self.unit]


def report(rows: Sequence[Row], json: Path | None) -> None:
    """Print the table; write it to `json` as well."""
    machine = describe()
    print(f"{machine['cpu']}, {machine['threads']} thread(s), torch {machine['torch']}\n")
    print(
        "\n".join(
            format_table([["work", "ours", "peer", "ratio", "in rounds", "unit"], *(row.cells() for row in rows)])
        )
    )
    write_record(json, [asdict(row) for row in rows], machine)
