"""Datasets that labelsync did not make: from the Hub, from Parquet files and folders, by `load` and the commands."""

import gc
import json
import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from datasets import ClassLabel, Features, Image, List, load_dataset
from PIL import Image as PILImage
from transformers import SegformerImageProcessor

import labelsync
from labelsync.errors import AuthError, DatasetError, DatasetNotFound, LabelsyncError, OptionError, TaxonomyError
from labelsync.pixels.image import decode_image, encode_png
from labelsync.pixels.semantic import decode_semantic
from labelsync.store.files import sha256
from tests import foreign
from tests.loopback.hub import LoopbackHub
from tests.models import label_map, tiny_segformer

ADE20K = f"{foreign.LABEL_FILES}:{foreign.ADE20K}"
SCENES: Mapping[str, Any] = {"config": "scene_parsing", "id2label": ADE20K}


@pytest.fixture(scope="module")
def scenes(hub: LoopbackHub) -> str:
    """SceneParse150 and the names of its classes on the Hub."""
    foreign.label_files(hub)
    foreign.scene_parse(hub)
    return foreign.SCENES


@pytest.fixture
def seen(hub: LoopbackHub) -> Iterator[LoopbackHub]:
    """The Hub with an empty log, and no faults afterwards."""
    hub.log.clear()
    yield hub
    hub.faults.clear()


@pytest.fixture
def names(tmp_path: Path) -> Path:
    """An id2label file of three classes whose 0 is unlabeled."""
    path = tmp_path / "names.json"
    path.write_text(json.dumps(foreign.ID2LABEL))
    return path


def repo(hub: LoopbackHub, request: pytest.FixtureRequest, files: Mapping[str, Any]) -> str:
    """A repo of this test's own."""
    name = f"acme/f-{sha256(request.node.name.encode())[:12]}"
    hub.add_repo(name, files)
    return name


def two_splits(**files: Any) -> dict[str, Any]:
    """Parquet shards of 5 and 3 rows with columns image and label, and an id2label.json."""
    return {
        "data/train-00000-of-00001.parquet": foreign.parquet(foreign.plain_rows(5), foreign.TWO_IMAGES),
        "data/validation-00000-of-00001.parquet": foreign.parquet(foreign.plain_rows(3, start=50), foreign.TWO_IMAGES),
        "id2label.json": json.dumps(foreign.ID2LABEL),
        **files,
    }


# -------------------------------------------------------------------- SceneParse150


def test_scene_parse_is_read_as_load_dataset_reads_it(scenes: str, capsys: pytest.CaptureFixture[str]) -> None:
    ours = labelsync.load(scenes, **SCENES)
    theirs = load_dataset(
        scenes,
        revision=foreign.CONVERTED,
        data_files={s: f"scene_parsing/{s}/*.parquet" for s in ("train", "validation", "test")},
    )
    assert {s: len(rows) for s, rows in ours.splits.items()} == {"train": 10, "validation": 4, "test": 2}
    for split in ("train", "validation"):
        for row, other in zip(ours.splits[split], theirs[split], strict=True):
            np.testing.assert_array_equal(decode_image(row.image), np.asarray(other["image"].convert("RGB")))
            np.testing.assert_array_equal(decode_semantic(row.label), np.asarray(other["annotation"]))
    row = ours.splits["validation"][1]
    assert (row.name, row.uuid) == ("ADE_validation_00000013.jpg", "validation/1")
    assert "read from refs/convert/parquet, what the Hub made of it" in capsys.readouterr().err


def test_scene_parse_has_its_hundred_and_fifty_names_one_above_the_file(scenes: str) -> None:
    dataset = labelsync.load(scenes, **SCENES)
    assert dataset.labels.num_labels == 150
    assert {k: dataset.labels.id2label[k] for k in (0, 1, 8)} == {0: "unlabeled", 1: "wall", 8: "bed "}
    assert (dataset.release, len(dataset.revision), dataset.source) == ("", 40, scenes)


def test_only_the_ends_of_files_and_the_shard_that_is_read_are_fetched(
    seen: LoopbackHub, request: pytest.FixtureRequest
) -> None:
    dataset = labelsync.load(repo(seen, request, two_splits()))
    assert len(dataset.splits["train"]) == 5
    whole = [r.path for r in seen.log.find("HEAD") if r.path.endswith(".parquet")]  # how a download begins
    assert whole == []
    row = dataset.splits["train"][0]
    (fetched,) = {r.path.rpartition("/resolve/")[2][41:] for r in seen.log.find("HEAD") if ".parquet" in r.path}
    assert fetched == "data/train-00000-of-00001.parquet"
    again = pickle.loads(pickle.dumps(dataset.splits["train"]))  # noqa: S301 - our own
    assert again[0] == row


