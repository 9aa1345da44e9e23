"""Where a dataset's files are: a folder, or a Hub repo at one commit, fetched file by file into the Hub cache."""

import errno
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from labelsync.dataset.split import Assignment
from labelsync.errors import AuthError, DatasetError, DatasetNotFound, LabelsyncError, ServiceError
from labelsync.labels import LabelMap
from labelsync.records.text import from_json
from labelsync.store.manifest import MANIFEST, Manifest, read_manifest

T = TypeVar("T")


class NotOurs(DatasetNotFound):
    """Something is there, and labelsync did not make it."""


SPLITS_FILE = "splits.json"
ID2LABEL = "id2label.json"
LEDGER = "ledger.json"
_OURS = (MANIFEST, SPLITS_FILE, LEDGER, "release.json")  # a folder with one of them is, or was to be, labelsync's

HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>.+))?")
_OLD_ID = re.compile(r"[\w.-]*\w")  # what ids of the Hub's first datasets looked like
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # of the Hub cache; other OSErrors are the Hub's
_WAITS = (0.2, 1.0)  # seconds; huggingface_hub does not repeat a GET that a busy Hub answers with 5xx


@dataclass(frozen=True)
class DatasetFiles:
    """A dataset that exists: a folder (`revision` "") or a repo at the commit `revision`."""

    name: str
    manifest: Manifest
    folder: Path
    repo: str = ""
    revision: str = ""

    def path(self, file: str) -> Path:
        """A file of the dataset on this machine, fetched if need be.

        Raises:
            DatasetError: the manifest lists it, and it is not there.
            ServiceError: the Hub does not answer.
        """
        if self.repo:
            return fetch_file(self.repo, self.revision, file)
        path = self.folder / file
        entry = self.manifest.files.get(file)
        if not path.is_file() or (entry is not None and path.stat().st_size != entry.size):
            what = "was changed" if path.is_file() else "is gone"
            raise DatasetError(f"{path} {what} since {self.name} was made", hint="convert the release again")
        return path

    @property
    def labels(self) -> LabelMap:
        """The label map. Raises DatasetError if id2label.json says something else: one of the two was edited."""
        labels = self.manifest.labels
        if labels is None or self.path(ID2LABEL).read_text() != labels.id2label_json():
            raise DatasetError(
                f"{ID2LABEL} of {self.name} is not the one its manifest describes",
                hint="classes are renamed on Segments.ai and converted with --previous, not in the file",
            )
        return labels

    @property
    def assignment(self) -> Assignment:
        """The pinned splits."""
        return from_json(Assignment, self.path(SPLITS_FILE).read_bytes(), where=f"{SPLITS_FILE} of {self.name}")


def find_dataset(source: str | Path) -> DatasetFiles:
    """The dataset at a folder or under a Hub id "user/name[@revision]".

    Raises:
        DatasetNotFound: no such folder or repo or revision, or no finished dataset in it (`NotOurs` where there is
            another).
        AuthError: the repo is gated, or the token does not open it.
        ServiceError: the Hub does not answer.
    """
    folder = Path(source).expanduser()
    hub_id = HUB_ID.fullmatch(str(source)) if isinstance(source, str) else None
    if hub_id is None or folder.exists():
        if folder.is_file():
            raise DatasetNotFound(f"{source} is a file", hint="give a dataset folder or a Hub id user/name[@revision]")
        if folder.is_dir() and not any((folder / n).is_file() for n in _OURS):
            raise NotOurs(f"{source} was not made by labelsync: it has no {MANIFEST}", hint=_HINT)
        if not folder.exists() and isinstance(source, str) and _OLD_ID.fullmatch(source):
            hint = "give a dataset folder, or a Hub id with its user, such as zhoubolei/scene_parse_150"
            raise DatasetNotFound(f"{source} does not exist", hint=hint)
        return DatasetFiles(str(source), read_manifest(folder, "convert"), folder)
    repo, revision = hub_id["repo"], hub_id["revision"] or "main"
    commit = _commit_of(repo, revision)
    path = fetch_file(repo, revision, MANIFEST)  # by its name, so that the Hub cache knows the name when offline
    if commit and path.parent.name != commit:
        path = fetch_file(repo, commit, MANIFEST)  # the Hub was busy and the client took an older copy
    return DatasetFiles(str(source), read_manifest(path.parent, "convert"), path.parent, repo, path.parent.name)


