"""The loopback Segments.ai answers the real, unmodified SDK as the platform does."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from segments import SegmentsClient
from segments import exceptions as sdk
from segments.utils import bitmap2file

from tests.loopback.segments import KEY, LoopbackSegments
from tests.loopback.segments_people import Person
from tests.releases import draw_release, sample_uuid

DATASET = "acme/sidewalk"


@pytest.fixture
def client(server: LoopbackSegments, tmp_path: Path) -> Iterator[SegmentsClient]:
    server.add_round(draw_release(tmp_path / "drawn", samples=4, unlabeled=(3,)))
    with SegmentsClient(KEY, server.url) as connected:
        yield connected


def test_a_wrong_key_a_missing_one_and_an_unknown_name_are_refused_as_the_platform_does(
    server: LoopbackSegments, client: SegmentsClient
) -> None:
    with pytest.raises(sdk.AuthenticationError, match="right API key"):
        SegmentsClient("wrong", server.url)
    with pytest.raises(sdk.AuthenticationError, match="credentials were not provided"):
        SegmentsClient("", server.url)
    with pytest.raises(sdk.NotFoundError):
        client.get_dataset("acme/nothing")
    with pytest.raises(sdk.NotFoundError):
        client.get_release(DATASET, "v9")


def test_a_round_is_a_dataset_with_samples_labels_and_a_release_file(
    server: LoopbackSegments, client: SegmentsClient
) -> None:
    dataset = client.get_dataset(DATASET)
    assert (dataset.task_type, dataset.samples_count) == ("segmentation-bitmap", 4)
    assert [s.name for s in client.get_samples(DATASET)] == [f"frame_{i:04d}.jpg" for i in range(4)]
    release = client.get_release(DATASET, "v1.0")
    assert (release.status, release.samples_count) == ("SUCCEEDED", 4)
    document = requests.get(release.attributes.url, timeout=5).json()
    first = document["dataset"]["samples"][0]
    label = client.get_label(sample_uuid(0))
    assert label.label_status == first["labels"]["ground-truth"]["label_status"] == "LABELED"
    assert label.attributes.segmentation_bitmap.url.startswith(server.storage_url)
    assert requests.get(first["attributes"]["image"]["url"], timeout=5).content.startswith(b"\xff\xd8")
    with pytest.raises(sdk.NotFoundError):
        client.get_label(sample_uuid(3))


def test_samples_are_filtered_sorted_and_paged(client: SegmentsClient) -> None:
    def names(**kwargs: Any) -> list[str]:
        return [s.name[6:10] for s in client.get_samples(DATASET, **kwargs)]

    assert names(label_status=["UNLABELED"], labelset="ground-truth") == ["0003"]
    assert names(direction="desc") == ["0003", "0002", "0001", "0000"]
    assert names(per_page=3, page=2) == ["0003"]
    assert names(name="_0002") == ["0002"]
    with pytest.raises(sdk.NotFoundError):
        client.get_samples(DATASET, per_page=4, page=2)
    assert client.get_samples(DATASET, labelset="ground-truth")[0].label.label_status == "LABELED"


def test_an_upload_reaches_the_storage_without_the_key_and_becomes_a_label(
    server: LoopbackSegments, client: SegmentsClient
) -> None:
    bitmap = np.array([[0, 1], [1, 2]], np.uint32)
    asset = client.upload_asset(bitmap2file(bitmap), "label.png")
    attributes = {
        "format_version": "0.1",
        "annotations": [{"id": 1, "category_id": 1}, {"id": 2, "category_id": 2}],
        "segmentation_bitmap": {"url": asset.url},
    }
    client.add_label(sample_uuid(3), "ground-truth", attributes)
    assert client.get_label(sample_uuid(3)).label_status == "PRELABELED"
    assert requests.get(asset.url, timeout=5).content == bitmap2file(bitmap).getvalue()
    upload = server.log.find(method="POST", server="storage")
    assert [(r.authorized, r.status) for r in upload] == [(False, 204)]
    assert all(r.authorized for r in server.log.find(server="api"))


def test_a_label_is_updated_and_deleted(client: SegmentsClient) -> None:
    client.update_label(sample_uuid(0), "ground-truth", label_status="REVIEWED", score=0.5)
    label = client.get_label(sample_uuid(0))
    assert (label.label_status, label.score) == ("REVIEWED", 0.5)
    assert label.attributes.annotations  # untouched
    client.delete_label(sample_uuid(0), "ground-truth")
    with pytest.raises(sdk.NotFoundError):
        client.get_label(sample_uuid(0))


def test_the_way_of_a_new_dataset_to_its_first_release(server: LoopbackSegments, client: SegmentsClient) -> None:
    client.add_dataset("park", task_type="segmentation-bitmap")
    url = client.upload_asset(io.BytesIO(b"not really a jpeg"), "a.jpg").url
    sample = client.add_sample("acme/park", "a.jpg", {"image": {"url": url}}, priority=2)
    with pytest.raises(sdk.AlreadyExistsError):
        client.add_sample("acme/park", "a.jpg", {"image": {"url": url}})
    client.add_samples("acme/park", [{"name": n, "attributes": {"image": {"url": url}}} for n in ("a.jpg", "b.jpg")])
    assert [s.name for s in client.get_samples("acme/park")] == ["a.jpg", "b.jpg"]
    client.update_sample(sample.uuid, metadata={"weather": "rain"})
    assert client.get_sample(sample.uuid).metadata == {"weather": "rain"}
    client.add_labelset("acme/park", "predictions")
    assert [x.name for x in client.get_labelsets("acme/park")] == ["ground-truth", "predictions"]
    client.add_issue(sample.uuid, "the curb is missing")
    assert [i.description for i in client.get_issues("acme/park")] == ["the curb is missing"]

    assert client.add_release("acme/park", "v0.1").status == "PENDING"
    seen = [client.get_release("acme/park", "v0.1").status for _ in range(3)]
    assert seen == ["PENDING", "PENDING", "SUCCEEDED"]
    data = requests.get(client.get_release("acme/park", "v0.1").attributes.url, timeout=5).json()
    assert [s["labels"] for s in data["dataset"]["samples"]] == [{"ground-truth": None, "predictions": None}] * 2
    with pytest.raises(sdk.AlreadyExistsError):
        client.add_release("acme/park", "v0.1")


def test_the_storage_refuses_a_key_and_serves_nothing_outside_its_folders(
    server: LoopbackSegments, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("in")
    (tmp_path / "out.txt").write_text("out")
    root = server.mount(tmp_path / "in")
    assert requests.get(f"{root}a.txt", timeout=5).text == "in"
    assert requests.get(f"{root}a.txt", timeout=5, headers={"Authorization": f"APIKey {KEY}"}).status_code == 400
    for path in ("b.txt", "..%2Fout.txt", "%2e%2e/out.txt"):
        assert requests.get(root + path, timeout=5).status_code == 403


def test_people_come_between_two_requests(server: LoopbackSegments, client: SegmentsClient) -> None:
    key, jane = sample_uuid(3), Person(server.platform, "jane")
    jane.comes("PUT", key, status="LABELING_IN_PROGRESS", attributes=None)
    with pytest.raises(sdk.NotFoundError):
        client.get_label(key)
    attributes = {"annotations": [], "segmentation_bitmap": {"url": "http://127.0.0.1:9/a.png"}}
    for _ in range(2):  # she comes once
        label = client.add_label(key, "ground-truth", attributes)
        assert (label.label_status, label.created_by, label.updated_by) == ("PRELABELED", "jane", "acme")
    controls = f"{server.storage_url}/-/people"
    requests.post(controls, json={"sample": key, "status": "REVIEWED", "before": "GET"}, timeout=5)
    assert client.get_label(key).label_status == "REVIEWED"
    client.delete_label(key, "ground-truth")
    requests.post(controls, json={"sample": key, "status": "SKIPPED", "name": "joe"}, timeout=5)
    assert client.get_label(key).created_by == "joe"


def test_the_log_names_every_request_and_holds_no_key(server: LoopbackSegments, client: SegmentsClient) -> None:
    client.get_dataset(DATASET)
    last = server.log[-1]
    assert (last.method, last.path, last.server, last.status) == ("GET", f"/datasets/{DATASET}/", "api", 200)
    assert KEY not in json.dumps([vars(r) for r in server.log])


def test_a_walk_by_hand_adds_rounds_and_faults_and_reads_the_log(server: LoopbackSegments, tmp_path: Path) -> None:
    path, controls = draw_release(tmp_path, samples=1), f"{server.storage_url}/-"
    added = requests.post(f"{controls}/rounds", json={"release": str(path)}, timeout=5).json()
    assert added == "acme/sidewalk@v1.0"
    requests.post(f"{controls}/faults", json={"kind": "status", "code": 503, "path": "/x/"}, timeout=5)
    assert [requests.get(f"{server.storage_url}/x/a.png", timeout=5).status_code for _ in range(2)] == [503, 403]
    assert requests.get(f"{controls}/log", timeout=5).json()[-2]["path"] == "/x/a.png"
