"""The commands serve and demo. Heavy imports wait inside the functions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrec.cli.options import BackboneOption, RevisionOption

app = typer.Typer()

ServedBundle = Annotated[
    str,
    typer.Argument(
        metavar="BUNDLE",
        envvar="LLMREC_BUNDLE",
        show_default=False,
        help="Folder of a saved recommender, or OWNER/NAME on the Hugging Face hub.",
    ),
]
PortOption = Annotated[int, typer.Option(metavar="N", envvar="LLMREC_PORT", help="Port; 0 for any that is free.")]


@app.command()
def serve(
    bundle: ServedBundle,
    store: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="LLMREC_STORE",
            help="Store of events, items and deletions: sqlite:///FILE or postgresql://USER@HOST/NAME.",
        ),
    ] = "sqlite:///llmrec.db",
    *,
    snapshot_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            envvar="LLMREC_SNAPSHOT_DIR",
            help="Folder of saved states, from which a start continues. [default: next to a SQLite store]",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", envvar="LLMREC_HOST", help="Address to listen on; 0.0.0.0 for all.")
    ] = "127.0.0.1",
    port: PortOption = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="LLMREC_API_KEY",
            help="API key that clients must send as X-API-Key; the variable hides it from others. [default: none]",
        ),
    ] = None,
    max_wait_ms: Annotated[
        float,
        typer.Option(
            metavar="MS",
            envvar="LLMREC_MAX_WAIT_MS",
            help="Milliseconds that a request waits for others to be answered together with it.",
        ),
    ] = 2.0,
    max_batch_size: Annotated[
        int,
        typer.Option(
            metavar="N", envvar="LLMREC_MAX_BATCH_SIZE", help="Number of requests answered together, at most."
        ),
    ] = 64,
    threads: Annotated[
        int | None,
        typer.Option(metavar="N", envvar="LLMREC_THREADS", help="Threads of torch. [default: all cores]"),
    ] = None,
    max_body_bytes: Annotated[
        int, typer.Option(metavar="N", envvar="LLMREC_MAX_BODY_BYTES", help="Bytes of the largest request.")
    ] = 1 << 20,
    shutdown_timeout: Annotated[
        int,
        typer.Option(
            metavar="SECONDS",
            envvar="LLMREC_SHUTDOWN_TIMEOUT",
            help="Seconds that open requests have to finish after SIGTERM.",
        ),
    ] = 30,
    backbone: BackboneOption = None,
    revision: RevisionOption = None,
) -> None:
    """Serve a bundle over HTTP until SIGTERM or Ctrl-C.

    Every option but --backbone and --revision is also a variable, such as LLMREC_PORT.
    """
    from llmrec.cli.inputs import load_recommender
    from llmrec.service.server import default_snapshot_dir, run_server
    from llmrec.service.settings import RequestLimits, ServiceSettings

    settings = ServiceSettings(
        api_key,
        default_snapshot_dir(store) if snapshot_dir is None else snapshot_dir,
        max_wait_ms=max_wait_ms,
        most_together=max_batch_size,
        threads=threads,
        limits=RequestLimits(body_bytes=max_body_bytes),
    )
    run_server(
        load_recommender(bundle, backbone, revision=revision),
        settings,
        store,
        host,
        port=port,
        grace_seconds=shutdown_timeout,
    )


@app.command()
def demo(
    bundle: ServedBundle,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="LLMREC_STORE",
            help="Store of events, as for `serve`. [default: a temporary one, deleted at the end]",
        ),
    ] = None,
    *,
    port: PortOption = 8000,
    open_browser: Annotated[
        bool,
        typer.Option(
            "--open/--no-open", envvar="LLMREC_OPEN", help="Open the page in the browser, or print its address."
        ),
    ] = True,
    backbone: BackboneOption = None,
    revision: RevisionOption = None,
) -> None:
    """Show a bundle on a page in the browser."""
    import tempfile

    from llmrec.cli.inputs import load_recommender
    from llmrec.service.server import LOCAL, default_snapshot_dir, run_server
    from llmrec.service.settings import ServiceSettings

    with tempfile.TemporaryDirectory(prefix="llmrec-demo-") as folder:
        url = store or f"sqlite:///{folder}/state.db"
        snapshots = None if store is None else default_snapshot_dir(store)
        settings = ServiceSettings(snapshots=snapshots, page=True, hosts=LOCAL)
        run_server(
            load_recommender(bundle, backbone, revision=revision),
            settings,
            url,
            LOCAL[0],
            port=port,
            grace_seconds=5,
            open_browser=open_browser,
        )