def test_a_split_without_labels_names_the_sample_when_it_is_read(scenes: str) -> None:
    test = labelsync.load(scenes, **SCENES).splits["test"]
    with pytest.raises(DatasetError, match=r"sample ADE_test_\d+\.jpg \(test/0\) has no label"):
        test[0]


def test_two_configurations_are_a_choice(scenes: str) -> None:
    with pytest.raises(DatasetError, match=r"2 configurations: instance_segmentation, scene_parsing; .*--config"):
        labelsync.load(scenes, id2label=ADE20K)
    with pytest.raises(DatasetError, match="no configuration 'scene'; there are: instance_"):
        labelsync.load(scenes, id2label=ADE20K, config="scene")


def test_the_branch_can_be_asked_for(scenes: str) -> None:
    asked, found = (labelsync.load(s, **SCENES) for s in (f"{scenes}@{foreign.CONVERTED}", scenes))
    assert (asked.digest, asked.revision) == (found.digest, found.revision)


def test_a_missing_file_of_names_lists_those_there_are(scenes: str) -> None:
    with pytest.raises(DatasetNotFound, match=r"label-files on the Hub has no id2label.json; .* ade20k-id2label.json"):
        labelsync.load(scenes, config="scene_parsing", id2label=foreign.LABEL_FILES)
    with pytest.raises(DatasetNotFound, match="no file acme/nobody, and no dataset acme/nobody"):
        labelsync.load(scenes, config="scene_parsing", id2label="acme/nobody:x.json")
    with pytest.raises(DatasetNotFound, match=r"no id2label nowhere\.json"):
        labelsync.load(scenes, config="scene_parsing", id2label="nowhere.json")


# -------------------------------------------------------------------- layouts


def test_a_readme_says_which_files_are_which_split(hub: LoopbackHub, request: pytest.FixtureRequest) -> None:
    card = {
        "configs": [
            {"config_name": "small", "data_files": [{"split": "dev", "path": "c.par*"}]},
            {
                "config_name": "large",
                "default": True,
                "data_files": [
                    {"split": "train", "path": ["a/x-*", "b/**"]},
                    {"split": "val", "path": "c.parquet"},
                ],
            },
        ]
    }
    shard = {n: foreign.parquet(foreign.plain_rows(k), foreign.TWO_IMAGES) for k, n in enumerate("abc", 2)}
    files = {"a/x-0.parquet": shard["a"], "b/deep/y.parquet": shard["b"], "c.parquet": shard["c"]}
    name = repo(
        hub, request, files | {"README.md": f"---\n{json.dumps(card)}\n---\n", "id2label.json": '["a", "b", "c"]'}
    )
    assert {s: len(r) for s, r in labelsync.load(name).splits.items()} == {"train": 5, "validation": 4}
    assert {s: len(r) for s, r in labelsync.load(name, config="small").splits.items()} == {"validation": 4}
    theirs = load_dataset(name, "large")
    assert {s: r.num_rows for s, r in theirs.items()} == {"train": 5, "val": 4}


def test_a_folder_of_parquet_is_what_it_is_on_the_hub(
    hub: LoopbackHub, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    files = two_splits()
    for path, data in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data if isinstance(data, bytes) else data.encode())
    here, there = labelsync.load(tmp_path), labelsync.load(repo(hub, request, files))
    assert here.digest == there.digest and here.revision == ""
    assert {s: list(r) for s, r in here.splits.items()} == {s: list(r) for s, r in there.splits.items()}


def test_the_digest_knows_rows_and_how_they_are_read(tmp_path: Path, names: Path) -> None:
    folder = foreign.image_folder(tmp_path / "data", 8)
    first = labelsync.load(folder, id2label=names).digest
    assert labelsync.load(folder, id2label=names).digest == first
    assert labelsync.load(folder, id2label=names, keep_zero=False).digest == first
    shutil.copy(folder / "train/labels/a0.png", folder / "train/labels/a1.png")
    second = labelsync.load(folder, id2label=names).digest
    names.write_text(json.dumps(foreign.ID2LABEL | {"3": "truck"}))
    assert len({first, second, labelsync.load(folder, id2label=names).digest}) == 3


