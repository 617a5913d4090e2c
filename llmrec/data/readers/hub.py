"""Reader of Hugging Face datasets: of the hub, of folders that are laid out like it, and of `save_to_disk`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from llmrec.data.readers.values import Features
from llmrec.errors import DataError

HUB = "hub:"
FORM = "hub:OWNER/NAME@REVISION:CONFIGURATION:SPLIT, of which all but the name can be left out"


class HubPlace(NamedTuple):
    """Name of a dataset and the part of it."""

    name: str
    """OWNER/NAME, or a folder."""
    revision: str | None
    """Branch, tag or commit."""
    configuration: str | None
    """Configuration that its author named."""
    split: str | None
    """Split; None for all of them."""


def parse_hub_place(place: str) -> HubPlace:
    """Parse the name of a dataset.

    Args:
        place: The name, with or without `hub:`.

    Returns:
        Its parts.

    Example:
        >>> parse_hub_place("hub:me/films@v1:seen:train")
        HubPlace(name='me/films', revision='v1', configuration='seen', split='train')
    """
    place = place.removeprefix(HUB)
    if Path(place).is_dir():
        return HubPlace(place, None, None, None)
    name, configuration, split = [*place.split(":", 2), "", ""][:3]
    name, _, revision = name.partition("@")
    return HubPlace(name, revision or None, configuration or None, split or None)


def is_saved_dataset(folder: Path) -> bool:
    """Return True if a folder was written by `save_to_disk` of Hugging Face datasets.

    Args:
        folder: The folder.

    Returns:
        True or False.
    """
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def read_hub(place: str, role: str, *, only: bool, quoted: bool) -> tuple[pa.Table, Features]:
    """Read a table of a dataset.

    Args:
        place: Name of the dataset or folder, as `parse_hub_place` takes it.
        role: Name of the table, which is that of a configuration or of files unless the place names one.
        only: Whether the dataset holds this table alone.
        quoted: Whether messages may quote the rows.

    Returns:
        All rows of its splits, and the descriptions of its columns.

    Raises:
        DataError: If it cannot be read, or has configurations of which none is named.
    """
    where = parse_hub_place(place)
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            place, [f"{HUB}{where.name}: the package datasets is not installed. Run pip install datasets."]
        ) from error
    try:
        parts = _load(datasets, where, role, only=only)
    except DataError:
        raise
    except Exception as error:  # raised by the Hub, its client or the file readers
        reason = " ".join(str(error).split())[:500] if quoted else f"{type(error).__name__}, details hidden"
        problem = f"{HUB}{where.name}: no {role} ({reason}). Name the part that holds them: data.{role}={FORM}."
        raise DataError(place, [problem]) from (error if quoted else None)
    tables = [part.with_format("arrow")[:] for part in parts]
    return pa.concat_tables(tables, promote_options="permissive"), parts[0].features.to_dict()


def _load(datasets: Any, where: HubPlace, role: str, *, only: bool) -> list[Any]:
    """Load the splits of a table."""
    folder = Path(where.name)
    if is_saved_dataset(folder):
        loaded = datasets.load_from_disk(str(folder))
    elif only and folder.is_dir() and is_saved_dataset(folder / role):
        loaded = datasets.load_from_disk(str(folder / role))
    else:
        names = datasets.get_dataset_config_names(where.name, revision=where.revision)
        chosen = where.configuration or (role if role in names else None)
        options: dict[str, Any] = {"revision": where.revision, "split": where.split}
        if chosen is not None and chosen not in names:
            raise DataError(where.name, [_list_names(where, role, names, f"no configuration {chosen!r}")])
        if chosen is not None:
            loaded = datasets.load_dataset(where.name, chosen, **options)
        elif not only:
            loaded = datasets.load_dataset(where.name, data_files=f"{role}*", **options)
        elif len(names) == 1:
            loaded = datasets.load_dataset(where.name, names[0], **options)
        else:
            raise DataError(where.name, [_list_names(where, role, names, "several configurations")])
    if isinstance(loaded, datasets.Dataset):
        return [loaded]
    split = where.split or (role if role in loaded else None)
    return [loaded[split]] if split else list(loaded.values())


def _list_names(where: HubPlace, role: str, names: list[str], problem: str) -> str:
    place = f"{HUB}{where.name}" + (f"@{where.revision}" if where.revision else "")
    return (
        f"{place}: {problem}; it has {', '.join(names[:20])}. "
        f"Name the one that holds the {role}: data.{role}={place}:{names[0]}."
    )
