"""`load`, and `datasets.load_dataset` on the same folder: rows from a folder and from the Hub."""

import io
import pickle
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Features, Image, Value, load_dataset
from datasets.exceptions import DatasetGenerationError
from datasets.utils.info_utils import NonMatchingSplitsSizesError
from huggingface_hub import HfApi, constants
from PIL import Image as PILImage

import labelsync
from labelsync.dataset import shards, source
from labelsync.errors import AuthError, DatasetError, DatasetNotFound, LabelsyncError, ServiceError
from labelsync.pixels.semantic import decode_semantic
from labelsync.records.release import Row
from labelsync.store.files import sha256
from labelsync.store.manifest import read_manifest
from tests.loopback.hub import WRITE_TOKEN, LoopbackHub
from tests.releases import draw_release

EXPECTED = {"train": 16, "validation": 2, "test": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A dataset folder of 20 rows in several shards and row groups; tests copy it before they harm it."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_ROWS", 6)
        patch.setattr(shards, "ROW_GROUP_BYTES", 6000)
        release = labelsync.pull(draw_release(folder / "drawn", samples=20), out=folder / "pulled").path
        labelsync.convert(release, out=folder / "data", workers=1)
    yield folder / "data"


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "data"))


def drawn(made: Path, row: Row) -> bytes:
    return (made.parent / "drawn/images" / row.name).read_bytes()


# -------------------------------------------------------------------- load_dataset


def test_load_dataset_reads_the_folder_with_features_and_counts(made: Path, tmp_path: Path) -> None:
    loaded = load_dataset(str(made), cache_dir=str(tmp_path))
    assert {split: rows.num_rows for split, rows in loaded.items()} == EXPECTED
    text = Value("string")
    expected = Features({"pixel_values": Image(), "label": Image(), "name": text, "uuid": text})
    ours = labelsync.load(made)
    for split, rows in loaded.items():
        assert rows.features == expected
        for theirs, row in zip(rows, ours.splits[split], strict=True):
            assert (theirs["name"], theirs["uuid"]) == (row.name, row.uuid)
            assert theirs["label"].mode == "L"
            np.testing.assert_array_equal(np.asarray(theirs["label"]), decode_semantic(row.label))
            np.testing.assert_array_equal(
                np.asarray(theirs["pixel_values"]), np.asarray(PILImage.open(io.BytesIO(row.image)))
            )
            assert row.image == drawn(made, row)


def test_load_dataset_streams_the_folder(made: Path) -> None:
    streamed = load_dataset(str(made), streaming=True)
    assert set(streamed) == set(EXPECTED)
    names = {split: [row["name"] for row in rows] for split, rows in streamed.items()}
    assert names == {split: [row.name for row in rows] for split, rows in labelsync.load(made).splits.items()}
    assert next(iter(streamed["train"]))["label"].size == (64, 48)


def test_half_a_folder_is_noticed_by_load_dataset(copied: Path, tmp_path: Path) -> None:
    next((copied / "data").glob("train-00001-*")).unlink()
    with pytest.raises((NonMatchingSplitsSizesError, DatasetGenerationError)):
        load_dataset(str(copied), cache_dir=str(tmp_path / "cache"))


def test_sixteen_bits_arrive_whole(tmp_path: Path) -> None:
    ids = tuple(range(400, 700))
    release = labelsync.pull(draw_release(tmp_path / "d", samples=6, category_ids=ids), out=tmp_path / "p").path
    labelsync.convert(release, out=tmp_path / "data")
    ours = {
        r.uuid: decode_semantic(r.label) for rows in labelsync.load(tmp_path / "data").splits.values() for r in rows
    }
    assert max(int(b.max()) for b in ours.values()) > 255
    loaded = load_dataset(str(tmp_path / "data"), cache_dir=str(tmp_path / "cache"))
    for part in loaded.values():
        for row in part:
            np.testing.assert_array_equal(np.asarray(row["label"]), ours[row["uuid"]])


# -------------------------------------------------------------------- rows


