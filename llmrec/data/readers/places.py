"""Files of a table: one file, a folder of parts, or those that a pattern names, with their kind and partitions."""

from __future__ import annotations

import io
import lzma
import re
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, cast
from urllib.parse import unquote

import pyarrow as pa

from llmrec.config.data import FileKind
from llmrec.errors import DataError

Role = Literal["interactions", "items"]
EXTENSIONS = (".parquet", ".csv", ".jsonl")  # those that messages name first
KINDS: dict[str, FileKind] = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".dat": "csv", ".txt": "csv",
    ".inter": "csv", ".item": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".arrow": "arrow", ".feather": "arrow", ".orc": "orc",
}  # fmt: skip
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bz2", ".lz4": "lz4", ".xz": "xz"}
GLOB = re.compile(r"[*?\[]")
DEFAULT_PARTITION = "__HIVE_DEFAULT_PARTITION__"
AS_PARQUET = "Write it as parquet"
OTHER_KINDS = {
    **dict.fromkeys([".xlsx", ".xls", ".xlsm", ".ods", ".numbers"], "Export it as csv"),
    **dict.fromkeys([".zip", ".tar", ".tgz", ".7z", ".rar"], "Unpack it"),
    **dict.fromkeys([".sqlite", ".sqlite3", ".db", ".duckdb", ".sql", ".mdb"], "Export its tables as csv or parquet"),
    **dict.fromkeys([".xml", ".html", ".yaml", ".yml"], "Write it as csv or jsonl"),
    **dict.fromkeys([".pkl", ".pickle", ".avro", ".h5", ".hdf5", ".npy", ".npz", ".mat", ".msgpack"], AS_PARQUET),
    **dict.fromkeys([".rds", ".rdata", ".dta", ".sas7bdat", ".lance", ".vortex", ".tfrecord"], AS_PARQUET),
    ".sav": AS_PARQUET,  # codespell:ignore sav
}
LAKES = {"_delta_log": "Delta", ".hoodie": "Hudi", "metadata/*.metadata.json": "Iceberg"}


class DataFile(NamedTuple):
    """One file of a table."""

    path: Path
    """The file."""
    kind: FileKind
    """Its kind, not auto."""
    partition: dict[str, str | None]
    """Values of columns that the names of its folders give, as in year=2024/."""


def split_name(path: Path) -> tuple[str, str, str]:
    """Split a file name into stem, extension and that of its compression.

    Args:
        path: The file.

    Returns:
        Stem, extension and compression in lower case; "" where there is none.

    Example:
        >>> split_name(Path("reviews.json.gz"))
        ('reviews', '.json', '.gz')
    """
    packed = path.suffix.lower() if path.suffix.lower() in COMPRESSIONS else ""
    inner = Path(path.name[: -len(packed)]) if packed else Path(path.name)
    return inner.stem, inner.suffix.lower(), packed


