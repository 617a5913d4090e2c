"""Facts of the run that made a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RunMetadata:
    """Facts of the run that made a report; empty fields do not apply to the run."""

    command: str = ""
    """Command line."""
    commit: str = ""
    """Commit of the source code."""
    machine: str = ""
    """Description of the machine."""
    processes: int = 1
    """Number of processes."""
    threads: int = 1
    """Number of threads of each process."""
    precision: str = "no"
    """Mixed precision; "no" for fp32."""
    reproducible_products: bool = False
    """True if matrix products have the same bits wherever their numbers are in memory."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of packages, by name."""
    minutes: float = 0.0
    """Duration of the run in minutes."""
    phases: Sequence[Mapping[str, Any]] = ()
    """Records of `Timer.to_record`."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Facts of the log."""
    seeds: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Seeds, by split."""
    adaptation: Mapping[str, str] = field(default_factory=dict)
    """Reason why the adapted backbone was kept or not, by split."""
    drift: Mapping[str, Any] | None = None
    """Record of the drift profile."""
    explanations: Sequence[Mapping[str, Any]] = ()
    """Records of the deletion tests of explanations."""
    privacy: Mapping[str, Any] | None = None
    """Record of the privacy guarantee."""
    membership: Sequence[Mapping[str, Any]] = ()
    """Records of membership attacks."""
    transfer: str = ""
    """Result of cross-domain transfer in a sentence."""
    sources: Sequence[Mapping[str, Any]] = ()
    """Facts of the source logs."""
    share: float | None = None
    """Share of the target's users that trained."""
    distillation: str = ""
    """Result of distillation in a sentence."""
    bundle: str = ""
    """Name of the evaluated bundle."""
    note: str = ""
    """Warning about the test of the evaluated bundle."""
    first_stage: str = ""
    """Model that chose the candidates for re-ranking."""
    targets_among_candidates: float | None = None
    """Share of re-ranking queries whose target is among the candidates."""
    cpu_seconds_per_query: float | None = None
    """CPU seconds of re-ranking per query."""
