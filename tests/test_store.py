"""Files are whole or not there: writes, manifests, stage folders, locks."""

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from labelsync.errors import DatasetNotFound, LabelsyncError, OutputError, OutputExists, OutputLocked
from labelsync.labels import from_categories
from labelsync.records.text import from_json, to_json
from labelsync.store.files import digest_of, link_or_copy, replacing, sha256, write_bytes, write_text
from labelsync.store.folder import already_made, finished, locked, stage_folder
from labelsync.store.manifest import FileEntry, Manifest, fingerprint, read_manifest, verify_files, write_manifest
from labelsync.taxonomy import Category

LABELS = from_categories([Category(0, "road"), Category(7, "curb")])


def finish(folder: Path, stage: str = "convert", text: str = "content", **options) -> Manifest:
    with stage_folder(folder, stage=stage, **options) as work:
        write_text(work / "data" / "part.txt", text)
        return write_manifest(work, stage, inputs={}, settings={}, summary={})


def everything(folder: Path) -> set[str]:
    """Names of all files and folders, hidden ones too, without the lock files."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.name.endswith(".lock")}


# ---------------------------------------------------------------- one file


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match="No space"), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_text() == "old"
    assert everything(tmp_path) == {"file"}


def test_a_file_is_never_seen_half_written(tmp_path):
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "file").exists()
    assert everything(tmp_path) == {"file"}


def test_files_have_the_users_mode_from_many_threads_too(tmp_path):
    old = os.umask(0o027)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: write_bytes(tmp_path / f"{i}", b"x"), range(200)))
    finally:
        assert os.umask(old) == 0o027  # nobody changed it for the process
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o640}


def test_a_link_shares_the_content_and_leaves_the_sources_mode(tmp_path):
    source, target = tmp_path / "source", tmp_path / "deep" / "target"
    source.write_text("x")
    source.chmod(0o444)
    link_or_copy(source, target)
    link_or_copy(source, target)  # again is as good as once
    assert target.samefile(source)
    assert source.stat().st_mode & 0o777 == 0o444
    assert everything(tmp_path) == {"source", "deep", "deep/target"}


def test_a_file_system_that_cannot_link_gets_a_copy(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, "cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "source").write_text("x")
    link_or_copy(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_text() == "x"
    assert not (tmp_path / "target").samefile(tmp_path / "source")


def test_a_digest_of_data_does_not_depend_on_key_order():
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})
    assert digest_of({"name": "\ud800"})  # half of a surrogate pair, as JSON files may hold


# ---------------------------------------------------------------- manifests


def test_a_manifest_names_every_file_by_its_digest(tmp_path):
    manifest = finish(tmp_path / "out")
    assert set(manifest.files) == {"data/part.txt"}
    assert manifest.files["data/part.txt"] == FileEntry(sha256(b"content"), 7)
    assert read_manifest(tmp_path / "out", "convert") == manifest
    assert verify_files(tmp_path / "out", manifest) == []


def test_a_changed_or_missing_file_is_found(tmp_path):
    manifest = finish(tmp_path / "out")
    part = tmp_path / "out/data/part.txt"
    part.write_text("CONTENT")
    assert verify_files(tmp_path / "out", manifest) == ["data/part.txt"]
    part.unlink()
    assert verify_files(tmp_path / "out", manifest) == ["data/part.txt"]


def test_the_same_input_gives_the_same_digest_whatever_the_clock(tmp_path, monkeypatch):
    one = finish(tmp_path / "one")
    monkeypatch.setattr("labelsync.store.manifest._version", lambda: "another")
    two = finish(tmp_path / "two")
    assert two.version == "another"
    assert one.digest == two.digest
    assert finish(tmp_path / "three", text="other").digest != one.digest


def test_the_fingerprint_is_known_before_the_stage_runs(tmp_path):
    manifest = finish(tmp_path / "out")
    assert manifest.fingerprint == fingerprint("convert", {}, {})
    assert manifest.fingerprint != fingerprint("convert", {}, {"unlabeled": "class"})
    assert manifest.fingerprint != fingerprint("convert", {"release": "1"}, {})
    assert manifest.fingerprint == finish(tmp_path / "other", text="other").fingerprint


def test_a_label_map_travels_in_the_manifest_and_in_its_digest(tmp_path):
    def write(folder, labels):
        folder.mkdir()
        return write_manifest(folder, "convert", inputs={}, settings={}, summary={}, labels=labels)

    manifest = write(tmp_path / "a", LABELS)
    assert read_manifest(tmp_path / "a").labels == LABELS
    assert manifest.digest != write(tmp_path / "b", LABELS.extended([Category(0, "street")])[0]).digest


def test_files_whose_digests_are_known_are_listed_as_given_and_not_read(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a").write_bytes(b"what is here")
    (tmp_path / "b").write_bytes(b"b")
    known = {"data/a": FileEntry("0" * 64, 7), "data/elsewhere": FileEntry("1" * 64, 8)}
    manifest = write_manifest(tmp_path, "pull", inputs={}, settings={}, summary={}, known=known)
    assert manifest.files == known | {"b": FileEntry(sha256(b"b"), 1)}
    assert list(manifest.files) == sorted(manifest.files)


def test_excluded_folders_are_not_part_of_the_manifest(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/state").write_text("x")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/checkpoints").write_text("x")
    manifest = write_manifest(tmp_path, "train", inputs={}, settings={}, summary={}, exclude=("checkpoints", "absent"))
    assert set(manifest.files) == {"data/checkpoints"}


names = st.text(min_size=1, max_size=5)
manifests = st.builds(
    Manifest,
    stage=names,
    digest=names,
    fingerprint=names,
    inputs=st.dictionaries(names, names, max_size=3),
    settings=st.dictionaries(names, st.none() | st.booleans() | st.integers() | names | st.lists(names), max_size=3),
    summary=st.dictionaries(names, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    files=st.dictionaries(names, st.builds(FileEntry, names, st.integers(0, 1 << 40)), max_size=3),
    labels=st.none() | st.just(LABELS),
    version=names,
    created=names,
)


@given(manifests)
def test_a_manifest_survives_json(manifest):
    assert from_json(Manifest, to_json(manifest)) == manifest


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: None, "does not exist"),
        (lambda p: p.mkdir(), "no manifest.json"),
        (lambda p: finish(p, "pull"), "made by labelsync pull, not convert"),
    ],
)
def test_a_folder_that_is_no_such_stage_is_not_found(tmp_path, make, says):
    make(tmp_path / "in")
    with pytest.raises(DatasetNotFound, match=says):
        read_manifest(tmp_path / "in", "convert")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not what labelsync writes"),
        ('{"stage": "con', "is not what labelsync writes"),
        ('{"format": 1}', "is not what labelsync writes"),
        ("[]", "is not what labelsync writes"),
        ('{"format": 2, "version": "3.1", "unheard of": 1}', "labelsync 3.1, which is newer; upgrade"),
    ],
)
def test_a_damaged_or_newer_manifest_is_told_apart(tmp_path, text, says):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(LabelsyncError, match=says):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "data/../../x", "..\\x", "C:x"])
def test_a_manifest_cannot_name_files_outside_its_folder(tmp_path, name):
    manifest = finish(tmp_path / "out")
    bad = replace(manifest, files={name: FileEntry("0", 0)})
    (tmp_path / "out/manifest.json").write_text(to_json(bad))
    with pytest.raises(LabelsyncError, match="not below"):
        read_manifest(tmp_path / "out")


# ---------------------------------------------------------------- stage folders


def test_a_stage_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), stage_folder(tmp_path / "out", stage="convert") as work:
        write_text(work / "half", "x")
        raise KeyboardInterrupt
    assert everything(tmp_path) == set()


def test_a_folder_appears_only_when_it_is_finished(tmp_path):
    with stage_folder(tmp_path / "a" / "out", stage="convert") as work:
        write_text(work / "part", "x")
        assert not (tmp_path / "a/out").exists()
    assert everything(tmp_path) == {"a", "a/out", "a/out/part"}


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    finish(tmp_path / "out")
    assert read_manifest(tmp_path / "out")


def test_a_folder_that_exists_is_kept_without_overwrite(tmp_path):
    finish(tmp_path / "out", text="old")
    with pytest.raises(OutputExists, match="--overwrite"):
        finish(tmp_path / "out", text="new")
    assert (tmp_path / "out/data/part.txt").read_text() == "old"


def test_overwrite_replaces_what_the_same_stage_left(tmp_path):
    finish(tmp_path / "out", text="old")
    finish(tmp_path / "out", text="new", overwrite=True)
    assert (tmp_path / "out/data/part.txt").read_text() == "new"
    assert everything(tmp_path) == {"out", "out/data", "out/data/part.txt", "out/manifest.json"}


def test_overwrite_keeps_the_old_folder_until_the_new_one_is_whole(tmp_path):
    finish(tmp_path / "out", text="old")
    with (
        pytest.raises(OSError, match="full"),
        stage_folder(tmp_path / "out", stage="convert", overwrite=True) as work,
    ):
        write_text(work / "half", "x")
        raise OSError("full")
    assert (tmp_path / "out/data/part.txt").read_text() == "old"
    assert everything(tmp_path) == {"out", "out/data", "out/data/part.txt", "out/manifest.json"}


@pytest.mark.parametrize("work", ["a photo", "another stage", "a file", "a broken manifest"])
def test_overwrite_never_deletes_other_work(tmp_path, work):
    out = tmp_path / "out"
    if work == "a file":
        out.write_text("precious")
    elif work == "another stage":
        finish(out, "pull", text="precious")
    else:
        out.mkdir()
        (out / ("manifest.json" if work == "a broken manifest" else "photo.jpg")).write_text("precious")
    before = everything(tmp_path)
    with pytest.raises(OutputExists, match="is not replaced"):
        finish(out, "convert", overwrite=True)
    assert everything(tmp_path) == before


def test_a_mount_point_is_refused_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda self: self.name == "out")
    with pytest.raises(OutputExists, match="mount point"):
        finish(tmp_path / "out")


def test_a_link_to_a_folder_is_followed(tmp_path):
    finish(tmp_path / "disk" / "v1", text="old")
    (tmp_path / "out").symlink_to(tmp_path / "disk/v1")
    finish(tmp_path / "out", text="new", overwrite=True)
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk/v1/data/part.txt").read_text() == "new"


def test_what_a_killed_run_left_is_swept_and_a_neighbours_work_is_not(tmp_path):
    for name in (".v1.01234567.partial", ".v1.0.01234567.partial", ".v1.notes.partial", ".v2.01234567.partial"):
        (tmp_path / name).mkdir()
    finish(tmp_path / "v1")
    left = {n for n in everything(tmp_path) if n.endswith(".partial")}
    assert left == {".v1.0.01234567.partial", ".v1.notes.partial", ".v2.01234567.partial"}
    (tmp_path / ".v+[1].01234567.partial").mkdir()
    finish(tmp_path / "v+[1]")
    assert {n for n in everything(tmp_path) if n.endswith(".partial")} == left


def test_finished_work_is_known_by_its_stage_inputs_and_settings(tmp_path):
    manifest = finish(tmp_path / "out")
    for known in (finished, already_made):
        assert known(tmp_path / "out", "convert", inputs={}, settings={}) == manifest
        assert known(tmp_path / "none", "convert", inputs={}, settings={}) is None
        assert known(tmp_path / "out", "pull", inputs={}, settings={}) is None
        assert known(tmp_path / "out", "convert", inputs={"release": "1"}, settings={}) is None
        assert known(tmp_path / "out", "convert", inputs={}, settings={"unlabeled": "class"}) is None


@pytest.mark.parametrize("spoil", [Path.unlink, lambda p: p.write_text("longer than it was")], ids=["gone", "longer"])
def test_work_with_a_file_gone_was_finished_and_is_not_taken_for_made(tmp_path, spoil):
    manifest = finish(tmp_path / "out")
    spoil(tmp_path / "out/data/part.txt")
    assert finished(tmp_path / "out", "convert", inputs={}, settings={}) == manifest
    assert already_made(tmp_path / "out", "convert", inputs={}, settings={}) is None


KILLED = """
import os, sys
from pathlib import Path
from labelsync.store.files import write_text
from labelsync.store.folder import stage_folder
from labelsync.store.manifest import write_manifest

