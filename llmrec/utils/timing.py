"""Seconds and memory of the sections of a run.

`timer.section("fit", of="SASRec")` measures a block or, as a decorator, each call of a function. The result goes to the
log, from which the run's folder keeps run.json, and to `timer.to_record()`, which reports show.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

ALL = "all"
logger = logging.getLogger(__name__)
_open_sections: ContextVar[tuple[str, ...]] = ContextVar("open_sections", default=())


@dataclass(eq=False)
class Section:
    """Time that one section took.

    phase: its name behind those of the sections around it, as in `fit/validate`. of: its subject, such as a model.
    wall, cpu: seconds, 0 until it ends.
    """

    phase: str
    of: str | None = None
    wall: float = 0.0
    cpu: float = 0.0

    def __str__(self) -> str:
        return self.phase if self.of is None else f"{self.phase} of {self.of}"


class Timer:
    """Measure sections of this process; sections of one name and subject add up."""

    def __init__(self) -> None:
        self.open: list[Section] = []  # that have not ended, in the order in which they began
        self.restart()

    def restart(self) -> None:
        """Forget all sections and count from now."""
        self.began = read_clock()
        self._spent: dict[tuple[str, str | None], tuple[float, float, float]] = {}

    @property
    def minutes(self) -> float:
        """Minutes since the start, to one decimal."""
        return round(elapsed_since(self.began)[0] / 60, 1)

    @contextmanager
    def section(self, name: str, of: str | None = None) -> Iterator[Section]:
        """Measure what runs inside, and log its start and its end.

        Args:
            name: Kind of work, such as "fit"; inside another section it is measured as "outer/fit".
            of: Subject of the work, such as the name of a model.
        """
        outer = _open_sections.set((*_open_sections.get(), name))
        section, began = Section("/".join(_open_sections.get()), of), read_clock()
        facts: dict[str, Any] = {"phase": section.phase} | ({} if of is None else {"of": of})
        logger.debug("%s: started", section, extra={"facts": dict(facts)})
        outcome = "finished"
        self.open.append(section)
        try:
            yield section
        except BaseException as error:
            outcome = facts["failed"] = type(error).__name__
            raise
        finally:
            section.wall, section.cpu = elapsed_since(began)
            facts["seconds"] = round(section.wall, 3)
            self._add(section)
            logger.debug("%s: %s, %.3f s", section, outcome, section.wall, extra={"facts": facts})
            _open_sections.reset(outer)
            self.open.remove(section)

    def _add(self, section: Section) -> None:
        wall, cpu, _ = self._spent.get((section.phase, section.of), (0.0, 0.0, 0.0))
        self._spent[section.phase, section.of] = wall + section.wall, cpu + section.cpu, peak_memory_mib()

    def to_record(self) -> list[dict[str, Any]]:
        """Return a JSON object for each section, in the order in which they first ended, and one for all time.

        Returns:
            `phase`, `of`, seconds `wall` and `cpu`, and `peak_mib`, the most memory of the process until then.
        """
        everything = {**self._spent, (ALL, None): (*elapsed_since(self.began), peak_memory_mib())}
        return [
            {"phase": phase, "of": of, "wall": round(wall, 2), "cpu": round(cpu, 2), "peak_mib": round(peak)}
            for (phase, of), (wall, cpu, peak) in everything.items()
        ]


def read_clock() -> tuple[float, float]:
    """Return seconds of the wall clock and of this process's CPU, each from a start of its own."""
    return time.monotonic(), time.process_time()


def elapsed_since(began: tuple[float, float]) -> tuple[float, float]:
    """Return wall and CPU seconds since a reading of `read_clock`."""
    wall, cpu = read_clock()
    return wall - began[0], cpu - began[1]


def peak_memory_mib() -> float:
    """Return the most memory this process has taken, of its GPU if it uses one; 0 where the system does not say."""
    torch = sys.modules.get("torch")  # a process that has not imported it has nothing on a GPU
    if torch is not None and torch.cuda.is_available():
        reserved: int = torch.cuda.max_memory_reserved()
        return reserved / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


timer = Timer()  # of this process; a run starts it again
