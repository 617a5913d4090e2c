"""Upload and download of bundles: one commit on the Hub, verified after download like any folder.

An uploaded bundle names its base model and its log by their public names, without this machine's paths.
"""

from __future__ import annotations

import logging
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path, PureWindowsPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from llmrec.backbones.model_files.resolve import is_hub_id
from llmrec.config.backbone import BackboneConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.errors import BundleError
from llmrec.hub.bundle import Bundle, save_bundle
from llmrec.hub.bundle_record import read_record, translate_read_errors
from llmrec.hub.card import RepoRef
from llmrec.hub.layout import LAYOUT, atomic_folder, check_destination, recover_folder, verify_hashes

# The client is imported where it is used: a bundle in a folder is loaded without it.
if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

logger = logging.getLogger(__name__)
Token = str | bool | None
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
FILES = list(asdict(LAYOUT).values())


def resolve_bundle(name: str | Path, revision: str | None = None, *, token: Token = None) -> Path:
    """Return the folder of a bundle, downloaded from the Hub if needed.

    Args:
        name: Folder, or OWNER/NAME of a repository.
        revision: Branch, tag or commit of the repository.
        token: Token of the Hub.

    Returns:
        The folder, or the copy of the repository in the cache.

    Raises:
        BundleError: If the repository cannot be downloaded, or a revision is given for a folder.
    """
    folder = Path(name)
    if not folder.exists():
        recover_folder(folder.resolve())
    if not folder.exists() and HUB_ID.fullmatch(Path(name).as_posix()) and is_hub_id(str(name)):
        return pull_bundle(Path(name).as_posix(), revision, token=token)
    if revision is not None:
        raise BundleError(f"revision={revision!r}: {name} is not a repository of the Hub. Leave the revision out.")
    return folder


