"""Progress of encoding texts, shown as a bar or given to a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm

Report = str | Callable[[int], object]  # name of a progress bar, or function of the number of texts encoded


@contextmanager
def show_progress(report: Report | None, total: int) -> Iterator[Callable[[int], object]]:
    """Show the progress of encoding while the context is open.

    Args:
        report: Name of a progress bar, or function that receives the number of texts encoded; None for neither.
        total: Number of texts.

    Yields:
        Function to call with the number of texts of each part.
    """
    if callable(report):
        yield report
        return
    with tqdm(total=total, desc=report, unit="item", disable=True if report is None else None, leave=False) as bar:
        yield bar.update
