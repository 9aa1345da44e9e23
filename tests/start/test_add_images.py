"""`labelsync add-images`: every image becomes one sample, whatever goes wrong and however often it is run."""

import errno
import io
import os
import sys
import threading
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import labelsync
from labelsync.records.platform import AddImagesRecord
from labelsync.records.text import from_json
from labelsync.release import send, transport
from labelsync.release.platform import Platform
from labelsync.store.files import sha256_file
from tests.loopback.segments import LoopbackSegments
from tests.loopback.segments_state import Dataset, Sample
from tests.start.conftest import DATASET, Cli, draw_image, last, record
from tests.videos import draw_video, turn


@pytest.fixture
def dataset(server: LoopbackSegments) -> Dataset:
    """An empty dataset on the server."""
    categories = {"format_version": "0.1", "categories": [{"id": 1, "name": "road"}]}
    return server.platform.create("acme", "sidewalk", task_attributes=categories)


@pytest.fixture
def add(run: Cli, dataset: Dataset) -> Cli:
    """`labelsync add-images acme/sidewalk ..`."""
    return lambda *argv, **more: run("add-images", DATASET, *argv, **more)


def samples(dataset: Dataset) -> dict[str, Sample]:
    """By name, in the order they were added."""
    found = {s.name: s for s in dataset.samples.values()}
    assert len(found) == len(dataset.samples)
    return found


def stored(server: LoopbackSegments, sample: Sample) -> bytes:
    """The bytes at a sample's URL."""
    return server.bucket.objects[sample.attributes["image"]["url"].removeprefix(f"{server.storage_url}/")]


def outcomes(result: Any) -> dict[str, str]:
    return {row["name"]: row["outcome"] for row in record(result)["rows"]}


# -------------------------------------------------------------------- files


def test_a_folder_becomes_samples_called_by_their_paths(
    add: Cli, server: LoopbackSegments, dataset: Dataset, tmp_path: Path
) -> None:
    names = ["a/x.jpg", "a/x.png", "b/x.jpg", "top.JPG"]
    for i, name in enumerate(names):
        draw_image(tmp_path / "in" / name.replace("JPG", "jpg"), i)
    (tmp_path / "in/top.jpg").rename(tmp_path / "in/top.JPG")
    draw_image(tmp_path / "in/.thumbnails/x.jpg", 7)
    (tmp_path / "in/._top.jpg").write_bytes(b"of the finder")
    (tmp_path / "in/notes.md").write_text("no image")
    done = add("in")
    assert done.stdout.startswith(f"{DATASET}: 4 images added (0.0 MB)")
    assert list(samples(dataset)) == names
    for name, sample in samples(dataset).items():
        path = tmp_path / "in" / name
        assert stored(server, sample) == path.read_bytes()
        assert sample.metadata == {"labelsync_source": f"sha256:{sha256_file(path)}"}
    suffixes = [s.attributes["image"]["url"].rpartition(".")[2] for s in samples(dataset).values()]
    assert suffixes == ["jpg", "png", "jpg", "JPG"]


