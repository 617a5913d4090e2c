"""What is wrong with a column, in a line a person can act on: file, column, count, examples, remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from llmrec.utils.arrays import Mask

EXAMPLES = 3


class NamedTable(NamedTuple):
    """A table, and the name under which people know it."""

    name: str
    table: pa.Table


class ColumnProblem(NamedTuple):
    """One kind of trouble. what: a noun phrase; rows: (E,) True where it is; remedy: an imperative."""

    what: str
    rows: Mask
    remedy: str


def format_problems(
    file: str, column: str, values: pa.ChunkedArray | pa.Array, faults: Sequence[ColumnProblem], quoted: bool = True
) -> list[str]:
    """A line for each fault that has rows. values: (E,) what the file holds, for the examples. quoted: whether they are
    given, or their rows alone.
    """
    return [_format_problem(file, column, values, fault, quoted) for fault in faults if fault.rows.any()]


def _format_problem(
    file: str, column: str, values: pa.ChunkedArray | pa.Array, fault: ColumnProblem, quoted: bool
) -> str:
    rows = np.flatnonzero(fault.rows)
    examples = [(row + 1, f": {_quote_value(values[int(row)])}" if quoted else "") for row in rows[:EXAMPLES]]
    shown = ", ".join(f"row {number}{value}" for number, value in examples)
    more = ", ..." if len(rows) > EXAMPLES else ""
    noun = "row" if len(rows) == 1 else "rows"
    return f"{file}, column '{column}': {fault.what} in {len(rows)} {noun} ({shown}{more}); {fault.remedy}"


def _quote_value(scalar: pa.Scalar) -> str:
    try:
        value = scalar.as_py()
        text = "null" if value is None else repr(value)
    except (ValueError, OverflowError):  # a time that Python has no object for
        text = f"a {scalar.type} that cannot be shown"
    return text if len(text) <= 40 else text[:37] + "..."


def find_missing_columns(file: str, wanted: Sequence[str], available: Sequence[str]) -> list[str]:
    """A line for each wanted column that a file lacks."""
    listed = ", ".join(available) or "none"
    return [
        f"{file}, column '{name}': missing; the columns are {listed}; name the right one in the data configuration"
        for name in dict.fromkeys(wanted)
        if name not in available
    ]
