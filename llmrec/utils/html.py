"""HTML of results in notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def format_html_table(rows: Sequence[Sequence[str]], *, title: str = "") -> str:
    """Format rows as an HTML table.

    Args:
        rows: Text of each cell; the first row has the heads of the columns.
        title: Caption of the table.

    Returns:
        HTML, with all text escaped.

    Example:
        >>> format_html_table([["n", "item"], ["1", "<b>"]])
        '<table><tr><th>n</th><th>item</th></tr><tr><td>1</td><td>&lt;b&gt;</td></tr></table>'
    """
    heads, *body = rows
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in heads)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in body]
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    return f"<table>{caption}{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
