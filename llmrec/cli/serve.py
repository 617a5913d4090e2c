"""Verbs of the `llmrec` command that serve a bundle over HTTP.

What is heavy is imported inside.
"""

from __future__ import annotations

from pathlib import Path


def serve(
    bundle: Path,
    store: str = "sqlite:///llmrec.db",
    snapshots: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    max_wait_ms: float = 2.0,
    most_together: int = 64,
    threads: int | None = None,
    body_bytes: int = 1 << 20,
    grace_seconds: int = 30,
    backbone: str | None = None,
) -> None:
    """Answer over HTTP until told to stop.

    Args:
        bundle: the folder of a saved recommender, or OWNER/NAME on the hub.
        store: of events, items and deletions: sqlite:///FILE, or postgresql://USER@HOST/NAME; processes may share it.
        snapshots: a folder of saved states, so that a start need not go through all events; beside a SQLite store
            unless given.
        host: the address to listen on; 0.0.0.0 for all.
        port: 0 for any that is free.
        api_key: what requests have to bring, as X-API-Key; better given as LLMREC_API_KEY, where others do not see it.
        max_wait_ms: how long a request waits for others, to be answered together with them.
        most_together: how many are answered together at most.
        threads: of torch; all cores unless given.
        body_bytes: the largest request.
        grace_seconds: for requests to end, once told to stop.
        backbone: a local copy of the base model.
    """
    from llmrec.cli.inputs import load_recommender
    from llmrec.service.server import default_snapshot_dir, run_server
    from llmrec.service.settings import RequestLimits, ServiceSettings

    kept = default_snapshot_dir(store) if snapshots is None else snapshots
    limits = RequestLimits(body_bytes=body_bytes)
    settings = ServiceSettings(
        api_key, kept, max_wait_ms=max_wait_ms, most_together=most_together, threads=threads, limits=limits
    )
    run_server(load_recommender(bundle, backbone), settings, store, host, port, grace_seconds)


def demo(
    bundle: Path,
    store: str | None = None,
    port: int = 8000,
    open_browser: bool = True,
    backbone: str | None = None,
) -> None:
    """Show a bundle in the browser, on this machine alone.

    Args:
        bundle: the folder of a saved recommender, or OWNER/NAME on the hub.
        store: as of `serve`; without one what is done on the page is gone when it ends.
        port: 0 for any that is free.
        open_browser: false only prints the address.
        backbone: a local copy of the base model.
    """
    import tempfile

    from llmrec.cli.inputs import load_recommender
    from llmrec.service.server import LOCAL, default_snapshot_dir, run_server
    from llmrec.service.settings import ServiceSettings

    with tempfile.TemporaryDirectory(prefix="llmrec-demo-") as folder:
        url = store or f"sqlite:///{folder}/state.db"
        settings = ServiceSettings(
            snapshots=None if store is None else default_snapshot_dir(store), page=True, hosts=LOCAL
        )
        run_server(load_recommender(bundle, backbone), settings, url, LOCAL[0], port, 5, open_browser)
