"""Plain text: tables, durations and truncation."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap


def format_table(lines: Sequence[Sequence[str]]) -> list[str]:
    """Format rows as aligned columns, the first to the left and the others to the right.

    Args:
        lines: Cells of each row, as many in each.

    Returns:
        One line for each row.

    Example:
        >>> format_table([["model", "n"], ["b", "10"]])
        ['model   n', 'b      10']
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]


def format_duration(days: float) -> str:
    """Format a length of time for people.

    Args:
        days: Length in days.

    Returns:
        Text such as "4.3 days".

    Example:
        >>> [format_duration(days) for days in (0.02, 0.5, 1.0, 4.32, 30.4, 1498.2, 36500.0)]
        ['29 minutes', '12 hours', '1 day', '4.3 days', '30 days', '4.1 years', 'a century']
    """
    if days >= 36_500:
        return "a century"
    for size, unit in ((365.25, "years"), (1.0, "days"), (1 / 24, "hours")):
        if days >= size * (2 if unit == "years" else 1):
            number = f"{days / size:.{int(days < 10 * size)}f}".removesuffix(".0")
            return f"{number} {unit if number != '1' else unit[:-1]}"
    return f"{days * 1440:.0f} minutes"


def truncate(title: str, width: int) -> str:
    """Truncate a title at a word so that it fits a width.

    Args:
        title: The title.
        width: Maximum number of characters.

    Returns:
        The title, or its first words and an ellipsis.

    Example:
        >>> truncate("Silk - Serum, 2 Ounces", 10), truncate("Serum", 10), truncate("Supercalifragilistic", 10)
        ('Silk…', 'Serum', 'Supercali…')
    """
    if len(title) <= width:
        return title
    words = wrap(title, width - 1)[0].rstrip(" ,.;:-&(")
    return f"{words}…"
