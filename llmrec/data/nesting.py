"""How deeply the lines of a JSON file nest, told before they are parsed: arrow's reader goes down as deep as they do,
and where the stack ends the process ends without a word (seen with pyarrow 26 and brackets 60,000 deep).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import DataError

DEEPEST = 100  # what parquet's reader allows
BLOCK = 1 << 24  # bytes that are looked at together, and the rest of the line they end in
TEXT = re.compile(rb'"(?:[^"\\\\]|\\\\.)*"', re.DOTALL)


def check_nesting(path: Path) -> None:
    """
    Raises:
        DataError: a line with brackets open more than `DEEPEST` deep.
    """
    before = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK) + file.readline():
            signs = np.frombuffer(block, np.uint8)
            ends = np.append(np.flatnonzero(signs == ord("\n")), len(signs) - 1)
            opened = np.cumsum((signs == ord("{")) | (signs == ord("[")), dtype=np.int64)[ends]
            for line in np.flatnonzero(np.diff(opened, prepend=0) > DEEPEST):  # which may be in a text, or closed again
                if _depth(block[ends[line - 1] + 1 if line else 0 : ends[line] + 1]) > DEEPEST:
                    problem = f"line {before + line + 1} nests more than {DEEPEST} deep; write plain fields"
                    raise DataError(str(path), [f"{path.name}: {problem}"])
            before += len(ends) - 1


def _depth(line: bytes) -> int:
    signs: NDArray[np.uint8] = np.frombuffer(TEXT.sub(b"", line), np.uint8)
    steps = np.isin(signs, list(b"{[")).astype(np.int64) - np.isin(signs, list(b"}]"))
    return int(np.cumsum(steps).max(initial=0))
