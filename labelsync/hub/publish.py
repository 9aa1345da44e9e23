"""How a publication gets onto a branch: in one commit, or through a pull request that is merged once.

Whatever goes wrong, the remedy is to look again and plan again: if a commit has landed although its answer was lost,
the new plan is empty; contents that were sent are not sent twice.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from huggingface_hub import CommitOperationAdd

from labelsync.errors import AuthError, PublishError, ServiceError
from labelsync.hub import requests
from labelsync.hub.client import MAIN, HubRepo, pause
from labelsync.hub.plan import LocalFile, Plan, make_plan
from labelsync.hub.publication import README, Publication, Snapshot, manifest_of
from labelsync.hub.refusals import HeadMoved
from labelsync.hub.requests import PullRequest
from labelsync.records.results import Fate
from labelsync.store.manifest import MANIFEST

BACKOFF = (1.0, 2.0, 4.0, 8.0, 8.0)  # seconds before the second to the sixth try
COMMIT_FILES = 100  # the Hub advises no more files per commit

# the titles of pull requests that labelsync merges by itself: of which publication, on which commit of main
_OURS = re.compile(r" \[labelsync [0-9a-f]{12} on [0-9a-f]{8}\]")


@dataclass(frozen=True)
class Outcome:
    """`commit` holds the publication; `files` = what became of each; `unchanged` = nothing was to do."""

    commit: str
    files: Mapping[str, Fate]
    size: int
    unchanged: bool
    request: PullRequest | None = None


def snapshot(repo: HubRepo, revision: str = MAIN) -> Snapshot:
    """A branch or tag as it is now, all of it read at one commit."""
    commit = repo.head(revision)
    tree = repo.tree(commit)
    manifest = repo.read(MANIFEST, commit) if MANIFEST in tree else b""
    try:
        readme = repo.read(README, commit).decode() if README in tree else None
    except UnicodeDecodeError as e:
        raise PublishError(
            f"README.md of {repo.repo_id} is not UTF-8 ({e.reason})", hint="save it again as UTF-8"
        ) from e
    return Snapshot(commit, tree, readme, manifest_of(manifest) if manifest else None, manifest)


@dataclass(frozen=True)
class Work:
    """What is to do on top of a commit: the files that it should hold, and the changes that lead there."""

    there: Snapshot
    target: dict[str, LocalFile]
    plan: Plan

    @property
    def fates(self) -> dict[str, Fate]:
        """Path -> what happens to it."""
        return self.plan.fates(self.there.tree)


def planned(publication: Publication, there: Snapshot) -> Work:
    """What brings a publication onto the commit `there`."""
    target = publication.target(there)
    return Work(there, target, make_plan(target, there.tree, owned=publication.owned(there)))


def publish(repo: HubRepo, publication: Publication, *, revision: str, message: str | None) -> Outcome:
    """Bring a branch to the publication.

    The commit is atomic and stands on the commit that the plan was made for, so a reader of the branch sees the old
    state or the new one; more than `COMMIT_FILES` changes to main are collected in a pull request and merged as one.

    Raises:
        PublishError: somebody changed the same files meanwhile, or the commit does not hold what was sent.
    """
    first: Snapshot | None = None
    sent: tuple[dict[str, Fate], int] | None = None
    for wait in (*BACKOFF, None):
        work = planned(publication, snapshot(repo, revision))
        first = first or work.there
        _require_alone(repo, first, work, publication.owned(first))
        if not work.plan:
            files, size = sent or (work.fates, 0)
            return Outcome(work.there.commit, files, size, unchanged=sent is None)
        sent = sent or (work.fates, work.plan.size)
        adds = repo.upload(work.target, work.plan, revision=revision)
        try:
            commit = _land(repo, publication, work, adds, revision=revision, message=message)
        except (HeadMoved, ServiceError) as e:
            _wait(e, wait)
            continue
        _require_complete(repo, commit, publication, work.target)
        return Outcome(commit, *sent, unchanged=False)
    raise AssertionError("the last try returns or raises")


def propose(repo: HubRepo, publication: Publication, *, message: str | None) -> Outcome:
    """Bring the publication into a pull request against main and leave it open there.

    The same publication again finds its request and goes on in it, whatever has happened on main.
    """
    title = f"{message or publication.title} [{publication.manifest.digest[:12]}]"
    for wait in (*BACKOFF, None):
        on_main = planned(publication, snapshot(repo))
        if not on_main.plan:
            return Outcome(on_main.there.commit, on_main.fates, 0, unchanged=True)
        try:
            request = _request(repo, title, publication)
            work = planned(publication, snapshot(repo, request.ref))
            adds = repo.upload(work.target, work.plan, revision=request.ref)
            owned = publication.owned(on_main.there) | publication.owned(work.there)
            commit = _fill(repo, request, publication, work.target, adds, owned=owned, title=title)
            requests.make_ready(repo, request)
        except (HeadMoved, ServiceError) as e:
            _wait(e, wait)
            continue
        return Outcome(commit, on_main.fates, work.plan.size, unchanged=not work.plan, request=request)
    raise AssertionError("the last try returns or raises")


def _wait(error: HeadMoved | ServiceError, seconds: float | None) -> None:
    """Before the next try; raises `error` where there is none."""
    if seconds is None:
        raise error
    if isinstance(error, ServiceError):
        pause(error, seconds)


def _request(repo: HubRepo, title: str, publication: Publication) -> PullRequest:
    """The pull request of that title that an earlier run has left, else a new one."""
    known = [request for request in requests.waiting(repo) if request.title == title]
    return known[0] if known else requests.opened(repo, title, publication.description)


# -------------------------------------------------------------------- ways onto a branch


def _land(
    repo: HubRepo,
    publication: Publication,
    work: Work,
    adds: list[CommitOperationAdd],
    *,
    revision: str,
    message: str | None,
) -> str:
    """Move a branch once; its new commit."""
    title, parent = message or publication.title, work.there.commit
    if work.plan.changes <= COMMIT_FILES or revision != MAIN:
        commit = repo.commit(
            adds, work.plan, parent=parent, title=title, description=publication.description, revision=revision
        )
    else:
        request = _request(repo, f"{title} [labelsync {publication.manifest.digest[:12]} on {parent[:8]}]", publication)
        owned = publication.owned(work.there)
        _fill(repo, request, publication, work.target, adds, owned=owned, title=title)
        if repo.head() != parent:
            requests.close(repo, request)
            raise HeadMoved(f"{repo.repo_id} changed while this push ran", hint="push again")
        requests.make_ready(repo, request)
        requests.merge(repo, request)
        commit = repo.head()
    if revision == MAIN:
        _close_left_overs(repo)
    return commit


def _fill(
    repo: HubRepo,
    request: PullRequest,
    publication: Publication,
    target: dict[str, LocalFile],
    adds: list[CommitOperationAdd],
    *,
    owned: set[str],
    title: str,
) -> str:
    """Commit to a pull request, in parts, what it lacks; its last commit."""
    sent = {add.path_in_repo: add for add in adds}
    while True:
        commit = repo.head(request.ref)
        plan = make_plan(target, repo.tree(commit), owned=owned)
        if not plan:
            return commit
        part = plan.first(COMMIT_FILES)
        if not sent.keys() >= set(part.add):  # somebody else has committed to it
            sent |= {add.path_in_repo: add for add in repo.upload(target, part, revision=request.ref)}
        repo.commit(
            [sent[path] for path in part.add],
            part,
            parent=commit,
            title=title,
            description=publication.description,
            revision=request.ref,
        )


def _close_left_overs(repo: HubRepo) -> None:
    """Close what killed pushes have left: main has moved, so nobody will merge those any more."""
    with suppress(AuthError, PublishError, ServiceError):  # a repo may have no pull requests; ours is done either way
        for request in requests.waiting(repo):
            if _OURS.search(request.title):
                requests.close(repo, request)


# -------------------------------------------------------------------- refusals


def _require_alone(repo: HubRepo, first: Snapshot, now: Work, owned: set[str]) -> None:
    """Another's commit while this push runs is fine, unless it changes a file of ours to something that is not ours."""
    for path in sorted({*now.target, *owned} - {README}):
        before, after, wanted = first.tree.get(path), now.there.tree.get(path), now.target.get(path)
        if before != after and not (wanted.is_same(after) if wanted else after is None):
            raise PublishError(
                f"somebody changed {path} of {repo.repo_id} while this push ran",
                hint="look at the last commit there, then push again",
            )


def _require_complete(repo: HubRepo, commit: str, publication: Publication, target: dict[str, LocalFile]) -> None:
    """Raises PublishError unless every file of the commit, read back, is the one that was sent."""
    there = Snapshot(commit, repo.tree(commit))
    wrong = [p for p, file in target.items() if not file.is_same(there.tree.get(p))]
    stale = sorted(publication.owned(there) - set(target))
    if wrong or stale:
        raise PublishError(
            f"{repo.repo_id} does not hold what was sent: {[*wrong, *stale][0]} at {commit[:8]}",
            hint="push again; if it happens twice, look at the commit on the Hub",
        )
