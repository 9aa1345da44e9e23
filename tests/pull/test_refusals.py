"""What `labelsync pull` says when there is no release to pull: one line, no traceback, no folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from labelsync.release import transport
from labelsync.release.folder import open_release
from tests.loopback.segments import LoopbackSegments
from tests.pull.conftest import Cli, last
from tests.releases import draw_release, edit_release

NAME = "acme/sidewalk@v1.0"


# -------------------------------------------------------------------- the API says no


def test_no_key_is_said_before_anything_is_asked(run: Cli, server: LoopbackSegments) -> None:
    for key in (None, "", "  "):
        assert "SEGMENTS_API_KEY is not set; make a key at" in last(run(NAME, code=1, env={"SEGMENTS_API_KEY": key}))
    assert len(server.log) == 0


@pytest.mark.parametrize("key", ["wrong-5ecret", "two\nlines-5ecret", "k\u00e9y-5ecret"])
def test_a_refused_key_is_said_and_never_shown(run: Cli, platform: Callable[..., str], key: str) -> None:
    result = run(platform(), code=1, env={"SEGMENTS_API_KEY": key})
    assert "SEGMENTS_API_KEY" in last(result)
    assert "5ecret" not in result.output


def test_an_unknown_dataset_or_release_is_named_and_the_known_releases_too(
    run: Cli, platform: Callable[..., str]
) -> None:
    platform()
    assert "no dataset acme/other on" in last(run("acme/other@v1.0", code=1))
    line = last(run("acme/sidewalk@v9", code=1))
    assert "dataset acme/sidewalk has no release 'v9'; its releases: 'v1.0'" in line


def test_a_server_that_is_not_there_is_named(run: Cli) -> None:
    line = last(run(NAME, code=1, env={"SEGMENTS_API_URL": "http://127.0.0.1:9"}))
    assert "http://127.0.0.1:9: the host cannot be reached" in line
    assert "check the network and SEGMENTS_API_URL" in line


@pytest.mark.parametrize("path", ["api_status", "releases/v1", "/releases/.*json"])
@pytest.mark.parametrize("answer", [(500, False), (500, True), (502, True), (503, False)])
def test_a_failing_server_is_said_to_fail(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments, path: str, answer: tuple[int, bool]
) -> None:
    code, html = answer
    server.faults.status(code, html=html, path=path, times=None)
    line = last(run(platform(), code=1))
    assert transport.status_text(code) in line
    assert "key" not in line


def test_a_server_that_fails_for_a_moment_is_outlived(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments
) -> None:
    for path in ("api_status", "releases/v1", "/releases/.*json"):
        server.faults.status(502, html=True, path=path, times=2)
        server.faults.drop(path=path)
    run(platform())


def test_a_hanging_server_is_not_waited_for_forever(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "READ_SECONDS", 0.05)
    server.faults.delay(0.4, times=None)
    assert "no answer within" in last(run(platform(), code=1))


@pytest.mark.parametrize("message", ["Request was throttled. Expected available in 60 second(s).", "rate limited"])
def test_a_rate_limit_is_not_taken_for_a_wrong_key(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments, message: str
) -> None:
    server.faults.status(429, times=None, message=message)
    assert "limits the number of requests" in last(run(platform(), code=1))


@pytest.mark.parametrize("html", [False, True])
def test_a_server_that_is_another_program_is_said_to_be(run: Cli, server: LoopbackSegments, html: bool) -> None:
    server.faults.status(200, html=html, times=None)
    line = last(run(NAME, code=1))
    assert "answers something that is not the Segments.ai API; check SEGMENTS_API_URL" in line


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/prefix", "127.0.0.1:9", "ftp://host", "http://u:5ecret@h", "http://["]
)
def test_an_api_url_that_the_sdk_would_bend_is_refused(run: Cli, url: str) -> None:
    result = run(NAME, code=2, env={"SEGMENTS_API_URL": url})
    assert "SEGMENTS_API_URL is not the root of a server" in last(result)
    assert "5ecret" not in result.output


def test_a_pending_release_is_waited_for(run: Cli, platform: Callable[..., str], server: LoopbackSegments) -> None:
    run(platform(add={"polls": 3}))
    assert len(server.log.find(server="api", path="/releases/")) == 4


def test_a_release_that_stays_pending_is_given_up_after_the_wait(run: Cli, platform: Callable[..., str]) -> None:
    for wait in ("0", "0.2"):
        line = last(run(platform(add={"polls": 10**6}), "--wait", wait, code=1))
        assert f"is still PENDING after {wait} s; run it again later, or raise --wait" in line


def test_a_failed_release_is_an_error(run: Cli, platform: Callable[..., str]) -> None:
    assert "'v1.0' of acme/sidewalk is FAILED" in last(run(platform(add={"outcome": "FAILED"}), code=1))


@pytest.mark.parametrize("name", ["fix les labels", "a/b", "v1?x=1#y", "100%", "..", "\u00e4"])
def test_a_release_name_with_any_characters_is_found(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments, name: str
) -> None:
    platform()
    releases = server.platform.dataset("acme/sidewalk").releases
    releases[name] = releases.pop("v1.0")
    if name == "..":
        assert "names no dataset" in last(run("acme/sidewalk@..", code=2))
        return
    run(f"acme/sidewalk@{name}", "--out", "out")
    assert open_release("out").release.name == "v1.0"  # as its file says


# -------------------------------------------------------------------- files that are no release


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "release.json is not JSON"),
        ("<html>", "release.json is an HTML or XML page, not JSON"),
        ("{}", "release.json is JSON, but no release"),
    ],
)
def test_a_file_that_is_no_release_is_refused(run: Cli, content: str, message: str) -> None:
    Path("release.json").write_text(content)
    assert message in last(run("release.json", code=1))


def test_an_unsupported_task_type_is_refused_and_the_supported_named(run: Cli, tmp_path: Path) -> None:
    path = edit_release(
        draw_release(tmp_path / "d", samples=1), lambda d: d["dataset"].update(task_type="pointcloud-cuboid")
    )
    assert "'pointcloud-cuboid'; labelsync converts segmentation-bitmap, " in last(run(path, code=1))


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("nothing.json", 1, "no release file nothing.json; give owner/dataset@release, a release file, or the URL"),
        ("acme/sidewalk", 1, "write acme/sidewalk@RELEASE for a dataset"),
        ("s3://bucket/release.json", 2, "s3 URLs are not read"),
        ("http://127.0.0.1:9/release.json?X-Amz-Signature=5ecret", 1, "127.0.0.1:9/release.json: the host cannot be"),
        ("http://[", 2, "is not a URL"),
        ("../..@v1", 2, "names no dataset"),
        (".", 2, "is a folder; name the release file in it"),
        ("x" * 300, 1, "no release file"),
    ],
)
def test_a_source_that_is_none_is_said_to_be_none(run: Cli, source: str, code: int, message: str) -> None:
    result = run(source, code=code)
    assert message in result.stderr
    assert "5ecret" not in result.output


def test_a_release_url_that_is_gone_is_named_without_its_signature(
    run: Cli, server: LoopbackSegments, tmp_path: Path
) -> None:
    url = server.mount(tmp_path) + "release.json?X-Amz-Signature=5ecret"
    result = run(url, code=1)
    assert "release.json: 403 Forbidden (signed URLs expire" in last(result)
    assert "5ecret" not in result.output


@pytest.mark.parametrize("flag", [("--workers", 0), ("--allow-failed", -1), ("--wait", -1), ("--wait", "nan")])
def test_a_number_out_of_range_is_refused(run: Cli, flag: tuple[str, object]) -> None:
    line = last(run(NAME, *flag, code=2))
    assert f"{flag[0]} is {flag[1]}" in line.replace(".0", "")
    assert "which is out of range; give" in line


def test_an_unknown_labelset_is_refused_and_the_known_named(run: Cli, platform: Callable[..., str]) -> None:
    result = run(platform(), "--labelset", "predictions", code=2)
    assert "has no labelset 'predictions'; pass --labelset ground-truth" in last(result)
