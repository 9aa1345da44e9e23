"""Pull requests of a repo: where commits wait until all of them are there, or until people have looked at them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from huggingface_hub import HfApi

from labelsync.hub.client import HubRepo


@dataclass(frozen=True)
class PullRequest:
    """One that is neither merged nor closed; a draft cannot be merged."""

    num: int
    title: str
    url: str
    is_draft: bool

    @property
    def ref(self) -> str:
        """The revision that its commits are on."""
        return f"refs/pr/{self.num}"


def waiting(repo: HubRepo) -> list[PullRequest]:
    """The pull requests that are neither merged nor closed, in order of their numbers."""

    def listed(api: HfApi) -> list[PullRequest]:
        # of any status: whether the Hub counts drafts as open is its own affair
        found = api.get_repo_discussions(repo.repo_id, repo_type=repo.kind, discussion_type="pull_request")
        return [_of(d) for d in found if d.is_pull_request and d.status in ("draft", "open")]

    return sorted(repo.repeated(listed), key=lambda request: request.num)


def opened(repo: HubRepo, title: str, description: str) -> PullRequest:
    """A new pull request against main, a draft without commits.

    Raises:
        ServiceError: no answer; it may be there all the same: look at `waiting`.
    """
    return _of(
        repo.once(
            lambda api: api.create_pull_request(repo.repo_id, title, description=description, repo_type=repo.kind)
        )
    )


def make_ready(repo: HubRepo, request: PullRequest) -> None:
    """Turn a draft into a request that can be reviewed and merged."""
    if request.is_draft:
        repo.repeated(_status(repo, request, "open"))


def close(repo: HubRepo, request: PullRequest) -> None:
    """Close a pull request without merging it."""
    repo.repeated(_status(repo, request, "closed"))


def merge(repo: HubRepo, request: PullRequest) -> None:
    """Main takes over a pull request's changes, all at once.

    Raises:
        HeadMoved: main has changes to the same files.
        ServiceError: no answer; it may be merged all the same: look at main.
    """
    repo.once(lambda api: api.merge_pull_request(repo.repo_id, request.num, repo_type=repo.kind))


def _status(repo: HubRepo, request: PullRequest, status: Literal["open", "closed"]) -> Callable[[HfApi], Any]:
    return lambda api: api.change_discussion_status(repo.repo_id, request.num, status, repo_type=repo.kind)


def _of(found: Any) -> PullRequest:
    return PullRequest(found.num, found.title, found.url, found.status == "draft")
