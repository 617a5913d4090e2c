"""Lists of results that show themselves as tables."""

from __future__ import annotations

from typing import Protocol, TypeVar

from llmrec.utils.html import format_html_table
from llmrec.utils.text import format_table


class TableRow(Protocol):
    """A result that is a row of a table."""

    def to_cells(self) -> dict[str, str]:
        """Return the text of each cell by column."""
        ...


Row = TypeVar("Row", bound=TableRow)


class ResultList(list[Row]):
    """Results in order, best first: a list that prints as a table, also in a notebook."""

    def to_table(self) -> list[list[str]]:
        """Return the heads of the columns, and the cells of each result.

        Returns:
            Rows of text, as many cells in each; no row without results.
        """
        cells = [row.to_cells() for row in self]
        heads = list(dict.fromkeys(name for row in cells for name in row))
        return [heads, *([row.get(name, "") for name in heads] for row in cells)] if cells else []

    def __repr__(self) -> str:
        return "\n".join(format_table(self.to_table())) if self else "no results"

    def _repr_html_(self) -> str:
        """Render the results for a notebook."""
        return format_html_table(self.to_table()) if self else "no results"