def test_files_are_uploaded_as_they_are_with_their_orientation(
    add: Cli, server: LoopbackSegments, dataset: Dataset, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    add("turned.jpg")
    assert stored(server, samples(dataset)["turned.jpg"]) == (tmp_path / "turned.jpg").read_bytes()


def test_the_storage_never_sees_the_key(add: Cli, server: LoopbackSegments, tmp_path: Path) -> None:
    draw_image(tmp_path / "a.jpg", 0)
    add("a.jpg")
    uploads = server.log.find(method="POST", server="storage")
    assert [(r.authorized, r.status) for r in uploads] == [(False, 204)]


def test_metadata_is_put_on_every_sample(add: Cli, dataset: Dataset, tmp_path: Path) -> None:
    for i in range(2):
        draw_image(tmp_path / f"in/{i}.jpg", i)
    add("in", "--metadata", "site=harbour", "--metadata", "weather=a=b")
    for sample in samples(dataset).values():
        assert sample.metadata.pop("labelsync_source").startswith("sha256:")
        assert sample.metadata == {"site": "harbour", "weather": "a=b"}


def test_a_name_has_one_spelling_on_every_system(add: Cli, dataset: Dataset, tmp_path: Path) -> None:
    draw_image(tmp_path / "in" / unicodedata.normalize("NFD", "caf\u00e9 1.jpg"), 0)
    add("in")
    assert list(samples(dataset)) == [unicodedata.normalize("NFC", "caf\u00e9 1.jpg")]


def test_the_function_returns_a_row_for_every_image(
    dataset: Dataset, server: LoopbackSegments, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in server.env.items():
        monkeypatch.setenv(name, str(value))
    draw_image(tmp_path / "in/a.jpg", 0)
    found = labelsync.add_images(DATASET, images=tmp_path / "in")
    (sample,) = dataset.samples.values()
    assert [(r.name, r.outcome, r.uuid, r.reason) for r in found.rows] == [("a.jpg", "added", sample.uuid, "")]
    assert found.outcomes == {"added": 1, "there": 0, "duplicate": 0, "failed": 0}
    assert found.uploaded == (tmp_path / "in/a.jpg").stat().st_size


# -------------------------------------------------------------------- what is there already


def test_a_second_run_adds_what_is_new_and_sends_nothing_twice(
    add: Cli, server: LoopbackSegments, dataset: Dataset, tmp_path: Path
) -> None:
    draw_image(tmp_path / "in/a.jpg", 0)
    add("in")
    draw_image(tmp_path / "in/b.jpg", 1)
    server.log.clear()
    assert outcomes(add("in", "--json")) == {"a.jpg": "there", "b.jpg": "added"}
    assert len(server.log.find(method="POST", path="/assets/")) == 1
    server.log.clear()
    assert "0 images added, 2 there already" in add("in").stdout
    assert not server.log.find(method="POST")
    assert list(samples(dataset)) == ["a.jpg", "b.jpg"]


def test_another_image_under_a_known_name_is_an_error_and_the_others_are_added(
    add: Cli, server: LoopbackSegments, dataset: Dataset, tmp_path: Path
) -> None:
    draw_image(tmp_path / "in/a.jpg", 0)
    add("in")
    old = stored(server, samples(dataset)["a.jpg"])
    draw_image(tmp_path / "in/a.jpg", 5)
    draw_image(tmp_path / "in/b.jpg", 1)
    line = last(add("in", code=1))
    assert "image 'a.jpg' is not added: a sample of this name holds another image: rename it, or give the" in line
    assert "1 were added" in line
    assert list(samples(dataset)) == ["a.jpg", "b.jpg"]
    assert stored(server, samples(dataset)["a.jpg"]) == old


def test_an_image_that_is_there_under_another_name_is_not_added_again(
    add: Cli, dataset: Dataset, tmp_path: Path
) -> None:
    draw_image(tmp_path / "all/in/a.jpg", 0)
    draw_image(tmp_path / "all/in/twin.jpg", 0)
    assert outcomes(add("all/in", "--json")) == {"a.jpg": "added", "twin.jpg": "duplicate"}
    said = add("all").stdout
    assert "2 there under another name" in said
    assert "  'in/a.jpg': it is the same image as 'a.jpg'" in said
    assert list(samples(dataset)) == ["a.jpg"]


def test_a_sample_that_labelsync_did_not_upload_counts_by_its_name(
    add: Cli, server: LoopbackSegments, dataset: Dataset, tmp_path: Path
) -> None:
    server.platform.add_sample(dataset, {"name": "a.jpg", "attributes": {"image": {"url": "https://x/1"}}})
    draw_image(tmp_path / "in/a.jpg", 0)
    draw_image(tmp_path / "in/b.jpg", 0)  # nobody knows that it is the same
    found = record(add("in", "--json"))["rows"]
    assert [(r["name"], r["outcome"]) for r in found] == [("a.jpg", "there"), ("b.jpg", "added")]
    assert "whether it holds this image is not known" in found[0]["reason"]


def test_more_samples_than_a_page_are_known(
    add: Cli, server: LoopbackSegments, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelsync.release.platform.PER_PAGE", 2)
    for i in range(4):  # a full last page: the next one is refused with 404
        draw_image(tmp_path / f"in/{i}.jpg", i)
    add("in")
    assert "4 there already" in add("in").stdout
    assert len(dataset.samples) == 4


def test_a_dry_run_adds_nothing_and_finds_what_would_fail(
    add: Cli, server: LoopbackSegments, dataset: Dataset, tmp_path: Path
) -> None:
    draw_image(tmp_path / "in/a.jpg", 0)
    assert "1 image would be added" in add("in", "--dry-run").stdout
    (tmp_path / "in/b.jpg").write_bytes(b"no image")
    assert "'b.jpg' is not added" in last(add("in", "--dry-run", code=1))
    assert not dataset.samples
    assert not server.log.find(method="POST")


# -------------------------------------------------------------------- URLs


def test_urls_are_added_where_they_are(add: Cli, server: LoopbackSegments, dataset: Dataset, tmp_path: Path) -> None:
    urls = ["https://h/run1/cam%200/1.jpg", "https://h/run2/cam%200/1.jpg?X-Amz-Signature=a", "gs://bucket/b/2.png"]
    add(*urls)
    assert {n: s.attributes["image"]["url"] for n, s in samples(dataset).items()} == {
        "b/2.png": urls[2],
        "run1/cam 0/1.jpg": urls[0],
        "run2/cam 0/1.jpg": urls[1],
    }
    assert all(s.metadata == {} for s in samples(dataset).values())
    assert not server.log.find(path="/assets/")
    again = [urls[1].replace("=a", "=b"), "https://h/run1/cam%200/1.jpg"]  # signed anew, the same image
    assert set(outcomes(add(*again, "--json")).values()) == {"there"}
    assert "holds another image" in last(add("https://other/run1/cam%200/1.jpg", code=1))


def test_a_text_file_lists_urls(add: Cli, dataset: Dataset) -> None:
    Path("urls.txt").write_text("# monday\n\nhttps://h/a.jpg\n  https://h/b.jpg\nhttps://h/a.jpg\n")
    add("urls.txt")
    assert list(samples(dataset)) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("s3://bucket/a.jpg", "urls.txt, line 2: s3://bucket/a.jpg: s3 URLs are not taken; Segments.ai takes https://"),
        ("ftp://h/a.jpg", "ftp URLs are not taken"),
        ("https://h/", "is no URL of an image"),
        ("a.jpg", "is no URL of an image"),
        ("https://u:5ecret@h/a.jpg", "https://h/a.jpg holds a password"),
        ("https://g/a.jpg?sig=5ecret", "two images would be called 'a.jpg': https://h/a.jpg and https://g/a.jpg"),
    ],
)
def test_a_line_that_is_no_url_is_refused(add: Cli, server: LoopbackSegments, line: str, says: str) -> None:
    Path("urls.txt").write_text(f"https://h/a.jpg\n{line}\n")
    result = add("urls.txt", code=2)
    assert says in last(result)
    assert "5ecret" not in result.output
    assert len(server.log) == 0


# -------------------------------------------------------------------- images that are none


def test_broken_images_are_not_uploaded_and_the_others_are(
    add: Cli, server: LoopbackSegments, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = draw_image(tmp_path / "in/a.jpg", 0).read_bytes()
    (tmp_path / "in/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in/empty.png").write_bytes(b"")
    (tmp_path / "in/page.jpg").write_text("<html>")
    draw_image(tmp_path / "in/large.png", 1, (64, 64))
    monkeypatch.setattr(send, "MAX_BYTES", 10_000)
    said = add("in", code=1)
    assert "image 'cut.jpg' is not added: the image is cut short" in last(said)
    assert "3 more of 5 images failed; 1 were added, 0 were there; mend it and run it again" in last(said)
    for line in ("'empty.png': the file is empty", "'page.jpg': it is an HTML", "'large.png': it has 0 MB"):
        assert f"  {line}" in said.stderr
    assert list(samples(dataset)) == ["a.jpg"]
    assert len(server.log.find(method="POST", path="/assets/")) == 1


def test_the_ledger_is_written_whatever_happens(
    add: Cli, server: LoopbackSegments, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "_AT_ONCE", 2)

    def rows() -> list[tuple[str, str]]:
        found = from_json(AddImagesRecord, Path("deep/ledger.json").read_bytes())
        return [(r.name, r.outcome) for r in found.rows]

    for i in range(3):
        draw_image(tmp_path / f"in/{i}.jpg", i)
    server.faults.status(503, path="/samples_bulk/", skip=1, times=None)
    add("in", "--ledger", "deep/ledger.json", code=1)
    assert rows() == [("0.jpg", "added"), ("1.jpg", "added")]
    server.faults.clear()
    (tmp_path / "in/3.jpg").write_bytes(b"")
    add("in", "--ledger", "deep/ledger.json", code=1)
    assert rows() == [("0.jpg", "there"), ("1.jpg", "there"), ("2.jpg", "added"), ("3.jpg", "failed")]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["nothing"], "there is no nothing"),
        (["empty"], "no image in empty; suffixes are .bmp, .jpeg"),
        (["list.txt"], "list.txt lists no URL"),
        (["p/a.jpg", "q/a.jpg"], "two images would be called 'a.jpg'"),
    ],
)
def test_what_holds_no_image_is_refused_before_anything_is_asked(
    add: Cli, server: LoopbackSegments, given: list[str], says: str
) -> None:
    Path("empty").mkdir()
    Path("list.txt").write_text("# nothing\n")
    draw_image(Path("p/a.jpg"), 0)
    draw_image(Path("q/a.jpg"), 1)
    assert says in last(add(*given, code=2))
    assert len(server.log) == 0


