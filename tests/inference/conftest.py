"""A small recommender with heads drawn at random, and a PostgreSQL server of the tests' own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmrec.config.backbone import Strategy
from llmrec.hub.bundle import Bundle, save_bundle
from llmrec.recommender import Recommender

Load = Callable[..., Recommender]


@pytest.fixture
def load(make_bundle: Callable[[Strategy], Bundle], tmp_path: Path, tiny_bert: Path) -> Load:
    """load(strategy, name): a recommender of the bundle `name`, which is written first."""

    def loaded(strategy: Strategy = "frozen", name: str = "bundle") -> Recommender:
        save_bundle(tmp_path / name, make_bundle(strategy))
        return Recommender.from_pretrained(tmp_path / name, backbone=str(tiny_bert))

    return loaded


@pytest.fixture
def recommender(load: Load) -> Recommender:
    return load()


class Postgres:
    """A server in a folder, reached by a socket in it."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder, self.n_databases = programs, folder, 0
        self.user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
        if self.user is not None:
            shutil.chown(folder, self.user)
        self.run("initdb", "-A", "trust", "-U", "postgres", "--no-sync", "-D", folder / "data")
        self.start()

    def run(self, program: str, *arguments: object) -> None:
        command = [str(self.programs / program), *map(str, arguments)]
        run = subprocess.run(command, stdout=subprocess.DEVNULL, user=self.user, cwd=self.folder, check=False)
        assert run.returncode == 0, (self.folder / "log").read_text() if program == "pg_ctl" else program

    def start(self) -> None:
        options = f"-c fsync=off -c listen_addresses='' -c unix_socket_directories={self.folder}"
        self.run("pg_ctl", "-w", "-D", self.folder / "data", "-l", self.folder / "log", "-o", options, "start")

    def stop(self, mode: str) -> None:
        """mode: "immediate" leaves what a crash leaves."""
        self.run("pg_ctl", "-w", "-D", self.folder / "data", "-m", mode, "stop")

    def new_database(self) -> str:
        """Its URL."""
        self.n_databases += 1
        name = f"test{self.n_databases}"
        self.run("createdb", "-h", self.folder, "-U", "postgres", name)
        return f"postgresql://postgres@/{name}?host={self.folder}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    pytest.importorskip("psycopg", reason="needs psycopg (extra: postgres)")
    found = shutil.which("initdb")
    programs = [Path(found).resolve()] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("needs PostgreSQL's server (apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # the path of a socket has to be short
    server = Postgres(programs[-1].parent, folder)
    yield server
    server.stop("fast")
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a new database."""
    pytest.importorskip("sqlalchemy", reason="needs SQLAlchemy (extra: state)")
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.db'}"
    url: str = request.getfixturevalue("postgres").new_database()
    return url
