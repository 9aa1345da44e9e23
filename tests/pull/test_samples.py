"""Samples that `labelsync pull` loses, by name; those it must not lose; and files it must never touch."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from labelsync.errors import SamplesFailed
from labelsync.release.folder import open_release
from labelsync.release.pull import pull
from tests.loopback.segments import LoopbackSegments
from tests.pull.conftest import Cli, last
from tests.releases import draw_release, edit_release, sample_uuid

NAME = "acme/sidewalk@v1.0"


# -------------------------------------------------------------------- samples that are lost


def _url_of(samples: list[Any], kind: str, url: Any) -> None:
    if kind == "image":
        samples[2]["attributes"]["image"]["url"] = url
    else:
        samples[2]["labels"]["ground-truth"]["attributes"]["segmentation_bitmap"]["url"] = url


@pytest.mark.parametrize(
    ("kind", "url", "reason"),
    [
        ("image", None, "its image has no URL"),
        ("image", "", "its image has no URL"),
        ("bitmap", None, "annotations and no bitmap URL"),
        ("image", "http://127.0.0.1:9/a.jpg?X-Amz-Signature=5ecret", "image http://127.0.0.1:9/a.jpg: the host cannot"),
        ("image", "http://[::1/a.jpg", "not a URL that can be fetched"),
        ("bitmap", "ftp://bucket/a.png?X-Amz-Signature=5ecret", "ftp://bucket/a.png: ftp URLs are not fetched"),
        ("image", "file:///etc/hostname", "a file URL, in a release that came from a server"),
    ],
)
def test_a_url_that_leads_nowhere_fails_its_sample_by_name(
    run: Cli, platform: Callable[..., str], kind: str, url: Any, reason: str
) -> None:
    result = run(platform(lambda s: _url_of(s, kind, url)), code=1)
    assert "sample 'frame_0002.jpg' failed: " in last(result)
    assert reason in last(result)
    assert "5ecret" not in result.output


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"kind": "status", "code": 403}, "403 Forbidden (signed URLs expire"),
        ({"kind": "status", "code": 404, "html": True}, "404 Not Found"),
        ({"kind": "status", "code": 500}, "500 Internal Server Error"),
        ({"kind": "cut", "after": 60}, "it was cut short"),
        ({"kind": "drop"}, "hangs up"),
        ({"kind": "status", "code": 200, "html": True}, "it is an HTML or XML page, not an image"),
    ],
)
@pytest.mark.parametrize("path", ["/images/frame_0002.jpg", f"/bitmaps/{sample_uuid(2)}"])
def test_an_asset_that_cannot_be_had_fails_its_sample_by_name(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments, fault: dict[str, Any], reason: str, path: str
) -> None:
    server.faults.add(**fault, path=path, times=None)
    line = last(run(platform(), code=1))
    assert "sample 'frame_0002.jpg' failed: " in line
    assert path in line
    assert reason in line
    server.faults.clear()
    record = json.loads(run(NAME, "--json").stdout)  # mended: only the lost file is fetched
    assert (record["fetched"], record["reused"]) == (1, 7)


def test_a_truncated_image_and_a_page_in_place_of_a_bitmap_fail_their_samples(
    run: Cli, platform: Callable[..., str], tmp_path: Path
) -> None:
    name = platform()
    image = tmp_path / "drawn/v1.0/images/frame_0001.jpg"
    image.write_bytes(image.read_bytes()[:-200])
    (tmp_path / f"drawn/v1.0/bitmaps/{sample_uuid(3)}.png").write_text("<!DOCTYPE html><html>Sign in</html>")
    result = run(name, code=1)
    assert "'frame_0001.jpg' failed: image http" in last(result)
    assert "1 more of 4 samples failed; what was fetched is kept" in last(result)
    assert "the image is cut short" in result.stderr
    assert f"'frame_0003.jpg' ({sample_uuid(3)}): bitmap http" in result.stderr
    assert "it is an HTML or XML page, not an image" in result.stderr


def test_a_stated_number_of_losses_is_allowed_and_in_the_ledger(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments
) -> None:
    server.faults.status(403, path="frame_000[12]", times=None)
    name = platform()
    run(name, "--allow-failed", 1, code=1)
    shown = run(name, "--allow-failed", 2).stdout
    assert "\n  'frame_0001.jpg' failed: image http" in shown
    assert "\n  'frame_0002.jpg' failed: image http" in shown
    folder = open_release("sidewalk-v1.0")
    assert [r.outcome for r in folder.ledger.rows] == ["pulled", "failed", "failed", "pulled"]
    assert all("403 Forbidden" in r.reason for r in folder.ledger.failed)
    assert [folder.image(s) is None for s in folder.release.samples] == [False, True, True, False]
    server.faults.clear()
    run(name)  # the same release again is completed, not taken for done
    assert [r.outcome for r in open_release("sidewalk-v1.0").ledger.rows] == ["pulled"] * 4


def test_samples_of_a_status_nobody_wants_are_not_fetched_and_cannot_fail(
    run: Cli, cli: Cli, platform: Callable[..., str], server: LoopbackSegments
) -> None:
    server.faults.status(404, path="frame_0001", times=None)
    name = platform(samples=5, skipped=(1,), reviewed=(2,), prelabeled=(3,), unlabeled=(4,))
    run(name, code=1)
    record = json.loads(run(name, "--status", "labeled,REVIEWED", "--json").stdout)
    assert {k: n for k, n in record["outcomes"].items() if n} == {"pulled": 2, "filtered": 2, "unlabeled": 1}
    rows = open_release("sidewalk-v1.0").ledger.rows
    assert [r.outcome for r in rows] == ["pulled", "filtered", "pulled", "filtered", "unlabeled"]
    assert (rows[1].reason, rows[1].status) == ("status SKIPPED, not pulled", "SKIPPED")
    assert json.loads(run(name, "--status", "REVIEWED,LABELED", "--json").stdout)["unchanged"]
    server.faults.clear()
    run(name, code=1)  # every status is another pull
    made = json.loads(cli("convert", "sidewalk-v1.0", "--out", "data", "--fractions", "100,0,0", "--json").stdout)
    assert {k: n for k, n in made["outcomes"].items() if n} == {"converted": 2, "filtered": 2, "unlabeled": 1}
    wider = ("--fractions", "100,0,0", "--status", "LABELED,REVIEWED,PRELABELED", "--json")
    assert json.loads(cli("convert", "sidewalk-v1.0", "--out", "more", *wider).stdout)["outcomes"] == made["outcomes"]


def test_a_status_that_does_not_exist_is_refused(run: Cli, platform: Callable[..., str]) -> None:
    assert "no status is called 'DONE'" in last(run(platform(), "--status", "DONE", code=2))


def test_entries_without_or_with_a_doubled_uuid_are_lost_by_name_not_dropped(
    run: Cli, platform: Callable[..., str]
) -> None:
    def change(samples: list[Any]) -> None:
        del samples[0]["uuid"]
        samples[2]["uuid"] = samples[1]["uuid"]

    result = run(platform(change), code=1)
    assert "'frame_0000.jpg' (#1): it has no uuid" in result.stderr
    assert f"'frame_0002.jpg' ({sample_uuid(1)}#3): its uuid" in result.stderr


def test_python_gets_every_lost_sample_as_a_line(
    platform: Callable[..., str], server: LoopbackSegments, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in server.env.items():
        monkeypatch.setenv(key, str(value))
    server.faults.status(404, path="/images/", times=None)
    with pytest.raises(SamplesFailed) as e:
        pull(platform(samples=30), workers=4)
    assert len(e.value.details) == 30


# -------------------------------------------------------------------- what cannot hurt simply works


def test_equal_names_wild_names_and_wild_uuids_lose_nothing_and_stay_inside(
    run: Cli, platform: Callable[..., str], tmp_path: Path, cache: Path
) -> None:
    def outside() -> set[Path]:
        return {p for p in tmp_path.parent.rglob("*") if tmp_path not in p.parents and cache not in p.parents}

    def change(samples: list[Any]) -> None:
        samples[0]["name"] = samples[1]["name"] = "same.jpg"
        samples[2] |= {"name": "../../x.jpg", "uuid": "../../../evil"}
        samples[3] |= {"name": "/etc/passwd\x1b[31m", "uuid": "NUL"}

    before = outside()
    run(platform(change))
    folder = open_release("sidewalk-v1.0")
    assert [r.outcome for r in folder.ledger.rows] == ["pulled"] * 4
    images = [folder.image(s) for s in folder.release.samples]
    assert len({i.read_bytes() for i in images if i}) == 4
    assert all(i and i.resolve().parent == (tmp_path / "sidewalk-v1.0/images") for i in images)
    assert outside() == before


def test_a_null_label_and_an_empty_one_are_no_losses(run: Cli, platform: Callable[..., str]) -> None:
    def change(samples: list[Any]) -> None:
        samples[1]["labels"] = None
        samples[2]["labels"]["ground-truth"]["attributes"] = {"annotations": [], "segmentation_bitmap": None}

    run(platform(change, skipped=(3,)))
    folder = open_release("sidewalk-v1.0")
    assert [r.outcome for r in folder.ledger.rows] == ["pulled", "unlabeled", "pulled", "pulled"]
    assert [folder.bitmap(s) is not None for s in folder.release.samples] == [True, False, False, True]


def test_a_png_under_a_jpg_name_is_kept_as_the_png_it_is(
    run: Cli, platform: Callable[..., str], tmp_path: Path
) -> None:
    name = platform()
    shutil.copyfile(
        tmp_path / f"drawn/v1.0/bitmaps/{sample_uuid(0)}.png", tmp_path / "drawn/v1.0/images/frame_0000.jpg"
    )
    run(name)
    folder = open_release("sidewalk-v1.0")
    image = folder.image(folder.release.samples[0])
    assert image is not None
    assert image.suffix == ".png"


# -------------------------------------------------------------------- a release never leads outside


@pytest.mark.parametrize(
    "url",
    ["../secret.jpg", "images/../../secret.jpg", "%2e%2e/secret.jpg", "{root}/secret.jpg", "file://{root}/secret.jpg"],
)
def test_a_release_file_reads_nothing_outside_its_folder(run: Cli, tmp_path: Path, url: str) -> None:
    path = draw_release(tmp_path / "release", samples=1)
    shutil.copyfile(tmp_path / "release/images/frame_0000.jpg", tmp_path / "secret.jpg")
    edit_release(
        path, lambda d: d["dataset"]["samples"][0]["attributes"]["image"].update(url=url.format(root=tmp_path))
    )
    assert "outside the folder of the release file" in last(run(path, code=1))


def test_a_link_out_of_the_folder_is_not_followed(run: Cli, tmp_path: Path) -> None:
    path = draw_release(tmp_path / "release", samples=1)
    image = tmp_path / "release/images/frame_0000.jpg"
    image.rename(tmp_path / "secret.jpg")
    image.symlink_to(tmp_path / "secret.jpg")
    assert "outside the folder of the release file" in last(run(path, code=1))


@pytest.mark.parametrize(
    "url", ["./images/frame_0000.jpg", "{root}/images/frame_0000.jpg", "file://{root}/images/frame_0000.jpg"]
)
def test_a_path_inside_the_folder_is_read_however_it_is_written(run: Cli, tmp_path: Path, url: str) -> None:
    path = draw_release(tmp_path / "release", samples=1)
    edit_release(
        path, lambda d: d["dataset"]["samples"][0]["attributes"]["image"].update(url=url.format(root=path.parent))
    )
    run(path)


@pytest.mark.parametrize("name", ["my image.jpg", "100%.jpg", "a#b?.jpg", "\u00e4.jpg"])
@pytest.mark.parametrize("quoted", [False, True])
def test_a_file_name_with_any_characters_is_found(run: Cli, tmp_path: Path, name: str, quoted: bool) -> None:

    path = draw_release(tmp_path / "release", samples=1)
    (tmp_path / "release/images/frame_0000.jpg").rename(tmp_path / "release/images" / name)
    url = f"images/{quote(name) if quoted else name}"
    edit_release(path, lambda d: d["dataset"]["samples"][0]["attributes"]["image"].update(url=url))
    run(path)


def test_a_relative_url_from_the_platform_reads_no_local_file(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments
) -> None:
    draw_release(Path.cwd(), samples=4)  # the very file that the URL would mean here
    name = platform(lambda s: _url_of(s, "image", "RELATIVE://"))
    release = server.platform.dataset("acme/sidewalk").release("v1.0")
    release.data = release.data.replace(b"RELATIVE://", b"images/frame_0002.jpg")
    line = last(run(name, code=1))
    assert "'frame_0002.jpg' failed: images/frame_0002.jpg: a relative URL, in a release that has no folder" in line


def test_relative_urls_of_a_release_at_a_url_stay_on_http(run: Cli, server: LoopbackSegments, tmp_path: Path) -> None:
    path = draw_release(tmp_path / "release", samples=4)
    root = server.mount(path.parent)
    run(f"{root}release.json", "--out", "good")
    edit_release(
        path, lambda d: _url_of(d["dataset"]["samples"], "image", f"file://{path.parent}/images/frame_0002.jpg")
    )
    assert "a file URL, in a release that came from a server" in last(
        run(f"{root}release.json", "--out", "bad", code=1)
    )