def test_a_folder_that_cannot_be_read_is_not_left_out(
    add: Cli, server: LoopbackSegments, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_image(Path("in/a.jpg"), 0)
    draw_image(Path("in/locked/b.jpg"), 1)
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert last(add("in", code=1)) == "labelsync: no permission: in/locked; check the rights of that file or folder"
    assert len(server.log) == 0


def test_a_file_that_is_given_twice_is_one(add: Cli, dataset: Dataset) -> None:
    draw_image(Path("in/a.jpg"), 0)
    add("in", "in/a.jpg", "./in")
    assert list(samples(dataset)) == ["a.jpg"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--metadata", "site"], "--metadata 'site' says nothing; write it as key=value"),
        (["--metadata", "a=1", "--metadata", "a=2"], "--metadata a is there twice"),
        (["--metadata", "labelsync_source=x"], "is labelsync's own"),
        (["--every", "0"], "--every is 0"),
        (["--workers", "0"], "--workers is 0"),
    ],
)
def test_a_flag_that_cannot_be_is_refused(add: Cli, server: LoopbackSegments, more: list[str], says: str) -> None:
    draw_image(Path("in/a.jpg"), 0)
    assert says in last(add("in", *more, code=2))
    assert len(server.log) == 0


def test_a_dataset_that_is_not_there_or_of_sequences_is_refused(run: Cli, server: LoopbackSegments) -> None:
    draw_image(Path("in/a.jpg"), 0)
    line = last(run("add-images", "acme/walk", "in", code=1))
    assert "no dataset acme/walk on" in line and "or make it: labelsync create acme/walk" in line
    server.platform.create("acme", "walk", task_type="image-segmentation-sequence")
    assert "whose samples are no single images" in last(run("add-images", "acme/walk", "in", code=2))