def find_kind(path: Path) -> FileKind | None:
    """Return the kind of a file by its name; None for an unknown one."""
    return KINDS.get(split_name(path)[1])


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading, unpacked if its name says that it is compressed.

    Args:
        path: The file.

    Returns:
        Its bytes as a stream.
    """
    codec = COMPRESSIONS.get(split_name(path)[2])
    if codec is None:
        return path.open("rb")
    if codec == "xz":  # which Arrow does not unpack
        return cast(BinaryIO, lzma.open(path))
    return cast(BinaryIO, io.BufferedReader(pa.input_stream(str(path), compression=codec)))


def find_in_folder(folder: Path, role: Role) -> Path:
    """Find the file or the folder of parts of a table in the folder of a log.

    Args:
        folder: Folder of the log.
        role: Name of the table.

    Returns:
        The file or folder.

    Raises:
        DataError: If there is none, or several.
    """
    if not folder.is_dir():
        raise DataError(str(folder), [f"{folder}: no such folder. Correct data.source, or set it to movielens_small."])
    found = [path for path in sorted(folder.iterdir()) if _is_table(path, role)]
    found.sort(key=lambda path: [*KINDS, ""].index(split_name(path)[1]))
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        listed = ", ".join(path.name for path in found)
        raise DataError(str(folder), [f"{folder}: has more than one of {listed}. Keep one, or set data.{role}."])
    _refuse_lake(folder)
    names = ", ".join(role + extension for extension in EXTENSIONS)
    held = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    others = {path.name: OTHER_KINDS.get(split_name(path)[1]) for path in sorted(folder.iterdir()) if path.is_file()}
    remedies = [f"{name}: {remedy[0].lower()}{remedy[1:]}" for name, remedy in others.items() if remedy]
    hint = f" Other forms: {'; '.join(remedies[:3])}." if remedies else ""
    problem = f"{folder}: has none of {names} (it has {held}). Keep one, or set data.{role}.{hint}"
    raise DataError(str(folder), [problem])


def _is_table(path: Path, role: str) -> bool:
    if path.is_dir():
        return path.name == role or (split_name(path)[0] == role and find_kind(path) is not None)
    return split_name(path)[0] == role and find_kind(path) is not None


def list_parts(place: Path, kind: FileKind, role: Role) -> list[DataFile]:
    """List the files of a table.

    Args:
        place: A file, a folder of parts, or a path with `*`, `?` or `[...]`.
        kind: Kind of the files; auto goes by their names.
        role: Name of the table, for messages.

    Returns:
        The files in the order of their names, at least one.

    Raises:
        DataError: If there are none, or their kind is unknown.
    """
    if place.is_dir():
        return _list_folder(place, kind, role)
    if GLOB.search(str(place)) and not place.exists():
        return _list_pattern(place, kind, role)
    if not place.is_file():
        raise DataError(str(place), [f"{place}: no such file. Correct the path."])
    return [DataFile(place, _require_kind(place, kind, role), {})]


def _list_pattern(pattern: Path, kind: FileKind, role: Role) -> list[DataFile]:
    parts = pattern.parts
    first = next(place for place, part in enumerate(parts) if GLOB.search(part))
    root = Path(*parts[:first]) if first else Path()
    paths = sorted(path for path in root.glob(str(Path(*parts[first:]))) if path.is_file())
    if not paths:
        raise DataError(str(pattern), [f"{pattern}: no file has such a name. Correct the pattern in data.{role}."])
    return [DataFile(path, _require_kind(path, kind, role), _read_partition(path.relative_to(root))) for path in paths]


def _list_folder(folder: Path, kind: FileKind, role: Role) -> list[DataFile]:
    _refuse_lake(folder)
    inner = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_hidden(path.relative_to(folder))]
    by_folder = find_kind(folder)  # parts of a folder x.parquet need no extension
    parts = [
        (path, kind if kind != "auto" else find_kind(path) or (None if path.suffix else by_folder)) for path in inner
    ]
    known = [DataFile(path, one, _read_partition(path.relative_to(folder))) for path, one in parts if one is not None]
    kinds = sorted({part.kind for part in known})
    if len(kinds) == 1:
        return known
    held = ", ".join(path.name for path in inner[:5]) or "nothing"
    what = f"parts of more than one kind ({', '.join(kinds)})" if kinds else f"no part of a known kind (it has {held})"
    raise DataError(str(folder), [f"{folder}: a folder with {what}. Give one with parts of one kind in data.{role}."])


def _refuse_lake(folder: Path) -> None:
    """Refuse a folder whose files also hold rows that were deleted or replaced."""
    for mark, name in LAKES.items():
        if any(folder.glob(mark)):
            problem = f"{folder}: files of a table of {name}, which also hold deleted rows. Export it as parquet."
            raise DataError(str(folder), [problem])


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(("_", ".")) and "=" not in part for part in relative.parts)


def _read_partition(relative: Path) -> dict[str, str | None]:
    """Read the columns that folders like year=2024/ give."""
    pairs = [part.split("=", 1) for part in relative.parts[:-1] if "=" in part]
    return {unquote(name): None if value == DEFAULT_PARTITION else unquote(value) for name, value in pairs}


def _require_kind(path: Path, kind: FileKind, role: Role) -> FileKind:
    found = find_kind(path) if kind == "auto" else kind
    if found is not None:
        return found
    suffix = split_name(path)[1]
    remedy = OTHER_KINDS.get(suffix, f"If it is one of them, set data.{role}_format.kind")
    listed = ", ".join(EXTENSIONS)
    raise DataError(str(path), [f"{path.name}: unknown extension '{suffix}'. Use one of {listed}. {remedy}."])
