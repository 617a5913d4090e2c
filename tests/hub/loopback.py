"""A stand-in for the Hugging Face hub: repositories, commits, branches, LFS, private ones, over HTTP on loopback.

As much of the hub's API as its client asks for to push and pull models; in memory, with commits that know their tree.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
LFS_SUFFIXES = (".safetensors", ".parquet", ".bin")
LICENSES = {"apache-2.0", "mit", "other", "cc-by-4.0"}
RELATIONS = {"adapter", "merge", "quantized", "finetune"}
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class File:
    """oid: as git counts it, of the content or of the LFS pointer."""

    oid: str
    size: int
    sha256: str | None = None

    @classmethod
    def of(cls, content: bytes) -> File:
        return cls(hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), len(content))

    def told(self, path: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "oid": self.oid, "size": self.size}
        return (
            entry
            if self.sha256 is None
            else entry | {"lfs": {"oid": self.sha256, "size": self.size, "pointerSize": 134}}
        )


@dataclass(frozen=True)
class Commit:
    parent: str | None
    message: str
    tree: dict[str, File]

    @property
    def sha(self) -> str:
        listed = {path: file.oid for path, file in sorted(self.tree.items())}
        return hashlib.sha1(json.dumps([self.parent, self.message, listed]).encode()).hexdigest()


@dataclass
class Repo:
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, message: str, tree: dict[str, File]) -> str:
        made = Commit(self.branches.get(branch), message, tree)
        self.commits[made.sha] = made
        self.branches[branch] = made.sha
        return made.sha

    def sha(self, revision: str) -> str:
        found = self.branches.get(revision) or self.tags.get(revision) or revision
        if found not in self.commits:
            raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    def log(self, revision: str) -> list[str]:
        """Messages, the newest first."""
        messages, sha = list[str](), self.branches.get(revision)
        while sha is not None:
            messages.append(self.commits[sha].message)
            sha = self.commits[sha].parent
        return messages


class RefusalError(Exception):
    def __init__(self, status: int, code: str = "", message: str = "", body: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.body = status, code, body or {"error": message}


class Hub:
    """tokens: whose they are. broken: a function that is asked before each request and may raise a refusal."""

    refusal = RefusalError

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.stored: dict[str, bytes] = {}  # by git oid and by sha256
        self.tokens = {"hf_owner": "owner", "hf_guest": "guest"}
        self.broken: Callable[[str, str], None] = lambda method, path: None
        self.url = self.store = ""  # where bytes are is another host, which is not sent the token


Answer = tuple[int, dict[str, str], bytes]
ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Any]]] = []


def route(methods: str, pattern: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        ROUTES.extend((method, re.compile(pattern), function) for method in methods.split())
        return function

    return add


@dataclass
class Request:
    hub: Hub
    user: str | None
    body: bytes
    headers: Any

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body or b"{}")
        return found

    def seen(self, repo: str) -> Repo:
        found = self.hub.repos.get(repo)
        if found is None or (found.private and self.user != repo.split("/")[0]):
            if self.user is None:  # the hub does not tell strangers what there is
                raise RefusalError(401, "", "Invalid username or password.")
            raise RefusalError(404, "RepoNotFound", "Repository not found")
        return found

    def written(self, repo: str) -> Repo:
        found = self.seen(repo)
        if self.user != repo.split("/")[0]:
            raise RefusalError(403 if self.user else 401, "", "You don't have the rights to write here")
        return found


@route("POST", r"/api/repos/create")
def create(request: Request) -> dict[str, Any]:
    name = f"{request.json.get('organization') or request.user}/{request.json['name']}"
    if request.user is None or name.split("/")[0] != request.user:
        raise RefusalError(403 if request.user else 401, "", "You don't have the rights to create a model there")
    if name in request.hub.repos:
        raise RefusalError(409, "", "You already created this model repo", {"url": f"{request.hub.url}/{name}"})
    private = request.json.get("visibility") == "private" or bool(request.json.get("private"))
    attributes = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
    file = File.of(attributes)
    request.hub.stored[file.oid] = attributes
    request.hub.repos[name] = Repo(private)
    request.hub.repos[name].commit("main", "initial commit", {".gitattributes": file})
    return {"url": f"{request.hub.url}/{name}", "name": name}


@route("POST", r"/api/validate-yaml")
def validate(request: Request) -> dict[str, Any]:
    found = re.match(r"---\n(.*?)\n---\n", request.json["content"], flags=re.DOTALL)
    try:
        errors = metadata_errors(yaml.safe_load(found[1]) if found else {})
    except yaml.YAMLError as error:
        errors = [f"no YAML: {error}"]
    if errors:
        listed = [{"message": message} for message in errors]
        raise RefusalError(400, "", "Invalid metadata", {"errors": listed, "warnings": []})
    return {"errors": [], "warnings": [] if found else [{"message": "empty or missing yaml metadata in repo card"}]}


def metadata_errors(card: dict[str, Any]) -> list[str]:
    """What the hub's documentation of model cards asks of their metadata."""
    errors = []
    for key in ("tags", "datasets", "metrics"):
        if not all(isinstance(one, str) for one in card.get(key) or []) or isinstance(card.get(key), str):
            errors.append(f'"{key}" must be an array of strings')
    if "license" in card and card["license"] not in LICENSES:
        errors.append('"license" must be one of the known ones')
    if "base_model" in card and not HUB_ID.fullmatch(str(card["base_model"])):
        errors.append('"base_model" must be a repository')
    if card.get("base_model_relation", "adapter") not in RELATIONS:
        errors.append('"base_model_relation" must be one of ' + ", ".join(sorted(RELATIONS)))
    for model in card.get("model-index", []):
        if not isinstance(model.get("name"), str):
            errors.append('"model-index[0].name" is required')
        for result in model.get("results", []):
            wanted = [("task", "type"), ("dataset", "type"), ("dataset", "name")]
            errors += [
                f'"{part}.{key}" is required'
                for part, key in wanted
                if not isinstance(result.get(part, {}).get(key), str)
            ]
            errors += ['"metrics" is required'] * (not result.get("metrics"))
            errors += [
                '"metrics.type" and "metrics.value" are required'
                for metric in result.get("metrics", [])
                if not isinstance(metric.get("type"), str) or not isinstance(metric.get("value"), (int, float, str))
            ]
    return errors


