"""Results of commands on standard output: tables on a terminal, plain text elsewhere, and JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmrec.inference.queries import Event
    from llmrec.inference.ranked_items import Recommendation
    from llmrec.recommender import Recommender
    from llmrec.utils.result_list import ResultList


def render_lines(lines: Iterable[str]) -> None:
    """Print lines of text.

    Args:
        lines: Lines without line ends.
    """
    print("\n".join(lines))


def render_json(result: Any) -> None:
    """Print a result as JSON.

    Args:
        result: Result; dataclasses become objects, also inside lists and dictionaries.
    """
    print(json.dumps(result, ensure_ascii=False, default=_to_plain))


def render_note(text: str) -> None:
    """Print a note on the error stream, where it does not mix with results.

    Args:
        text: Text of the note.
    """
    print(f"note: {text}", file=sys.stderr)


def render_table(heads: Sequence[str], rows: Sequence[Sequence[str]], lines: Iterable[str], *, n_numbers: int) -> None:
    """Print a table on a terminal, and plain lines elsewhere.

    Args:
        heads: Name of each column.
        rows: Cells of each row.
        lines: Same content as plain text.
        n_numbers: Columns of numbers, which come first.
    """
    if not sys.stdout.isatty():
        render_lines(lines)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in heads[:n_numbers]:
        table.add_column(head, justify="right", no_wrap=True)
    for head in heads[n_numbers:]:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # item texts may hold what rich takes for markup
    Console().print(table)


def render_history(recommender: Recommender, events: list[Event], *, query: str | None = None) -> None:
    """Print how many events a history has and the newest of them.

    Args:
        recommender: The recommender, which knows the items' labels.
        events: The history, oldest first.
        query: Text query that goes with it.
    """
    from llmrec.inference.explanations.explanation import SHOWN_EVENTS
    from llmrec.inference.queries import get_event_item

    labels = [recommender.catalog.label(get_event_item(event)) for event in events[-SHOWN_EVENTS:]]
    print(f"after {len(events):,} events, the last: {'; '.join(labels) or 'none'}")
    if query is not None:
        print(f"query: {query}")


def render_ranking(found: ResultList[Recommendation]) -> None:
    """Print ranked items with their scores.

    Args:
        found: Items, best first.
    """
    if not found:
        print("no items are left to rank")
        return
    heads, *rows = found.to_table()
    lines = ["  ".join([f"{rank:>3}", f"{score:>8}", *texts]).rstrip() for rank, score, *texts in rows]
    render_table(heads, rows, [", ".join(heads), *lines], n_numbers=2)


def _to_plain(value: Any) -> Any:
    """Convert what JSON does not know."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)
