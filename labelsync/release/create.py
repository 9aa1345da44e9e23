"""`create` and `create_release`: where a labeling round starts, and where it is ready to be pulled."""

import re
from pathlib import Path
from typing import Any

from labelsync.errors import OptionError, TaxonomyError
from labelsync.records.platform import CreateRecord, CreateReleaseRecord
from labelsync.release.categories import differences, plain, read_task_attributes
from labelsync.release.client import check_task_attributes
from labelsync.release.entries import SENSORS, SUPPORTED
from labelsync.release.platform import Platform
from labelsync.taxonomy import Category

TASK_TYPES = tuple(t for t in SUPPORTED if t != SENSORS)  # whose labels `convert` makes pixels of

_NAME = re.compile(r"(?P<owner>[^/@\s]+)/(?P<name>[^/@\s]+)")


def create(
    dataset: str,
    *,
    categories: str | Path,
    task_type: str = "segmentation-bitmap",
    description: str = "",
    public: bool = False,
    dry_run: bool = False,
) -> CreateRecord:
    """Make a dataset on Segments.ai, with its categories.

    Reads SEGMENTS_API_KEY, and SEGMENTS_API_URL for another deployment. One that is there already with these categories
    stays as it is; one with others is never changed, since labels may hang on them.

    Args:
        dataset: "owner/name"; an owner who is not the key's user is an organization.
        categories: "sidewalk", the preset; a TOML or JSON file of categories, a labels file or an id2label; a release
            (a file, a folder of `pull`, or "owner/dataset@release"); a folder of `convert` or of a model.
        task_type: what is drawn, as Segments.ai calls it.
        description: of the dataset.
        public: let everybody see it; else the owner's people alone.
        dry_run: only tell what would be made.

    Raises:
        OptionError: no such categories, or a name or task type that cannot be.
        TaxonomyError: the dataset is there with other categories, or these contradict themselves.
        AuthError: no key, or one that may not make datasets for `owner`.
        ServiceError: the platform refuses or does not answer.
    """
    check_name(dataset)
    if task_type not in TASK_TYPES:
        raise OptionError(f"--task-type is {task_type!r}", hint=f"there are: {', '.join(TASK_TYPES)}")
    attributes = read_task_attributes(categories)
    check_task_attributes(attributes, where=f"--categories {categories}")
    wanted = plain(attributes["categories"])
    with Platform() as platform:
        there = platform.find_dataset(dataset)
        if there is not None:
            _require_same(there, dataset, wanted, task_type=task_type, public=public)
        elif not dry_run:
            platform.create_dataset(
                dataset, attributes=attributes, task_type=task_type, description=description, public=public
            )
        return CreateRecord(
            dataset=dataset,
            page=platform.page_of(dataset),
            task_type=task_type,
            categories=wanted,
            public=public,
            samples=int(there.samples_count or 0) if there is not None else 0,
            unchanged=there is not None,
            dry_run=dry_run,
        )


def check_name(dataset: str) -> None:
    """Raises OptionError unless `dataset` is "owner/name"."""
    found = _NAME.fullmatch(dataset)
    if not found or {".", ".."} & {found["owner"], found["name"]} or not dataset.isprintable():
        raise OptionError(f"{dataset!r} is no name of a dataset", hint="write owner/name, as acme/sidewalk")


def _require_same(there: Any, dataset: str, wanted: tuple[Category, ...], *, task_type: str, public: bool) -> None:
    """Raises TaxonomyError if the dataset that is there is another one than is asked for."""
    other = "choose another name, or change it on Segments.ai"
    if there.task_type != task_type:
        raise TaxonomyError(f"{dataset} exists with the task type {there.task_type}", hint=other)
    if there.public != public:
        raise TaxonomyError(f"{dataset} exists and is {'public' if there.public else 'private'}", hint=other)
    listed = there.task_attributes.categories if there.task_attributes is not None else None
    known = tuple(Category(c.id, c.name, None, c.has_instances is True) for c in listed or ())
    if lines := differences(known, wanted):
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        raise TaxonomyError(
            f"{dataset} exists with other categories: {lines[0]}{more}", hint=other, details=lines if more else ()
        )


def create_release(dataset: str, *, name: str, description: str = "", wait: float = 600.0) -> CreateReleaseRecord:
    """Make a release of the labels as they are now, and wait until it can be pulled.

    A release is a picture of one moment. So one of that name that is there already is not made again: it is waited for
    if it is PENDING, and left as it is.

    Args:
        dataset: "owner/name" on Segments.ai (key in SEGMENTS_API_KEY, server in SEGMENTS_API_URL).
        name: of the release, as "v0.2".
        description: of the release.
        wait: seconds to wait for it.

    Raises:
        OptionError: a name that cannot be.
        ReleaseNotFound: no such dataset.
        ReleaseNotReady: still PENDING after the wait, or FAILED.
        AuthError, ServiceError: the platform refuses or does not answer.
    """
    check_name(dataset)
    if not name.strip() or name in (".", "..") or not name.isprintable():
        raise OptionError(f"{name!r} is no name of a release", hint="write one as v0.2")
    if not wait >= 0:  # a NaN is refused too
        raise OptionError(f"--wait is {wait}, which is out of range", hint="give 0 or more")
    with Platform() as platform:
        there = platform.find_release(dataset, name)
        if there is None:
            platform.create_release(dataset, name, description=description)
        made = platform.wait_for_release(dataset, name, wait=wait)
        return CreateReleaseRecord(
            dataset=dataset,
            release=made.name,
            description=made.description,
            samples=made.samples_count,
            created_at=str(made.created_at),
            unchanged=there is not None,
        )
