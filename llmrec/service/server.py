"""The server process: uvicorn with a graceful stop."""

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
MAX_CONNECTIONS = 1000  # more connections are refused with status 503


def default_snapshot_dir(store: str) -> Path | None:
    """Return the default folder of snapshots for a store.

    Args:
        store: URL of the event store, or the name of a SQLite file.

    Returns:
        A folder next to a SQLite file; None for other databases.
    """
    if "://" in store and not store.startswith(SQLITE_FILE):
        return None
    return Path(store.removeprefix(SQLITE_FILE) + ".snapshots")


def run_server(
    recommender: Recommender,
    settings: ServiceSettings,
    store: str,
    host: str,
    *,
    port: int,
    grace_seconds: int,
    open_browser: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish open requests and save the state.

    Args:
        recommender: Recommender to serve.
        settings: Settings of the service.
        store: URL of the event store, or the name of a SQLite file.
        host: Address to listen on.
        port: Port to listen on; 0 chooses a free one.
        grace_seconds: Seconds that open requests may take after the signal.
        open_browser: Open the page in a browser once the server listens.

    Raises:
        ConfigError: If a package is missing or the store is not supported.
        StoreError: If the store cannot be opened.
    """
    try:
        import uvicorn

        from llmrec.inference.live.store.event_store import EventStore
        from llmrec.service.app import create_app
    except ImportError as error:
        raise ConfigError(f"serving: {error.name} is not installed. {missing_extra('serve')}") from error

    class Server(uvicorn.Server):
        """Server that prints its address once it listens."""

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

    # uvicorn raises the signal again after it has stopped: exit normally then, so that callers can clean up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    app = create_app(recommender, settings, EventStore(store))
    server = Server(
        uvicorn.Config(
            app,
            host,
            port,
            log_level="warning",
            access_log=False,  # paths contain user ids
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=grace_seconds,
            timeout_keep_alive=30,
        )
    )
    with suppress(KeyboardInterrupt):
        server.run()
