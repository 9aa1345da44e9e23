"""How files come to a loopback Hub and go from it: preupload, LFS, commits, resolve, and the storage behind it."""

import base64
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import flask

from tests.loopback import hub_cards, hub_xet
from tests.loopback.hub_access import KINDS, WHERE, Account, prefix, readable, refuse, signed_in, writable
from tests.loopback.hub_api import opened
from tests.loopback.hub_repos import Entry, HubError, Repo, lfs_entry

if TYPE_CHECKING:
    from tests.loopback.hub import LoopbackHub


def add_routes(app: flask.Flask, hub: "LoopbackHub") -> None:
    """All routes of this module, those of the storage aside."""
    _upload_routes(app, hub)
    _file_routes(app, hub)


def _upload_routes(app: flask.Flask, hub: "LoopbackHub") -> None:
    @app.post(f"{WHERE}/preupload/<segment:revision>")
    def preupload(kinds: str, owner: str, name: str, revision: str) -> Any:
        repo, _ = writable(hub, KINDS[kinds], owner, name, revision=revision)
        asked, tree = flask.request.get_json(), repo.resolve(revision).tree
        ignored = asked.get("gitIgnore")
        if ignored is None and ".gitignore" in tree:
            ignored = hub.store.path(tree[".gitignore"]).read_text()
        return {"files": [_preuploaded(hub, tree, f, (ignored or "").split()) for f in asked["files"]]}

    @app.post("/<owner>/<name>.git/info/lfs/objects/batch")
    @app.post("/<any(datasets, spaces):kinds>/<owner>/<name>.git/info/lfs/objects/batch")
    def lfs_batch(owner: str, name: str, kinds: str = "models") -> Any:
        asked = flask.request.get_json()
        writable(hub, KINDS[kinds], owner, name, revision=asked.get("ref", {}).get("name", ""))
        return {"transfer": "basic", "objects": [_lfs_action(hub, o) for o in asked["objects"]]}

    @app.post("/api/lfs/verify")
    def lfs_verify() -> Any:
        asked = flask.request.get_json()
        path = hub.store.root / "lfs" / asked["oid"]
        if not path.is_file() or path.stat().st_size != asked["size"]:
            raise HubError(404, "The object is not there")
        return {}

    @app.post(f"{WHERE}/commit/<segment:revision>")
    def commit(kinds: str, owner: str, name: str, revision: str) -> Any:
        as_request = flask.request.args.get("create_pr") == "1"
        account = signed_in(hub)
        if as_request:
            repo = readable(hub, KINDS[kinds], owner, name)
        else:
            repo, _ = writable(hub, KINDS[kinds], owner, name, revision=revision)
        lines = [json.loads(line) for line in flask.request.get_data().splitlines() if line.strip()]
        with hub.store.lock:
            return _committed(hub, repo, account, revision, lines, as_request=as_request)


def _preuploaded(
    hub: "LoopbackHub", tree: Mapping[str, Entry], file: dict[str, Any], ignored: list[str]
) -> dict[str, Any]:
    path, known = file["path"], tree.get(file["path"])
    lfs = hub.store.is_lfs(path, file["size"], base64.b64decode(file["sample"]), hub.store.attributes(tree))
    answer = {
        "path": path,
        "uploadMode": "lfs" if lfs else "regular",
        "shouldIgnore": any(Path(path).match(p) or path.startswith(p.rstrip("/") + "/") for p in ignored),
    }
    return answer | ({"oid": known.sha256 or known.oid} if known else {})


def _lfs_action(hub: "LoopbackHub", wanted: dict[str, Any]) -> dict[str, Any]:
    """No actions for an object that is already there: the client then sends nothing."""
    answer = {"oid": wanted["oid"], "size": wanted["size"]}
    if not hub.store.has_lfs(wanted["oid"]):
        upload = {"href": hub.signed("PUT", wanted["oid"])}
        answer["actions"] = {"upload": upload, "verify": {"href": f"{hub.url}/api/lfs/verify"}}
    return answer


def _committed(
    hub: "LoopbackHub", repo: Repo, account: Account, revision: str, lines: list[dict[str, Any]], *, as_request: bool
) -> dict[str, Any]:
    header = next(line["value"] for line in lines if line["key"] == "header")
    if not header.get("summary"):
        raise HubError(400, "The commit summary is empty")
    ref = repo.branch(revision)
    head, parent = repo.refs[ref], header.get("parentCommit")
    if parent and not as_request and not head.startswith(parent):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    base = repo.resolve(parent) if parent and as_request else repo.commits[head]
    tree = _changed(hub, repo, base.tree, lines)
    if as_request:
        request = opened(hub, repo, account, header["summary"], base=base.oid)
        ref = f"refs/pr/{request.num}"
    made = hub.store.commit(
        repo, ref, tree, title=header["summary"], description=header.get("description", ""), author=account.name
    )
    page = f"{hub.url}/{prefix(repo.kind)}{repo.id}"
    answer = {"success": True, "commitOid": made.oid, "commitUrl": f"{page}/commit/{made.oid}", "hookOutput": ""}
    return answer | ({"pullRequestUrl": f"{page}/discussions/{request.num}"} if as_request else {})