# -------------------------------------------------------------------- the Hub


def _commit_of(repo: str, revision: str) -> str:
    """The commit that a branch or tag names right now, "" when offline."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return ""
    return asked(repo, revision, lambda: HfApi().dataset_info(repo, revision=revision).sha or "")


def fetch_file(repo: str, revision: str, file: str) -> Path:
    """A file of a dataset repo, fetched unless the Hub cache has it. Raises what `find_dataset` raises."""
    from huggingface_hub import hf_hub_download

    def download() -> str:
        return hf_hub_download(repo, file, repo_type="dataset", revision=revision)

    return Path(asked(repo, revision, download, file=file))


def asked(repo: str, revision: str, question: Callable[[], T], *, file: str = "") -> T:
    """The Hub's answer to a question about a dataset repo, asked again while it is busy.

    Raises:
        DatasetNotFound, DatasetError, AuthError, ServiceError: its refusal; `file` is what was asked for.
    """
    from huggingface_hub import errors as hub
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined] # httpx's: no answer at all

    for wait in (*_WAITS, None):
        try:
            return question()
        except hub.HFValidationError:
            raise DatasetNotFound(f"{repo} is neither a folder nor a Hub id", hint=_HINT) from None
        except (HTTPError, OSError, hub.EntryNotFoundError, json.JSONDecodeError) as e:
            if isinstance(e, OSError) and e.errno in _DISK:
                raise
            refusal = _refusal(e, repo, revision, file)
            if wait is None or not isinstance(refusal, ServiceError):
                raise refusal from None
            time.sleep(wait)
    raise AssertionError  # the last turn returns or raises


_HINT = "give a dataset folder or a Hub id user/name[@revision]; for a private one set HF_TOKEN"


def _refusal(error: Exception, repo: str, revision: str, file: str) -> LabelsyncError:
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    name = f"{repo}@{revision}"
    status = error.response.status_code if isinstance(error, hub.HfHubHTTPError) else 0
    refusal: LabelsyncError
    if isinstance(error, hub.GatedRepoError):
        refusal = AuthError(f"{repo} is gated", hint="accept its terms on the Hub and set HF_TOKEN")
    elif isinstance(error, hub.RevisionNotFoundError):
        refusal = DatasetNotFound(f"{repo} has no revision {revision}", hint="look at the tags of the repo")
    elif isinstance(error, hub.RepositoryNotFoundError):
        refusal = DatasetNotFound(f"there is no folder {repo}, and no dataset {repo} on the Hub", hint=_HINT)
    elif isinstance(error, hub.RemoteEntryNotFoundError) and file == MANIFEST:
        refusal = NotOurs(f"{name} was not made by labelsync: it has no {file}", hint=_HINT)
    elif isinstance(error, hub.RemoteEntryNotFoundError):
        refusal = DatasetError(f"{name} has no {file}, which its manifest lists", hint="push it again")
    elif status in (401, 403):
        refusal = AuthError(
            f"the Hub does not show {name} (HTTP {status})", hint="set HF_TOKEN to one that may read it"
        )
    elif constants.HF_HUB_OFFLINE:
        refusal = DatasetNotFound(f"{file} of {name} is not in the Hub cache", hint="unset HF_HUB_OFFLINE to fetch it")
    else:
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        refusal = ServiceError(
            f"{endpoint} did not answer for {name}" + (f" (HTTP {status})" if status else ""),
            hint="check the connection and HF_ENDPOINT, or set HF_HUB_OFFLINE=1 to use what the Hub cache holds",
        )
    return refusal
