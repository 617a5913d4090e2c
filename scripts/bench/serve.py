"""The service under load, beside the same model called in process; hostile requests; and how soon news counts.

    python scripts/bench/serve.py --bundle runs/quickstart/bundle [--seconds 60] [--clients 100] [--hostile 10000]
        [--items 100000] [--json PATH]

`llmrec serve` runs in a process of its own on loopback with a new store. Each client keeps one connection and asks
again as soon as it is answered: nine requests in ten are /recommend for a user of the log or for ten items, the others
/score of a new text and /events. The client speaks HTTP/1.1 by itself over asyncio's streams: libraries would take more
of the same cores than the service does; machine and load are shared with it all the same. In process the same
recommender is asked one question after the other, and 64 at once.
"""

from __future__ import annotations

import asyncio
import json as as_json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from runpy import run_path
from typing import Any, NamedTuple

import jsonargparse
import numpy as np
from machine import describe, write_record
from serve_catalog import save_generated

from llmrec import Recommender
from llmrec.utils.text import format_table

ROOT = Path(__file__).resolve().parents[2]
K, TEXTS = 10, ("A robot in love, in space", "War of the rivers. Genres: Drama", "The mountain garden (1999)")
Request = tuple[str, bytes]  # path, body


class Row(NamedTuple):
    """What was done, how often, how fast and how slow; ms, also of the CPU time of whoever answers, for each."""

    work: str
    n: int
    per_second: float
    cpu: float
    p50: float
    p99: float
    errors: int


def main(
    bundle: Path,
    seconds: float = 60.0,
    clients: int = 100,
    hostile: int = 10_000,
    items: int = 100_000,
    json: Path | None = None,
) -> None:
    recommender = Recommender.from_pretrained(bundle)
    users = list(recommender.live.users)
    rows = in_process(recommender, users, min(seconds, 10.0))
    notes = list[str]()
    with served(bundle) as (address, process):
        draw = requests(recommender, users)
        asyncio.run(load(address, process.pid, draw, 10, 2.0))  # what is loaded at first use
        rows += asyncio.run(load(address, process.pid, draw, clients, seconds))
        notes += list(news(address, users[0]))
        if hostile:
            rows.append(asyncio.run(hostility(address, hostile, process.pid, notes)))
    if items:
        notes += added(items)
    machine = describe() | {"load": f"{os.getloadavg()[0]:.1f}"}
    print(f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']} at the end\n")
    heads = ["work", "n", "per second", "CPU ms each", "p50 ms", "p99 ms", "errors"]
    body = [
        [r.work, f"{r.n:,}", f"{r.per_second:,.0f}", f"{r.cpu:.1f}", f"{r.p50:,.1f}", f"{r.p99:,.1f}", str(r.errors)]
        for r in rows
    ]
    print("\n".join(format_table([heads, *body])).replace("nan", "   "))
    print("\n".join(["", *notes]))
    write_record(json, [*(row._asdict() for row in rows), {"notes": notes}], machine)


def in_process(recommender: Recommender, users: list[str], seconds: float) -> list[Row]:
    found = []
    for size in (1, 64):
        spent, rng = list[float](), random.Random(0)
        recommender.batch.recommend(users[:size], k=K)
        cpu, until = time.process_time(), time.perf_counter() + seconds
        while time.perf_counter() < until:
            began = time.perf_counter()
            recommender.batch.recommend(rng.sample(users, size), k=K)
            spent.append(time.perf_counter() - began)
        name, n = f"in process, recommend {'one by one' if size == 1 else f'{size} at once'}", size * len(spent)
        cpu = time.process_time() - cpu
        found.append(row(name, spent, sum(spent), cpu, 0)._replace(n=n, per_second=n / sum(spent), cpu=1e3 * cpu / n))
    return found


def row(work: str, spent: list[float], seconds: float, cpu: float, errors: int) -> Row:
    """cpu: seconds, of all together."""
    p50, p99 = 1e3 * np.percentile(spent, [50, 99]) if spent else (0.0, 0.0)
    n = len(spent)
    return Row(work, n, n / seconds, 1e3 * cpu / max(n, 1), float(p50), float(p99), errors)


def cpu_seconds(pid: int) -> float:
    """That a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def served(bundle: Path, *options: str) -> Iterator[tuple[tuple[str, int], subprocess.Popen[str]]]:
    """Address and process of a service on a new store."""
    with tempfile.TemporaryDirectory(prefix="llmrec-bench-") as folder:
        command = [sys.executable, "-c", "from llmrec.cli.main import main; main()", "serve", "--port", "0"]
        command += [str(bundle.resolve()), "--store", f"sqlite:///{folder}/state.db", *options]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder)
        if process.stdout is None or not (line := process.stdout.readline()):
            raise SystemExit("the service did not start")
        host, _, port = line.split()[1].removeprefix("http://").rpartition(":")
        try:
            yield (host, int(port)), process
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        finally:
            process.kill()


def requests(recommender: Recommender, users: list[str]) -> Callable[[], Request]:
    """Draws what a client asks next."""
    rng, known = random.Random(1), recommender.catalog.ids.to_pylist()

    def draw() -> Request:
        kind, user = rng.random(), rng.choice(users)
        if kind < 0.7:
            return "/recommend", as_json.dumps({"user": user, "k": K}).encode()
        if kind < 0.9:
            return "/recommend", as_json.dumps({"history": rng.sample(known, 10), "k": K}).encode()
        if kind < 0.95:
            text = f"{rng.choice(TEXTS)} {rng.randrange(1000)}"
            return "/score", as_json.dumps({"user": user, "items": [{"text": text}]}).encode()
        event = {"user": user, "item": rng.choice(known), "at": 1893456000 + rng.randrange(10**6)}
        return "/events", as_json.dumps({"events": [event]}).encode()

    return draw


class Client:
    """One connection that is kept."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address, self.streams = address, None

    async def ask(self, path: str, body: bytes, method: str = "POST") -> tuple[int, bytes]:
        """Status and body of the answer."""
        if self.streams is None:
            self.streams = await asyncio.open_connection(*self.address)
        reader, writer = self.streams
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        )
        writer.write(head.encode() + b"\r\n\r\n" + body)
        try:
            told = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            self.close()
            raise
        headers = dict(line.split(": ", 1) for line in told[1:] if ": " in line)
        answer = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close()
        return int(told[0].split()[1]), answer

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
        self.streams = None


