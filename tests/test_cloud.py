"""Assets in buckets: s3:// by the real s3fs against a loopback S3, gs:// and az:// by a stand-in of our own.

The stand-ins are fsspec's memory file system under the names of the clouds: they show the way through fsspec's registry
and our bounds, not Google's or Microsoft's protocol.
"""

import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry
from moto.server import ThreadedMotoServer
from PIL import Image

import labelsync
from labelsync.release import cloud, transport
from labelsync.release.assets import Asset, Kind, fetch_assets
from labelsync.release.cache import AssetCache
from labelsync.release.cloud import Buckets, require_object
from labelsync.release.folder import open_release
from labelsync.release.transport import FetchError
from labelsync.release.urls import asset_key
from tests.releases import draw_release, edit_release

_OUT = io.BytesIO()
Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(_OUT, "JPEG")
JPEG = _OUT.getvalue()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BACKOFF_SECONDS", 0.01)
    for name in [n for n in os.environ if n.startswith(("AWS_", "AZURE_", "GOOGLE_")) or n.endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """A loopback S3; it wants no more than that requests are signed."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, bytes], str]:
    """Put an object into the bucket "walks" and say its URL; the environment holds the login."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "loopback")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "5ecret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    if not system.exists("walks"):
        system.mkdir("walks")

    def put(name: str, data: bytes) -> str:
        system.pipe_file(f"walks/{name}", data)
        return f"s3://walks/{name}"

    return put


class Stand(MemoryFileSystem):
    """A bucket in memory, with faults: what `faults` yields is raised, in turn, before an object is read."""

    store: dict[str, Any] = {}  # noqa: RUF012 - as in the class above it
    faults: list[Exception] = []  # noqa: RUF012
    reads = 0

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        Stand.reads += 1
        if self.faults:
            raise self.faults.pop(0)
        return bytes(super().cat_file(path, start, end, **kwargs))


@pytest.fixture(params=["gs", "gcs", "az", "abfs"])
def stand(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], str]:
    """Put an object into the memory behind a cloud's scheme and say its URL."""
    scheme: str = request.param

    class Cloud(Stand):
        protocol = scheme
        store: dict[str, Any] = {}  # noqa: RUF012
        pseudo_dirs = [""]  # noqa: RUF012

    monkeypatch.setattr(Stand, "faults", [])
    monkeypatch.setattr(Stand, "reads", 0)
    monkeypatch.setitem(_registry, scheme, Cloud)
    monkeypatch.setattr(Cloud, "_strip_protocol", classmethod(lambda _, url: "/" + url.rpartition("://")[2].strip("/")))

    def put(name: str, data: bytes) -> str:
        Cloud(skip_instance_cache=True).pipe_file(f"/walks/{name}", data)
        return f"{scheme}://walks/{name}"

    return put


def got(url: str, kind: Kind = "image", **kwargs: Any) -> tuple[bytes | None, str]:
    """(content, "") or (None, reason) of one asset, through the whole machinery."""
    asset = Asset(url, kind)
    fetched, failed = fetch_assets([asset], cache=AssetCache(), workers=2, **kwargs)
    assert "5ecret" not in failed.get(asset, "")
    return (fetched[asset].path.read_bytes() if asset in fetched else None), failed.get(asset, "")


# -------------------------------------------------------------------- s3, the real library


def test_a_release_with_images_on_s3_is_pulled_through_the_command(s3: Any, cli: Any, tmp_path: Path) -> None:
    path = draw_release(tmp_path / "release", samples=3)

    def change(document: dict[str, Any]) -> None:
        for sample in document["dataset"]["samples"]:
            image = tmp_path / "release" / sample["attributes"]["image"]["url"]
            sample["attributes"]["image"]["url"] = s3(f"deep/{image.name}", image.read_bytes())
            image.unlink()

    edit_release(path, change)
    cli("pull", path, "--out", tmp_path / "out")
    folder = open_release(tmp_path / "out")
    assert [r.outcome for r in folder.ledger.rows] == ["pulled"] * 3
    assert all(folder.image(s) for s in folder.release.samples)


def test_a_dataset_is_made_in_a_bucket_on_s3(
    s3: Any, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s3fs.S3FileSystem.cachable", False)  # one made for another server must not be found
    release = labelsync.pull(draw_release(tmp_path / "drawn", samples=12), out=tmp_path / "v1").path
    out = ("convert", release, "--out", "s3://walks/data/v1", "--workers", 1)
    assert cli(*out).stdout.startswith("s3://walks/data/v1: acme/sidewalk v1.0\n12 samples: 12 converted\n")
    labelsync.convert(release, out=tmp_path / "here", workers=1)
    bucket = fsspec.filesystem("s3", skip_instance_cache=True)
    names = {p.relative_to(tmp_path / "here").as_posix() for p in (tmp_path / "here").rglob("*") if p.is_file()}
    assert {path.removeprefix("walks/data/v1/") for path in bucket.find("walks/data/v1")} == names
    for name in names - {"manifest.json"}:
        assert bucket.cat_file(f"walks/data/v1/{name}") == (tmp_path / "here" / name).read_bytes()
    assert "unchanged" in cli(*out).stdout
    assert "s3://walks/data/v1 exists" in cli(*out, "--columns", "image,label", code=1).stderr
    cli(*out, "--columns", "image,label", "--overwrite")
    assert len(bucket.find("walks/data/v1")) == len(names)


def test_an_object_is_fetched_once_and_found_under_its_url(s3: Any) -> None:
    url = s3("once.jpg", JPEG)
    assert got(url) == (JPEG, "")
    fsspec.filesystem("s3", skip_instance_cache=True).rm("walks/once.jpg")
    assert got(url) == (JPEG, "")
    assert "no such object" in got(url.replace("once", "other"))[1]


@pytest.mark.parametrize("name", ["a b.jpg", "a%20b.jpg", "a#1.jpg", "a?v=2.jpg", "\u00e4.jpg"])
def test_an_object_name_with_any_characters_is_found(s3: Any, name: str) -> None:
    assert got(s3(name, JPEG)) == (JPEG, "")


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b"<html>" * 99, "HTML"), (JPEG[:-300], "cut short"), (b"\0" * 99, "not an image")],
)
def test_what_is_no_image_does_not_count(s3: Any, data: bytes, reason: str) -> None:
    assert reason in got(s3("broken.jpg", data))[1]
    assert AssetCache().find("s3://walks/broken.jpg") is None


