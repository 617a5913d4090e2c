"""Search for user ids in files: in every byte, and in the compressed columns of parquet files."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

MIN_ID_LENGTH = 6  # characters; shorter ids occur in any file by chance


def filter_searchable_ids(ids: Sequence[str]) -> list[str]:
    """Keep the ids that are long enough not to occur by chance.

    Args:
        ids: User ids.

    Returns:
        Distinct ids of at least 6 characters.
    """
    return [one for one in dict.fromkeys(ids) if len(one) >= MIN_ID_LENGTH]


def list_files(places: Iterable[Path]) -> list[Path]:
    """List the files at or below some paths, including those that SQLite keeps next to a database.

    Args:
        places: Files and folders.

    Returns:
        Sorted files.
    """
    found = dict[Path, None]()
    for place in places:
        sqlite_files = [place.with_name(place.name + end) for end in ("-wal", "-shm")]
        within = place.rglob("*") if place.is_dir() else [place, *sqlite_files]
        found |= dict.fromkeys(path for path in within if path.is_file())
    return sorted(found)


def find_ids(files: Iterable[Path], ids: Sequence[str]) -> dict[Path, int]:
    """Count how often ids occur in files, as written or with JSON escapes.

    Args:
        files: Files to search.
        ids: User ids.

    Returns:
        Number of occurrences by file, without files that have none.
    """
    spellings = {text.encode(errors="surrogatepass") for one in ids for text in (one, json.dumps(one)[1:-1])}
    found = {path: _count_in_bytes(path, spellings) + _count_in_parquet(path, ids) for path in files}
    return {path: count for path, count in found.items() if count}


def _count_in_bytes(path: Path, spellings: Iterable[bytes]) -> int:
    if not path.stat().st_size:
        return 0
    count = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for spelling in spellings:
            place = content.find(spelling)
            while place >= 0:
                count += 1
                place = content.find(spelling, place + 1)
    return count


def _count_in_parquet(path: Path, ids: Sequence[str]) -> int:
    if path.suffix != ".parquet":
        return 0
    count = 0
    with pq.ParquetFile(path) as file:
        for group in range(file.metadata.num_row_groups):
            for column in file.read_row_group(group).columns:
                count += sum(_count_in_column(column, one) for one in ids)
    return count


def _count_in_column(column: pa.ChunkedArray, one: str) -> int:
    kind = column.type
    while pa.types.is_list(kind) or pa.types.is_large_list(kind):
        column, kind = pc.list_flatten(column), kind.value_type
    try:
        text = column.cast(pa.large_string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # structs and bytes are searched in the file itself
        return 0
    return int(pc.sum(pc.match_substring(text, one)).as_py() or 0)