async def load(
    address: tuple[str, int], pid: int, draw: Callable[[], Request], clients: int, seconds: float
) -> list[Row]:
    """All clients at once."""
    spent: dict[str, list[float]] = {}
    errors: dict[str, int] = {}
    cpu, began, until = cpu_seconds(pid), time.perf_counter(), time.perf_counter() + seconds

    async def go_on() -> None:
        client = Client(address)
        while time.perf_counter() < until:
            path, body = draw()
            asked = time.perf_counter()
            status, _ = await client.ask(path, body)
            spent.setdefault(path, []).append(time.perf_counter() - asked)
            errors[path] = errors.get(path, 0) + (status >= 400)
        client.close()

    await asyncio.gather(*(go_on() for _ in range(clients)))
    wall, cpu = time.perf_counter() - began, cpu_seconds(pid) - cpu
    every = [one for times in spent.values() for one in times]
    rows = [row(f"HTTP, {clients} clients: all", every, wall, cpu, sum(errors.values()))]
    parts = [row(f"HTTP, {clients} clients: {path}", times, wall, 0, errors[path]) for path, times in spent.items()]
    return rows + [part._replace(cpu=float("nan")) for part in parts]  # which took what is not known


def news(address: tuple[str, int], user: str) -> Iterator[str]:
    """Whether an event changes the next answer, and how soon."""

    async def ask() -> tuple[bool, float]:
        client = Client(address)
        asked = as_json.dumps({"user": user, "k": K}).encode()
        before = as_json.loads((await client.ask("/recommend", asked))[1])["items"]
        began = time.perf_counter()
        event = {"user": user, "item": before[0]["item"], "at": 1893456000 + 2 * 10**6}
        await client.ask("/events", as_json.dumps({"events": [event]}).encode())
        after = as_json.loads((await client.ask("/recommend", asked))[1])["items"]
        took = time.perf_counter() - began
        client.close()
        return before[0]["item"] not in [one["item"] for one in after] and before != after, took

    changed, took = asyncio.run(ask())
    yield f"an event by /events changes the next /recommend: {changed}; both took {1e3 * took:.0f} ms"


