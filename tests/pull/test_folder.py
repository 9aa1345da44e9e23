"""`labelsync pull`, through the real command, the real SDK and a loopback Segments.ai: what it leaves."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelsync.errors import DatasetNotFound, ReleaseError
from labelsync.pixels.instance import decode_instance_bitmap
from labelsync.release.folder import open_release
from labelsync.store.files import sha256
from labelsync.store.manifest import verify_files
from tests.loopback.segments import KEY, LoopbackSegments
from tests.pull.conftest import Cli, last
from tests.releases import draw_release, edit_release, sample_uuid

# -------------------------------------------------------------------- what a pull leaves


def test_a_release_becomes_a_folder_with_every_file_and_a_row_for_every_sample(
    run: Cli, platform: Callable[..., str], tmp_path: Path
) -> None:
    name = platform(samples=5, unlabeled=(1,), skipped=(2,), reviewed=(4,))
    record = json.loads(run(name, "--json").stdout)
    assert (record["path"], record["samples"], record["fetched"]) == ("sidewalk-v1.0", 5, 8)
    assert {k: v for k, v in record["outcomes"].items() if v} == {"pulled": 4, "unlabeled": 1}
    folder = open_release("sidewalk-v1.0")
    assert verify_files(folder.path, folder.manifest) == []
    assert [r.status for r in folder.ledger.rows] == ["LABELED", "", "SKIPPED", "LABELED", "REVIEWED"]
    drawn = tmp_path / "drawn" / "v1.0"
    for i, sample in enumerate(folder.release.samples):
        image, bitmap = folder.image(sample), folder.bitmap(sample)
        if i == 1:
            assert (image, bitmap) == (None, None)
            continue
        assert image is not None
        assert bitmap is not None
        assert image.read_bytes() == (drawn / "images" / sample.name).read_bytes()
        assert bitmap.read_bytes() == (drawn / "bitmaps" / f"{sample.uuid}.png").read_bytes()
    assert sorted(p.name for p in folder.path.iterdir()) == sorted(
        ["release.json", "ledger.json", "manifest.json", "images", "bitmaps"]
    )


def test_the_ways_to_name_a_release_leave_the_same_samples(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments, tmp_path: Path
) -> None:
    name = platform()
    path = tmp_path / "drawn" / "v1.0" / "release.json"
    url = server.mount(path.parent) + "release.json?X-Amz-Signature=5ecret"
    for i, source in enumerate((name, path, path.relative_to(tmp_path), path.as_uri(), url)):
        run(source, "--out", f"out{i}")
        folder = open_release(f"out{i}")
        ids = [decode_instance_bitmap((folder.bitmap(s) or Path()).read_bytes()) for s in folder.release.samples]
        assert [r.outcome for r in folder.ledger.rows] == ["pulled"] * 4
        assert all(np.array_equal(a, b) for a, b in zip(ids, _ids(path), strict=True))


def _ids(path: Path) -> list[Any]:
    return [decode_instance_bitmap((path.parent / f"bitmaps/{sample_uuid(i)}.png").read_bytes()) for i in range(4)]


def test_the_same_release_leaves_the_same_bytes_wherever_its_files_come_from(
    run: Cli, platform: Callable[..., str]
) -> None:
    name = platform()
    run(name, "--out", "cold")
    run(name, "--out", "warm", "--workers", 1)
    cold, warm = open_release("cold").manifest, open_release("warm").manifest
    assert (cold.digest, cold.files, cold.summary) == (warm.digest, warm.files, warm.summary)


def test_new_signatures_change_neither_the_digest_nor_the_cache(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments
) -> None:
    server.mount = lambda folder, name="drawn", mount=server.mount: mount(folder, name)  # type: ignore[method-assign]
    run(platform(add={"sign": "aaaa1111"}), "--out", "one")
    digest = open_release("one").manifest.digest
    again = json.loads(run(platform(add={"sign": "bbbb2222"}), "--out", "two", "--json").stdout)
    assert (again["digest"], again["fetched"], again["reused"]) == (digest, 0, 8)
    assert json.loads(run("acme/sidewalk@v1.0", "--out", "one", "--json").stdout)["unchanged"]
    kept = "".join((Path("two") / n).read_text() for n in ("ledger.json", "manifest.json"))
    assert "bbbb2222" not in kept


def test_a_second_round_fetches_only_what_is_new(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments
) -> None:
    server.mount = lambda folder, name="", mount=server.mount: mount(folder, name or "all")  # type: ignore[method-assign]
    run(platform(samples=4, unlabeled=(3,)))
    record = json.loads(run(platform(samples=6, name="v2.0"), "--json").stdout)
    assert (record["fetched"], record["reused"]) == (6, 6)
    record = json.loads(run("acme/sidewalk@v2.0", "--out", "again", "--json").stdout)
    assert (record["fetched"], record["bytes_fetched"], record["reused"]) == (0, 0, 12)


def test_the_key_goes_to_the_api_and_to_no_other_host(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments
) -> None:
    run(platform())
    assert len(server.log.find(server="storage")) == 9  # the release file, 4 images, 4 bitmaps
    assert not any(r.authorized for r in server.log.find(server="storage"))
    assert all(r.authorized for r in server.log.find(server="api"))
    assert not any(KEY.encode() in p.read_bytes() for p in Path("sidewalk-v1.0").rglob("*") if p.is_file())


def test_files_are_shared_with_the_cache_and_cannot_be_edited_in_place(
    run: Cli, platform: Callable[..., str], cache: Path
) -> None:
    run(platform())
    image = next(Path("sidewalk-v1.0/images").iterdir())
    assert image.stat().st_nlink == 2
    assert image.stat().st_mode & 0o222 == 0
    assert any(p.stat().st_ino == image.stat().st_ino for p in (cache / "objects").rglob("*"))


def test_a_cached_file_that_was_written_to_is_fetched_anew(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments
) -> None:
    name = platform()
    run(name)
    before = _damage(next(Path("sidewalk-v1.0/images").iterdir()), ns=(0, 0))
    server.log.clear()
    record = json.loads(run(name, "--out", "again", "--json").stdout)
    assert (record["fetched"], record["reused"], len(server.log.find(path="/images/"))) == (1, 7, 1)
    assert before in [p.read_bytes() for p in Path("again/images").iterdir()]


def test_what_decayed_in_the_cache_is_found_before_it_is_published(
    run: Cli, platform: Callable[..., str], cli: Cli
) -> None:
    """Its size and time are as they were, so the pull takes it for what it was, and the manifest says what that is."""
    name = platform()
    run(name)
    image = next(Path("sidewalk-v1.0/images").iterdir())
    time = image.stat().st_mtime_ns
    before = _damage(image, ns=(time, time))
    run(name, "--out", "again")
    manifest = open_release("again").manifest
    assert verify_files(Path("again"), manifest) == [f"images/{image.name}"]
    assert manifest.files[f"images/{image.name}"].sha256 == sha256(before)
    refused = cli("convert", "again", "--out", "data", code=1)
    assert f"its image was changed after the pull: {image.name}" in refused.stderr


def _damage(path: Path, *, ns: tuple[int, int]) -> bytes:
    """Change one bit of a file in its place and set its times; what it was."""
    before = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    os.utime(path, ns=ns)
    return before


# -------------------------------------------------------------------- once more, into the same folder


def test_the_same_release_again_is_nothing_to_do(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments
) -> None:
    name = platform()
    first = json.loads(run(name, "--json").stdout)
    stamp = Path("sidewalk-v1.0/manifest.json").stat().st_mtime_ns
    server.log.clear()
    second = json.loads(run(name, "--json").stdout)
    assert second == first | {"unchanged": True, "fetched": 0, "reused": 8, "bytes_fetched": 0}
    assert len(server.log.find(path="/images/|/bitmaps/")) == 0
    assert Path("sidewalk-v1.0/manifest.json").stat().st_mtime_ns == stamp
    assert "is there already" in run(name).stdout


def test_a_damaged_folder_is_completed_without_being_told(run: Cli, platform: Callable[..., str]) -> None:
    name = platform()
    run(name)
    next(Path("sidewalk-v1.0/images").iterdir()).unlink()
    assert not json.loads(run(name, "--json").stdout)["unchanged"]
    folder = open_release("sidewalk-v1.0")
    assert verify_files(folder.path, folder.manifest) == []


def test_another_release_in_its_place_needs_overwrite(run: Cli, platform: Callable[..., str]) -> None:
    run(platform(), "--out", "here")
    other = platform(name="v2.0", seed=1)
    assert "here exists; choose another --out or pass --overwrite" in last(run(other, "--out", "here", code=1))
    assert open_release("here").release.name == "v1.0"
    run(other, "--out", "here", "--overwrite")
    assert open_release("here").release.name == "v2.0"


def test_a_folder_of_something_else_is_never_replaced(run: Cli, platform: Callable[..., str]) -> None:
    Path("thesis").mkdir()
    Path("thesis/chapter1.tex").write_text("work of years")
    for flags in ((), ("--overwrite",)):
        run(platform(), "--out", "thesis", *flags, code=1)
    assert Path("thesis/chapter1.tex").read_text() == "work of years"


def test_an_edited_image_beside_a_release_file_is_a_new_pull(run: Cli, tmp_path: Path) -> None:
    path = draw_release(tmp_path / "mine", samples=2)
    run(path, "--out", "out")
    images = sorted((tmp_path / "mine/images").iterdir())
    shutil.copyfile(images[1], images[0])
    assert "exists" in last(run(path, "--out", "out", code=1))
    run(path, "--out", "out", "--overwrite")
    folder = open_release("out")
    first, second = (folder.image(s) for s in folder.release.samples)
    assert first is not None
    assert second is not None
    assert first.read_bytes() == second.read_bytes()


def test_a_users_own_files_are_copied_not_linked(run: Cli, tmp_path: Path) -> None:
    path = draw_release(tmp_path / "mine", samples=1)
    run(path, "--out", "out")
    original = next((tmp_path / "mine/images").iterdir())
    assert original.stat().st_nlink == 1
    original.write_bytes(b"edited")
    folder = open_release("out")
    assert verify_files(folder.path, folder.manifest) == []


# -------------------------------------------------------------------- the disk


def test_a_full_disk_leaves_no_folder(run: Cli, platform: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *_: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    name = platform()
    with monkeypatch.context() as patch:
        patch.setattr("labelsync.release.cache.write_bytes", full)
        assert "the disk is full" in last(run(name, code=1))
    with monkeypatch.context() as patch:
        patch.setattr("labelsync.release.pull.link_or_copy", full)
        assert "the disk is full" in last(run(name, code=1))
    run(name)


def test_an_interruption_leaves_no_folder_and_loses_no_file(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = platform()
    with monkeypatch.context() as patch:
        patch.setattr("labelsync.release.pull.write_manifest", _interrupt)
        assert "interrupted; run it again to go on" in last(run(name, code=130))
    server.log.clear()
    run(name)
    assert len(server.log.find(path="/images/|/bitmaps/")) == 0


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_an_unfinished_or_foreign_or_edited_folder_is_not_opened(run: Cli, platform: Callable[..., str]) -> None:
    run(platform())
    with pytest.raises(DatasetNotFound):
        open_release("nowhere")
    shutil.copytree("sidewalk-v1.0", "edited")
    edit_release(Path("edited/release.json"), lambda d: d["dataset"]["samples"].pop())
    with pytest.raises(ReleaseError, match="was changed after the pull"):
        open_release("edited")
    Path("sidewalk-v1.0/manifest.json").unlink()
    with pytest.raises(DatasetNotFound, match="nothing finished there"):
        open_release("sidewalk-v1.0")