@route("POST", rf"/api/models/{REPO}/preupload/(?P<revision>[^/]+)")
def preupload(request: Request, repo: str, revision: str) -> dict[str, Any]:
    held = request.written(repo)
    tree = held.commits[held.sha(revision)].tree
    files = []
    for asked in request.json["files"]:
        there = tree.get(asked["path"])
        mode = "lfs" if asked["path"].endswith(LFS_SUFFIXES) else "regular"
        known = None if there is None else there.sha256 or there.oid
        files.append({"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": known})
    return {"files": files}


@route("POST", rf"/{REPO}\.git/info/lfs/objects/batch")
def lfs_batch(request: Request, repo: str) -> dict[str, Any]:
    request.written(repo)
    objects = []
    for asked in request.json["objects"]:
        place = {"href": f"{request.hub.url}/lfs/{asked['oid']}"}
        actions = {} if asked["oid"] in request.hub.stored else {"actions": {"upload": place}}
        objects.append({"oid": asked["oid"], "size": asked["size"], **actions})
    return {"transfer": "basic", "objects": objects}


@route("PUT", r"/lfs/(?P<sha256>[0-9a-f]{64})")
def lfs_put(request: Request, sha256: str) -> dict[str, Any]:
    if hashlib.sha256(request.body).hexdigest() != sha256:
        raise RefusalError(400, "", "the content is not what was announced")
    request.hub.stored[sha256] = request.body
    return {}


@route("POST", rf"/api/models/{REPO}/commit/(?P<revision>[^/]+)")
def commit(request: Request, repo: str, revision: str) -> dict[str, Any]:
    held = request.written(repo)
    if revision not in held.branches:
        raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    header, *operations = [json.loads(line) for line in request.body.splitlines()]
    tree, contents = dict(held.commits[held.branches[revision]].tree), dict[str, bytes]()
    for operation in operations:
        value = operation["value"]
        if operation["key"] == "file":
            content = base64.b64decode(value["content"])
            tree[value["path"]] = File.of(content)
            contents[tree[value["path"]].oid] = content
        elif operation["key"] == "lfsFile":
            if value["oid"] not in request.hub.stored:
                raise RefusalError(400, "", f"LFS object {value['oid']} was never uploaded")
            size = len(request.hub.stored[value["oid"]])
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{value['oid']}\nsize {size}\n".encode()
            tree[value["path"]] = File(File.of(pointer).oid, size, value["oid"])
        elif operation["key"] == "deletedFile":
            del tree[value["path"]]
    request.hub.stored |= contents
    sha = held.commit(revision, header["value"]["summary"], tree)
    return {"success": True, "commitOid": sha, "commitUrl": f"{request.hub.url}/{repo}/commit/{sha}"}


