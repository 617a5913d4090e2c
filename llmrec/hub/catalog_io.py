"""Storage of a bundle's catalog, with checks of the stored files."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmrec.data.items.catalog import ItemCatalog
from llmrec.data.texts.templates import list_fields
from llmrec.errors import BundleError
from llmrec.hub.layout import LAYOUT, bundle_file

SETTINGS = (
    "id_column",
    "release_column",
    "template",
    "label_column",
    "display_columns",
    "missing_words",
    "clean",
)


def save_bundle_catalog(folder: Path, catalog: ItemCatalog) -> dict[str, Any]:
    """Write the items of a catalog.

    Args:
        folder: Folder of the bundle.
        catalog: The catalog.

    Returns:
        Settings that `load_bundle_catalog` needs.
    """
    pq.write_table(catalog.fields, folder / LAYOUT.catalog)
    return {name: getattr(catalog, name) for name in SETTINGS}


def load_bundle_catalog(folder: Path, settings: dict[str, Any], n_items: int) -> ItemCatalog:
    """Load the catalog of a bundle.

    Args:
        folder: Folder of the bundle.
        settings: Settings of `save_bundle_catalog`.
        n_items: Number of items of the model.

    Returns:
        The catalog.

    Raises:
        BundleError: If the number of items differs, or columns, ids or template do not make a catalog.
    """
    # A few bytes of parquet can represent any number of rows, so they are counted before they are read.
    path = bundle_file(folder, LAYOUT.catalog)
    metadata = pq.read_metadata(path)
    if metadata.num_rows != n_items:
        raise BundleError(f"{path}: {metadata.num_rows:,} items, but the model has {n_items:,}. Save the bundle again.")
    with pq.ParquetFile(path) as file:  # `read_table` would import pandas
        fields = file.read()
    # Parquet has no seconds and returns milliseconds; its metadata has the schema that was saved.
    saved = base64.b64decode(metadata.metadata[b"ARROW:schema"])
    lists = {name: tuple(value) for name, value in settings.items() if isinstance(value, list)}
    options = {name: (settings | lists)[name] for name in SETTINGS}
    catalog = ItemCatalog(fields.cast(pa.ipc.read_schema(pa.py_buffer(saved))), **options)
    if problem := _find_catalog_problem(catalog):
        raise BundleError(f"{path}: {problem}. Save the bundle again.")
    return catalog


def _find_catalog_problem(catalog: ItemCatalog) -> str | None:
    names = catalog.fields.column_names
    wanted = [*list_fields(catalog.template), catalog.id_column]
    wanted += [*filter(None, [catalog.release_column, catalog.label_column]), *catalog.display_columns]
    if odd := [name for name in dict.fromkeys(wanted) if names.count(name) != 1]:
        return f"columns {', '.join(odd)} do not occur exactly once among {', '.join(names)}"
    if catalog.release_column and not pa.types.is_timestamp(catalog.fields.schema.field(catalog.release_column).type):
        return f"column {catalog.release_column} has no times"
    ids = catalog.fields[catalog.id_column]
    if ids.type != pa.large_string() or ids.null_count or len(pc.unique(ids)) != len(ids):
        return f"column {catalog.id_column} does not have one id for each item"
    return None