def test_a_dataset_tells_what_it_is(made: Path) -> None:
    dataset = labelsync.load(str(made))
    manifest = read_manifest(made, "convert")
    assert dataset.source == str(made)
    assert (dataset.digest, dataset.release, dataset.revision) == (manifest.digest, "v1.0", "")
    assert dataset.labels.id2label == {0: "unlabeled", 1: "class-1", 2: "class-2", 3: "class-3"}
    assert {split: len(rows) for split, rows in dataset.splits.items()} == EXPECTED


def test_rows_are_a_sequence(made: Path) -> None:
    rows = labelsync.load(made).splits["train"]
    every = list(rows)
    assert len({r.uuid for r in every}) == len(rows) == 16
    assert [rows[i] for i in range(16)] == every == [rows[i - 16] for i in range(16)]
    assert list(rows[3:9:2]) == every[3:9:2] and list(rows[::-1]) == every[::-1]
    assert rows[5:][1:][0] == every[6] and len(rows[20:]) == 0
    assert every[7] in rows and rows.index(every[7]) == 7
    for index in (16, -17):
        with pytest.raises(IndexError):
            rows[index]


def test_rows_travel_to_other_processes(made: Path) -> None:
    rows = labelsync.load(made).splits["train"]
    first = rows[0]  # opens a file, which must not travel
    again = pickle.loads(pickle.dumps(rows[1:]))  # noqa: S301 - our own
    assert again[0] == rows[1] and len(again) == 15 and rows[0] == first