def pull_bundle(repo_id: str, revision: str | None = None, *, token: Token = None) -> Path:
    """Download the files of a bundle, and no others of the repository, into the Hub's cache.

    Args:
        repo_id: OWNER/NAME.
        revision: Branch, tag or commit; None for the default branch.
        token: Token of the Hub.

    Returns:
        Folder in the cache.

    Raises:
        BundleError: If the token cannot see such a repository or revision, it has no bundle, or there is no network.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    from llmrec.hub.remote_errors import LOG_IN, translate_hub_errors

    with translate_hub_errors(repo_id, "cannot be downloaded"):
        try:
            found = snapshot_download(repo_id, revision=revision, token=token, allow_patterns=FILES)
        except RevisionNotFoundError as error:
            refs = HfApi(token=token).list_repo_refs(repo_id)
            known = ", ".join(ref.name for ref in (*refs.branches, *refs.tags))
            raise BundleError(
                f"{repo_id}: no revision {revision!r}. Use one of {known}, or the sha of a commit."
            ) from error
        except HfHubHTTPError as error:
            if isinstance(error, RepositoryNotFoundError) or error.response.status_code == 401:  # without access
                raise BundleError(
                    f"{repo_id}: no such folder, and no repository on {constants.ENDPOINT} that you can access. "
                    f"Correct the name; for a private repository, {LOG_IN}."
                ) from error
            raise
    folder = Path(found)
    if not (folder / LAYOUT.settings).is_file():
        raise BundleError(
            f"{repo_id}: no bundle of llmrec in revision {revision or 'main'}. Give another repository or revision."
        )
    return folder


def download_bundle(repo_id: str, folder: Path, *, revision: str | None = None, token: Token = None) -> None:
    """Download a bundle into a folder, completely or not at all; an older bundle there is replaced.

    Args:
        repo_id: OWNER/NAME.
        folder: Folder to write.
        revision: Branch, tag or commit; None for the default branch.
        token: Token of the Hub.

    Raises:
        BundleError: If it cannot be downloaded, a file is not the one that was pushed, or the folder holds other files.
    """
    if not HUB_ID.fullmatch(repo_id):
        raise BundleError(f"{repo_id!r}: not a repository of the Hub. Give OWNER/NAME.")
    check_destination(folder)
    found = pull_bundle(repo_id, revision, token=token)
    with translate_read_errors(found):
        verify_hashes(found, read_record(found)["files"], with_all=True)
    with atomic_folder(folder) as scratch:
        for path in found.iterdir():
            if path.name in FILES:
                shutil.copyfile(path, scratch / path.name)  # the cache holds links


def push_bundle(
    bundle: Bundle,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: Token = None,
    message: str = "A recommender, by llmrec",
) -> str:
    """Upload a bundle to the Hub in one commit, which replaces an earlier one.

    Args:
        bundle: The bundle, after `strip_private_paths`.
        repo_id: OWNER/NAME.
        private: Whether a new repository is private; None for the Hub's default.
        revision: Branch, created if needed; None for the default branch.
        token: Token of the Hub.
        message: Message of the commit.

    Returns:
        URL of the commit.

    Raises:
        BundleError: If the repository is public although `private` is set, or the Hub refuses.
    """
    from huggingface_hub import HfApi

    from llmrec.hub.remote_errors import translate_hub_errors

    if not HUB_ID.fullmatch(repo_id):
        raise BundleError(f"{repo_id!r}: not a repository of the Hub. Give OWNER/NAME.")
    reason = next(iter(bundle.evaluation.get("adaptation", {}).values()), "")
    if reason and bundle.trained_backbone is None:
        logger.warning("%s: no adapter in this bundle. %s", repo_id, reason)
    with TemporaryDirectory(prefix="llmrec-push-") as scratch:
        folder = Path(scratch) / "bundle"
        save_bundle(folder, bundle, address=RepoRef(repo_id, revision))
        with translate_hub_errors(repo_id, "not pushed, and nothing is published"):
            return _commit_files(
                HfApi(token=token), folder, repo_id, private=private, revision=revision, message=message
            )


def strip_private_paths(bundle: Bundle, base: str | None = None, *, counts: bool = True) -> Bundle:
    """Return the bundle without this machine's paths.

    Args:
        bundle: The bundle.
        base: Public name of the base model, needed if the bundle knows only a path.
        counts: Whether to keep the counts of a drift head.

    Returns:
        The bundle to upload.

    Raises:
        BundleError: If the base model has no public name.
    """
    known, drift = bundle.base, bundle.drift
    if known is not None:
        known = replace(known, hub_id=base or known.hub_id)
        if not is_hub_id(known.hub_id):
            raise BundleError(
                f"base model {known.hub_id}: a path on this machine, from which other users cannot load it. Push it "
                "first, and give its name as base_model_id=OWNER/NAME."
            )
    if drift is not None and not counts:
        drift = replace(drift, counts=None)
    config = _strip_paths(bundle.config, None if known is None else known.hub_id)
    return replace(bundle, base=known, config=config, drift=drift)


def _strip_paths(config: FinetuneConfig, base: str | None) -> FinetuneConfig:
    data = config.data
    backbone = replace(config.backbone, name=base or BackboneConfig.name, hub_id=base)
    shared = replace(
        data,
        source=_public_path(data.source),
        interactions=_public_path(data.interactions),
        items=_public_path(data.items),
    )
    if data.pseudonyms is not None:
        key = replace(data.pseudonyms, key_file=_public_path(data.pseudonyms.key_file))
        shared = replace(shared, pseudonyms=key)
    return replace(config, data=shared, backbone=backbone, output=Path(_public_path(str(config.output)) or "."))


def _public_path(path: str | None) -> str | None:
    """Return the last part of a path that starts at the root or in a home folder, else the path."""
    if path is None:
        return None
    parts = PureWindowsPath(path)  # handles the separators of all systems
    return parts.name if parts.root or parts.drive or path.startswith("~") or ".." in parts.parts else path


def _commit_files(
    api: HfApi, folder: Path, repo_id: str, *, private: bool | None, revision: str | None, message: str
) -> str:
    """Upload files, then commit them; a failure before the commit leaves the repository unchanged."""
    from huggingface_hub import CommitOperationDelete

    api.create_repo(repo_id, private=private, exist_ok=True)
    if private and not api.model_info(repo_id).private:
        raise BundleError(f"{repo_id}: exists and is public. Make it private on the Hub, or give another name.")
    api.preupload_lfs_files(repo_id, _list_uploads(folder))
    with _open_branch(api, repo_id, revision) if revision else nullcontext(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "It seems that you are about to commit a data file", UserWarning)
        there = set(api.list_repo_files(repo_id, revision=revision))
        stale = there & set(FILES) - {path.name for path in folder.iterdir()}
        deletions = [CommitOperationDelete(name) for name in sorted(stale)]
        operations: list[CommitOperationAdd | CommitOperationDelete] = [*_list_uploads(folder), *deletions]
        return api.create_commit(repo_id, operations, commit_message=message, revision=revision).commit_url


def _list_uploads(folder: Path) -> list[CommitOperationAdd]:
    """List the files to upload, again for each call, because the client stores their progress in the list."""
    from huggingface_hub import CommitOperationAdd

    return [CommitOperationAdd(path.name, path) for path in sorted(folder.iterdir())]


@contextmanager
def _open_branch(api: HfApi, repo_id: str, name: str) -> Iterator[None]:
    """Open a branch to commit to, and delete a new one if the commit fails."""
    from llmrec.hub.remote_errors import FAILURES

    refs = api.list_repo_refs(repo_id)
    if name in [tag.name for tag in refs.tags]:
        raise BundleError(f"{repo_id}: {name!r} is a tag and cannot be changed. Give a branch as revision=.")
    new = name not in [branch.name for branch in refs.branches]
    if new:
        api.create_branch(repo_id, branch=name)
    try:
        yield
    except BaseException:
        if new:
            with suppress(*FAILURES):
                api.delete_branch(repo_id, branch=name)
        raise
