"""A server as it is run: what it has acknowledged outlives a kill, and told to stop it ends in good order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("httpx", reason="needs httpx (extra: dev)")
pytest.importorskip("uvicorn", reason="needs uvicorn (extra: serve)")

import httpx

Start = Callable[..., tuple[subprocess.Popen, str]]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def start(bundle_folder: Path, tiny_bert: Path, tmp_path: Path) -> Iterator[Start]:
    """start(): `llmrec serve` on a store that all share, as options and the environment say, and its address."""
    processes = list[subprocess.Popen]()

    def started(**variables: str) -> tuple[subprocess.Popen, str]:
        command = [
            sys.executable,
            "-c",
            "from llmrec.cli.main import main; main()",
            "serve",
            str(bundle_folder),
        ]
        given = {"LLMREC_STORE": f"sqlite:///{tmp_path / 'state.db'}", "LLMREC_PORT": "0", "PYTHONPATH": str(ROOT)}
        command += ["--backbone", str(tiny_bert)]
        environment = os.environ | given | variables
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)
        processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("llmrec: http://"), line
        return process, line.split()[1]

    yield started
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_what_was_acknowledged_outlives_a_kill_and_a_graceful_end(start: Start, tmp_path: Path) -> None:
    process, address = start(LLMREC_API_KEY="sesame")
    headers = {"X-API-Key": "sesame"}
    assert httpx.get(f"{address}/health").json()["status"] == "ok"
    assert httpx.post(f"{address}/recommend", json={}).status_code == 401
    events = [{"user": "ada", "item": f"i{item}", "at": 1893456000 + item, "key": str(item)} for item in range(3)]
    items = [{"item_id": "new", "title": "space robot war"}]
    assert httpx.post(f"{address}/events", json={"events": events}, headers=headers).status_code == 201
    assert httpx.post(f"{address}/items", json={"items": items}, headers=headers).status_code == 201
    process.send_signal(signal.SIGKILL)
    process.wait()

    process, address = start()
    assert len(httpx.get(f"{address}/users/ada").json()["events"]) == 3
    again = httpx.post(f"{address}/events", json={"events": events}).json()
    assert again == {"stored": 0, "repeated": 3}
    found = httpx.post(f"{address}/recommend", json={"user": "ada", "k": 100}).json()["items"]
    assert "new" in [item["item"] for item in found]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    snapshots = list((tmp_path / "state.db.snapshots").iterdir())
    assert [path.name.split("-")[1:] for path in snapshots] == [["3", "0"]]
