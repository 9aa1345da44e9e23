"""`labelsync cache`: what it says, and that a release folder never loses a file by it."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labelsync.release import pull as pulling
from labelsync.release.cache import AssetCache
from labelsync.release.folder import open_release
from labelsync.store.manifest import verify_files
from tests.loopback.segments import LoopbackSegments
from tests.pull.conftest import Cli, last


def whole(path: str) -> bool:
    folder = open_release(path)
    return verify_files(folder.path, folder.manifest) == []


def record(cli: Cli, *argv: object) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(cli("cache", *argv, "--json").stdout)
    return answer


def objects(cache: Path) -> list[Path]:
    return [p for p in sorted((cache / "objects").rglob("*")) if p.is_file()]


@pytest.fixture
def two_rounds(run: Cli, platform: Callable[..., str]) -> tuple[str, str]:
    """8 files linked by the folder v1, 4 that only a folder now deleted had."""
    first, second = platform(), platform(name="v2.0", samples=2, seed=9)
    run(first, "--out", "v1")
    run(second, "--out", "v2")
    for path in sorted(Path("v2").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    Path("v2").rmdir()
    return first, second


def test_it_shows_what_is_there_and_removes_nothing(cli: Cli, cache: Path, two_rounds: object) -> None:
    shown = record(cli)
    size = sum(p.stat().st_size for p in objects(cache))
    assert (shown["path"], shown["files"], shown["bytes"]) == (str(cache), 12, size)
    assert (shown["unused"], shown["removable"], shown["removed"], shown["damaged"]) == (4, 4, 0, None)
    assert shown["oldest"] == shown["newest"] == time.strftime("%Y-%m-%d", time.gmtime())
    text = cli("cache").stdout
    assert f"{cache}: 12 files" in text
    assert "4 files (0.0 MB) linked by no release folder" in text
    assert "would go with --clean" in text
    assert len(objects(cache)) == 12


def test_an_empty_cache_is_no_error(cli: Cli, cache: Path) -> None:
    assert record(cli, "--clean", "--all", "--verify")["files"] == 0
    assert "0 files" in cli("cache").stdout


def test_clean_takes_what_no_folder_links(
    cli: Cli, run: Cli, cache: Path, two_rounds: tuple[str, str], server: LoopbackSegments
) -> None:
    assert (record(cli, "--clean")["removed"], len(objects(cache))) == (4, 8)
    assert len(list((cache / "urls").rglob("*.json"))) == 8
    assert whole("v1")
    server.log.clear()
    run(two_rounds[0], "--out", "again")
    assert len(server.log.find(path="/images/|/bitmaps/")) == 0
    run(two_rounds[1], "--out", "v2")  # what is gone is fetched
    assert len(server.log.find(path="/images/|/bitmaps/")) == 4


def test_all_takes_everything_and_no_folder_loses_a_file(cli: Cli, cache: Path, two_rounds: object) -> None:
    assert record(cli, "--all")["removable"] == 12
    assert record(cli, "--clean", "--all")["removed"] == 12
    assert objects(cache) == []
    assert whole("v1")


def test_older_than_goes_by_the_last_use(
    cli: Cli, run: Cli, platform: Callable[..., str], cache: Path, two_rounds: tuple[str, str]
) -> None:
    long_ago = time.time() - 40 * 86400
    for entry in (cache / "urls").rglob("*.json"):
        os.utime(entry, (long_ago, long_ago))
    run(two_rounds[1], "--out", "v2")  # 4 files are used today
    assert record(cli, "--all", "--older-than", "30d")["removable"] == 8
    assert record(cli, "--older-than", "6w")["removable"] == 0
    assert record(cli, "--clean", "--older-than", "30d")["removed"] == 0  # all linked
    assert record(cli, "--clean", "--all", "--older-than", "30d")["removed"] == 8
    assert (whole("v1"), whole("v2")) == (True, True)


@pytest.mark.parametrize("age", ["30", "d", "-3d", "3 years"])
def test_an_age_that_is_none_is_refused(cli: Cli, age: str) -> None:
    assert f"--older-than is {age!r}, which is no time; write it as 12h, 30d or 4w" in last(
        cli("cache", "--older-than", age, code=2)
    )


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped"])
def test_a_damaged_file_is_found_taken_out_and_fetched_again(
    cli: Cli, run: Cli, platform: Callable[..., str], cache: Path, server: LoopbackSegments, damage: str
) -> None:
    name = platform()
    run(name)
    victim = objects(cache)[0]
    data = victim.read_bytes()
    victim.unlink()  # a new inode: the folder's own is whole
    victim.write_bytes({"empty": b"", "cut": data[:-9], "flipped": bytes([data[0] ^ 1]) + data[1:]}[damage])
    assert record(cli)["damaged"] is None
    shown = record(cli, "--verify")
    assert (shown["damaged"], shown["files"]) == (1, 7)
    server.log.clear()
    run(name, "--out", "again")
    assert len(server.log.find(path="/images/|/bitmaps/")) == 1
    assert whole("again")
    assert record(cli, "--verify")["damaged"] == 0
    assert "1 damaged" not in cli("cache", "--verify").stdout


def test_what_killed_pulls_left_goes_too(cli: Cli, cache: Path, two_rounds: object) -> None:
    (cache / "objects/00").mkdir(exist_ok=True)
    for name in ("objects/00/.abc.1234.tmp", "urls/broken.json"):
        (cache / name).write_text("{")
    blob = objects(cache)[-1]
    blob.unlink()  # its entry leads nowhere
    record(cli, "--clean")
    assert not list(cache.rglob("*.tmp"))
    assert len(list((cache / "urls").rglob("*.json"))) == len(objects(cache))


# -------------------------------------------------------------------- at the same time as a pull


def test_clean_leaves_a_cache_that_a_pull_is_using_alone(
    cli: Cli, run: Cli, platform: Callable[..., str], server: LoopbackSegments, cache: Path
) -> None:
    name = platform()
    slow = server.faults.delay(1.5, path="frame_0003", times=1)
    pull = threading.Thread(target=run, args=(name,))
    pull.start()
    deadline = time.monotonic() + 10
    while not slow.hits and time.monotonic() < deadline:
        time.sleep(0.01)
    busy = AssetCache().is_in_use()
    pull.join()
    assert busy
    assert whole("sidewalk-v1.0")
    assert not AssetCache().is_in_use()
    assert list((cache / "users").iterdir()) == []


def test_clean_is_refused_while_a_pull_is_under_way_and_showing_is_not(cli: Cli, cache: Path) -> None:
    with AssetCache().in_use():
        line = last(cli("cache", "--clean", "--all", code=1))
        assert "a pull is using the cache at" in line
        assert "run it again when the pull is done" in line
        cli("cache", "--all")


def test_the_marker_of_a_killed_pull_stops_nobody(cli: Cli, cache: Path) -> None:
    (cache / "users").mkdir()
    (cache / "users/.abcd.lock").touch()
    record(cli, "--clean")
    assert list((cache / "users").iterdir()) == []


def test_a_file_that_vanishes_from_the_cache_is_fetched_again(
    run: Cli, platform: Callable[..., str], cache: Path, server: LoopbackSegments, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = pulling.fetch_assets

    def fetch(assets: Any, **options: Any) -> Any:
        answer = original(assets, **options)
        if len(assets) > 1:  # as if somebody had emptied the cache now
            for path in objects(cache)[:3]:
                path.unlink()
        return answer

    monkeypatch.setattr(pulling, "fetch_assets", fetch)
    run(platform())
    assert whole("sidewalk-v1.0")
    assert len(server.log.find(path="/images/|/bitmaps/")) == 8 + 3


def test_a_cache_that_is_only_read_serves_a_pull(
    run: Cli, platform: Callable[..., str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = platform()
    run(name)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("labelsync.release.cache.locked", refuse)
    monkeypatch.setattr("labelsync.release.cache.os.utime", refuse)
    run(name, "--out", "again")
    assert whole("again")
