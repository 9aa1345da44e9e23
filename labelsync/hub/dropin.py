"""`release2dataset` of the Segments.ai SDK, which left it in 1.20.0: same signature, same columns, not its faults."""

import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import CommitOperationAdd, HfApi

from labelsync.dataset.carried import CarryingDataset, CarryingDatasetDict, carried
from labelsync.dataset.dropin import release_dataset
from labelsync.errors import OptionError, ReleaseNotReady
from labelsync.hub.refusals import refusal
from labelsync.release.sources import ReleaseFile, read_source

ID2LABEL = "id2label.json"


def release2dataset(
    release: Any,
    download_images: bool = True,
    *,
    labelset: str = "ground-truth",
    wait: float = 600.0,
    workers: int = 16,
    allow_failed: int = 0,
) -> "ReleaseDataset":
    """A Segments.ai release as a `datasets.Dataset` of one row per sample, for code written for the SDK's function.

    New code has `pull`, `convert` and `push`: they number the classes 1..K, split, keep a ledger and publish in one
    commit.

    Columns: `name`, `uuid`, `status` ("UNLABELED" without a label), `image` (the file's own bytes, which `datasets`
    decodes with the EXIF orientation applied), `label.annotations` (dicts of `id` and `category_id`, int64) and
    `label.segmentation_bitmap` (a one-channel image of annotation ids in the same frame, 0 = unlabeled; None without a
    label). Without `download_images` they are `image.url` and `label.segmentation_bitmap.url`.

    The result has an `id2label` (int keys, 0 = "unlabeled") for the numbers that `labelsync.get_semantic_bitmap` makes
    of its rows: with `id_increment=0`, or with 1 where the release has a category 0. It is kept by every method that
    makes a dataset of this one, and its `push_to_hub`, also that of a DatasetDict made of it, leaves it in the repo as
    id2label.json, in a commit after that of the data. See `CarryingDataset` for what does not keep it.

    The rows lie in a temporary folder of the datasets cache that goes when the process ends; push or save them.

    Args:
        release: what `SegmentsClient.get_release` returns, or anything that `pull` takes as its source.
        download_images: fetch images and bitmaps (through the asset cache, checked), or give their URLs.
        labelset: whose labels.
        wait: seconds to wait for a release that is PENDING; one given as an object cannot be waited for.
        workers: downloads at the same time.
        allow_failed: number of samples that may be left out, with a warning that names them.

    Raises:
        ReleaseNotReady: the release has no file yet.
        ReleaseFormatError, ReleaseNotFound, AuthError, ServiceError, OptionError: no release that can be used.
        TaxonomyError: categories with one name or id twice, or an id that no bitmap holds.
        SamplesFailed: more than `allow_failed` samples have a file that cannot be fetched, a bitmap of another size
            than the image, a drawn id without annotation, or the like. All are named in `details`.
    """
    dataset, id2label = release_dataset(
        _file_of(release, wait=wait),
        download_images=download_images,
        labelset=labelset,
        workers=workers,
        allow_failed=allow_failed,
    )
    result: ReleaseDataset = carried(dataset, id2label=id2label, like=ReleaseDataset)
    return result


def _file_of(release: Any, *, wait: float) -> ReleaseFile:
    if isinstance(release, str | Path):
        return read_source(release, wait=wait)
    attributes = getattr(release, "attributes", None)
    url = getattr(attributes, "signed_url", None) or getattr(attributes, "url", None)
    status = getattr(release, "status", "")
    if url is None and (attributes is not None or status):
        name = getattr(release, "name", "")
        raise ReleaseNotReady(
            f"release {name!r} has no file, its status is {getattr(status, 'value', status) or 'unknown'}",
            hint="get it again when it has SUCCEEDED, or give owner/dataset@release, which is waited for",
        )
    if not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https"):
        raise OptionError(
            f"{type(release).__name__} is no release", hint="give client.get_release(..) or owner/dataset@release"
        )
    return read_source(url, wait=wait)


# -------------------------------------------------------------------- publishing


class ReleaseDataset(CarryingDataset):
    """A `datasets.Dataset` that keeps its `id2label` and publishes it."""

    def push_to_hub(self, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        """As `datasets.Dataset.push_to_hub`, and then id2label.json in a commit on top.

        Raises:
            PublishError, AuthError, ServiceError: the data has arrived and id2label.json has not.
        """
        return _pushed(super().push_to_hub, self.id2label, repo_id, *args, **kwargs)


class ReleaseDatasetDict(CarryingDatasetDict):
    """Split -> ReleaseDataset."""

    def push_to_hub(self, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        """As `datasets.DatasetDict.push_to_hub`, and then id2label.json in a commit on top."""
        return _pushed(super().push_to_hub, self.id2label, repo_id, *args, **kwargs)


ReleaseDataset.dict_class, ReleaseDatasetDict.dataset_class = ReleaseDatasetDict, ReleaseDataset


def _pushed(push: Callable[..., Any], id2label: dict[int, str], repo_id: str, *args: Any, **kwargs: Any) -> Any:
    """Push, then put id2label.json on top of the data's commit or into its pull request; the CommitInfo of that."""
    given = inspect.signature(push).bind(repo_id, *args, **kwargs).arguments
    if repo_id.startswith("buckets/"):
        raise OptionError("id2label.json goes to a dataset repo, not to a bucket", hint="give owner/name")
    made = push(repo_id, *args, **kwargs)
    text = json.dumps({str(i): name for i, name in sorted(id2label.items())}, indent=2, ensure_ascii=False) + "\n"
    return add_file(
        made.repo_url.repo_id,
        ID2LABEL,
        text.encode(),
        revision=made.pr_revision or given.get("revision"),
        token=given.get("token"),
    )


def add_file(repo_id: str, path: str, data: bytes, *, revision: str | None, token: str | None) -> Any:
    """One file onto a branch or pull request of a dataset repo, in a commit of its own; its CommitInfo.

    Args:
        revision: None = main.
        token: None = the client's own.

    Raises:
        AuthError, PublishError, ServiceError: it has not arrived.
    """
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token, library_name="labelsync")
    try:
        return api.create_commit(
            repo_id,
            [CommitOperationAdd(path, data)],
            repo_type="dataset",
            revision=revision,
            commit_message=f"Add {path}",
        )
    except Exception as e:
        refused = refusal(e, repo=repo_id, endpoint=api.endpoint)
        if refused is None:
            raise
        raise refused from e
