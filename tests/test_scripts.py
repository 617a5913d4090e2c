"""Shell functions that the scripts share."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_a_silent_command_is_reported_where_there_is_no_terminal(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = f"""
        source scripts/_environment.sh
        sleep() {{ command sleep 0.1; }}
        with_signs "Still installing" bash -c 'until grep -q "Still installing" "{out}"; do sleep 0.1; done'
        with_signs "Still installing" false || echo "failed with $?"
    """
    with out.open("w") as file:
        subprocess.run(["bash", "-c", script], cwd=ROOT, stdout=file, check=True, timeout=300)
    first, *_, last = out.read_text().splitlines()
    assert (first, last) == ("Still installing", "failed with 1")
