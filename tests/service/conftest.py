"""A service over a tiny bundle with a drift head, and a client that speaks to it in process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("fastapi", reason="needs FastAPI (extra: serve)")
pytest.importorskip("sqlalchemy", reason="needs SQLAlchemy (extra: serve)")
pytest.importorskip("prometheus_client", reason="needs prometheus-client (extra: serve)")

from starlette.testclient import TestClient

from llmrec.hub.bundle import load_bundle, save_bundle
from llmrec.inference.live.store.event_store import EventStore
from llmrec.recommender import Recommender
from llmrec.service.app import create_app
from llmrec.service.settings import ServiceSettings

if TYPE_CHECKING:
    from llmrec.data.log import Log

Serve = Callable[..., TestClient]


@pytest.fixture
def bundle_folder(make_bundle: Any, add_drift: Any, tmp_path: Path) -> Path:
    """Of a saved bundle with a drift head."""
    folder = tmp_path / "bundle"
    save_bundle(folder, add_drift(make_bundle("frozen")))
    return folder


@pytest.fixture
def load(bundle_folder: Path, tiny_bert: Path, log: Log) -> Callable[[], Recommender]:
    """A recommender that begins with the planted log."""

    def loaded() -> Recommender:
        backbone = str(tiny_bert)
        return Recommender(load_bundle(bundle_folder, backbone), bundle_folder, backbone=backbone, log=log)

    return loaded


@pytest.fixture
def serve(load: Callable[[], Recommender], tmp_path: Path) -> Iterator[Serve]:
    """serve(**settings): a started service; all share one store. Faults of the service come out as status 500."""
    clients = list[TestClient]()

    def served(**settings: Any) -> TestClient:
        store = EventStore(f"sqlite:///{tmp_path / 'state.db'}")
        settings = {"max_wait_ms": 1.0} | settings
        client = TestClient(create_app(load(), ServiceSettings(**settings), store), raise_server_exceptions=False)
        client.__enter__()
        clients.append(client)
        return client

    yield served
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve: Serve) -> TestClient:
    return serve()
