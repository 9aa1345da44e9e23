"""The Hub's API on repos, listings, refs and pull requests, and the control by which a manual walk adds faults."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import flask

from tests.loopback import hub_cards
from tests.loopback.hub_access import KINDS, WHERE, Account, prefix, readable, signed_in, writable
from tests.loopback.hub_repos import MAIN, Commit, Entry, HubError, PullRequest, Repo, now

if TYPE_CHECKING:
    from tests.loopback.hub import LoopbackHub


def add_routes(app: flask.Flask, hub: "LoopbackHub") -> None:
    """All routes of this module."""
    for routes in (_account_routes, _repo_routes, _listing_routes, _ref_routes, _pull_request_routes, _control_routes):
        routes(app, hub)


def _account_routes(app: flask.Flask, hub: "LoopbackHub") -> None:
    @app.get("/api/whoami-v2")
    def whoami() -> Any:
        account = signed_in(hub)
        token = {"displayName": "loopback", "role": account.role}
        orgs = [{"type": "org", "name": o, "fullname": o, "roleInOrg": account.role} for o in account.orgs]
        return {
            "type": "user",
            "id": account.name,
            "name": account.name,
            "fullname": account.name,
            "orgs": orgs,
            "auth": {"type": "access_token", "accessToken": token},
        }

    @app.post("/api/validate-yaml")
    def validate_yaml() -> Any:
        asked = flask.request.get_json()
        errors, warnings = hub_cards.check(asked["content"], asked.get("repoType") or "model")
        answer = {"errors": [{"message": e} for e in errors], "warnings": [{"message": w} for w in warnings]}
        return answer, 400 if errors else 200


# -------------------------------------------------------------------- repos


def _repo_routes(app: flask.Flask, hub: "LoopbackHub") -> None:
    @app.post("/api/repos/create")
    def create() -> Any:
        asked = flask.request.get_json()
        account = signed_in(hub)
        owner, kind = asked.get("organization") or account.name, asked.get("type") or "model"
        if not account.may_write(owner):
            raise HubError(403, f'You don\'t have the rights to create a {kind} under the namespace "{owner}"')
        repo_id = f"{owner}/{asked['name']}"
        url = f"{hub.url}/{prefix(kind)}{repo_id}"
        with hub.store.lock:
            if (kind, repo_id) in hub.store.repos:
                return {"error": f"You already created this {kind} repo", "url": url}, 409
            hub.store.create(kind, repo_id, private=asked.get("visibility") == "private")
        return {"url": url, "name": repo_id, "id": repo_id}

    @app.delete("/api/repos/delete")
    def delete() -> Any:
        asked = flask.request.get_json()
        owner, kind = asked.get("organization") or signed_in(hub).name, asked.get("type") or "model"
        repo, _ = writable(hub, kind, owner, asked["name"])
        with hub.store.lock:
            del hub.store.repos[repo.kind, repo.id]
            hub.store.save()
        return {}

    @app.get(WHERE)
    @app.get(f"{WHERE}/revision/<segment:revision>")
    def info(kinds: str, owner: str, name: str, revision: str = "main") -> Any:
        repo = readable(hub, KINDS[kinds], owner, name)
        commit = repo.resolve(revision)
        readme = commit.tree.get("README.md")
        return {
            "_id": repo.id,
            "id": repo.id,
            "author": owner,
            "sha": commit.oid,
            "private": repo.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "createdAt": repo.history("main")[-1].date,
            "lastModified": commit.date,
            "cardData": hub_cards.card_data(hub.store.path(readme).read_text()) if readme else {},
            "siblings": [_sibling(p, e, blobs="blobs" in flask.request.args) for p, e in commit.tree.items()],
        }


def _sibling(path: str, entry: Entry, *, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": path}
    lfs = {"lfs": {"sha256": entry.sha256, "size": entry.size, "pointerSize": 130}} if entry.sha256 else {}
    return {"rfilename": path, "size": entry.size, "blobId": entry.oid, **lfs}


# -------------------------------------------------------------------- listings


def _listing_routes(app: flask.Flask, hub: "LoopbackHub") -> None:
    @app.get(f"{WHERE}/tree/<segment:revision>")
    @app.get(f"{WHERE}/tree/<segment:revision>/<segment:folder>")
    def tree(kinds: str, owner: str, name: str, revision: str, folder: str = "") -> Any:
        commit = readable(hub, KINDS[kinds], owner, name).resolve(revision)
        args = flask.request.args
        items = _listed(
            commit, folder.strip("/"), recursive=_is_true(args, "recursive"), expand=_is_true(args, "expand")
        )
        if folder and not items:
            raise HubError(404, f"{folder} does not exist on {revision}", "EntryNotFound")
        start, size = int(args.get("cursor", 0)), int(args.get("limit", hub.page_size))
        answer = flask.jsonify(items[start : start + size])
        if start + size < len(items):
            query = "&".join(f"{k}={v}" for k, v in args.items() if k != "cursor")
            here = hub.url + flask.request.environ["REQUEST_URI"].partition("?")[0]
            answer.headers["Link"] = f'<{here}?{query}&cursor={start + size}>; rel="next"'
        return answer

    @app.post(f"{WHERE}/paths-info/<segment:revision>")
    def paths_info(kinds: str, owner: str, name: str, revision: str) -> Any:
        commit = readable(hub, KINDS[kinds], owner, name).resolve(revision)
        asked = flask.request.get_json() if flask.request.is_json else flask.request.form
        paths = asked["paths"] if flask.request.is_json else asked.getlist("paths")
        expand = str(asked.get("expand", "")).lower() == "true"
        known = {item["path"]: item for item in _listed(commit, "", recursive=True, expand=expand)}
        return flask.jsonify([known[p.strip("/")] for p in paths if p.strip("/") in known])

    @app.get(f"{WHERE}/commits/<segment:revision>")
    def commits(kinds: str, owner: str, name: str, revision: str) -> Any:
        history = readable(hub, KINDS[kinds], owner, name).history(revision)
        return flask.jsonify(
            [
                {
                    "id": c.oid,
                    "title": c.title,
                    "message": c.description,
                    "date": c.date,
                    "authors": [{"user": c.author}],
                }
                for c in history
            ]
        )


def _is_true(args: Mapping[str, str], name: str) -> bool:
    return args.get(name, "").lower() in ("true", "1")


def _listed(commit: Commit, folder: str, *, recursive: bool, expand: bool) -> list[dict[str, Any]]:
    """Files and folders below `folder` in order of their paths."""
    prefix = f"{folder}/" if folder else ""
    items: dict[str, dict[str, Any]] = {}
    last = {"lastCommit": {"id": commit.oid, "title": commit.title, "date": commit.date}} if expand else {}
    for path, entry in commit.tree.items():
        if not path.startswith(prefix):
            continue
        parts = path[len(prefix) :].split("/")
        for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
            below = prefix + "/".join(parts[:depth])
            items.setdefault(below, {"type": "directory", "path": below, "oid": entry.oid, "size": 0, **last})
        if recursive or len(parts) == 1:
            items[path] = {"type": "file", "path": path, "oid": entry.oid, "size": entry.size, **last}
            if entry.sha256:
                items[path]["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": 130}
    return [items[path] for path in sorted(items)]


# -------------------------------------------------------------------- branches, tags, pull requests


def _ref_routes(app: flask.Flask, hub: "LoopbackHub") -> None:
    @app.get(f"{WHERE}/refs")
    def refs(kinds: str, owner: str, name: str) -> Any:
        repo = readable(hub, KINDS[kinds], owner, name)
        found: dict[str, list[dict[str, str]]] = {"branches": [], "converts": [], "tags": [], "pullRequests": []}
        for start, group in (("refs/heads/", "branches"), ("refs/tags/", "tags"), ("refs/pr/", "pullRequests")):
            for ref, oid in sorted(repo.refs.items()):
                if ref.startswith(start):
                    found[group].append({"name": ref.removeprefix(start), "ref": ref, "targetCommit": oid})
        if not flask.request.args.get("include_prs"):
            del found["pullRequests"]
        return found

    @app.post(f"{WHERE}/tag/<segment:revision>")
    def create_tag(kinds: str, owner: str, name: str, revision: str) -> Any:
        repo, _ = writable(hub, KINDS[kinds], owner, name)
        return _new_ref(hub, repo, f"refs/tags/{flask.request.get_json()['tag']}", revision)

    @app.post(f"{WHERE}/branch/<segment:branch>")
    def create_branch(kinds: str, owner: str, name: str, branch: str) -> Any:
        repo, _ = writable(hub, KINDS[kinds], owner, name)
        return _new_ref(hub, repo, f"refs/heads/{branch}", flask.request.get_json().get("startingPoint", "main"))

    @app.delete(f"{WHERE}/<any(tag, branch):group>/<segment:ref>")
    def delete_ref(kinds: str, owner: str, name: str, group: str, ref: str) -> Any:
        repo, _ = writable(hub, KINDS[kinds], owner, name)
        with hub.store.lock:
            if repo.refs.pop(f"refs/{'tags' if group == 'tag' else 'heads'}/{ref}", None) is None:
                raise HubError(404, f"Invalid rev id: {ref}", "RevisionNotFound")
            hub.store.save()
        return {}


def _new_ref(hub: "LoopbackHub", repo: Repo, ref: str, revision: str) -> dict[str, Any]:
    with hub.store.lock:
        if ref in repo.refs:
            raise HubError(409, f"Reference already exists: {ref}")
        repo.refs[ref] = repo.resolve(revision).oid
        hub.store.save()
    return {}


def _pull_request_routes(app: flask.Flask, hub: "LoopbackHub") -> None:
    where = f"{WHERE}/discussions"

    @app.post(where)
    def create_request(kinds: str, owner: str, name: str) -> Any:
        account, repo = signed_in(hub), readable(hub, KINDS[kinds], owner, name)
        asked = flask.request.get_json()
        if not asked.get("pullRequest"):
            raise HubError(501, "This Hub has pull requests, but no discussions")
        with hub.store.lock:
            return {"num": opened(hub, repo, account, asked["title"], base=repo.refs[MAIN]).num, "pullRequest": True}

    @app.get(where)
    def list_requests(kinds: str, owner: str, name: str) -> Any:
        repo, args = readable(hub, KINDS[kinds], owner, name), flask.request.args
        asked = args.get("status", "all")
        groups = {
            "all": ("draft", "open", "merged", "closed"),
            "open": ("draft", "open"),
            "closed": ("closed", "merged"),
        }
        found = [r for r in repo.pull_requests.values() if r.status in groups[asked]]
        start = int(args.get("p", 0)) * hub.page_size
        page = [
            {
                "num": r.num,
                "title": r.title,
                "author": {"name": r.author},
                "createdAt": r.date,
                "status": r.status,
                "isPullRequest": True,
                "repo": {"name": repo.id, "type": repo.kind},
            }
            for r in found[start : start + hub.page_size]
        ]
        return {"discussions": page, "count": len(found), "start": start}

    @app.get(f"{where}/<int:num>")
    def request_details(kinds: str, owner: str, name: str, num: int) -> Any:
        repo = readable(hub, KINDS[kinds], owner, name)
        request = _request(repo, num)
        return {
            "num": num,
            "title": request.title,
            "author": {"name": request.author},
            "createdAt": request.date,
            "status": request.status,
            "isPullRequest": True,
            "repo": {"name": repo.id, "type": repo.kind},
            "changes": {"base": MAIN, **({"mergeCommitId": request.merged} if request.merged else {})},
            "filesWithConflicts": [],
            "events": [],
            "diff": "",
        }

    @app.post(f"{where}/<int:num>/status")
    def request_status(kinds: str, owner: str, name: str, num: int) -> Any:
        repo, account = writable(hub, KINDS[kinds], owner, name, revision=f"refs/pr/{num}")
        with hub.store.lock:
            request = _request(repo, num)
            request.status = flask.request.get_json()["status"]
            hub.store.save()
        event = {"id": f"{num}", "type": "status-change", "createdAt": now(), "author": {"name": account.name}}
        return {"newStatus": event | {"data": {"status": request.status}}}

    @app.post(f"{where}/<int:num>/merge")
    def merge_request(kinds: str, owner: str, name: str, num: int) -> Any:
        repo, account = writable(hub, KINDS[kinds], owner, name)
        with hub.store.lock:
            request = _request(repo, num)
            if request.status != "open":
                raise HubError(400, f"This pull request is {request.status}")  # as made by the client it is a draft
            hub.store.merge(repo, request, author=account.name)
        return {}


def opened(hub: "LoopbackHub", repo: Repo, account: Account, title: str, *, base: str) -> PullRequest:
    request = PullRequest(len(repo.pull_requests) + 1, title, account.name, now(), base)
    repo.pull_requests[request.num] = request
    repo.refs[f"refs/pr/{request.num}"] = base
    hub.store.save()
    return request


def _request(repo: Repo, num: int) -> PullRequest:
    if num not in repo.pull_requests:
        raise HubError(404, "No such pull request")
    return repo.pull_requests[num]


# -------------------------------------------------------------------- by hand


def _control_routes(app: flask.Flask, hub: "LoopbackHub") -> None:
    @app.get("/__control__/log")
    def log() -> Any:
        return flask.jsonify([asdict(r) for r in hub.log if not r.path.startswith("/__control__")])

    @app.post("/__control__/faults")
    def add_fault() -> Any:
        return asdict(hub.faults.add(**flask.request.get_json()))

    @app.delete("/__control__/faults")
    def clear_faults() -> Any:
        hub.faults.clear()
        return {}
