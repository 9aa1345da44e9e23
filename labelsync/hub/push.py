"""`push`: a dataset or model folder becomes one commit on the Hub, read back, and a tag on it.

publish.py brings the files there; here stand the names that are allowed, what is refused before anything is sent, and
what follows the commit. The tag comes last: consumers pin it, and a push without it is finished by the next run.
"""

import re
from pathlib import Path

from huggingface_hub import get_token

from labelsync.errors import OptionError, PublishError
from labelsync.hub.client import MAIN, HubRepo
from labelsync.hub.publication import Publication, Snapshot, read_publication
from labelsync.hub.publish import Outcome, planned, propose, publish, snapshot
from labelsync.hub.readback import ReadBack, read_back
from labelsync.hub.refusals import RepoMissing
from labelsync.records.results import PushRecord

_SCANNED = 1 << 20  # bytes; a token is looked for in files up to this size

# git's rules for the name of a ref
_REF = re.compile(r"(?![-/.]|refs/)(?!.*(?:\.\.|@\{|//|/\.))[^\s~^:?*\[\\\x00-\x1f\x7f]+(?<![./])(?<!\.lock)")


def push(
    path: str | Path,
    *,
    repo_id: str,
    tag: str | None = None,
    move_tag: bool = False,
    private: bool = False,
    revision: str = MAIN,
    create_pr: bool = False,
    license: str | None = None,
    evaluation: str | Path | None = None,
    message: str | None = None,
    dry_run: bool = False,
) -> PushRecord:
    """Publish a folder of `convert` (as a dataset repo) or `train` (as a model repo).

    The same folder again makes no commit. Stale files of an earlier publication are deleted in the same commit; other
    files of the repo stay, and so does text that people wrote into README.md. More than 100 changed files go through a
    pull request that is merged at once, so that main moves once. Before the tag is put, the commit is read back: every
    digest, the rows of every shard, one image per split, the headers of weights.

    Args:
        path: the folder. Its manifest's files, README.md and manifest.json are published, and nothing else.
        repo_id: "owner/name" on the Hub; made if it is missing.
        tag: name of the tag; default the release's name where the manifest has one; "" for none.
        move_tag: move the tag if it names another commit; without it other content under the tag is refused.
        private: make a new repo private; refused for a public one.
        revision: branch to commit to; made from main if it is missing.
        create_pr: leave a pull request to main for others to merge, without a tag.
        license: licence of the card's metadata, as the Hub names them ("cc-by-4.0"); default what it says already.
        evaluation: the folder that `evaluate` left of this model: its scores go into the card, per class, and into the
            card's metadata as the Hub reads them (model-index).
        message: first line of the commit; default: release and digest.
        dry_run: tell what a push would do, and change nothing.

    Returns:
        The commit that holds all of it, and the tag. `commit` is the branch's head when nothing had to be sent.

    Raises:
        OptionError: a name that cannot be a repo's, a tag's or a branch's, or options that contradict each other.
        DatasetNotFound, DatasetError, ModelError: the folder is not one to publish.
        AuthError: no token, or one without the right.
        ServiceError: the Hub or its storage cannot be reached.
        PublishError: the Hub refuses, or holds something else under that tag, or not what was sent.
    """
    _require_options(tag, revision, create_pr=create_pr, move_tag=move_tag)
    publication = read_publication(
        Path(path), repo_id=repo_id, license=license or "", evaluation=None if evaluation is None else Path(evaluation)
    )
    tag = "" if create_pr else publication.release if tag is None else tag
    _require_tag(tag)
    repo = HubRepo(repo_id, publication.kind)
    _require_no_token(publication)
    if dry_run:
        return _dry(repo, publication, tag, revision, move_tag=move_tag, private=private)
    repo.ensure(private=private)
    tagged = _prepare(repo, publication, tag, revision, move_tag=move_tag)
    if create_pr:
        outcome = propose(repo, publication, message=message)
    else:
        outcome = publish(repo, publication, revision=revision, message=message)
    read = ReadBack()
    if not (tagged and outcome.unchanged):
        read = read_back(repo, outcome.commit, repo.tree(outcome.commit), publication.manifest)
    if tag:
        _put_tag(repo, tag, outcome.commit, publication, tagged=tagged, move=move_tag)
    return _record(repo, revision, tag, outcome, read)


def retag(repo_id: str, tag: str, *, to: str, kind: str = "model") -> tuple[str, bool]:
    """Put a tag where another revision is, wherever it was before.

    Args:
        to: tag, branch or commit of the repo.
        kind: "model" or "dataset".

    Returns:
        The commit, and whether the tag was not there yet.

    Raises:
        OptionError, AuthError, ServiceError, PublishError: as `push`.
    """
    _require_tag(tag)
    repo = HubRepo(repo_id, kind)
    commit = repo.head(to)
    branches, tags = repo.refs()
    if tag in branches:
        raise PublishError(f"{repo_id} has a branch named {tag}", hint="give the tag another name")
    if tag in tags and repo.head(tag) == commit:
        return commit, False
    if tag in tags:
        repo.delete_tag(tag)  # the Hub cannot move one; whoever asks in between is told that it does not exist
    repo.create_tag(tag, commit)
    if repo.head(tag) != commit:
        raise PublishError(f"somebody else has moved tag {tag} of {repo_id} meanwhile", hint="look where it is now")
    return commit, True


