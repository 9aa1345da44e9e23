"""Downloads: what counts as a file, what is tried again, what is given up, and what no error may say."""

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from labelsync.errors import BitmapError
from labelsync.pixels.image import encode_png
from labelsync.pixels.instance import encode_instance_bitmap
from labelsync.release import transport
from labelsync.release.assets import GIVE_UP_AFTER, Asset, Kind, check_asset, extension_of, fetch_assets, stream_assets
from labelsync.release.cache import AssetCache
from labelsync.release.transport import FetchError, Session, fetch
from labelsync.release.urls import shown
from tests.loopback.segments import LoopbackSegments
from tests.loopback.segments_storage import FORM

NOISE = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
SECRET = "X-Amz-Signature=5ecret"


def encoded(kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(NOISE).save(out, kind, **options)
    return out.getvalue()


JPEG, PNG = encoded("JPEG"), encode_png(NOISE)
BITMAP = encode_instance_bitmap(np.arange(12, dtype=np.uint32).reshape(3, 4))


@pytest.fixture
def serve(server: LoopbackSegments, tmp_path: Path) -> Callable[..., str]:
    """Serve bytes; returns their signed URL."""
    root = server.mount(tmp_path)

    def at(data: bytes, name: str = "a.jpg") -> str:
        (tmp_path / name).write_bytes(data)
        return f"{root}{name}?{SECRET}"

    return at


def got(url: str, *, kind: Kind = "image", **kwargs: Any) -> tuple[bytes | None, str]:
    """(content, "") or (None, reason) of one asset, through the whole machinery."""
    asset = Asset(url, kind)
    fetched, failed = fetch_assets([asset], cache=AssetCache(), workers=2)
    assert SECRET not in failed.get(asset, "")
    return (fetched[asset].path.read_bytes() if asset in fetched else None), failed.get(asset, "")


# -------------------------------------------------------------------- what counts as a file


@pytest.mark.parametrize("data", [JPEG, PNG, BITMAP, encoded("WEBP"), encoded("GIF"), encoded("BMP"), encoded("TIFF")])
def test_a_whole_image_counts(data: bytes) -> None:
    check_asset(data, kind="image")


@pytest.mark.parametrize("data", [JPEG, PNG, encoded("WEBP"), encoded("BMP"), encoded("TIFF")])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.98])
def test_an_image_cut_anywhere_does_not(data: bytes, share: float) -> None:
    with pytest.raises(BitmapError):
        check_asset(data[: int(len(data) * share)], kind="image")


def test_a_thumbnail_inside_a_cut_jpeg_does_not_pass_for_its_end() -> None:
    exif = Image.Exif()
    exif[0x9286] = "x" * 100  # UserComment
    whole = encoded("JPEG", exif=exif.tobytes() + JPEG)  # its own FF D9 comes early
    with pytest.raises(BitmapError):
        check_asset(whole[: len(whole) - 300], kind="image")


@pytest.mark.parametrize("tail", [b"\0\0", b"\r\n", b"SEFT" + bytes(range(50))])
def test_what_cameras_and_servers_write_behind_the_end_is_no_fault(tail: bytes) -> None:
    check_asset(JPEG + tail, kind="image")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html><body>Sign in", "it is an HTML or XML page, not an image"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied", "it is an HTML or XML page, not an image"),
        (b"\x00" * 500, "it is not an image"),
    ],
)
@pytest.mark.parametrize("kind", ["image", "bitmap"])
def test_what_is_no_image_is_named(data: bytes, reason: str, kind: Kind) -> None:
    with pytest.raises(BitmapError, match=reason):
        check_asset(data, kind=kind)


def test_a_jpeg_is_no_bitmap_though_it_is_an_image() -> None:
    check_asset(JPEG, kind="image")
    with pytest.raises(BitmapError, match="a bitmap is a PNG, this is JPEG"):
        check_asset(JPEG, kind="bitmap")


@pytest.mark.parametrize(
    ("kind", "extension"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("GIF", "gif"), ("TIFF", "tif")]
)
def test_the_extension_follows_the_content(kind: str, extension: str) -> None:
    assert extension_of(encoded(kind)[:16]) == extension


# -------------------------------------------------------------------- what is tried again