step, out = sys.argv[1], Path(sys.argv[2])
rename, renames = Path.rename, []

def kill(self, target):
    renames.append(target)
    if len(renames) == int(step):
        os._exit(9)
    return rename(self, target)

Path.rename = kill
with stage_folder(out, stage="convert", overwrite=True) as work:
    write_text(work / "data/part.txt", "new")
    write_manifest(work, "convert", inputs={}, settings={}, summary={})
"""


@pytest.mark.parametrize("step", [1, 2])
def test_a_kill_during_the_swap_loses_nothing(tmp_path, step):
    out = tmp_path / "out"
    finish(out, text="old")
    assert subprocess.run([sys.executable, "-c", KILLED, str(step), str(out)], check=False).returncode == 9
    with pytest.raises(OutputExists):
        finish(out, text="never")
    assert (out / "data/part.txt").read_text() == "old"
    assert everything(tmp_path) == {"out", "out/data", "out/data/part.txt", "out/manifest.json"}


def test_a_second_run_on_one_folder_is_refused_at_once(tmp_path):
    with (
        stage_folder(tmp_path / "out", stage="convert"),
        pytest.raises(OutputLocked, match="another labelsync is writing"),
    ):
        finish(tmp_path / "out")
    finish(tmp_path / "out", overwrite=True)  # free again


# Tests may run as root, who may write everywhere else: no folder with other rights would do.
@pytest.mark.skipif(sys.platform != "linux", reason="/proc, where not even root may make a file, is Linux's")
def test_a_place_that_takes_no_files_is_not_taken_for_a_second_run():
    with (
        pytest.raises(OutputError, match="/proc is no place for files; choose another --out") as e,
        locked(Path("/proc/x")),
    ):
        pass
    assert not isinstance(e.value, OutputLocked)


def test_a_folder_that_appeared_meanwhile_is_seen(tmp_path, monkeypatch):
    acquire = FileLock.acquire

    def late(self, *args, **kwargs):
        lock = acquire(self, *args, **kwargs)
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out/file").write_text("of the run that just ended")
        return lock

    monkeypatch.setattr(FileLock, "acquire", late)
    with pytest.raises(OutputExists):
        finish(tmp_path / "out")