def test_an_image_folder_is_read_by_its_metadata(tmp_path: Path, names: Path) -> None:
    foreign.image_folder(tmp_path / "data", 4)
    foreign.image_folder(tmp_path / "data", 2, split="val", start=10)
    ours = labelsync.load(tmp_path / "data", id2label=names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # datasets leaves metadata.csv open
        theirs = load_dataset("imagefolder", data_dir=str(tmp_path / "data"), cache_dir=str(tmp_path / "cache"))
        gc.collect()
    assert {s: len(r) for s, r in ours.splits.items()} == {"train": 4, "validation": 2}
    for split, rows in ours.splits.items():
        for row, other in zip(rows, theirs[split], strict=True):
            np.testing.assert_array_equal(decode_semantic(row.label), np.asarray(other["label"]))
            np.testing.assert_array_equal(decode_image(row.image), np.asarray(other["image"]))


def test_an_image_folder_on_the_hub_is_the_same(
    seen: LoopbackHub, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = foreign.image_folder(foreign.image_folder(tmp_path / "d", 4), 2, split="validation", start=10)
    (folder / "id2label.json").write_text(json.dumps(foreign.ID2LABEL))
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    here, there = labelsync.load(folder), labelsync.load(repo(seen, request, files))
    assert not [r for r in seen.log if r.path.endswith((".jpg", ".png"))]
    assert {s: list(r) for s, r in here.splits.items()} == {s: list(r) for s, r in there.splits.items()}
    assert labelsync.load(f"{there.source}@{there.revision}").digest == there.digest


def test_metadata_may_be_lines_of_json_and_name_files_above(tmp_path: Path, names: Path) -> None:
    foreign.image_folder(tmp_path, 3)
    lines = [{"file_name": f"../train/a{i}.jpg", "truth_file_name": f"../train/labels/a{i}.png"} for i in range(3)]
    (tmp_path / "train/metadata.csv").unlink()
    (tmp_path / "list").mkdir()
    (tmp_path / "list/metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    dataset = labelsync.load(tmp_path, id2label=names)
    assert sorted(r.name for rows in dataset.splits.values() for r in rows) == ["a0.jpg", "a1.jpg", "a2.jpg"]
    (tmp_path / "train/labels/a1.png").unlink()
    with pytest.raises(DatasetError, match=r"metadata.jsonl of .* names train/labels/a1.png, which is not there"):
        labelsync.load(tmp_path, id2label=names)


@pytest.mark.parametrize("folders", [("images", "annotations"), ("JPEGImages", "SegmentationClass")])
def test_two_folders_are_paired_by_name(tmp_path: Path, names: Path, folders: tuple[str, str]) -> None:
    foreign.two_folders(tmp_path / "d", names=folders)
    dataset = labelsync.load(tmp_path / "d", id2label=names)
    assert {s: len(r) for s, r in dataset.splits.items()} == {"train": 4, "validation": 4}
    row = dataset.splits["validation"][2]
    assert (row.name, row.uuid) == ("a102.jpg", f"{folders[0]}/validation/a102.jpg")
    assert row.label == (tmp_path / "d" / folders[1] / "validation/a102.png").read_bytes()


def test_images_without_a_label_are_left_out_and_counted(
    tmp_path: Path, names: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign.two_folders(tmp_path / "d")
    (tmp_path / "d/annotations/training/a1.png").unlink()
    assert len(labelsync.load(tmp_path / "d", id2label=names).splits["train"]) == 3
    assert "1 images without a label are left out" in capsys.readouterr().err


# -------------------------------------------------------------------- columns


@pytest.mark.parametrize(
    ("columns", "given", "expected"),
    [
        (("image", "label"), {}, ("image", "label")),
        (("annotation", "photo"), {}, ("photo", "annotation")),
        (("image", "truth"), {}, ("image", "truth")),
        (("x", "label"), {}, ("x", "label")),
        (("x", "y"), {"label_column": "x"}, ("y", "x")),
        (("image", "mask", "depth"), {"label_column": "mask"}, ("image", "mask")),
        (("image", "mask", "depth"), {"image_column": "depth", "label_column": "mask"}, ("depth", "mask")),
        (("x", "y"), {}, "does not say which column is the image: x, y; choose with --image-column"),
        (("image", "mask", "depth"), {}, "which column is the image and which the label: image, mask, depth"),
        (("image", "a", "b"), {"image_column": "image"}, "which column is the label: a, b"),
        (("image", "mask", "label"), {"image_column": "image"}, "which column is the label: mask, label"),
        (("image",), {}, "no column of images that could be its label"),
        (("image", "label"), {"label_column": "text"}, "no label column 'text'; columns of images: image, label"),
        (("image", "label"), {"image_column": "label", "label_column": "label"}, "cannot be both"),
    ],
)
def test_columns_are_guessed_only_where_their_names_tell(
    tmp_path: Path, names: Path, columns: tuple[str, ...], given: dict[str, str], expected: Any
) -> None:
    features = Features({c: Image() for c in columns})
    cells = [{c: {"bytes": encode_png(np.full((4, 4), i, np.uint8)), "path": c} for c in columns} for i in range(3)]
    (tmp_path / "train.parquet").write_bytes(foreign.parquet(cells, features))
    (tmp_path / "val.parquet").write_bytes(foreign.parquet(cells, features))
    if isinstance(expected, str):
        with pytest.raises(DatasetError, match=expected):
            labelsync.load(tmp_path, id2label=names, **given)
    else:
        row = labelsync.load(tmp_path, id2label=names, **given).splits["train"][0]
        table = pq.read_table(tmp_path / "train.parquet").to_pylist()[0]
        assert row.name == table[expected[0]]["path"]
        assert (row.image, row.label) == tuple(table[c]["bytes"] for c in expected)


def test_a_file_that_something_else_wrote_is_looked_at_by_its_types(tmp_path: Path, names: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / f"{split}.parquet").write_bytes(foreign.parquet(foreign.plain_rows(3), foreign.TWO_IMAGES))
        pq.write_table(
            pq.read_table(tmp_path / f"{split}.parquet").replace_schema_metadata(), tmp_path / f"{split}.parquet"
        )
    assert len(labelsync.load(tmp_path, id2label=names).splits["train"]) == 3


# -------------------------------------------------------------------- what the numbers mean


def one_label(folder: Path, values: Any, *, name: str = "a.png") -> Path:
    """A dataset whose first label holds `values`."""
    for part in ("images/train", "images/val", "labels/train", "labels/val"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    values = np.asarray(values)
    for split in ("train", "val"):
        (folder / f"images/{split}/a.jpg").write_bytes(foreign.jpeg(np.zeros((*values.shape[:2], 3), np.uint8)))
        PILImage.fromarray(values).save(folder / f"labels/{split}/{name}")
    return folder


def read(folder: Path, text: Any, **kwargs: Any) -> tuple[Any, dict[int, str]]:
    """The first label as disk ids, and id2label."""
    (folder / "id2label.json").write_text(json.dumps(text))
    dataset = labelsync.load(folder, **kwargs)
    return decode_semantic(dataset.splits["train"][0].label), dataset.labels.id2label


def test_zero_is_unlabeled_where_the_names_say_so(tmp_path: Path) -> None:
    values = np.array([[0, 1], [2, 3]], np.uint8)
    ids, names = read(one_label(tmp_path, values), foreign.ID2LABEL)
    np.testing.assert_array_equal(ids, values)
    assert names == {0: "unlabeled", 1: "sky", 2: "road", 3: "car"}


def test_zero_is_unlabeled_where_names_are_numbered_after_reduction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.array([[0, 1], [2, 3]], np.uint8)
    ids, names = read(one_label(tmp_path, values), {"0": "sky", "1": "road", "2": "car"})
    np.testing.assert_array_equal(ids, values)
    assert names == {0: "unlabeled", 1: "sky", 2: "road", 3: "car"}
    assert "in its labels 0 and 255 = unlabeled, 1 = sky, 2 = road, 3 = car\n" in capsys.readouterr().err


def test_a_zero_that_is_a_class_is_kept_and_255_is_unlabeled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = one_label(tmp_path, np.array([[0, 1], [2, 255]], np.uint8))
    ids, names = read(folder, {"0": "sky", "1": "road", "2": "car"}, keep_zero=True)
    np.testing.assert_array_equal(ids, [[1, 2], [3, 0]])
    assert names == {0: "unlabeled", 1: "sky", 2: "road", 3: "car"}
    assert "in its labels 0 = sky, 1 = road, 2 = car, 255 = unlabeled" in capsys.readouterr().err


def test_255_is_unlabeled_beside_a_zero_that_is_too(tmp_path: Path) -> None:
    """As transformers' processor has it with `do_reduce_labels`: 0 becomes 255 and 255 stays it."""
    values = np.array([[0, 1], [3, 255]], np.uint8)
    ids, names = read(one_label(tmp_path, values), {"0": "sky", "1": "road", "2": "car"})
    np.testing.assert_array_equal(ids, [[0, 1], [3, 0]])
    reduced = SegformerImageProcessor(do_reduce_labels=True, do_resize=False)(
        np.zeros((2, 2, 3), np.uint8), segmentation_maps=values, return_tensors="np"
    )["labels"][0]
    labels = label_map("sky", "road", "car")
    np.testing.assert_array_equal(labels.to_model_ids(ids), reduced)
    assert names == labels.id2label


def test_three_hundred_classes_keep_their_zero_too(tmp_path: Path) -> None:
    folder = one_label(tmp_path, np.array([[0, 255], [299, 65535]], np.uint16))
    ids, names = read(folder, [f"c{i}" for i in range(300)], keep_zero=True)
    np.testing.assert_array_equal(ids, [[1, 256], [300, 0]])
    assert ids.dtype == np.uint16 and names[300] == "c299"


def test_a_background_at_zero_is_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read(one_label(tmp_path, np.zeros((2, 2), np.uint8)), {"0": "background", "1": "cat"})
    assert (
        "0 and 255 = unlabeled, 1 = background, 2 = cat (if 0 is background, pass --keep-zero)"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("text", "kwargs", "message"),
    [
        ({"0": "a", "2": "c"}, {}, r"id2label.json of .*: the keys of an id2label are 0..n or 1..n"),
        ({"1": "a", "2": "b"}, {"keep_zero": True}, "names no class 0, which --keep-zero says there is"),
        ({"0": "unlabeled", "1": "b"}, {"keep_zero": True}, "cannot also be a class"),
        ({"0": "a", "1": "a"}, {}, "two classes are named 'a'; correct a copy of it"),
        ("names", {}, "is no id2label"),
    ],
)
def test_names_that_do_not_fit_are_refused(tmp_path: Path, text: Any, kwargs: Any, message: str) -> None:
    with pytest.raises((TaxonomyError, DatasetError), match=message):
        read(one_label(tmp_path, np.zeros((2, 2), np.uint8)), text, **kwargs)


@pytest.mark.parametrize(
    ("values", "name", "kwargs", "message"),
    [
        (
            np.zeros((4, 4, 3), np.uint8),
            "a.png",
            {},
            r"label has colours \(mode RGB\).*turn every colour into its class",
        ),
        (np.zeros((4, 4), np.uint8), "a.jpg", {}, "its label is a JPEG, whose values are not those that were drawn"),
        (np.full((4, 4), 9, np.uint8), "a.png", {"keep_zero": True}, "holds the value 9, and the classes are 0 to 2"),
        (
            np.full((4, 4), 9, np.uint8),
            "a.png",
            {},
            "the value 9, and the classes are 1 to 3; give the --id2label",
        ),
    ],
)
def test_labels_that_hold_no_class_numbers_name_the_sample(
    tmp_path: Path, values: Any, name: str, kwargs: Any, message: str
) -> None:
    folder = one_label(tmp_path, values, name=name)
    with pytest.raises(DatasetError, match=rf"sample a.jpg \(images/train/a.jpg\): .*{message}"):
        read(folder, ["sky", "road", "car"], **kwargs)


def test_palette_labels_are_their_numbers(tmp_path: Path) -> None:
    folder = one_label(tmp_path, np.array([[0, 1], [2, 3]], np.uint8))
    with PILImage.open(folder / "labels/train/a.png") as image:
        coloured = image.convert("P")
        coloured.putdata([0, 1, 2, 3])
        coloured.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    coloured.save(folder / "labels/train/a.png")
    np.testing.assert_array_equal(read(folder, foreign.ID2LABEL)[0], [[0, 1], [2, 3]])


def test_a_column_may_list_the_classes(tmp_path: Path) -> None:
    kinds = List(ClassLabel(names=["unlabeled", "sky", "road", "car"]))
    features = Features({"image": Image(), "label": Image(), "classes": kinds, "weather": ClassLabel(names=["rain"])})
    rows = [{**r, "classes": [1, 2], "weather": 0} for r in foreign.plain_rows(3)]
    for split in ("train", "val"):
        (tmp_path / f"{split}.parquet").write_bytes(foreign.parquet(rows, features))
    assert labelsync.load(tmp_path, id2label="classes").labels.names == ("sky", "road", "car")
    with pytest.raises(
        DatasetError, match=r"does not say what the numbers .*or a column that names classes: classes\)"
    ):
        labelsync.load(tmp_path)


def test_a_models_config_is_an_id2label(tmp_path: Path) -> None:
    one_label(tmp_path / "d", np.zeros((2, 2), np.uint8))
    tiny_segformer(tmp_path / "m", label_map("sky", "road", "car"))
    assert labelsync.load(tmp_path / "d", id2label=tmp_path / "m/config.json").labels.names == ("sky", "road", "car")


# -------------------------------------------------------------------- splits


def dealt(folder: Path, number: int, names: Path) -> dict[str, str]:
    """uuid -> split of a folder of Parquet that has no splits."""
    folder.mkdir(exist_ok=True)
    cell = encode_png(np.ones((2, 2), np.uint8))
    rows = [{"image": {"bytes": cell, "path": None}, "label": {"bytes": cell, "path": None}} for _ in range(number)]
    (folder / "all.parquet").write_bytes(foreign.parquet(rows, foreign.TWO_IMAGES))
    return {r.uuid: s for s, rows in labelsync.load(folder, id2label=names).splits.items() for r in rows}


def test_without_splits_growth_moves_no_sample(tmp_path: Path, names: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = dealt(tmp_path / "d", 200, names), dealt(tmp_path / "d", 260, names)
    assert {k: after[k] for k in before} == before
    shares = [list(after.values()).count(s) / 260 for s in ("train", "validation", "test")]
    assert np.allclose(shares, (0.8, 0.1, 0.1), atol=0.06)
    assert capsys.readouterr().err.count("dealt out by a stable hash") == 2  # once a load


def test_a_few_samples_fill_every_split(tmp_path: Path, names: Path) -> None:
    assert set(dealt(tmp_path / "d", 3, names).values()) == {"train", "validation", "test"}
    with pytest.raises(DatasetError, match="has 2 samples and no splits; train, validation, test need one each"):
        dealt(tmp_path / "d", 2, names)


def test_a_test_split_that_is_there_stays_what_it_is(hub: LoopbackHub, capsys: pytest.CaptureFixture[str]) -> None:
    foreign.pets(hub)
    names = {"0": "unlabeled", "1": "pet", "2": "background", "3": "border"}
    hub.add_repo(foreign.PETS, {"id2label.json": json.dumps(names)})
    splits = labelsync.load(foreign.PETS).splits
    assert [r.uuid for r in splits["test"]] == [f"test/{i}" for i in range(6)]
    trained, validated = ({r.uuid for r in splits[s]} for s in ("train", "validation"))
    assert trained | validated == {f"train/{i}" for i in range(18)} and not trained & validated
    assert len(validated) == 2 and splits["test"][0].name == "american_bulldog_1000.jpg"
    assert "has no validation split: its train rows are dealt out by a stable hash: 16 train, 2 validation" in (
        capsys.readouterr().err
    )


def test_words_for_splits_become_ours_and_others_stay(tmp_path: Path, names: Path, capsys: Any) -> None:
    data = foreign.parquet(foreign.plain_rows(2), foreign.TWO_IMAGES)
    for split in ("training", "dev", "testing", "night"):
        (tmp_path / f"{split}-00000-of-00001.parquet").write_bytes(data)
    assert list(labelsync.load(tmp_path, id2label=names).splits) == ["train", "validation", "test", "night"]
    err = capsys.readouterr().err
    assert "split dev is validation, testing is test, training is train" in err and "hash" not in err


def test_the_beginning_of_a_split_is_called_what_it_is(hub: LoopbackHub, capsys: pytest.CaptureFixture[str]) -> None:
    data = foreign.parquet(foreign.plain_rows(2), foreign.TWO_IMAGES)
    hub.add_repo("acme/large", {"large.py": "import datasets", "id2label.json": "{}"})
    files = {f"default/{s}/0000.parquet": data for s in ("partial-train", "validation")}
    names = {"id2label.json": json.dumps(foreign.ID2LABEL)}
    hub.add_repo("acme/large", files | names, ref=foreign.CONVERTED)
    assert list(labelsync.load("acme/large").splits) == ["train", "validation"]
    assert "the Hub has only the beginning of train as Parquet" in capsys.readouterr().err


# -------------------------------------------------------------------- what cannot be used


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"README.md": "hello"}, r"was not made by labelsync \(it has no manifest.json\), and holds neither Parquet"),
        ({"data.csv": "a,b\n1,2\n"}, "holds neither Parquet files nor images with labels"),
        ({"train/x.arrow": b"x", "train/state.json": "{}"}, "was saved by save_to_disk; .*to_parquet"),
    ],
)
def test_a_repo_without_rows_says_what_to_do(
    hub: LoopbackHub, request: pytest.FixtureRequest, files: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(DatasetNotFound, match=message):
        labelsync.load(repo(hub, request, files))


def test_an_id_of_old_is_told_what_it_lacks() -> None:
    with pytest.raises(DatasetNotFound, match=r"scene_parse_150 does not exist; .*such as zhoubolei/scene_parse_150"):
        labelsync.load("scene_parse_150")


def test_a_repo_with_a_program_only_is_told(hub: LoopbackHub) -> None:
    hub.add_repo("acme/scripted", {"scripted.py": "import datasets", "logo.png": b"\x89PNG"})
    with pytest.raises(DatasetNotFound, match=r"read by a program of its own \(scripted.py\), and the Hub has made no"):
        labelsync.load("acme/scripted")


def test_a_gated_repo_is_told(hub: LoopbackHub, seen: LoopbackHub, request: pytest.FixtureRequest) -> None:
    name = repo(hub, request, two_splits())
    seen.faults.status(403, path=f"{name}/resolve/", times=None, headers={"X-Error-Code": "GatedRepo"})
    with pytest.raises(AuthError, match=f"{name} is gated; accept its terms on the Hub and set HF_TOKEN"):
        labelsync.load(name)


def test_a_shard_that_is_no_parquet_is_named(hub: LoopbackHub, request: pytest.FixtureRequest) -> None:
    name = repo(hub, request, two_splits(**{"data/train-00000-of-00001.parquet": b"PAR1" + bytes(100)}))
    with pytest.raises(DatasetError, match=r"data/train-00000-of-00001.parquet of acme/f-.* is no Parquet file"):
        labelsync.load(name)


def test_a_busy_hub_is_asked_again(
    hub: LoopbackHub, seen: LoopbackHub, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelsync.dataset.source._WAITS", (0.0, 0.0))
    name = repo(hub, request, two_splits())
    seen.faults.status(503, path=f"/api/datasets/{name}/revision/", times=1, skip=1)
    assert len(labelsync.load(name).splits["train"]) == 5


def test_offline_says_how_to_get_the_files(
    hub: LoopbackHub, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = repo(hub, request, two_splits())
    labelsync.load(name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LabelsyncError, match="HF_HUB_OFFLINE"):
        labelsync.load(name)


def test_nothing_is_said_of_a_dataset_that_labelsync_made(tmp_path: Path) -> None:
    from tests.releases import draw_release

    release = labelsync.pull(draw_release(tmp_path / "drawn", samples=6), out=tmp_path / "pulled").path
    labelsync.convert(release, out=tmp_path / "data", workers=1)
    with pytest.raises(OptionError, match=r"was made by labelsync.*leave out --id2label, --keep-zero"):
        labelsync.load(tmp_path / "data", keep_zero=True, id2label="x.json")


# -------------------------------------------------------------------- the commands


FLAGS = ("--config", "scene_parsing", "--id2label", ADE20K)


def test_train_and_evaluate_take_scene_parse_by_its_id(scenes: str, tmp_path: Path, cli: Callable[..., Result]) -> None:
    tiny_segformer(tmp_path / "mit", 2)
    argv = ("train", scenes, *FLAGS, "--out", tmp_path / "run", "--model", tmp_path / "mit", "--recipe", "demo")
    argv += ("--epochs", "1", "--image-size", "32", "--json")
    done = cli(*argv)
    record = json.loads(done.stdout)
    assert record["num_labels"] == 150 and record["dataset"] == scenes
    assert (
        "150 classes of huggingface/label-files:ade20k-id2label.json; in its labels 0 and 255 = unlabeled"
        in done.stderr
    )
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["id2label"]["0"] == "wall" and len(config["id2label"]) == 150
    assert json.loads((tmp_path / "run/preprocessor_config.json").read_text())["do_reduce_labels"] is True
    assert json.loads(cli(*argv).stdout) | {"seconds": 0} == record | {"seconds": 0}  # it is not repeated
    logged = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert {"eval_iou_wall", "eval_accuracy_wall"} <= set(logged)

    argv = ("evaluate", tmp_path / "run", "--dataset", scenes, *FLAGS, "--split", "validation")
    scored = json.loads(cli(*argv, "--out", tmp_path / "e", "--json").stdout)
    assert scored["images"] == 4 and scored["mean_iou"] == pytest.approx(record["mean_iou"], abs=1e-9)
    about = json.loads((tmp_path / "e/evaluation.json").read_text())
    assert about["dataset_revision"] == labelsync.load(scenes, **SCENES).revision and about["release"] == ""


def test_another_commit_with_other_rows_is_another_run(
    hub: LoopbackHub, request: pytest.FixtureRequest, tmp_path: Path, cli: Callable[..., Result]
) -> None:
    name = repo(hub, request, two_splits())
    tiny_segformer(tmp_path / "mit", 2)
    argv = ("train", name, "--out", tmp_path / "run", "--model", tmp_path / "mit", "--recipe", "demo")
    argv += ("--epochs", "1", "--image-size", "32")
    cli(*argv)
    hub.add_repo(name, {"README.md": "# words only\n"})
    cli(*argv)  # the same rows: nothing to do
    rows = foreign.plain_rows(6, start=20)
    hub.add_repo(name, {"data/train-00000-of-00001.parquet": foreign.parquet(rows, foreign.TWO_IMAGES)})
    assert "holds another run (dataset: " in cli(*argv, code=1).stderr


def test_a_value_that_no_class_has_names_the_sample(tmp_path: Path, cli: Callable[..., Result]) -> None:
    folder = one_label(tmp_path / "d", np.full((8, 8), 9, np.uint8))
    (folder / "id2label.json").write_text(json.dumps(foreign.ID2LABEL))
    tiny_segformer(tmp_path / "mit", 2)
    said = cli("train", folder, "--out", tmp_path / "run", "--model", tmp_path / "mit", code=1).stderr
    assert "sample a.jpg (images/train/a.jpg): its label holds the value 9, and the classes are 1 to 3" in said


def test_images_of_every_mode_are_trained_on(tmp_path: Path, cli: Callable[..., Result]) -> None:
    """Grey, alpha, CMYK and 16-bit images, all smaller than what the recipe crops; one is the validation split."""
    folder = foreign.two_folders(tmp_path / "d", 1)
    (folder / "id2label.json").write_text(json.dumps(foreign.ID2LABEL))
    with PILImage.open(folder / "images/training/a0.jpg") as image:
        deep = PILImage.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 200)
        kinds = {"L": ".png", "RGBA": ".png", "CMYK": ".tif", "LA": ".webp"}
        pictures = {m: (image.convert(m), suffix) for m, suffix in kinds.items()} | {"I16": (deep, ".png")}
        for mode, (picture, suffix) in pictures.items():
            picture.save(folder / f"images/training/{mode}{suffix}")
            shutil.copy(folder / "annotations/training/a0.png", folder / f"annotations/training/{mode}.png")
    tiny_segformer(tmp_path / "mit", 2)
    argv = ("train", folder, "--out", tmp_path / "run", "--model", tmp_path / "mit", "--epochs", "1")
    record = json.loads(cli(*argv, "--image-size", "96x128", "--batch-size", "2", "--json").stdout)
    assert record["steps"] == 3 and record["num_labels"] == 3


def test_a_label_of_another_size_names_the_sample(tmp_path: Path, cli: Callable[..., Result]) -> None:
    folder = foreign.two_folders(tmp_path / "d", 2)
    (folder / "id2label.json").write_text(json.dumps(foreign.ID2LABEL))
    PILImage.fromarray(np.ones((5, 7), np.uint8)).save(folder / "annotations/training/a0.png")
    tiny_segformer(tmp_path / "mit", 2)
    said = cli("train", folder, "--out", tmp_path / "run", "--model", tmp_path / "mit", code=1).stderr
    assert "sample a0.jpg (images/training/a0.jpg): the image is 48x64 and its label 5x7" in said