def test_rows_are_read_in_threads_that_share_no_reader(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = labelsync.load(made).splits["train"]
    expected, got = list(rows), dict[int, list[Row]]()
    users: dict[int, set[int]] = {}
    readers: list[Any] = []  # kept, so that no two have one id
    original = pq.ParquetFile.read_row_group

    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        readers.append(self)
        users.setdefault(id(self), set()).add(threading.get_ident())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)

    def read(k: int) -> None:
        got[k] = [rows[(i * 7 + k) % 16] for i in range(48)]

    threads = [threading.Thread(target=read, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(got[k] == [expected[(i * 7 + k) % 16] for i in range(48)] for k in range(4))
    assert len(users) == 4 * 3 and all(len(threads) == 1 for threads in users.values())


def test_going_through_reads_each_row_group_once(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = pq.ParquetFile.read_row_group

    def counted(self: Any, group: int, **kwargs: Any) -> Any:
        read.append(group)
        return original(self, group, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    rows = labelsync.load(made).splits["train"]
    assert read == []
    list(rows)
    files = sorted((made / "data").glob("train-*"))
    groups = [pq.ParquetFile(f).metadata.num_row_groups for f in files]
    assert len(read) == sum(groups) > len(files) == 3


# -------------------------------------------------------------------- folders that cannot be used


def test_a_split_that_is_not_there_is_named_with_those_that_are(made: Path) -> None:
    splits = labelsync.load(made).splits
    with pytest.raises(DatasetError, match="no split 'val'; there are: train, validation, test"):
        splits["val"]
    assert "val" not in splits and splits.get("val") is None


def harmed(copied: Path, harm: Callable[[Path], Any]) -> Path:
    harm(copied)
    return copied


def edited(path: Path) -> None:
    path.write_text(path.read_text().replace("class-2", "road"))


def scrambled(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


@pytest.mark.parametrize(
    ("harm", "kind", "message"),
    [
        (lambda d: (d / "manifest.json").unlink(), DatasetNotFound, "has no manifest.json"),
        (shutil.rmtree, DatasetNotFound, "does not exist"),
        (lambda d: (d / "id2label.json").unlink(), DatasetError, "id2label.json is gone"),
        (lambda d: edited(d / "id2label.json"), DatasetError, "id2label.json"),
        (lambda d: next((d / "data").glob("test-*")).unlink(), DatasetError, "test-00000-.* is gone"),
        (lambda d: next((d / "data").glob("test-*")).write_bytes(b"PAR1"), DatasetError, "parquet was changed"),
        (
            lambda d: (d / "manifest.json").write_text("{}"),
            LabelsyncError,
            "manifest.json is not what labelsync writes",
        ),
    ],
)
def test_a_damaged_folder_is_refused_before_a_row_is_read(
    copied: Path, harm: Callable[[Path], Any], kind: type[Exception], message: str
) -> None:
    harm(copied)
    with pytest.raises(kind, match=message):
        labelsync.load(copied)


def test_an_id2label_with_another_name_is_refused_though_its_size_is_right(copied: Path) -> None:
    path = copied / "id2label.json"
    path.write_text(path.read_text().replace("class-2", "class-9"))
    with pytest.raises(DatasetError, match="is not the one its manifest describes"):
        labelsync.load(copied)


def test_a_scrambled_shard_is_named_when_it_is_read(copied: Path) -> None:
    path = next((copied / "data").glob("test-*"))
    scrambled(path)
    splits = labelsync.load(copied).splits
    assert splits["train"][0].image
    with pytest.raises(DatasetError, match=r"data/test-00000-of-00001\.parquet cannot be read"):
        splits["test"][0]


def test_folders_of_other_stages_and_of_plain_bitmaps_are_told_apart(made: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match="made by labelsync pull, not convert"):
        labelsync.load(made.parent / "pulled")
    labelsync.convert(made.parent / "pulled", out=tmp_path / "plain", format="bitmaps")
    with pytest.raises(DatasetError, match="holds plain bitmaps"):
        labelsync.load(tmp_path / "plain")
    with pytest.raises(DatasetNotFound, match="is a file"):
        labelsync.load(made / "README.md")


# -------------------------------------------------------------------- the Hub


@pytest.fixture
def published(made: Path, hub: LoopbackHub, request: pytest.FixtureRequest) -> Iterator[str]:
    """A repo with the folder at the tag v1.0, and something else on main."""
    repo = f"acme/load-{sha256(request.node.name.encode())[:12]}"
    files = {p.relative_to(made).as_posix(): p.read_bytes() for p in made.rglob("*") if p.is_file()}
    commit = hub.add_repo(repo, files)
    HfApi(endpoint=hub.url, token=WRITE_TOKEN).create_tag(repo, tag="v1.0", revision=commit, repo_type="dataset")
    hub.add_repo(repo, {"manifest.json": "{}"})
    hub.log.clear()
    yield repo
    hub.faults.clear()


def test_a_hub_id_loads_at_the_commit_of_its_tag(published: str, made: Path, hub: LoopbackHub) -> None:
    theirs, ours = labelsync.load(f"{published}@v1.0"), labelsync.load(made)
    assert theirs.revision == HfApi(endpoint=hub.url).dataset_info(published, revision="v1.0").sha
    assert theirs.revision != HfApi(endpoint=hub.url).dataset_info(published).sha
    assert (theirs.digest, theirs.labels, theirs.release) == (ours.digest, ours.labels, ours.release)
    assert {s: list(rows) for s, rows in theirs.splits.items()} == {s: list(rows) for s, rows in ours.splits.items()}


def test_only_the_shards_that_are_read_are_fetched(published: str, hub: LoopbackHub) -> None:
    dataset = labelsync.load(f"{published}@v1.0")
    assert not hub.log.find(path=r"\.parquet") and not hub.log.find(server="storage")
    assert len(dataset.splits["train"]) == 16
    row = dataset.splits["test"][0]
    assert {r.path.rpartition("/")[2] for r in hub.log.find(path=r"\.parquet")} == {"test-00000-of-00001.parquet"}
    assert len(hub.log.find("GET", server="storage")) == 1
    again = pickle.loads(pickle.dumps(dataset.splits["test"]))  # noqa: S301 - our own
    assert again[0] == row
    assert len(hub.log.find("GET", server="storage")) == 1


def test_a_busy_hub_is_asked_again(published: str, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_WAITS", (0.0, 0.0))
    hub.faults.status(503, path="/api/datasets/.*/revision/", times=2, html=True)
    hub.faults.status(502, method="GET", path=r"resolve/.*\.parquet", times=1)
    assert labelsync.load(f"{published}@v1.0").splits["test"][0].image


def test_a_hub_that_fails_is_one_line(published: str, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_WAITS", (0.0,))
    hub.faults.status(503, path="/api/datasets/.*/revision/", times=None)
    with pytest.raises(ServiceError, match=rf"{hub.url} did not answer for {published}@v1.0 \(HTTP 503\)"):
        labelsync.load(f"{published}@v1.0")
    hub.faults.clear()
    hub.faults.drop(path="/api/datasets/.*/revision/", times=None)
    with pytest.raises(ServiceError, match="did not answer"):
        labelsync.load(f"{published}@v1.0")


def test_a_busy_hub_cannot_pass_an_older_copy_for_todays(made: Path, hub: LoopbackHub) -> None:
    """huggingface_hub takes what it cached of a branch when the Hub does not say where the branch is now."""
    files = {p.relative_to(made).as_posix(): p.read_bytes() for p in made.rglob("*") if p.is_file()}
    first = hub.add_repo("acme/moving", files)
    assert labelsync.load("acme/moving").revision == first
    second = hub.add_repo("acme/moving", {"notes.txt": "more"})
    hub.faults.status(503, method="HEAD", path="acme/moving/resolve/main/", times=None)
    try:
        assert labelsync.load("acme/moving").revision == second
    finally:
        hub.faults.clear()


def test_a_shard_with_other_rows_than_the_manifest_says_is_refused(made: Path, hub: LoopbackHub) -> None:
    files = {p.relative_to(made).as_posix(): p.read_bytes() for p in made.rglob("*") if p.is_file()}
    wrong = {k: files[next(n for n in files if "train-00000" in n)] if "/test-" in k else v for k, v in files.items()}
    hub.add_repo("acme/mixed-up", wrong)
    with pytest.raises(DatasetError, match=r"data/test-00000-of-00001\.parquet has \d+ rows and its manifest says 2"):
        labelsync.load("acme/mixed-up").splits["test"][0]


@pytest.mark.parametrize(("status", "kind"), [(401, AuthError), (403, AuthError)])
def test_a_refused_token_is_told(published: str, hub: LoopbackHub, status: int, kind: type[Exception]) -> None:
    hub.faults.status(status, path="/api/datasets/.*/revision/", times=None)
    with pytest.raises(kind, match=f"HTTP {status}"):
        labelsync.load(f"{published}@v1.0")


def test_what_was_fetched_is_there_offline(published: str, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = labelsync.load(f"{published}@v1.0")
    row = first.splits["test"][0]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.log.clear()
    again = labelsync.load(f"{published}@v1.0")
    assert again.splits["test"][0] == row and again.revision == first.revision
    with pytest.raises(DatasetNotFound, match="is not in the Hub cache; unset HF_HUB_OFFLINE"):
        again.splits["train"][0]
    assert not hub.log


@pytest.mark.parametrize(
    ("suffix", "message"),
    [("@v9", "has no revision v9"), ("", "manifest.json is not what labelsync writes"), ("-none", "no dataset")],
)
def test_what_is_not_on_the_hub_is_told(published: str, suffix: str, message: str) -> None:
    with pytest.raises(LabelsyncError, match=message):
        labelsync.load(f"{published}{suffix}")


def test_a_foreign_repo_is_told_apart(hub: LoopbackHub) -> None:
    hub.add_repo("acme/foreign-to-load", {"README.md": "hello"})
    with pytest.raises(DatasetNotFound, match=r"was not made by labelsync \(it has no manifest\.json\)"):
        labelsync.load("acme/foreign-to-load")


@pytest.mark.parametrize("name", ["nowhere", "a/b/c", "-x/--y", "acme/..x"])
def test_what_is_neither_folder_nor_id_is_refused(name: str) -> None:
    with pytest.raises(DatasetNotFound):
        labelsync.load(name)


def test_a_hub_id_can_be_the_previous_round(published: str, made: Path, tmp_path: Path) -> None:
    record = labelsync.convert(made.parent / "pulled", out=tmp_path / "data", previous=f"{published}@v1.0")
    assert record.splits == EXPECTED
    assert {p.name for p in (tmp_path / "data/data").iterdir()} == {p.name for p in (made / "data").iterdir()}
    ours, theirs = labelsync.load(tmp_path / "data"), labelsync.load(made)
    assert {s: list(rows) for s, rows in ours.splits.items()} == {s: list(rows) for s, rows in theirs.splits.items()}
