"""Verbs of the `llmrec` command that take a bundle elsewhere.

What is heavy is imported inside.
"""

from __future__ import annotations

from pathlib import Path


def push(
    bundle: Path,
    repo_id: str,
    private: bool | None = None,
    revision: str | None = None,
    base: str | None = None,
    counts: bool = True,
    backbone: str | None = None,
) -> None:
    """Check a bundle, put it on the hub in one commit, and print that commit's address.

    The token is that of `hf auth login`, or HF_TOKEN.

    Args:
        bundle: the folder of a saved recommender.
        repo_id: OWNER/NAME on the hub; made if it is not there.
        private: of a repository that is made; --private for short.
        revision: a branch, made if there is none; main unless given.
        base: the public name of the base model, where it was trained from a folder.
        counts: with what a drift head has counted of everybody's events; `false` leaves it out.
        backbone: a local copy of the base model, for bundles whose backbone encodes histories.
    """
    from llmrec.cli.inputs import load_recommender

    print(
        load_recommender(bundle, backbone).push_to_hub(
            repo_id, private=private, revision=revision, base_model_id=base, include_counts=counts
        )
    )


def export(bundle: Path, merged: Path, backbone: str | None = None) -> None:
    """Write a bundle's text encoder with its trained weights merged in, for those who want text vectors alone.

    Args:
        bundle: the folder of a saved recommender.
        merged: the folder to write; SentenceTransformer(FOLDER) loads it.
        backbone: a local copy of the base model.
    """
    from llmrec.hub.bundle import load_backbone, load_bundle
    from llmrec.hub.encoder_export import export_merged_encoder
    from llmrec.hub.remote import resolve_bundle

    folder = resolve_bundle(bundle)
    loaded = load_bundle(folder, backbone)
    export_merged_encoder(merged, load_backbone(folder, loaded, backbone), loaded)
    print(f"{merged}: text vectors of {loaded.facts['source']}'s recommender, by SentenceTransformer({str(merged)!r})")
