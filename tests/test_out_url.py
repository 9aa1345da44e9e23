"""A dataset made at an fsspec URL: whole or not taken for one, and never over somebody's files."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from click.testing import Result
from fsspec.implementations.memory import MemoryFileSystem

import labelsync
from labelsync.dataset import convert as convert_module
from labelsync.dataset import place as place_module
from labelsync.dataset.place import UNFINISHED, place_of
from labelsync.dataset.sink import sink_of
from labelsync.errors import OptionError, OutputError, OutputExists, SamplesFailed
from labelsync.store.files import sha256
from tests.releases import draw_release, edit_release
from tests.test_convert import digests, pulled

Cli = Callable[..., Result]


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    """fsspec's storage in memory, empty."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield fs
    fs.store.clear()


def files(fs: MemoryFileSystem, root: str) -> dict[str, bytes]:
    return {path.removeprefix(f"{root}/"): fs.cat_file(path) for path in fs.find(root)}


def folder_files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def without_clock(listed: dict[str, bytes]) -> dict[str, Any]:
    manifest = json.loads(listed["manifest.json"])
    return listed | {"manifest.json": manifest | {"created": ""}}


@pytest.mark.parametrize("format", ["parquet", "bitmaps"])
def test_a_url_holds_what_a_folder_would(tmp_path: Path, cli: Cli, memory: MemoryFileSystem, format: str) -> None:
    release = pulled(tmp_path, samples=40, wrong_size=[3])
    flags = ("--format", format, "--allow-failed", 1)
    cli("convert", release, "--out", tmp_path / "data", *flags)
    shown = cli("convert", release, "--out", "memory://walk/v1", *flags).stdout
    assert shown.startswith("memory://walk/v1: acme/sidewalk v1.0\n40 samples: 39 converted, 1 failed\n  'frame_0003")
    assert without_clock(files(memory, "/walk/v1")) == without_clock(folder_files(tmp_path / "data"))


def test_datasets_loads_it_from_there(tmp_path: Path, memory: MemoryFileSystem) -> None:
    from datasets import load_dataset

    record = labelsync.convert(pulled(tmp_path, samples=12), out="memory://walk")
    where = {split: f"memory://walk/data/{split}-*.parquet" for split in record.splits}
    loaded = load_dataset("parquet", data_files=where, cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == record.splits
    assert loaded["train"][0]["pixel_values"].size == (64, 48)


def test_a_file_url_is_a_folder(tmp_path: Path, cli: Cli) -> None:
    release = pulled(tmp_path, samples=12)
    cli("convert", release, "--out", f"file://{tmp_path}/data")
    labelsync.convert(release, out=tmp_path / "other")
    assert digests(tmp_path / "data") == digests(tmp_path / "other")
    assert "exists" in cli("convert", release, "--out", f"file://{tmp_path}/data", "--status", "LABELED", code=1).stderr


def test_a_second_round_links_into_a_url_by_copy(tmp_path: Path, memory: MemoryFileSystem) -> None:
    release = pulled(tmp_path, samples=12)
    labelsync.convert(release, out=tmp_path / "a")
    record = labelsync.convert(release, out="memory://walk", previous=tmp_path / "a")
    assert (record.linked, record.decoded) == (3, 0)
    assert {n: sha256(d) for n, d in files(memory, "/walk/data").items()} == digests(tmp_path / "a")


# -------------------------------------------------------------------- again, over it, and half of it


def test_the_same_conversion_again_does_nothing_and_another_needs_leave(
    tmp_path: Path, cli: Cli, memory: MemoryFileSystem
) -> None:
    release = pulled(tmp_path, samples=12)
    first = labelsync.convert(release, out="memory://walk")
    before = {path: memory.modified(path) for path in memory.find("/walk")}
    assert labelsync.convert(release, out="memory://walk").unchanged
    assert before == {path: memory.modified(path) for path in memory.find("/walk")}
    other = ("convert", release, "--out", "memory://walk", "--columns", "image,label")
    assert "memory://walk exists; choose another --out or pass --overwrite" in cli(*other, code=1).stderr
    cli(*other, "--overwrite")
    assert place_of("memory://walk").manifest().digest != first.digest
    memory.rm_file(next(p for p in memory.find("/walk/data")))
    assert not labelsync.convert(release, out="memory://walk", columns="image,label").unchanged, "a file was gone"


def test_overwriting_leaves_nothing_of_the_old_dataset_and_all_that_is_not_labelsyncs(
    tmp_path: Path, memory: MemoryFileSystem
) -> None:
    labelsync.convert(pulled(tmp_path, samples=12), out="memory://walk", format="bitmaps")
    memory.pipe_file("/walk/notes/mine.txt", b"mine")
    release = pulled(tmp_path / "other", samples=12)
    record = labelsync.convert(release, out="memory://walk", overwrite=True)
    manifest = place_of("memory://walk").manifest()
    assert manifest.digest == record.digest
    assert files(memory, "/walk").keys() == {*manifest.files, "manifest.json", "notes/mine.txt"}


@pytest.mark.parametrize("overwrite", [True, False])
def test_somebody_elses_files_are_never_replaced(tmp_path: Path, memory: MemoryFileSystem, overwrite: bool) -> None:
    release = pulled(tmp_path, samples=6)
    memory.pipe_file("/walk/data/theirs.parquet", b"theirs")
    with pytest.raises(OutputExists):
        labelsync.convert(release, out="memory://walk", overwrite=overwrite)
    assert files(memory, "/walk") == {"data/theirs.parquet": b"theirs"}


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("step", ["write_shards", "write_texts", "manifest"])
def test_a_kill_leaves_nothing_that_is_taken_for_finished_and_the_next_run_goes_on(
    tmp_path: Path, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch, step: str, old: bool
) -> None:
    release = pulled(tmp_path, samples=12)
    if old:
        labelsync.convert(release, out="memory://walk", columns="image,label")

    class Killed(BaseException):
        """What no `except Exception` takes."""

    def killed(*args: object, **_: object) -> None:
        raise Killed

    put = place_module._Bucket._put
    with monkeypatch.context() as patch:
        patch.setattr(place_module._Bucket, "_clear", lambda self, old: None)  # a SIGKILL clears nothing up
        if step == "manifest":
            patch.setattr(
                place_module._Bucket, "_put", lambda s, n, d: killed() if n == "manifest.json" else put(s, n, d)
            )
        else:
            patch.setattr(convert_module, step, killed)
        with pytest.raises(Killed):
            labelsync.convert(release, out="memory://walk", overwrite=True)
    assert UNFINISHED in files(memory, "/walk") and "manifest.json" not in files(memory, "/walk")
    record = labelsync.convert(release, out="memory://walk")
    manifest = place_of("memory://walk").manifest()
    assert manifest.digest == record.digest
    assert files(memory, "/walk").keys() == {*manifest.files, "manifest.json"}


def test_a_manifest_beside_the_mark_of_an_unfinished_run_does_not_count(
    tmp_path: Path, memory: MemoryFileSystem
) -> None:
    release = pulled(tmp_path, samples=12)
    labelsync.convert(release, out="memory://walk")
    memory.pipe_file(f"/walk/{UNFINISHED}", b"{}")
    assert not labelsync.convert(release, out="memory://walk").unchanged
    assert UNFINISHED not in files(memory, "/walk")


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path, memory: MemoryFileSystem) -> None:
    release = pulled(tmp_path, samples=12, wrong_size=[2])
    memory.pipe_file("/other/file", b"")
    with pytest.raises(SamplesFailed):
        labelsync.convert(release, out="memory://walk")
    assert memory.find("/") == ["/other/file"]