def _changed(
    hub: "LoopbackHub", repo: Repo, tree: Mapping[str, Entry], lines: list[dict[str, Any]]
) -> dict[str, Entry]:
    """The tree after the operations of a commit. Raises HubError, and then nothing has changed."""
    new = dict(tree)
    for line in lines:
        kind, value = line["key"], line["value"]
        path = value.get("path", "").rstrip("/")
        if kind == "file":
            new[path] = _regular(hub, repo, path, base64.b64decode(value["content"]))
        elif kind == "lfsFile":
            if not hub.store.has_lfs(value["oid"]):
                raise HubError(400, f"LFS pointer pointed to a file that does not exist: {path}")
            new[path] = lfs_entry(value["oid"], (hub.store.root / "lfs" / value["oid"]).stat().st_size)
        elif kind == "deletedFile":
            if new.pop(path, None) is None:
                raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        elif kind == "deletedFolder":
            inside = [p for p in new if p.startswith(f"{path}/")]
            if not inside:
                raise HubError(404, f"A folder with this name doesn't exist: {path}", "EntryNotFound")
            for p in inside:
                del new[p]
        elif kind != "header":
            raise HubError(400, f"Unknown operation {kind}")
    return new


def _regular(hub: "LoopbackHub", repo: Repo, path: str, data: bytes) -> Entry:
    if any(token.encode() in data for token in hub.tokens):
        raise HubError(400, f"Your push was rejected because {path} contains valid Hugging Face secrets")
    if path == "README.md":
        errors, _ = hub_cards.check(data.decode(), repo.kind)
        if errors:
            raise HubError(400, f"Invalid metadata in README.md: {errors[0]}")
    return hub.store.put_git(data)


# -------------------------------------------------------------------- files


def _file_routes(app: flask.Flask, hub: "LoopbackHub") -> None:
    @app.get("/<owner>/<name>/resolve/<segment:revision>/<path:path>")
    @app.get("/<any(datasets, spaces):kinds>/<owner>/<name>/resolve/<segment:revision>/<path:path>")
    def resolve(owner: str, name: str, revision: str, path: str, kinds: str = "models") -> Any:
        commit = readable(hub, KINDS[kinds], owner, name).resolve(revision)
        entry = commit.tree.get(unquote(path))
        if entry is None:
            answer = refuse(HubError(404, f"{path} does not exist on {revision}", "EntryNotFound"))
        elif entry.sha256:
            answer = flask.redirect(hub.signed("GET", entry.sha256))
            answer.headers["X-Linked-Etag"] = f'"{entry.sha256}"'
            answer.headers["X-Linked-Size"] = str(entry.size)
            if name_in_xet := hub.chunks.named(entry.sha256):
                route = f"{hub.url}/api/{kinds}/{owner}/{name}/xet-read-token/{commit.oid}"
                answer.headers["X-Xet-Hash"] = name_in_xet
                answer.headers["Link"] = f'<{route}>; rel="xet-auth"'
        else:
            answer = _sent(hub.store.path(entry), entry.oid)
        answer.headers["X-Repo-Commit"] = commit.oid
        return answer


def _sent(path: Path, etag: str) -> flask.Response:
    return flask.send_file(path.absolute(), mimetype="application/octet-stream", etag=etag, conditional=True)


def storage_app(hub: "LoopbackHub") -> flask.Flask:
    """The other origin: whoever has a signed url may put or get that one object, and no token is welcome."""
    app = flask.Flask("loopback-storage")
    app.register_error_handler(HubError, refuse)

    def check(sha256: str) -> None:
        method = "PUT" if flask.request.method == "PUT" else "GET"
        if "Authorization" in flask.request.headers:
            raise HubError(400, "Only one auth mechanism allowed")
        if not hmac.compare_digest(flask.request.args.get("X-Amz-Signature", ""), hub.signature(method, sha256)):
            raise HubError(403, "The request signature does not match")

    @app.put("/lfs/<sha256>")
    def put(sha256: str) -> Any:
        check(sha256)
        hub.store.put_lfs(sha256, flask.request.stream)
        return "", 200

    @app.get("/lfs/<sha256>")
    def get(sha256: str) -> Any:
        check(sha256)
        return _sent(hub.store.root / "lfs" / sha256, sha256)

    hub_xet.add_storage_routes(app, hub)
    return app