def test_a_file_comes_whole_and_is_asked_for_once(server: LoopbackSegments, serve: Callable[..., str]) -> None:
    url = serve(JPEG)
    assert got(url) == (JPEG, "")
    assert got(url.replace("5ecret", "another")) == (JPEG, "")  # a new signature is the same asset
    assert len(server.log) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "code": 503, "times": 2},
        {"kind": "status", "code": 500, "html": True, "times": 2},
        {"kind": "status", "code": 429, "headers": {"Retry-After": "0"}, "times": 2},
        {"kind": "drop", "times": 2},
        {"kind": "cut", "after": 500, "times": 2},
    ],
)
def test_a_passing_fault_is_outlived(
    server: LoopbackSegments, serve: Callable[..., str], fault: dict[str, Any]
) -> None:
    url = serve(JPEG)
    server.faults.add(**fault)
    assert got(url) == (JPEG, "")
    assert len(server.log) == 3


def test_retry_after_is_honoured_up_to_a_cap(
    server: LoopbackSegments, serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", slept.append)
    server.faults.status(429, headers={"Retry-After": "7"})
    server.faults.status(503, headers={"Retry-After": "86400"})
    assert got(serve(JPEG)) == (JPEG, "")
    assert [s for s in slept if s >= 1] == [7, transport.RETRY_AFTER_CAP]


@pytest.mark.parametrize(
    ("fault", "requests", "reason"),
    [
        ({"kind": "status", "code": 403}, 1, "403 Forbidden (signed URLs expire: a fresh release file may help)"),
        ({"kind": "status", "code": 404}, 1, "404 Not Found"),
        ({"kind": "status", "code": 204}, 1, "204 No Content"),
        ({"kind": "status", "code": 500}, 5, "500 Internal Server Error"),
        ({"kind": "drop"}, 9, "the host hangs up"),
        ({"kind": "cut", "after": 500}, 3, "it was cut short"),
    ],
)
def test_a_lasting_fault_has_an_end_and_a_reason(
    server: LoopbackSegments, serve: Callable[..., str], fault: dict[str, Any], requests: int, reason: str
) -> None:
    url = serve(JPEG)
    server.faults.add(**fault, times=None)
    content, said = got(url)
    assert content is None
    assert said == f"{url.partition('?')[0]}: {reason}"
    assert len(server.log) == requests


def test_a_host_that_hangs_is_not_waited_for_forever(
    server: LoopbackSegments, serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "READ_SECONDS", 0.05)
    server.faults.delay(0.4, times=None)
    began = time.monotonic()
    assert "no answer within" in got(serve(JPEG))[1]
    assert time.monotonic() - began < 3


def test_a_broken_file_is_fetched_anew_and_then_refused(server: LoopbackSegments, serve: Callable[..., str]) -> None:
    assert "it is an HTML or XML page" in got(serve(b"<html>" + b" " * 500))[1]
    assert len(server.log) == transport.TRANSFERS
    assert got(serve(JPEG)) == (JPEG, "")  # nothing of it was cached


def test_a_file_without_end_is_cut_off(serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_BYTES", 1 << 10)
    assert "larger than" in got(serve(JPEG))[1]


def test_a_dead_host_is_given_up_and_a_living_one_is_not(serve: Callable[..., str]) -> None:
    dead = [Asset(f"http://127.0.0.1:9/{i}.jpg?{SECRET}", "image") for i in range(GIVE_UP_AFTER + 20)]
    alive = Asset(serve(JPEG), "image")
    fetched, failed = fetch_assets([*dead, alive], cache=AssetCache(), workers=2)
    assert list(fetched) == [alive]
    assert sum("not tried" in reason for reason in failed.values()) >= 18
    assert sum("cannot be reached" in reason for reason in failed.values()) >= GIVE_UP_AFTER


def test_missing_files_do_not_give_a_host_up(serve: Callable[..., str]) -> None:
    here = Asset(serve(JPEG), "image")
    gone = [Asset(str(here.location).replace("a.jpg", f"{i}.jpg"), "image") for i in range(2 * GIVE_UP_AFTER)]
    fetched, failed = fetch_assets([*gone, here], cache=AssetCache(), workers=2)
    assert here in fetched
    assert not any("not tried" in reason for reason in failed.values())


# -------------------------------------------------------------------- redirects and URLs


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/a.jpg", "https://127.0.0.1:9/a.jpg", "s3://bucket/a.jpg"]
)
def test_a_redirect_to_another_scheme_is_not_followed(
    server: LoopbackSegments, serve: Callable[..., str], target: str
) -> None:
    url = serve(JPEG)
    server.faults.status(302, headers={"Location": target}, times=None)
    assert got(url)[1].endswith(f"it redirects to another scheme ({target.partition(':')[0]})")
    assert len(server.log) == 1


def test_a_redirect_within_http_is_followed(server: LoopbackSegments, serve: Callable[..., str]) -> None:
    other = serve(PNG, "b.png")
    server.faults.status(302, headers={"Location": other})
    assert got(serve(JPEG)) == (PNG, "")


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_an_upload_that_is_sent_elsewhere_arrives_whole(server: LoopbackSegments, size: int) -> None:
    platform, form = server.platform, dict.fromkeys(FORM, "x") | {"key": "a"}
    platform.upload_keys.add("a")
    moved = server.faults.status(307, path="^/$", headers={"Location": server.storage_url}, server="storage")
    with Session() as session:
        answer = session.post(server.storage_url, data=form, files={"file": b"5" * size}, timeout=5)
    assert (answer.status_code, moved.hits) == (204, 1)
    assert server.bucket.objects["a"] == b"5" * size


def test_redirects_in_a_circle_end(server: LoopbackSegments, serve: Callable[..., str]) -> None:
    url = serve(JPEG)
    server.faults.status(302, headers={"Location": url}, times=None)
    assert "more than 5 redirects" in got(url)[1]


@pytest.mark.parametrize("url", ["http://", "http://a..b/x.jpg", "http://[::1/x.jpg", "http://\u2603.\udfff/"])
def test_what_is_no_url_is_a_reason_and_no_traceback(url: str) -> None:
    with pytest.raises(FetchError), Session() as session:
        fetch(session, url)


def test_no_url_is_shown_with_its_user_its_query_or_control_characters() -> None:
    url = f"https://me:pass@host.example/a\x1b[31m/b.png?{SECRET}#frag"
    assert shown(url) == "https://host.example/a?[31m/b.png"


# -------------------------------------------------------------------- the cache


def test_an_interrupted_download_goes_on_where_it_was(server: LoopbackSegments, serve: Callable[..., str]) -> None:
    assets = [Asset(serve(JPEG + b"\0" * i, f"{i}.jpg"), "image") for i in range(6)]
    server.faults.status(403, path="/[345].jpg", times=3)
    fetched, failed = fetch_assets(assets, cache=AssetCache(), workers=3)
    assert (len(fetched), len(failed)) == (3, 3)
    server.log.clear()
    fetched, failed = fetch_assets(assets, cache=AssetCache(), workers=3)
    assert (len(fetched), len(failed), len(server.log)) == (6, 0, 3)
    assert [fetched[a].origin for a in assets] == ["cache"] * 3 + ["network"] * 3


def test_an_asset_named_twice_is_fetched_once(server: LoopbackSegments, serve: Callable[..., str]) -> None:
    asset = Asset(serve(JPEG), "image")
    fetch_assets([asset] * 5, cache=AssetCache(), workers=4)
    assert len(server.log) == 1


def test_the_environment_is_searched_for_proxies_once_for_a_host(
    serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    search = requests.sessions.get_environ_proxies
    monkeypatch.setattr(
        "requests.sessions.get_environ_proxies", lambda url, **kwargs: asked.append(url) or search(url, **kwargs)
    )
    with Session() as session:
        for i in range(3):
            fetch(session, serve(JPEG, f"{i}.jpg"))
        with pytest.raises(FetchError, match="cannot be reached"):  # another host is another question
            fetch(session, "http://localhost:9/a.jpg")
    assert len(asked) == 2


def test_a_cached_image_is_not_taken_for_a_bitmap(server: LoopbackSegments, serve: Callable[..., str]) -> None:
    url = serve(JPEG)
    assert got(url) == (JPEG, "")
    assert "a bitmap is a PNG" in got(url, kind="bitmap")[1]


def test_a_full_disk_is_not_a_broken_asset(serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AssetCache, "add", full)
    assets = [Asset(serve(JPEG, f"{i}.jpg"), "image") for i in range(30)]
    with pytest.raises(OSError, match="No space left"):
        fetch_assets(assets, cache=AssetCache(), workers=2)


def test_a_stream_keeps_the_order_and_is_no_further_ahead_than_it_may_be(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.png" for i in range(9)]
    for i, file in enumerate(files):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(file)
    files[5].write_bytes(b"<html>")
    asked: list[Path] = []

    def assets() -> Iterator[Asset]:
        for file in files:
            asked.append(file)
            yield Asset(file, "image")

    stream = stream_assets(assets(), cache=AssetCache(), workers=2, ahead=3)
    first = next(stream)
    assert len(asked) == 4
    found = [first, *stream]
    assert [f if isinstance(f, str) else f.path for f in found] == [
        *files[:5],
        "5.png: it is an HTML or XML page, not an image",
        *files[6:],
    ]
