"""What a loopback Segments.ai holds: datasets, samples, labels, labelsets, issues, releases. No HTTP here.

The dicts are those of the API (the SDK refuses an answer that lacks one of the keys it knows); a release document is
made of the same state the way the platform exports it, or taken as it is given.
"""

import copy
import datetime
import json
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

GROUND_TRUTH = "ground-truth"
MAX_NAME = 255  # characters of a sample's name; the platform has some limit, this one is made up
_SLUG = re.compile(r"[\w.-]+")
_FLAGS = (
    *("enable_ratings", "enable_skip_labeling", "enable_skip_reviewing", "enable_save_button"),
    *("enable_label_status_verified", "enable_same_dimensions_track_constraint", "enable_3d_region_of_interest"),
    *("enable_interpolation", "use_timestamps_for_interpolation", "enable_object_linking"),
)


class Refusal(Exception):
    """An error answer: its HTTP status and the text that the SDK sorts exceptions by, or field -> what is wrong."""

    def __init__(self, status: int, detail: str | dict[str, list[str]]) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


@dataclass
class Sample:
    """One sample; `labels` maps labelsets to the API's label objects."""

    uuid: str
    name: str
    attributes: Any
    metadata: Any
    priority: float = 0
    readme: str = ""
    created_at: str = ""
    labels: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Release:
    """One release; it turns from PENDING to `outcome` when it has been asked for `polls` times."""

    name: str
    description: str
    data: bytes
    samples: int
    outcome: str = "SUCCEEDED"
    polls: int = 0
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: str = ""

    @property
    def status(self) -> str:
        """PENDING | SUCCEEDED | FAILED."""
        return "PENDING" if self.polls > 0 else self.outcome


@dataclass
class Dataset:
    """One dataset; samples in the order they were added."""

    owner: str
    name: str
    task_type: str = "segmentation-bitmap"
    task_attributes: Any = None
    description: str = ""
    category: str = "other"
    metadata: dict[str, Any] = field(default_factory=dict)
    public: bool = False
    created_at: str = ""
    labelsets: dict[str, str] = field(default_factory=lambda: {GROUND_TRUTH: ""})
    samples: dict[str, Sample] = field(default_factory=dict)
    releases: dict[str, Release] = field(default_factory=dict)
    issues: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """owner/name."""
        return f"{self.owner}/{self.name}"

    def release(self, name: str) -> Release:
        """A release by name."""
        if name not in self.releases:
            raise Refusal(404, "Not found.")
        return self.releases[name]