# -------------------------------------------------------------------- bad days


@pytest.mark.parametrize("path", ["/assets/", "^/$", "/samples_bulk/"])
@pytest.mark.parametrize("kind", ["drop", "drop_response", "status"])
def test_a_lost_answer_makes_no_double(
    add: Cli, server: LoopbackSegments, dataset: Dataset, tmp_path: Path, path: str, kind: str
) -> None:
    for i in range(3):
        draw_image(tmp_path / f"in/{i}.jpg", i)
    fault = server.faults.add(kind, method="POST", path=path)
    assert set(outcomes(add("in", "--json")).values()) == {"added"}
    assert fault.hits == 1
    assert list(samples(dataset)) == ["0.jpg", "1.jpg", "2.jpg"]
    for i, sample in enumerate(samples(dataset).values()):
        assert stored(server, sample) == (tmp_path / f"in/{i}.jpg").read_bytes()


def test_a_rate_limit_is_waited_for(add: Cli, server: LoopbackSegments, dataset: Dataset, tmp_path: Path) -> None:
    draw_image(tmp_path / "in/a.jpg", 0)
    server.faults.status(429, method="POST", path="/assets/", times=2, headers={"Retry-After": "0"})
    server.faults.status(429, method="POST", path="/samples_bulk/", message="Request was throttled.", times=2)
    add("in")
    assert list(samples(dataset)) == ["a.jpg"]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"code": 503}, "503 Service Unavailable"),
        ({"code": 429}, "limits the number of requests"),
        ({"code": 401, "message": "Invalid API key"}, "refuses the key"),
        ({"code": 403, "message": "You do not have permission"}, "the key may not take 40.jpg (403 Forbidden: You do"),
    ],
)
def test_a_platform_that_takes_no_more_ends_the_run_and_the_next_one_goes_on(
    add: Cli,
    server: LoopbackSegments,
    dataset: Dataset,
    tmp_path: Path,
    fault: dict[str, Any],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(send, "_AT_ONCE", 4)
    for i in range(9):
        draw_image(tmp_path / f"in/{i + 36}.jpg", i)
    dead = server.faults.add("status", path="/assets/", skip=4, times=None, **fault)
    line = last(add("in", "--workers", "1", code=1))
    assert says in line
    assert "(4 images were added)" in line and "what is there is not sent again" in line
    assert dead.hits <= 10  # nobody asks a dead server for every image
    server.faults.clear()
    assert list(outcomes(add("in", "--json")).values()) == ["there"] * 4 + ["added"] * 5
    assert len(samples(dataset)) == 9


def test_a_large_file_may_take_longer_than_any_answer(
    add: Cli, server: LoopbackSegments, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_image(tmp_path / "large.png", 0, (2000, 2500))  # noise: 15 MB, more than the buffers of a connection
    monkeypatch.setattr(transport, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(transport, "READ_SECONDS", 5.0)  # what lies in buffers when all is sent
    server.faults.slow(0.01, server="storage", times=None)  # 2 s and more
    add("large.png")
    assert stored(server, samples(dataset)["large.png"]) == (tmp_path / "large.png").read_bytes()
    assert len(server.log.find(server="storage")) == 1


@pytest.mark.parametrize("message", ["{}", "[]"])
def test_a_server_that_is_another_program_is_said_to_be(
    add: Cli, server: LoopbackSegments, tmp_path: Path, message: str
) -> None:
    draw_image(tmp_path / "a.jpg", 0)
    server.faults.status(200, path="/assets/", message=message, times=None)
    assert "answers something that is not the Segments.ai API" in last(add("a.jpg", code=1))


def test_an_upload_that_was_too_slow_for_the_storage_is_sent_again(
    add: Cli, server: LoopbackSegments, dataset: Dataset, tmp_path: Path
) -> None:
    draw_image(tmp_path / "a.jpg", 0)
    server.faults.status(400, server="storage", html=True, message="<Code>RequestTimeout</Code>")
    add("a.jpg")
    assert list(samples(dataset)) == ["a.jpg"]


def test_a_storage_that_refuses_is_named_without_its_answer(add: Cli, server: LoopbackSegments, tmp_path: Path) -> None:
    draw_image(tmp_path / "in/a.jpg", 0)
    server.faults.status(403, server="storage", method="POST", html=True, message="5ecret", times=None)
    result = add("in", code=1)
    host = server.storage_url.removeprefix("http://")
    assert f"the storage {host} does not take a.jpg (403 Forbidden)" in last(result)
    assert "5ecret" not in result.output
    server.faults.clear()
    server.faults.drop(server="storage", times=None)
    assert f"the storage {host} does not take a.jpg (the host cannot be reached)" in last(add("in", code=1))


def test_one_sample_that_the_platform_refuses_does_not_keep_the_others_out(
    add: Cli, server: LoopbackSegments, dataset: Dataset, tmp_path: Path
) -> None:
    long = "/".join(["x" * 90] * 3) + "/a.jpg"
    draw_image(tmp_path / "in" / long, 0)
    draw_image(tmp_path / "in/b.jpg", 1)
    line = last(add("in", code=1))
    assert "will not add samples to acme/sidewalk (400 Bad Request: name: Ensure this field has no more" in line
    assert list(samples(dataset)) == ["b.jpg"]


def test_somebody_who_adds_the_same_name_meanwhile_is_not_overwritten(
    add: Cli, server: LoopbackSegments, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_image(tmp_path / "in/a.jpg", 0)
    upload = Platform.upload

    def late(self: Platform, data: bytes, name: str) -> str:
        url = upload(self, data, name)
        given = {
            "name": "a.jpg",
            "attributes": {"image": {"url": "https://x/a"}},
            "metadata": {"labelsync_source": "z"},
        }
        server.platform.add_sample(dataset, given)
        return url

    monkeypatch.setattr(Platform, "upload", late)
    assert "a sample of this name holds another image" in last(add("in", code=1))
    (sample,) = dataset.samples.values()
    assert sample.attributes["image"]["url"] == "https://x/a"


def test_uploads_run_in_parallel_within_bounds(
    add: Cli, server: LoopbackSegments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, most, lock = [0], [0], threading.Lock()
    upload = Platform.upload

    def counted(self: Platform, data: bytes, name: str) -> str:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        try:
            return upload(self, data, name)
        finally:
            with lock:
                running[0] -= 1

    monkeypatch.setattr(Platform, "upload", counted)
    server.faults.delay(0.05, path="/assets/", times=None)
    for i in range(12):
        draw_image(tmp_path / f"in/{i}.jpg", i)
    add("in", "--workers", "3")
    assert most == [3]


# -------------------------------------------------------------------- videos


def grey(data: bytes) -> float:
    """The mean of the right half."""
    return float(np.asarray(Image.open(io.BytesIO(data)))[:, 40:].mean())


def test_every_nth_frame_of_a_video_is_added(
    add: Cli, server: LoopbackSegments, dataset: Dataset, tmp_path: Path
) -> None:
    draw_video(tmp_path / "walk.mp4", 12)
    add("walk.mp4", "--every", "5", "--metadata", "site=x")
    found = samples(dataset)
    assert list(found) == [f"walk.mp4/frame_{i:06d}.jpg" for i in (0, 5, 10)]
    digest = sha256_file(tmp_path / "walk.mp4")
    for i, sample in zip((0, 5, 10), found.values(), strict=True):
        about = {"video": "walk.mp4", "frame": i, "time": i / 10, "site": "x"}
        assert sample.metadata == about | {"labelsync_source": f"sha256:{digest}#{i}"}
        assert abs(grey(stored(server, sample)) - 10 * i) < 3
    server.log.clear()
    assert list(outcomes(add("walk.mp4", "--every", "4", "--json")).values()) == ["there", "added", "added"]
    assert len(server.log.find(path="/assets/")) == 2


def test_the_default_takes_every_tenth_frame(add: Cli, dataset: Dataset, tmp_path: Path) -> None:
    draw_video(tmp_path / "walk.mp4", 12)
    add("walk.mp4")
    assert [s.metadata["frame"] for s in dataset.samples.values()] == [0, 10]


def test_a_video_that_players_turn_is_turned(
    add: Cli, server: LoopbackSegments, dataset: Dataset, tmp_path: Path
) -> None:
    turn(draw_video(tmp_path / "phone.mp4", 21))
    add("phone.mp4", "--every", "20")
    frame = np.asarray(Image.open(io.BytesIO(stored(server, samples(dataset)["phone.mp4/frame_000020.jpg"]))))
    assert frame.shape == (64, 32, 3)
    assert frame[:28].mean() < 10  # what was left is up
    assert frame[36:].mean() > 190


def test_another_video_of_the_same_name_is_an_error(add: Cli, dataset: Dataset, tmp_path: Path) -> None:
    draw_video(tmp_path / "walk.mp4", 3)
    add("walk.mp4")
    draw_video(tmp_path / "walk.mp4", 4)
    assert "'walk.mp4/frame_000000.jpg' is not added: a sample of this name holds" in last(add("walk.mp4", code=1))
    assert len(dataset.samples) == 1


def test_a_file_that_is_no_video_or_is_cut_is_an_error_that_keeps_what_could_be_read(
    add: Cli, dataset: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    draw_image(tmp_path / "b.jpg", 0)
    assert "image 'a.mp4' is not added: it is no video that FFmpeg can read" in last(add("a.mp4", "b.jpg", code=1))
    assert list(samples(dataset)) == ["b.jpg"]


def test_a_folder_with_nothing_but_a_video_says_how_to_name_it(add: Cli, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/walk.mp4").write_bytes(b"")
    assert "no image in in; name the video itself: in/walk.mp4" in last(add("in", code=2))


def test_a_video_beside_images_is_told_of_and_one_that_is_named_is_not(add: Cli, tmp_path: Path) -> None:
    draw_image(tmp_path / "in/a.png", 0)
    (tmp_path / "in/walk.mp4").write_bytes(b"")
    draw_video(tmp_path / "in/walk2.mp4", 3)
    done = add("in", "in/walk2.mp4")
    assert "2 images added" in done.stdout  # the picture and a frame
    assert done.stdout.count("a video in a folder; name it to add its frames") == 1
    assert record(add("in", "--json"))["videos"] == ["in/walk.mp4", "in/walk2.mp4"]


def test_without_pyav_a_video_is_told_what_to_install(
    add: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "walk.mp4").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "av", None)
    assert "PyAV is not installed; pip install 'labelsync[video]'" in last(add("walk.mp4", code=2))


def test_a_platform_that_refuses_every_sample_is_not_asked_for_each(
    add: Cli, server: LoopbackSegments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "_AT_ONCE", 4)
    for i in range(9):
        draw_image(tmp_path / f"in/{i}.jpg", i)
    refused = server.faults.status(400, path="/samples_bulk/", message="The dataset is archived.", times=None)
    line = last(add("in", code=1))
    assert "will not add samples to acme/sidewalk (400 Bad Request: The dataset is archived.)" in line
    assert refused.hits == 5  # four together, then each of them


def test_an_interrupted_run_is_finished_by_the_same_command(
    add: Cli, server: LoopbackSegments, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "_AT_ONCE", 4)
    for i in range(9):
        draw_image(tmp_path / f"in/{i}.jpg", i)
    upload = Platform.upload

    def interrupted(self: Platform, data: bytes, name: str) -> str:
        if name == "6.jpg":
            raise KeyboardInterrupt
        return upload(self, data, name)

    monkeypatch.setattr(Platform, "upload", interrupted)
    assert last(add("in", code=130)) == "labelsync: interrupted; run it again to go on"
    assert 4 <= len(dataset.samples) < 9
    monkeypatch.setattr(Platform, "upload", upload)
    add("in")
    assert list(samples(dataset)) == [f"{i}.jpg" for i in range(9)]