def test_a_shard_that_has_not_arrived_is_noticed(
    tmp_path: Path, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = MemoryFileSystem.put_file

    def half(self: MemoryFileSystem, local: str, remote: str, **options: Any) -> None:
        put(self, local, remote, **options)
        self.pipe_file(remote, self.cat_file(remote)[:100])

    monkeypatch.setattr(MemoryFileSystem, "put_file", half)
    with pytest.raises(OutputError, match=r"-00000-of-00001.parquet has not arrived whole at memory://walk"):
        labelsync.convert(pulled(tmp_path, samples=12), out="memory://walk")
    assert memory.find("/walk") == []


# -------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("https://example.org/walk", "https://.. cannot be written to"),
        ("hf://datasets/acme/walk", "labelsync push publishes a folder"),
        ("s4://bucket/walk", "a URL that fsspec knows"),
        ("oci://bucket@ns/walk", "needs a package that is not here: Install ocifs"),
        ("sftp://me:5ecret@host/walk", "a password in its URL"),
    ],
)
def test_urls_that_cannot_be_written_to_are_refused(tmp_path: Path, cli: Cli, out: str, message: str) -> None:
    result = cli("convert", pulled(tmp_path, samples=4), "--out", out, code=2)
    assert message in result.stderr and "5ecret" not in result.output


def test_what_a_storage_refuses_is_one_line(
    tmp_path: Path, cli: Cli, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = pulled(tmp_path, samples=4)
    for error, message in (
        (PermissionError("AccessDenied"), "memory://walk may not be written to; check the credentials"),
        (FileNotFoundError("NoSuchBucket"), "the bucket or a file is not there"),
        (RuntimeError("throttled\nfor long"), "memory://walk: RuntimeError: throttled; run it again"),
    ):

        def refuse(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(MemoryFileSystem, "put_file", refuse)
            assert message in cli("convert", release, "--out", "memory://walk", code=1).stderr


def test_a_worker_never_makes_a_folder_where_nobody_looks(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is not on the machine"), sink_of(str(tmp_path / "none")).file("data/a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_path_with_a_colon_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = draw_release(tmp_path / "drawn", samples=6)
    edit_release(release, lambda d: None)
    folder = labelsync.pull(release, out=tmp_path / "v1").path
    monkeypatch.chdir(tmp_path)
    labelsync.convert(folder, out="a:b")
    assert (tmp_path / "a:b/manifest.json").is_file()
    with pytest.raises(OptionError):
        place_of("nothing://a")