class Platform:
    """Everything there is. Hold `lock` around every read-and-write."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.datasets: dict[str, Dataset] = {}
        self.sign: Callable[[str], str | None] = lambda _: None  # an image URL -> its signed one, if it needs one
        self.new_release_polls = 2  # how often a release made over the API is PENDING
        self.new_release_outcome = "SUCCEEDED"
        self.upload_keys: set[str] = set()  # what the storage takes: keys that the API has signed a form for
        self.user = "acme"  # whose the key is
        self.organizations = {"acme-robotics": True, "others": False}  # name -> whether the user may make things there
        self.before: list[Callable[[str, str], None]] = []  # called with method and path before a request is answered

    def dataset(self, full_name: str) -> Dataset:
        """A dataset by "owner/name"."""
        if full_name not in self.datasets:
            raise Refusal(404, "Not found.")
        return self.datasets[full_name]

    def create(self, owner: str, name: str, **given: Any) -> Dataset:
        """A dataset without samples."""
        if not _SLUG.fullmatch(name):
            raise Refusal(400, {"name": ["Enter a valid \u201cslug\u201d: letters, numbers, underscores or hyphens."]})
        if f"{owner}/{name}" in self.datasets:
            raise Refusal(400, "A dataset with this name already exists.")
        dataset = Dataset(owner, name, created_at=now(), **given)
        self.datasets[dataset.full_name] = dataset
        return dataset

    def create_over_api(self, owner: str, name: str, **given: Any) -> Dataset:
        """As `create`, by the user of the key: in a namespace of the user's own."""
        if owner != self.user and not self.organizations.get(owner, False):
            known = owner in self.organizations
            raise Refusal(
                *((403, "You do not have permission to perform this action.") if known else (404, "Not found."))
            )
        return self.create(owner, name, **given)

    def sample(self, key: str) -> tuple[Dataset, Sample]:
        """A sample by uuid, and its dataset."""
        for dataset in self.datasets.values():
            if key in dataset.samples:
                return dataset, dataset.samples[key]
        raise Refusal(404, "Not found.")

    def add_sample(self, dataset: Dataset, given: dict[str, Any], *, key: str = "") -> Sample:
        """A new sample; its name must be new to the dataset."""
        if len(given["name"]) > MAX_NAME:
            raise Refusal(400, {"name": [f"Ensure this field has no more than {MAX_NAME} characters."]})
        if any(s.name == given["name"] for s in dataset.samples.values()):
            raise Refusal(400, "A sample with this name already exists.")
        sample = Sample(
            uuid=key or str(uuid.uuid4()),
            name=given["name"],
            attributes=given.get("attributes"),
            metadata=given.get("metadata") or {},
            priority=given.get("priority") or 0,
            readme=given.get("readme") or "",
            created_at=now(),
        )
        dataset.samples[sample.uuid] = sample
        return sample

    def put_label(self, key: str, labelset: str, given: dict[str, Any], *, by: str = "") -> dict[str, Any]:
        """Create or overwrite a label, whoever made the one before: the API has no If-Match. `by` = "" is the key."""
        dataset, sample = self.sample(key)
        if labelset not in dataset.labelsets:
            raise Refusal(404, "Not found.")
        old = sample.labels.get(labelset)
        label = {
            "sample_uuid": key,
            "label_type": dataset.task_type,
            "label_status": given.get("label_status", "PRELABELED"),
            "labelset": labelset,
            "attributes": given.get("attributes"),
            "created_at": old["created_at"] if old else now(),
            "created_by": old["created_by"] if old else by or self.user,
            "updated_at": now(),
            "updated_by": by or self.user,
            "score": given.get("score"),
        }
        sample.labels[labelset] = label
        return label

    # ---------------------------------------------------------------- releases

    def add_round(self, document: dict[str, Any], **how: Any) -> Release:
        """A release as somebody exported it, and its samples and labels as the dataset's present state."""
        about = document["dataset"]
        full_name = f"{about['owner']}/{about['name']}"
        dataset = self.datasets.get(full_name) or self.create(about["owner"], about["name"])
        dataset.task_type, dataset.task_attributes = about["task_type"], about["task_attributes"]
        dataset.description = about.get("description", "")
        for labelset in about.get("labelsets", ()):
            dataset.labelsets.setdefault(labelset["name"], labelset["description"])
        for entry in about["samples"]:
            self._take(dataset, entry)
        data = json.dumps(document).encode()
        return self.add_release(dataset, document["name"], data, samples=len(about["samples"]), **how)

    def add_release(
        self, dataset: Dataset, name: str, data: bytes, *, samples: int = 0, outcome: str = "SUCCEEDED", polls: int = 0
    ) -> Release:
        """A release whose file is `data`, whatever that is."""
        dataset.releases[name] = Release(name, "", data, samples, outcome, polls, created_at=now())
        return dataset.releases[name]

    def snapshot(self, dataset: Dataset, name: str, description: str = "") -> Release:
        """A release of the present state, PENDING at first."""
        if name in dataset.releases:
            raise Refusal(400, "A release with this name already exists.")
        document = export(dataset, name, description)
        release = self.add_release(
            dataset,
            name,
            json.dumps(document).encode(),
            samples=len(dataset.samples),
            outcome=self.new_release_outcome,
            polls=self.new_release_polls,
        )
        release.description = description
        return release

    def _take(self, dataset: Dataset, entry: Any) -> None:
        """One entry of an exported release; entries that are no samples are left to the release file."""
        if not isinstance(entry, dict) or not isinstance(entry.get("uuid"), str):
            return
        sample = Sample(entry["uuid"], entry.get("name", ""), entry.get("attributes"), entry.get("metadata"))
        sample.created_at = now()
        dataset.samples[sample.uuid] = sample
        for labelset, label in (entry.get("labels") or {}).items():
            if isinstance(label, dict):
                dataset.labelsets.setdefault(labelset, "")
                self.put_label(sample.uuid, labelset, copy.deepcopy(label))