@route("GET", rf"/api/models/{REPO}(/revision/(?P<revision>[^/]+))?")
def info(request: Request, repo: str, revision: str | None) -> dict[str, Any]:
    held = request.seen(repo)
    sha = held.sha(revision or "main")
    siblings = [{"rfilename": path} for path in held.commits[sha].tree]
    return {"id": repo, "modelId": repo, "sha": sha, "private": held.private, "tags": [], "siblings": siblings}


@route("GET", rf"/api/models/{REPO}/tree/(?P<revision>[^/]+)(/(?P<folder>.*))?")
def tree(request: Request, repo: str, revision: str, folder: str | None) -> list[dict[str, Any]]:
    held = request.seen(repo)
    inside = f"{folder}/" if folder else ""
    return [file.told(path) for path, file in held.commits[held.sha(revision)].tree.items() if path.startswith(inside)]


@route("POST DELETE", rf"/api/models/{REPO}/(?P<kind>branch|tag)/(?P<name>[^/]+)")
def ref(request: Request, repo: str, kind: str, name: str) -> dict[str, Any]:
    held = request.written(repo)
    refs = held.branches if kind == "branch" else held.tags
    if request.headers["X-Method"] == "DELETE":
        del refs[name]
        return {}
    if kind == "tag":  # of the revision that is named
        name, revision = request.json["tag"], name
    else:
        revision = request.json.get("startingPoint", "main")
    if name in refs:
        raise RefusalError(409, "", f"Reference {name} exists")
    refs[name] = held.sha(revision)
    return {}


@route("GET", rf"/api/models/{REPO}/refs")
def refs(request: Request, repo: str) -> dict[str, Any]:
    held = request.seen(repo)

    def listed(names: dict[str, str], kind: str) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha} for name, sha in names.items()]

    return {"branches": listed(held.branches, "heads"), "tags": listed(held.tags, "tags"), "converts": []}


@route("GET HEAD", rf"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
def resolve(request: Request, repo: str, revision: str, path: str) -> Answer:
    held = request.seen(repo)
    sha = held.sha(revision)
    file = held.commits[sha].tree.get(path)
    if file is None:
        raise RefusalError(404, "EntryNotFound", "Entry not found")
    headers = {"X-Repo-Commit": sha, "ETag": f'"{file.sha256 or file.oid}"'}
    if file.sha256 is None:
        return 200, headers, request.hub.stored[file.oid]
    linked = {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(file.size)}
    return 302, headers | linked | {"Location": f"{request.hub.store}/lfs/{file.sha256}"}, b""


@route("GET HEAD", r"/lfs/(?P<sha256>[0-9a-f]{64})")
def lfs_get(request: Request, sha256: str) -> Answer:
    if sha256 not in request.hub.stored:
        raise RefusalError(404, "EntryNotFound", "no such object")
    return 200, {"ETag": f'"{sha256}"'}, request.hub.stored[sha256]


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self._body()
        place = urlsplit(self.path)
        user = self.hub.tokens.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))
        self.headers["X-Method"] = self.command
        request = Request(self.hub, user, body, self.headers)
        try:
            self.hub.broken(self.command, place.path)
            found = self._found(request, place.path)
            status, headers, content = found if isinstance(found, tuple) else (200, {}, json.dumps(found).encode())
        except RefusalError as refusal:
            status, content = refusal.status, json.dumps(refusal.body).encode()
            headers = {"X-Error-Message": str(refusal)} | ({"X-Error-Code": refusal.code} if refusal.code else {})
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - the names of http.server

    def _found(self, request: Request, path: str) -> Any:
        for method, pattern, function in ROUTES:
            if method == self.command and (match := pattern.fullmatch(path)):
                named = match.groupdict()
                return function(request, **{name: part and unquote(part) for name, part in named.items()})
        raise RefusalError(404, "", f"the stand-in does not know {self.command} {path}")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def loopback() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url, hub.store = (f"http://{host}:{server.server_address[1]}" for host in ("127.0.0.1", "localhost"))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
