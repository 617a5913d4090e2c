"""Text vectors of folders that releases of sentence-transformers save, read by llmrec: cosines with that library's own.

    python scripts/bench/pooling.py --pythons='[PYTHON, ...]' [--json_path PATH]

Each PYTHON is the interpreter of an environment with a release of sentence-transformers, with the transformers that it
needs; see `pooling_worker.py` for the folders that it saves.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import jsonargparse
import torch

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.utils.text import format_table

WORKER = Path(__file__).with_name("pooling_worker.py")


@dataclass(frozen=True)
class Row:
    release: str
    transformers: str
    form: str
    pooling: str
    cosine: float  # the least of all texts


def read_vectors(folder: Path, texts: list[str]) -> tuple[str, torch.Tensor]:
    backbone = TextBackbone.load(BackboneConfig(name=str(folder)))
    return backbone.pooling, backbone.encode(backbone.tokenize(texts))


def compare(python: str) -> list[Row]:
    """The rows of one release."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([python, str(WORKER), scratch], check=True, stderr=subprocess.DEVNULL)
        record = json.loads((Path(scratch) / "vectors.json").read_text())
        rows = []
        for form, (folder, vectors) in record["vectors"].items():
            pooling, ours = read_vectors(Path(scratch) / folder, record["texts"])
            theirs = torch.nn.functional.normalize(torch.tensor(vectors), dim=-1)
            rows.append(Row(*record["versions"], form, pooling, float((ours * theirs).sum(1).min())))
        return rows


def main(pythons: list[str], json_path: Path | None = None) -> None:
    """Compare each release, and print the least cosine of each form."""
    rows = [row for python in pythons for row in compare(python)]
    releases = list(dict.fromkeys((row.release, row.transformers) for row in rows))
    cosines = {(row.release, row.form): f"{row.cosine:.7f}" for row in rows}
    forms = list(dict.fromkeys(row.form for row in rows))
    header = ("form", *(f"{release} ({transformers})" for release, transformers in releases))
    table = [[form, *(cosines.get((release, form), "") for release, _ in releases)] for form in forms]
    print(*format_table([header, *table]), sep="\n")
    if json_path is not None:
        json_path.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