# -------------------------------------------------------------------- the platform's JSON


def now() -> str:
    """The time as the API writes it."""
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")


def export(dataset: Dataset, name: str, description: str) -> dict[str, Any]:
    """The release file of a dataset's present state."""
    when = now().replace("T", " ").replace("Z", "+00:00")
    labelsets = [
        {"name": n, "description": d, "is_groundtruth": n == GROUND_TRUTH, "created_at": when}
        for n, d in dataset.labelsets.items()
    ]
    samples = [
        {
            "uuid": s.uuid,
            "name": s.name,
            "attributes": s.attributes,
            "metadata": s.metadata or {},
            "labels": {n: _exported(s.labels.get(n)) for n in dataset.labelsets},
        }
        for s in dataset.samples.values()
    ]
    about = {
        "name": dataset.name,
        "description": dataset.description,
        "category": "Other / mixed",
        "created_at": dataset.created_at,
        "owner": dataset.owner,
        "task_type": dataset.task_type,
        "task_attributes": dataset.task_attributes,
        "labelsets": labelsets,
        "samples": samples,
    }
    return {"name": name, "description": description, "created_at": when, "dataset": about}


def _exported(label: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if label is None else {k: label[k] for k in ("label_status", "attributes")}


def dataset_json(dataset: Dataset) -> dict[str, Any]:
    """GET /datasets/owner/name/."""
    statuses = [s.labels.get(GROUND_TRUTH, {}).get("label_status", "UNLABELED") for s in dataset.samples.values()]
    return {
        **dict.fromkeys(_FLAGS, False),
        "name": dataset.name,
        "full_name": dataset.full_name,
        "description": dataset.description,
        "category": dataset.category,
        "public": dataset.public,
        "archived": False,
        "owner": {"username": dataset.owner, "created_at": dataset.created_at},
        "created_at": dataset.created_at,
        "task_type": dataset.task_type,
        "task_attributes": dataset.task_attributes,
        "label_stats": {s: statuses.count(s) for s in sorted(set(statuses))},
        "samples_count": len(dataset.samples),
        "metadata": dataset.metadata,
    }


def sample_json(dataset: Dataset, sample: Sample, *, labelset: str = "", full: bool = False) -> dict[str, Any]:
    """GET /samples/uuid/, with the label or its summary if a labelset is asked for."""
    answer: dict[str, Any] = {
        "uuid": sample.uuid,
        "name": sample.name,
        "attributes": sample.attributes,
        "metadata": sample.metadata or {},
        "created_at": sample.created_at,
        "created_by": dataset.owner,
        "priority": sample.priority,
        "readme": sample.readme,
        "dataset_full_name": dataset.full_name,
    }
    if labelset and (label := sample.labels.get(labelset)):
        summary = ("score", "label_status", "updated_at", "created_by")
        answer["label"] = label if full else {k: label[k] for k in summary}
    return answer


def signed_attributes(value: Any, sign: Callable[[str], str | None]) -> Any:
    """Attributes as `include_signed_urls` asks for them: a signed_url beside every url that needs one."""
    if isinstance(value, list):
        return [signed_attributes(v, sign) for v in value]
    if not isinstance(value, dict):
        return value
    signed = sign(value["url"]) if isinstance(value.get("url"), str) else None
    return {k: signed_attributes(v, sign) for k, v in value.items()} | ({"signed_url": signed} if signed else {})


def release_json(release: Release, url: str) -> dict[str, Any]:
    """GET .../releases/name/; the URL is there once it has SUCCEEDED."""
    return {
        "uuid": release.uuid,
        "name": release.name,
        "description": release.description,
        "release_type": "JSON",
        "attributes": {"url": url} if release.status == "SUCCEEDED" else {},
        "status": release.status,
        "created_at": release.created_at,
        "samples_count": release.samples,
    }
