"""Labels on Segments.ai, read and written one by one, for who writes labels that people go on with.

The API writes unconditionally: a PUT overwrites whatever is there and a DELETE removes it, whoever made it in the
meantime. So a write here is one request that is never repeated by itself (but after a 429, which did nothing); the
caller reads before and after it. Labels are read as the plain JSON they are: the SDK's own objects refuse labels that
an editor has just opened (no bitmap yet) and drop keys that they do not know, which a label that is put back needs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

from labelsync.errors import LabelsyncError, OptionError, ReleaseFormatError
from labelsync.release import client, transport
from labelsync.release.answers import status_of
from labelsync.release.entries import BITMAP
from labelsync.release.parse import categories_of
from labelsync.release.platform import PER_PAGE, Platform, pause_before
from labelsync.release.urls import asset_key, shown
from labelsync.release.values import integer, number, text, url_of, within
from labelsync.taxonomy import Category

T = TypeVar("T")

UNLABELED, PRELABELED = "UNLABELED", "PRELABELED"
TASKS = (BITMAP, f"{BITMAP}-highres")


@dataclass(frozen=True)
class LabeledDataset:
    """A dataset as it is now."""

    name: str
    task_type: str
    categories: tuple[Category, ...]


@dataclass(frozen=True)
class SampleState:
    """A sample and the status of its label in one labelset, "UNLABELED" if it has none."""

    uuid: str
    name: str
    image_url: str | None
    status: str
    priority: float = 0.0


@dataclass(frozen=True)
class LabelState:
    """A label as the API gives it; `attributes` as they stand there, `score` None where there is none."""

    status: str
    attributes: Any
    updated_at: str
    created_by: str
    updated_by: str = ""
    score: float | None = None

    @property
    def bitmap_url(self) -> str | None:
        """Where its bitmap is."""
        return url_of(within(self.attributes, "segmentation_bitmap"))

    @property
    def annotations(self) -> tuple[tuple[int, int], ...]:
        """(id, category id) of each, in order."""
        listed = within(self.attributes, "annotations")
        entries = listed if isinstance(listed, list) else []
        pairs = [(integer(within(a, "id")), integer(within(a, "category_id"))) for a in entries]
        return tuple((i, c) for i, c in pairs if i is not None and c is not None)


@dataclass(frozen=True)
class NewLabel:
    """What is written as a label: `annotations` are (id in the bitmap, category id)."""

    bitmap_url: str
    annotations: tuple[tuple[int, int], ...] = field(default=())

    def is_in(self, label: LabelState) -> bool:
        """Whether `label` is this one, not touched since: asset URLs are unique, so nobody else writes this one."""
        same = label.bitmap_url is not None and asset_key(label.bitmap_url) == asset_key(self.bitmap_url)
        return same and label.status == PRELABELED and sorted(label.annotations) == sorted(self.annotations)

    def attributes(self) -> dict[str, Any]:
        """As the API takes it."""
        return {
            "format_version": "0.1",
            "annotations": [{"id": i, "category_id": c} for i, c in self.annotations],
            "segmentation_bitmap": {"url": self.bitmap_url},
        }


class Labeling(Platform):
    """The labels of one labelset; its methods raise AuthError and ServiceError as `Platform`'s do."""

    def __init__(self, labelset: str) -> None:
        super().__init__()
        self._labelset = labelset

    def __enter__(self) -> "Labeling":
        return self

    @property
    def server(self) -> str:
        """The API's root, as records show it."""
        return shown(self._url)

    def user(self) -> str:
        """Whose key it is: the `created_by` of what is made with it."""
        return str(self._surely("tell whose key this is", self._client.get_user).username)

    def dataset(self, name: str) -> LabeledDataset:
        """The dataset "owner/name", with the labelset.

        Raises:
            ReleaseNotFound: no such dataset.
            ReleaseFormatError: its labels are not one bitmap an image.
            OptionError: it has no such labelset.
        """
        found = self.require_dataset(name)
        task = str(getattr(found.task_type, "value", found.task_type))
        if task not in TASKS:
            raise ReleaseFormatError(
                f"{name} is of task type {task!r}, and prelabels are drawn for {' and '.join(TASKS)}",
                hint="give a dataset whose labels are one bitmap an image",
            )
        sets = self._surely(f"list the labelsets of {name}", lambda: self._client.get_labelsets(client.quoted(name)))
        names = [str(s.name) for s in sets]
        if self._labelset not in names:
            raise OptionError(
                f"{name} has no labelset {self._labelset!r}", hint=f"pass --labelset {' or '.join(sorted(names))}"
            )
        attributes = found.task_attributes.model_dump(mode="json") if found.task_attributes else None
        return LabeledDataset(name, task, categories_of({"task_attributes": attributes}, where=name))

    def states(self, dataset: str) -> list[SampleState]:
        """Every sample, each once, in the order of the labeling queue: higher priority first, then by name."""
        found: dict[str, SampleState] = {}
        page = 1
        while listed := self._states(dataset, page):
            found |= {s.uuid: s for s in map(_state, listed)}  # pages shift while somebody adds or deletes samples
            if len(listed) < PER_PAGE:
                break
            page += 1
        return sorted(found.values(), key=lambda s: (-s.priority, s.name, s.uuid))

    def _states(self, dataset: str, page: int) -> list[Any]:
        try:
            labelset = quote(self._labelset, safe="")
            return list(
                self._client.get_samples(client.quoted(dataset), labelset=labelset, per_page=PER_PAGE, page=page)
            )
        except Exception as e:  # noqa: BLE001
            if page > 1 and client.is_missing(e):  # the last page was full
                return []
            raise self._refusal(e, f"list the samples of {dataset}") from None

    # ---------------------------------------------------------------- one label

    def read(self, uuid: str) -> LabelState | None:
        """The label of a sample as it is now, None if it has none."""
        try:
            response: Any = self._client._get(self._path(uuid))
            label = response.json()
        except Exception as e:  # noqa: BLE001
            if client.is_missing(e):
                return None
            raise self._refusal(e, "show a label") from None
        return LabelState(
            status=text(within(label, "label_status")),
            attributes=within(label, "attributes"),
            updated_at=text(within(label, "updated_at")),
            created_by=text(within(label, "created_by")),
            updated_by=text(within(label, "updated_by")),
            score=number(within(label, "score")),
        )

    def write(self, uuid: str, label: NewLabel) -> None:
        """Make it the label of a sample, PRELABELED, whatever is there. Raises also if it was done and not answered."""
        put: Any = self._client.add_label
        where = quote(uuid, safe=""), quote(self._labelset, safe="")
        self._alone("write a label", lambda: put(*where, label.attributes(), label_status=PRELABELED))

    def put_back(self, uuid: str, label: LabelState) -> None:
        """Make a label again what it was once, with every key that it had."""
        data = {"label_status": label.status, "attributes": label.attributes}
        data |= {} if label.score is None else {"score": label.score}
        self._alone("put a label back", lambda: self._client._put(self._path(uuid), data=data, gzip_compress=True))

    def delete(self, uuid: str) -> None:
        """Leave a sample without a label; none there is as good."""
        try:
            self._alone("delete a label", lambda: self._client._delete(self._path(uuid)))
        except client.Missing:
            return

    # ---------------------------------------------------------------- a place in the queue

    def priority(self, uuid: str) -> float | None:
        """The priority of a sample as it is now, None if there is no such sample any more."""
        try:
            found: Any = self._surely("show a sample", lambda: self._client.get_sample(quote(uuid, safe="")))
        except client.Missing:
            return None
        return float(found.priority or 0)

    def set_priority(self, uuid: str, priority: float) -> None:
        """Give a sample its place in the labeling queue, higher first. Raises also if it was done and not answered."""
        patch: Any = self._client.update_sample
        self._alone("set a priority", lambda: patch(quote(uuid, safe=""), priority=priority))

    def _path(self, uuid: str) -> str:
        return f"/labels/{quote(uuid, safe='')}/{quote(self._labelset, safe='')}/"

    def _alone(self, what: str, call: Callable[[], T]) -> T:
        """One request; it is repeated only when it was one too many, which did nothing."""
        for again in reversed(range(transport.RETRIES + 1)):
            try:
                return call()
            except LabelsyncError:
                raise
            except Exception as e:  # noqa: BLE001
                if not again or status_of(e) != 429:
                    raise self._refusal(e, what) from None
                time.sleep(pause_before(e, transport.RETRIES - again))
        raise AssertionError("unreachable")


def _state(sample: Any) -> SampleState:
    image = getattr(sample.attributes, "image", None)
    status = getattr(sample.label, "label_status", None)
    return SampleState(
        uuid=sample.uuid,
        name=sample.name,
        image_url=getattr(image, "url", None) or None,
        status=str(getattr(status, "value", status) or UNLABELED),
        priority=float(sample.priority or 0),
    )
