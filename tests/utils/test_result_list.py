"""Results print as tables, and stay lists."""

from __future__ import annotations

import json
from dataclasses import dataclass

from llmrec.utils.result_list import ResultList


@dataclass(frozen=True)
class Row:
    """A result with a column that others may lack."""

    cells: dict[str, str]

    def to_cells(self) -> dict[str, str]:
        return self.cells


FOUND = ResultList([Row({"rank": "1", "item": "<b>"}), Row({"rank": "2", "item": "Up", "year": "2009"})])


def test_results_print_as_a_table() -> None:
    assert repr(FOUND).splitlines() == ["rank  item  year", "1      <b>      ", "2       Up  2009"]
    assert repr(ResultList[Row]()) == "no results"


def test_a_notebook_shows_text_as_text() -> None:
    page = FOUND._repr_html_()
    assert "<td>&lt;b&gt;</td><td></td>" in page
    assert "<th>year</th>" in page
    assert ResultList[Row]()._repr_html_() == "no results"


def test_results_are_a_list() -> None:
    assert [Row({"rank": "1", "item": "<b>"}), Row({"rank": "2", "item": "Up", "year": "2009"})] == FOUND
    assert json.loads(json.dumps(FOUND, default=vars))[1]["cells"]["year"] == "2009"
