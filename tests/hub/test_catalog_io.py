"""The stored catalog has the labels and the shown columns that it was saved with."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from llmrec.data.items.catalog import ItemCatalog
from llmrec.errors import BundleError
from llmrec.hub.catalog_io import load_bundle_catalog, save_bundle_catalog

FIELDS = {
    "item_id": pa.array(["1", "2"], pa.large_string()),
    "title": ["A", "B"],
    "code": ["A-1", "B-1"],
    "released": pa.array([0, None], pa.timestamp("s", "UTC")),
}


def test_labels_and_shown_columns_are_kept(tmp_path: Path) -> None:
    catalog = ItemCatalog(pa.table(FIELDS), "{title}", "item_id", "released", "code", ("title", "released"))
    loaded = load_bundle_catalog(tmp_path, save_bundle_catalog(tmp_path, catalog), 2)
    assert loaded.fields.equals(catalog.fields)
    assert (loaded.label(0), loaded.label_column, loaded.display_columns) == ("A-1", "code", ("title", "released"))
    assert loaded.get_display_values(1) == {"title": "B"}


def test_a_shown_column_that_is_not_stored_is_refused(tmp_path: Path) -> None:
    settings = save_bundle_catalog(tmp_path, ItemCatalog(pa.table(FIELDS)))
    with pytest.raises(BundleError, match="columns price do not occur exactly once among item_id, title"):
        load_bundle_catalog(tmp_path, settings | {"display_columns": ["price"]}, 2)
