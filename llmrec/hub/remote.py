"""To the hub and back: a bundle is one commit there, and what is fetched is verified as any other folder.

What is pushed names its base model and its log as the world knows them, not by where this machine keeps them.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path, PureWindowsPath
from tempfile import TemporaryDirectory

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from llmrec.backbones.resolve import is_hub_id
from llmrec.config.backbone import BackboneConfig
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.errors import BundleError
from llmrec.hub.bundle import Bundle, save_bundle
from llmrec.hub.card import RepoRef
from llmrec.hub.layout import LAYOUT, recover_folder
from llmrec.hub.remote_errors import FAILURES, LOG_IN, translate_hub_errors

Token = str | bool | None
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
FILES = list(asdict(LAYOUT).values())


def resolve_bundle(name: str | Path, revision: str | None = None, token: Token = None) -> Path:
    """The folder of a bundle: `name` itself, or the copy of a hub repository in the cache, fetched if need be.

    Raises:
        BundleError: as `pull_bundle`, or a revision of a folder.
    """
    folder = Path(name)
    if not folder.exists():
        recover_folder(folder.resolve())
    if not folder.exists() and HUB_ID.fullmatch(Path(name).as_posix()) and is_hub_id(str(name)):
        return pull_bundle(Path(name).as_posix(), revision, token)
    if revision is not None:
        raise BundleError(
            f"{name} is no repository of the hub, so that revision={revision!r} means nothing; leave it out"
        )
    return folder


def pull_bundle(repo_id: str, revision: str | None = None, token: Token = None) -> Path:
    """Fetch a bundle's own files, and nothing else that a repository may hold, into the hub's cache.

    Raises:
        BundleError: no such repository for this token, no such revision, no bundle in it, or no network.
    """
    with translate_hub_errors(repo_id, "cannot be fetched"):
        try:
            found = snapshot_download(repo_id, revision=revision, token=token, allow_patterns=FILES)
        except RevisionNotFoundError as error:
            refs = HfApi(token=token).list_repo_refs(repo_id)
            known = ", ".join(ref.name for ref in (*refs.branches, *refs.tags))
            raise BundleError(
                f"{repo_id} has no revision {revision!r}; it has {known}, and commits by their sha"
            ) from error
        except HfHubHTTPError as error:
            if isinstance(error, RepositoryNotFoundError) or error.response.status_code == 401:  # a stranger's answer
                raise BundleError(
                    f"{repo_id} is no folder here, and no repository on {constants.ENDPOINT} that you may see; correct "
                    f"the name, and for a private one {LOG_IN}"
                ) from error
            raise
    folder = Path(found)
    if not (folder / LAYOUT.settings).is_file():
        raise BundleError(f"{repo_id} (revision {revision or 'main'}) is on the hub and holds no bundle of llmrec")
    return folder


def push_bundle(
    bundle: Bundle,
    repo_id: str,
    private: bool | None = None,
    revision: str | None = None,
    token: Token = None,
    message: str = "A recommender, by llmrec",
) -> str:
    """Put a bundle, see `strip_private_paths`, on the hub in one commit, in place of one that was there; the commit's
    address.

    private: of a repository that is made for it; None: as the hub does by default. revision: a branch, made if there is
    none.

    Raises:
        BundleError: a repository that is public and was to be private, or what the hub has against it.
    """
    if not HUB_ID.fullmatch(repo_id):
        raise BundleError(f"{repo_id!r} is no repository of the hub; give OWNER/NAME")
    with TemporaryDirectory(prefix="llmrec-push-") as scratch:
        folder = Path(scratch) / "bundle"
        save_bundle(folder, bundle, RepoRef(repo_id, revision))
        with translate_hub_errors(repo_id, "was not pushed, and nothing of it is published"):
            return _commit_files(HfApi(token=token), folder, repo_id, private, revision, message)


def strip_private_paths(bundle: Bundle, base: str | None = None, counts: bool = True) -> Bundle:
    """The bundle without this machine's paths.

    base: the public name of the base model, where the bundle knows it by a path alone. counts: with what a drift head
    has counted, where there is any.

    Raises:
        BundleError: nobody knows a public name of the base model.
    """
    known, drift = bundle.base, bundle.drift
    if known is not None:
        known = replace(known, hub_id=base or known.hub_id)
        if not is_hub_id(known.hub_id):
            raise BundleError(
                f"the base model is known by its place on this machine alone ({known.hub_id}), so that nobody else "
                "could load it; push it first, and give its name as base=OWNER/NAME"
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
    """A path as far as it tells nothing of a machine: its last part if it begins at the root or in a home folder."""
    if path is None:
        return None
    parts = PureWindowsPath(path)  # which knows the separators of both worlds
    return parts.name if parts.root or parts.drive or path.startswith("~") or ".." in parts.parts else path


def _commit_files(
    api: HfApi, folder: Path, repo_id: str, private: bool | None, revision: str | None, message: str
) -> str:
    """Bytes first, then the commit that makes them visible: what breaks before it leaves the repository as it was."""
    api.create_repo(repo_id, private=private, exist_ok=True)
    if private and not api.model_info(repo_id).private:
        raise BundleError(f"{repo_id} exists and is public; make it private on the hub, or give another name")
    api.preupload_lfs_files(repo_id, _list_uploads(folder))
    with _open_branch(api, repo_id, revision) if revision else nullcontext(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "It seems that you are about to commit a data file", UserWarning)
        there = set(api.list_repo_files(repo_id, revision=revision))
        stale = there & set(FILES) - {path.name for path in folder.iterdir()}
        deletions = [CommitOperationDelete(name) for name in sorted(stale)]
        operations: list[CommitOperationAdd | CommitOperationDelete] = [*_list_uploads(folder), *deletions]
        return api.create_commit(repo_id, operations, commit_message=message, revision=revision).commit_url


def _list_uploads(folder: Path) -> list[CommitOperationAdd]:
    """Anew for each call: the client keeps in them what it has done with them."""
    return [CommitOperationAdd(path.name, path) for path in sorted(folder.iterdir())]


@contextmanager
def _open_branch(api: HfApi, repo_id: str, name: str) -> Iterator[None]:
    """A branch to commit to. A new one goes again if that fails, or its name would stand for what main holds."""
    refs = api.list_repo_refs(repo_id)
    if name in [tag.name for tag in refs.tags]:
        raise BundleError(f"{repo_id}: {name!r} is a tag, which stays where it is; give a branch as revision=")
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