def test_an_object_that_is_too_large_is_not_read(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud, "MAX_BYTES", 100)
    monkeypatch.setattr("s3fs.S3FileSystem._cat_file", lambda *_: pytest.fail("it was read"))
    assert "larger than" in got(s3("large.jpg", JPEG))[1]


def test_without_a_login_the_reason_says_so(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url = s3("locked.jpg", JPEG)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert got(url)[1] == f"{url}: no login for this bucket in the environment"


def test_a_dead_bucket_is_given_up(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "the bucket cannot be reached" in got("s3://walks/a.jpg")[1]


# -------------------------------------------------------------------- other clouds, by a stand-in


def test_an_object_of_any_cloud_is_fetched_checked_and_cached(stand: Any) -> None:
    url = stand("a.jpg", JPEG)
    assert got(url) == (JPEG, "")
    assert got(url) == (JPEG, "")
    assert Stand.reads == 1
    assert "HTML" in got(stand("b.jpg", b"<html>"))[1]
    assert "no such object" in got(url.replace("a.jpg", "c.jpg"))[1]


def test_a_passing_fault_is_outlived_and_a_lasting_one_ends(stand: Any) -> None:
    url = stand("a.jpg", JPEG)
    Stand.faults += [OSError(5, "SlowDown"), ConnectionResetError()]
    assert got(url) == (JPEG, "")
    Stand.faults += [ConnectionError("X-Amz-Signature=5ecret")] * 100
    assert "the bucket cannot be reached (ConnectionError)" in got(stand("b.jpg", JPEG))[1]
    assert Stand.reads == 3 + transport.RETRIES + 1


def test_a_bucket_that_stays_silent_is_not_waited_for_again(stand: Any) -> None:
    url = stand("a.jpg", JPEG)
    Stand.faults += [TimeoutError()] * 100
    assert got(url)[1] == f"{url}: no answer in time"
    assert Stand.reads == 1


def test_a_refusal_is_not_tried_again_but_signed_for(stand: Any) -> None:
    url = stand("a.jpg", JPEG)
    Stand.faults += [PermissionError("no")]
    asked: list[str] = []

    def sign(which: str) -> str:
        asked.append(which)
        return stand("signed.jpg", JPEG)

    assert got(url, sign=sign) == (JPEG, "")
    assert (asked, Stand.reads) == ([url], 2)
    assert AssetCache().find(url) is not None  # under its own name
    assert AssetCache().find(url.replace("a.jpg", "signed.jpg")) is None


# -------------------------------------------------------------------- what is not there, what is not allowed


@pytest.mark.parametrize(("scheme", "library"), [("s3", "s3fs"), ("gs", "gcsfs"), ("az", "adlfs")])
def test_a_missing_extra_is_one_line_with_the_install_line(
    scheme: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(_registry, scheme, raising=False)
    monkeypatch.setattr(cloud, "find_spec", lambda _: None)
    reason = got(f"{scheme}://walks/a.jpg")[1]
    assert f"{scheme} URLs are read with {library}, which is not installed: pip install 'labelsync[cloud]'" in reason
    assert "\n" not in reason


@pytest.mark.parametrize(
    "url",
    [
        "s3://walks/a.jpg::file:///etc/passwd",  # fsspec would open the local file
        "s3://walks",
        "s3:///a.jpg",
        "gs://walks/\x1b[31m",
        "s3://me@walks/a.jpg",
        "abfs://walks@evil.example/a.jpg",
        "abfs://walks@evil.dfs.core.windows.net/a.jpg",
    ],
)
def test_what_is_no_plain_object_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "acme")
    with pytest.raises(ValueError, match=r"a\.jpg|walks"):
        require_object(url)
    assert require_object("abfs://walks@acme.dfs.core.windows.net/a.jpg")


def test_names_that_differ_behind_a_hash_are_different_assets() -> None:
    assert asset_key("s3://walks/a#1.jpg") != asset_key("s3://walks/a#2.jpg")


def test_a_fetch_without_check_is_whole(stand: Any) -> None:
    assert Buckets().fetch(stand("a.bin", b"any")) == b"any"
    with pytest.raises(FetchError):
        Buckets().fetch(stand("a.bin", b"any") + "x")
