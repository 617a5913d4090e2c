"""The commands push, pull and export. Heavy imports wait inside the functions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrec.cli.options import BackboneOption, BundleArgument, JsonOption, RevisionOption

app = typer.Typer()


@app.command()
def push(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="Folder of a saved recommender.")],
    repo_id: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the hub; made if it is missing.")],
    *,
    private: Annotated[
        bool | None,
        typer.Option("--private/--public", help="Visibility of a repository that is made. [default: the account's]"),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="NAME", help="Branch to push to; made if it is missing. [default: main]")
    ] = None,
    base_model_id: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER/NAME",
            help="Public name of the base model, if it was trained from a folder. [default: as the bundle says]",
        ),
    ] = None,
    include_counts: Annotated[
        bool,
        typer.Option(
            "--include-counts/--no-include-counts", help="Include the drift head's sums of everyone's events."
        ),
    ] = True,
    backbone: BackboneOption = None,
    json_output: JsonOption = False,
) -> None:
    """Push a bundle to the Hugging Face hub in one commit.

    Prints the commit's address. The token is that of `hf auth login`, or HF_TOKEN.
    """
    from llmrec.cli.inputs import load_recommender
    from llmrec.cli.render import render_json, render_lines

    recommender = load_recommender(bundle, backbone)
    address = recommender.push_to_hub(
        repo_id, private=private, revision=revision, base_model_id=base_model_id, include_counts=include_counts
    )
    if json_output:
        render_json({"address": address})
    else:
        render_lines([address])


@app.command()
def pull(
    repo_id: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository of a bundle on the hub.")],
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder to write. [default: NAME in the working folder]")
    ] = None,
    *,
    revision: RevisionOption = None,
    json_output: JsonOption = False,
) -> None:
    """Download a bundle from the Hugging Face hub into a folder.

    Every file is checked. A bundle that is in the folder already is replaced; other files are not.
    """
    from llmrec.cli.render import render_json, render_lines
    from llmrec.hub.remote import download_bundle

    folder = Path(repo_id.rpartition("/")[2]) if output is None else output
    download_bundle(repo_id, folder, revision=revision)
    if json_output:
        render_json({"bundle": str(folder)})
    else:
        render_lines([f"{folder}: the bundle of {repo_id}. Try: llmrec recommend {folder}"])


@app.command()
def export(
    bundle: BundleArgument,
    output: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder to write, which SentenceTransformer(FOLDER) loads.")
    ],
    *,
    backbone: BackboneOption = None,
    revision: RevisionOption = None,
    json_output: JsonOption = False,
) -> None:
    """Export a bundle's text encoder.

    Its trained weights are merged in; sentence-transformers loads the folder.
    """
    from llmrec.cli.inputs import find_bundle
    from llmrec.cli.render import render_json, render_lines
    from llmrec.hub.bundle import load_backbone, load_bundle
    from llmrec.hub.encoder_export import export_merged_encoder

    folder = find_bundle(bundle, revision)
    loaded = load_bundle(folder, backbone)
    export_merged_encoder(output, load_backbone(folder, loaded, backbone=backbone), loaded)
    source = loaded.facts["source"]
    if json_output:
        render_json({"encoder": str(output), "source": source})
        return
    render_lines([f"{output}: text vectors of {source}'s recommender, by SentenceTransformer({str(output)!r})"])