async def hostility(address: tuple[str, int], n: int, pid: int, notes: list[str]) -> Row:
    """Requests that are not meant well, and the memory that they leave behind."""
    bad = run_path(str(ROOT / "tests" / "service" / "hostile.py"))  # the same that the tests send
    rng, statuses, spent = random.Random(2), dict[int, int](), list[float]()
    client, memory, traced = Client(address), list[float](), 0
    cpu, began = cpu_seconds(pid), time.perf_counter()
    for number in range(n):
        if number in (n // 10, n // 2):
            memory.append(resident(pid))
        path = rng.choice(bad["PATHS"]) if rng.random() < 0.9 else rng.choice(bad["ODD_PATHS"])
        method = "POST" if rng.random() < 0.9 else rng.choice(["GET", "DELETE", "PUT", "PATCH"])
        body, asked = bytearray(rng.choice(bad["BODIES"])), time.perf_counter()
        for _ in range(rng.randrange(3) if body else 0):
            body[rng.randrange(len(body))] = rng.randrange(256)
        try:
            status, answer = await client.ask(path, bytes(body), method)
        except (asyncio.IncompleteReadError, ConnectionError):
            status, answer = 0, b""  # it hung up on what is no HTTP
        spent.append(time.perf_counter() - asked)
        statuses[status] = statuses.get(status, 0) + 1
        traced += b"Traceback" in answer
    memory.append(resident(pid))
    told = ", ".join(f"{status or 'hung up'}: {count:,}" for status, count in sorted(statuses.items()))
    notes.append(f"{n:,} hostile requests: {told}; answers with a traceback: {traced}")
    notes.append(
        f"resident memory after a tenth, half and all of them: {', '.join(f'{mib:,.0f}' for mib in memory)} MiB"
    )
    faults = sum(count for status, count in statuses.items() if status >= 500)
    cpu, wall = cpu_seconds(pid) - cpu, time.perf_counter() - began
    return row("HTTP, hostile, one client", spent, wall, cpu, faults)


def resident(pid: int) -> float:
    """MiB"""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def added(n_items: int) -> list[str]:
    """How soon an item that is added can be recommended, in a generated catalog with a tiny backbone."""
    notes = []
    with tempfile.TemporaryDirectory(prefix="llmrec-bench-") as name:
        for drift in (False, True):
            backbone = save_generated(Path(name), n_items, drift)
            with served(Path(name) / "bundle", "--backbone", str(backbone)) as (address, _):
                took = asyncio.run(adding(address))
            head = "with" if drift else "without"
            told = ", ".join(f"{each:.2f}" for each in took)
            notes.append(f"{n_items:,} items, {head} a drift head: /items and a /recommend that has it took {told} s")
    return notes


async def adding(address: tuple[str, int]) -> list[float]:
    client, took = Client(address), list[float]()
    for number in range(5):
        title = f"space robot war {number}"
        item: dict[str, Any] = {"item_id": f"new-{number}", "title": title}
        began = time.perf_counter()
        status, answer = await client.ask("/items", as_json.dumps({"items": [item]}).encode())
        if status != 201:
            raise SystemExit(f"/items: {answer.decode()}")
        asked = {"k": K, "where": [f"title={title}"]}
        _, answer = await client.ask("/recommend", as_json.dumps(asked).encode())
        took.append(time.perf_counter() - began)
        if [one["item"] for one in as_json.loads(answer)["items"]] != [item["item_id"]]:
            raise SystemExit(f"not recommended: {answer.decode()}")
    client.close()
    return took


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
