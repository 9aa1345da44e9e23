"""Who asks a loopback Hub, and what they may see and change."""

from typing import TYPE_CHECKING

import flask

from tests.loopback.hub_repos import HubError, Repo

if TYPE_CHECKING:
    from tests.loopback.hub import LoopbackHub

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
WHERE = "/api/<any(models, datasets, spaces):kinds>/<owner>/<name>"


class Account:
    """The owner of a token."""

    def __init__(self, text: str) -> None:
        self.name, self.role, orgs = [*text.split(":"), ""][:3]
        self.orgs = [o for o in orgs.split(",") if o]

    def may_write(self, namespace: str) -> bool:
        return self.role == "write" and self.is_in(namespace)

    def is_in(self, namespace: str) -> bool:
        return namespace in (self.name, *self.orgs)


def caller(hub: "LoopbackHub") -> Account | None:
    header = flask.request.headers.get("Authorization", "")
    if not header:
        return None
    known = hub.tokens.get(header.removeprefix("Bearer "))
    if known is None:
        raise HubError(401, "Invalid credentials in Authorization header")
    return Account(known)


def signed_in(hub: "LoopbackHub") -> Account:
    account = caller(hub)
    if account is None:
        raise HubError(401, "Invalid username or password.")
    return account


def readable(hub: "LoopbackHub", kind: str, owner: str, name: str) -> Repo:
    """A repo the caller may see; one that is private or missing looks the same to others."""
    account = caller(hub)
    repo = hub.store.repos.get((kind, f"{owner}/{name}"))
    if repo is None or (repo.private and not (account and account.is_in(owner))):
        raise HubError(404 if account else 401, "Repository not found", "RepoNotFound")
    return repo


def writable(hub: "LoopbackHub", kind: str, owner: str, name: str, *, revision: str = "") -> tuple[Repo, Account]:
    """A repo the caller may write to; whoever has opened a pull request may write to its `revision`."""
    account = signed_in(hub)
    repo = readable(hub, kind, owner, name)
    request = repo.pull_requests.get(int(revision.rpartition("/")[2])) if revision.startswith("refs/pr/") else None
    is_theirs = request is not None and request.author == account.name
    if not account.may_write(owner) and not is_theirs:
        raise HubError(403, "You don't have the required permissions to write to this repository")
    return repo, account


def prefix(kind: str) -> str:
    """What stands before a repo's id in urls outside /api."""
    return "" if kind == "model" else f"{kind}s/"


def refuse(e: HubError) -> flask.Response:
    answer = flask.jsonify(error=e.message)
    answer.status_code = e.status
    answer.headers["X-Error-Message"] = e.message.splitlines()[0]
    if e.code:
        answer.headers["X-Error-Code"] = e.code
    return answer
