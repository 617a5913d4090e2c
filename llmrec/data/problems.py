"""Problems of a column as lines of text: file, column, number of rows, examples and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from llmrec.utils.arrays import Mask

EXAMPLES = 3


class NamedTable(NamedTuple):
    """Table with a name for messages."""

    name: str
    """Name of the file or data set."""
    table: pa.Table
    """The table."""
    n_skipped: int = 0
    """Number of rows that could not be read and were skipped."""


class ColumnProblem(NamedTuple):
    """One kind of problem and the rows that have it."""

    what: str
    """Description of the problem, a noun phrase."""
    rows: Mask
    """True for rows that have the problem, (E,)."""
    remedy: str
    """Instruction that fixes it."""


def format_problems(
    file: str, column: str, values: pa.ChunkedArray | pa.Array, faults: Sequence[ColumnProblem], *, quoted: bool = True
) -> list[str]:
    """Format a line for each problem that has rows.

    Args:
        file: Name of the file in messages.
        column: Name of the column.
        values: Values of the column, (E,), for the examples.
        faults: Problems of the column.
        quoted: Whether the examples show values, else only their rows.

    Returns:
        One line for each problem.
    """
    return [_format_problem(file, column, values, fault, quoted=quoted) for fault in faults if fault.rows.any()]


def _format_problem(
    file: str, column: str, values: pa.ChunkedArray | pa.Array, fault: ColumnProblem, *, quoted: bool
) -> str:
    rows = np.flatnonzero(fault.rows)
    examples = [(row + 1, f": {_quote_value(values[int(row)])}" if quoted else "") for row in rows[:EXAMPLES]]
    shown = ", ".join(f"row {number}{value}" for number, value in examples)
    more = ", ..." if len(rows) > EXAMPLES else ""
    noun = "row" if len(rows) == 1 else "rows"
    return f"{file}, column '{column}': {fault.what} in {len(rows)} {noun} ({shown}{more}). {fault.remedy}."


def _quote_value(scalar: pa.Scalar) -> str:
    try:
        value = scalar.as_py()
        text = "null" if value is None else repr(value)
    except (ValueError, OverflowError):  # a time outside the range of Python's datetime
        text = f"a {scalar.type} that cannot be shown"
    return text if len(text) <= 40 else text[:37] + "..."


def find_missing_columns(file: str, wanted: Sequence[str], available: Sequence[str]) -> list[str]:
    """Report the columns that a file lacks.

    Args:
        file: Name of the file in messages.
        wanted: Columns that are needed.
        available: Columns of the file.

    Returns:
        One line for each missing column.
    """
    listed = ", ".join(available) or "none"
    return [
        f"{file}, column '{name}': missing among {listed}. Name the right column in the data configuration."
        for name in dict.fromkeys(wanted)
        if name not in available
    ]
