"""The server's process: uvicorn, which ends gracefully when told to."""

from __future__ import annotations

import logging
import signal
import sys
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmrec.errors import ConfigError, missing_extra
from llmrec.recommender import Recommender
from llmrec.service.settings import ServiceSettings

LOCAL = ("127.0.0.1", "localhost")
SQLITE_FILE = "sqlite:///"
MAX_CONNECTIONS = 1000  # connections; more are told to come back


def default_snapshot_dir(store: str) -> Path | None:
    """Where the snapshots of a SQLite store are kept; None for another."""
    if "://" in store and not store.startswith(SQLITE_FILE):
        return None
    return Path(store.removeprefix(SQLITE_FILE) + ".snapshots")


def run_server(
    recommender: Recommender,
    settings: ServiceSettings,
    store: str,
    host: str,
    port: int,
    grace_seconds: int,
    open_browser: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT: then no more is let in, what came is answered, and the state is saved.

    Raises:
        ConfigError: a package that is missing, or a store that cannot be used. StoreError: no store there.
    """
    try:
        import uvicorn

        from llmrec.inference.live.store.event_store import EventStore
        from llmrec.service.app import create_app
    except ImportError as error:
        raise ConfigError(f"serving: {error.name} is not installed. {missing_extra('serve')}") from error

    class Server(uvicorn.Server):
        """Tells where it listens once it does."""

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            for served in self.servers if self.started else ():
                name, number = served.sockets[0].getsockname()[:2]
                address = f"http://{f'[{name}]' if ':' in name else name}:{number}"
                sys.stdout.write(f"llmrec: {address}\n")
                sys.stdout.flush()
                if open_browser:
                    webbrowser.open(address)
                break

    # uvicorn sends itself the signal again once all is done: whoever called this then still has an end to come to.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    app = create_app(recommender, settings, EventStore(store))
    server = Server(
        uvicorn.Config(
            app,
            host,
            port,
            log_level="warning",
            access_log=False,  # users' ids stand in paths
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=grace_seconds,
            timeout_keep_alive=30,
        )
    )
    with suppress(KeyboardInterrupt):
        server.run()
