"""One repo on the Hub: the module that calls huggingface_hub's write API.

Every exception leaves as a labelsync error (refusals.py). Reads that the client does not repeat by itself are repeated
here; what it repeats already (listings, uploads: five times over 23 s) is not; patience.py bounds both. The token is
the client's own (HF_TOKEN or `hf auth login`) and is never held here. Branches and pull requests ("refs/pr/7") have the
same calls with another `revision`; requests.py opens and merges the latter.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (  # type: ignore[attr-defined] # loaded lazily
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    validate_repo_id,
)

from labelsync.errors import LabelsyncError, OptionError, PublishError, ServiceError
from labelsync.hub.patience import LIMIT, LONGEST_WAIT, limit_waiting
from labelsync.hub.plan import LocalFile, Plan, RemoteFile
from labelsync.hub.refusals import RepoMissing, RevisionMissing, SessionClosed, Silent, no_token, refusal
from labelsync.hub.remote import RemoteFile as OpenFile
from labelsync.hub.remote import get, url_of

T = TypeVar("T")

MAIN = "main"
WAITS = (1.0, 2.0, 4.0)  # seconds before the second, third and fourth try of one request
# Contents are sent in groups of at most so many files, or as few as pass so many bytes. Xet makes a group count when
# all of it is sent, so this is what a killed push can lose.
GROUP_FILES = 64
GROUP_BYTES = 500_000_000

# A dead Xet storage is tried for 50 s with this, and for seven minutes without. Read once, at the first upload.
os.environ.setdefault("HF_XET_CLIENT_RETRY_MAX_ATTEMPTS", "3")


class HubRepo:
    """A dataset or model repo, read and written over HTTP at HF_ENDPOINT, else huggingface.co.

    Args:
        repo_id: "owner/name".
        kind: "dataset" or "model".
        anonymous: go on without a token, as reading a public repo can.

    Raises:
        OptionError: the name cannot be a repo's.
        AuthError: nobody is logged in.
    """

    def __init__(self, repo_id: str, kind: str, *, anonymous: bool = False) -> None:
        _require_repo_id(repo_id)
        self.repo_id, self.kind = repo_id, kind
        self._api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="labelsync")
        self.endpoint: str = self._api.endpoint
        with self._refusing():
            if not anonymous and not get_token():
                raise no_token()

    @property
    def url(self) -> str:
        """Its page."""
        return f"{self.endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{self.repo_id}"

    # ---------------------------------------------------------------- reading

    def head(self, revision: str = MAIN) -> str:
        """The commit of a branch or tag."""
        return str(self._info(revision).sha)

    def tree(self, revision: str) -> dict[str, RemoteFile]:
        """Every file of a commit by its path."""
        with self._refusing():
            listing = self._api.list_repo_tree(self.repo_id, recursive=True, revision=revision, repo_type=self.kind)
            return {entry.path: _remote(entry) for entry in listing if isinstance(entry, RepoFile)}

    def read(self, path: str, commit: str) -> bytes:
        """A small file of a commit, from the Hub and from no cache."""
        return self._repeated(lambda: get(self._url(path, commit)))

    def open(self, path: str, commit: str, *, size: int) -> OpenFile:
        """A file of a commit to read parts of."""
        return OpenFile(self._url(path, commit), size=size, asked=self._repeated)

    def _url(self, path: str, commit: str) -> str:
        return url_of(self.repo_id, self.kind, path, commit=commit, endpoint=self.endpoint)

    def refs(self) -> tuple[set[str], set[str]]:
        """(names of the branches, names of the tags)."""
        refs = self._repeated(lambda: self._api.list_repo_refs(self.repo_id, repo_type=self.kind))
        return {r.name for r in refs.branches}, {r.name for r in refs.tags}

    def _info(self, revision: str = MAIN) -> Any:
        return self._repeated(lambda: self._api.repo_info(self.repo_id, repo_type=self.kind, revision=revision))

    # ---------------------------------------------------------------- writing

    def ensure(self, *, private: bool) -> None:
        """Make the repo if it is missing.

        Raises:
            PublishError: it is there, public, and `private` was asked for.
        """
        try:
            self._info()
        except RepoMissing:
            # None and not False: an organization may make its repos private by default
            with suppress(KeyError):  # the client looks for the repo's url in an answer 409, which may have none
                self.repeated(
                    lambda api: api.create_repo(
                        self.repo_id, repo_type=self.kind, private=private or None, exist_ok=True
                    )
                )
        self.require_private(private=private)

    def require_private(self, *, private: bool) -> None:
        """Raises PublishError if the repo is public and `private` was asked for; RepoMissing if there is none."""
        if not self._info().private and private:
            raise PublishError(
                f"{self.repo_id} is public", hint="make it private on its settings page, or push without --private"
            )

    def create_branch(self, name: str) -> None:
        """Make a branch where main is now; one that is there stays."""
        self._repeated(lambda: self._api.create_branch(self.repo_id, branch=name, repo_type=self.kind, exist_ok=True))

    def upload(self, files: Mapping[str, LocalFile], plan: Plan, *, revision: str = MAIN) -> list[CommitOperationAdd]:
        """Send the contents that the Hub does not have yet; nothing is visible before the commit.

        Returns:
            The operations for `commit`. New ones for every try: they remember what the Hub held when they were made.
        """
        adds = [CommitOperationAdd(path, _source(files[path])) for path in plan.add]
        for group in _groups(adds):
            self._send(group, revision)
        ignored = [add.path_in_repo for add in adds if add._should_ignore]
        if ignored:
            raise PublishError(
                f"the .gitignore of {self.repo_id} leaves out {ignored[0]}", hint="remove that line there, then push"
            )
        return adds

    def _send(self, group: list[CommitOperationAdd], revision: str, tries: int = 3) -> None:
        try:
            with self._refusing(), _bars_on_a_terminal():
                # an empty gitignore: a .gitignore in the repo must not leave out a part of a publication
                self._api.preupload_lfs_files(
                    self.repo_id,
                    group,
                    repo_type=self.kind,
                    revision=revision,
                    free_memory=False,
                    gitignore_content="",
                )
        except SessionClosed:
            if tries == 1:
                raise
            self._send(group, revision, tries - 1)

    def commit(
        self,
        adds: Sequence[CommitOperationAdd],
        plan: Plan,
        *,
        parent: str,
        title: str,
        description: str,
        revision: str = MAIN,
    ) -> str:
        """All of a plan as one commit on `parent`; its name.

        Raises:
            HeadMoved: the branch is not at `parent`.
            ServiceError: no answer; the commit may have landed all the same.
        """
        with self._refusing():
            made = self._api.create_commit(
                self.repo_id,
                [*adds, *(CommitOperationDelete(path, is_folder=False) for path in plan.delete)],
                repo_type=self.kind,
                revision=revision,
                parent_commit=parent,
                commit_message=title,
                commit_description=description,
            )
        return str(made.oid)

    def create_tag(self, tag: str, commit: str) -> None:
        """Put a tag on a commit. A tag that is there already stays where it is: look at `head(tag)`."""
        self._repeated(
            lambda: self._api.create_tag(self.repo_id, tag=tag, revision=commit, repo_type=self.kind, exist_ok=True)
        )

    def delete_tag(self, tag: str) -> None:
        """Take a tag away; fine if it is gone already."""
        with suppress(RevisionMissing):
            self._repeated(lambda: self._api.delete_tag(self.repo_id, tag=tag, repo_type=self.kind))

    # ---------------------------------------------------------------- errors

    def once(self, call: Callable[[HfApi], T]) -> T:
        """The answer of a request that cannot be sent twice; its failure is a labelsync error."""
        with self._refusing():
            return call(self._api)

    def repeated(self, call: Callable[[HfApi], T]) -> T:
        """The answer of a request that may be sent twice."""
        return self._repeated(lambda: call(self._api))

    def _repeated(self, call: Callable[[], T]) -> T:
        """The answer of a request that may be sent twice; a silent Hub is not asked for longer than `LIMIT`."""
        started = time.monotonic()
        for wait in WAITS:
            try:
                with self._refusing():
                    return call()
            except ServiceError as e:
                if isinstance(e, Silent) or time.monotonic() - started > LIMIT:
                    raise
                pause(e, wait)
        with self._refusing():
            return call()

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            limit_waiting()
            yield
        except LabelsyncError:
            raise
        except Exception as e:
            refused = refusal(e, repo=self.repo_id, endpoint=self.endpoint)
            if refused is None:
                raise
            raise refused from e


def pause(error: ServiceError, seconds: float) -> None:
    """Wait before the next try: what the Hub asks for, else `seconds`. Raises `error` if that is too long to wait."""
    asked = getattr(error, "seconds", 0.0)
    if asked > LONGEST_WAIT:
        raise error
    time.sleep(asked or seconds)


def _require_repo_id(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as e:
        raise OptionError(str(e).rstrip("."), hint="a repo is called owner/name") from None
    if repo_id.count("/") != 1:
        raise OptionError(f"{repo_id!r} names no owner", hint="a repo is called owner/name, e.g. acme/sidewalk")


@contextmanager
def _bars_on_a_terminal() -> Iterator[None]:
    """The client's progress bars, but not into a log file."""
    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _groups(adds: Sequence[CommitOperationAdd]) -> Iterator[list[CommitOperationAdd]]:
    group: list[CommitOperationAdd] = []
    for add in adds:
        group.append(add)
        if len(group) == GROUP_FILES or sum(a.upload_info.size for a in group) >= GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group


def _remote(entry: RepoFile) -> RemoteFile:
    if entry.lfs is None:
        return RemoteFile(entry.size, entry.blob_id)
    return RemoteFile(entry.lfs.size, entry.blob_id, entry.lfs.sha256)


def _source(file: LocalFile) -> str | bytes:
    return file.source if isinstance(file.source, bytes) else str(file.source)
