"""`push`: a dataset or model folder becomes one commit on the Hub, and a tag on it.

The commit is atomic and stands on the commit that the plan was made for, so a reader of the branch sees the old state
or the new one. Uploads before it are invisible. Whatever goes wrong, the remedy is to look again and plan again: if the
commit has landed although its answer was lost, the new plan is empty; contents that were sent are not sent twice.
"""

import re
from pathlib import Path

from huggingface_hub import get_token

from labelsync.errors import OptionError, PublishError, ServiceError
from labelsync.hub.client import HubRepo, pause
from labelsync.hub.plan import LocalFile, Plan, make_plan
from labelsync.hub.publication import README, Publication, Snapshot, manifest_of, read_publication
from labelsync.hub.refusals import HeadMoved
from labelsync.records.results import PushRecord
from labelsync.store import MANIFEST

TRIES = 6
_BACKOFF = (1.0, 2.0, 4.0, 8.0, 8.0)
_SCANNED = 1 << 20  # bytes; a token is looked for in files up to this size

# git's rules for the name of a ref
_TAG = re.compile(r"(?![-/.]|refs/)(?!.*(?:\.\.|@\{|//|/\.))[^\s~^:?*\[\\\x00-\x1f\x7f]+(?<![./])(?<!\.lock)")


def push(
    path: str | Path, *, repo_id: str, tag: str | None = None, private: bool = False, message: str | None = None
) -> PushRecord:
    """Publish a folder of `convert` (as a dataset repo) or `train` (as a model repo).

    The same folder again makes no commit. Stale files of an earlier publication are deleted in the same commit; other
    files of the repo stay, and so does text that people wrote into README.md.

    Args:
        path: the folder. Its manifest's files, README.md and manifest.json are published, and nothing else.
        repo_id: "owner/name" on the Hub; made if it is missing.
        tag: name of the tag; default the release's name where the manifest has one; "" for none.
        private: make a new repo private; refused for a public one.
        message: first line of the commit; default: release and digest.

    Returns:
        The commit that holds all of it, and the tag. `commit` is the branch's head when nothing had to be sent.

    Raises:
        OptionError: a name that cannot be a repo's or a tag's.
        DatasetNotFound, DatasetError, ModelError: the folder is not one to publish.
        AuthError: no token, or one without the right.
        ServiceError: the Hub or its storage cannot be reached.
        PublishError: the Hub refuses, or holds something else under that tag.
    """
    publication = read_publication(Path(path))
    tag = publication.release if tag is None else tag
    _require_tag(tag)
    repo = HubRepo(repo_id, publication.kind)
    _require_no_token(publication)
    repo.ensure(private=private)
    tagged = _require_free(repo, tag, publication)
    commit, plan, unchanged = _publish(repo, publication, message)
    if tag and not tagged:
        _put_tag(repo, tag, commit, publication)
    return PushRecord(
        repo_id=repo_id,
        repo_type=publication.kind,
        commit=commit,
        tag=tag,
        url=f"{repo.url}/tree/{tag or commit}",
        added=len(plan.add),
        deleted=len(plan.delete),
        kept=len(plan.keep),
        uploaded=plan.size,
        unchanged=unchanged,
    )


def snapshot(repo: HubRepo, revision: str = "main") -> Snapshot:
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


def _publish(repo: HubRepo, publication: Publication, message: str | None) -> tuple[str, Plan, bool]:
    """Bring the branch to the publication: (the commit that holds it, what was sent, whether nothing was)."""
    first: Snapshot | None = None
    sent: Plan | None = None
    for wait in (*_BACKOFF, None):
        there = snapshot(repo)
        target = publication.target(there)
        first = first or there
        plan = make_plan(target, there.tree, owned=publication.owned(there))
        _require_alone(repo, first, there, target, publication.owned(first))
        if not plan:
            return there.commit, sent or plan, sent is None
        sent = sent or plan
        adds = repo.upload(target, plan)
        title, description = message or publication.title, publication.description
        try:
            commit = repo.commit(adds, plan, parent=there.commit, title=title, description=description)
        except (HeadMoved, ServiceError) as e:
            if wait is None:
                raise
            if isinstance(e, ServiceError):
                pause(e, wait)
            continue
        _require_complete(repo, commit, publication, target)
        return commit, sent, False
    raise AssertionError("the last try returns or raises")


def _put_tag(repo: HubRepo, tag: str, commit: str, publication: Publication) -> None:
    repo.create_tag(tag, commit)
    if repo.head(tag) != commit and not publication.is_content_of(snapshot(repo, tag)):
        raise _taken(repo, tag)


# -------------------------------------------------------------------- refusals


def _require_tag(tag: str) -> None:
    if tag and (not _TAG.fullmatch(tag) or tag in ("main", "HEAD") or re.fullmatch(r"[0-9a-f]{7,40}", tag)):
        raise OptionError(f"{tag!r} cannot be a tag", hint="pass --tag NAME, for example --tag v1.0")


def _require_no_token(publication: Publication) -> None:
    """No file may hold the token that is about to publish it."""
    token = (get_token() or "").encode()
    for path, file in publication.files.items():
        if isinstance(file.source, Path) and file.size <= _SCANNED and token in file.source.read_bytes():
            raise PublishError(f"{file.source} contains your Hugging Face token", hint=f"remove it from {path}")


def _require_free(repo: HubRepo, tag: str, publication: Publication) -> bool:
    """Whether the tag is there already, with the same content; any other content is refused before anything is sent."""
    branches, tags = repo.refs() if tag else (set(), set())
    if tag in branches:
        raise PublishError(f"{repo.repo_id} has a branch named {tag}", hint="pass another --tag")
    if tag in tags and not publication.is_content_of(snapshot(repo, tag)):
        raise _taken(repo, tag)
    return tag in tags


def _taken(repo: HubRepo, tag: str) -> PublishError:
    return PublishError(f"tag {tag} of {repo.repo_id} names other content", hint="pass another --tag")


def _require_alone(
    repo: HubRepo, first: Snapshot, now: Snapshot, target: dict[str, LocalFile], owned: set[str]
) -> None:
    """Another's commit while this push runs is fine, unless it changes a file of ours to something that is not ours."""
    for path in sorted({*target, *owned} - {README}):
        before, after, wanted = first.tree.get(path), now.tree.get(path), target.get(path)
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