def _record(
    repo: HubRepo, revision: str, tag: str, outcome: Outcome, read: ReadBack, *, dry_run: bool = False
) -> PushRecord:
    fates = list(outcome.files.values())
    request = outcome.request.url if outcome.request else ""
    return PushRecord(
        repo_id=repo.repo_id,
        repo_type=repo.kind,
        revision=outcome.request.ref if outcome.request else revision,
        commit=outcome.commit,
        tag=tag,
        url=request or (repo.url if dry_run else f"{repo.url}/tree/{tag or outcome.commit}"),
        files=dict(outcome.files),
        added=fates.count("new") + fates.count("changed"),
        deleted=fates.count("deleted"),
        kept=fates.count("kept"),
        uploaded=outcome.size,
        rows=read.rows,
        decoded=read.decoded,
        request=request,
        unchanged=outcome.unchanged,
        dry_run=dry_run,
    )


def _dry(
    repo: HubRepo, publication: Publication, tag: str, revision: str, *, move_tag: bool, private: bool
) -> PushRecord:
    """What a push would do, with the refusals that it would meet, from reading alone."""
    try:
        repo.require_private(private=private)
        is_there = _look(repo, publication, tag, revision, move_tag=move_tag)[1]
        there = snapshot(repo, revision if is_there else MAIN)
    except RepoMissing:
        there = Snapshot("", {})
    work = planned(publication, there)
    outcome = Outcome("" if work.plan else there.commit, work.fates, work.plan.size, unchanged=not work.plan)
    return _record(repo, revision, tag, outcome, ReadBack(), dry_run=True)


# -------------------------------------------------------------------- branch and tag


def _prepare(repo: HubRepo, publication: Publication, tag: str, revision: str, *, move_tag: bool) -> bool:
    """Make the branch if it is missing. Whether the tag is there already, see `_look`."""
    tagged, is_there = _look(repo, publication, tag, revision, move_tag=move_tag)
    if not is_there:
        repo.create_branch(revision)
    return tagged


def _look(repo: HubRepo, publication: Publication, tag: str, revision: str, *, move_tag: bool) -> tuple[bool, bool]:
    """(whether the tag is there with this content, whether the branch is there).

    Raises:
        PublishError: names that are taken; nothing has been sent yet.
    """
    branches, tags = repo.refs() if tag or revision != MAIN else ({MAIN}, set())
    if tag in branches or tag == revision:
        raise PublishError(f"{repo.repo_id} has a branch named {tag}", hint="pass another --tag")
    if revision in tags:
        raise PublishError(f"{revision} is a tag of {repo.repo_id}", hint="pass the name of a branch to --revision")
    tagged = tag in tags and publication.is_content_of(snapshot(repo, tag))
    if tag in tags and not tagged and not move_tag:
        raise _taken(repo, tag)
    return tagged, revision in branches


def _put_tag(repo: HubRepo, tag: str, commit: str, publication: Publication, *, tagged: bool, move: bool) -> None:
    """Put the tag on the commit, and see that it is there."""
    if tagged and not move:
        return
    if move:
        retag(repo.repo_id, tag, to=commit, kind=repo.kind)
        return
    repo.create_tag(tag, commit)
    if repo.head(tag) != commit and not publication.is_content_of(snapshot(repo, tag)):
        raise _taken(repo, tag)


# -------------------------------------------------------------------- refusals


def _require_options(tag: str | None, revision: str, *, create_pr: bool, move_tag: bool) -> None:
    if not _REF.fullmatch(revision) or _is_commit(revision):
        raise OptionError(
            f"{revision!r} cannot be a branch", hint="pass --revision NAME, for example --revision staging"
        )
    if create_pr and revision != MAIN:
        raise OptionError("a pull request goes to main", hint="leave out --revision or --create-pr")
    if create_pr and (tag or move_tag):
        raise OptionError(
            "a pull request has no tag", hint="leave out --tag, and push again without --create-pr once it is merged"
        )


def _require_tag(tag: str) -> None:
    if tag and (not _REF.fullmatch(tag) or tag in (MAIN, "HEAD") or _is_commit(tag)):
        raise OptionError(f"{tag!r} cannot be a tag", hint="pass --tag NAME, for example --tag v1.0")


def _is_commit(name: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{7,40}", name) is not None


def _require_no_token(publication: Publication) -> None:
    """No file may hold the token that is about to publish it."""
    token = (get_token() or "").encode()
    for path, file in publication.files.items():
        if isinstance(file.source, Path) and file.size <= _SCANNED and token in file.source.read_bytes():
            raise PublishError(f"{file.source} contains your Hugging Face token", hint=f"remove it from {path}")


def _taken(repo: HubRepo, tag: str) -> PublishError:
    return PublishError(
        f"tag {tag} of {repo.repo_id} names other content", hint="pass another --tag, or --move-tag to move it"
    )
