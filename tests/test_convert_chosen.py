"""`convert` through the command: several releases, labels files, samples chosen by metadata, splits they say."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from huggingface_hub import HfApi

import labelsync
from labelsync.pixels.semantic import decode_semantic
from labelsync.records.release import Ledger
from labelsync.records.text import from_json
from labelsync.store.files import sha256_file
from labelsync.store.manifest import read_manifest
from tests.loopback.hub import WRITE_TOKEN, LoopbackHub
from tests.releases import edit_release, sample_uuid
from tests.tasks import draw_sequences, draw_shapes_release
from tests.test_convert import by_hand, digests, ledger_of, pulled, rows_of
from tests.test_convert_rounds import split_of

Cli = Callable[..., Result]
Document = dict[str, Any]


def named(*names: str) -> Callable[[Document], None]:
    """Give the categories of a drawn release these names, in their order."""

    def change(document: Document) -> None:
        listed = document["dataset"]["task_attributes"]["categories"]
        for category, name in zip(listed, names, strict=True):
            category["name"] = name

    return change


def described(values: Callable[[int], dict[str, Any]]) -> Callable[[Document], None]:
    """Give sample i the metadata `values(i)`."""

    def change(document: Document) -> None:
        for i, sample in enumerate(document["dataset"]["samples"]):
            sample["metadata"] = values(i)

    return change


def two_datasets(folder: Path, *, second: Sequence[str] = ("sky", "road", "pole"), **options: Any) -> tuple[Path, Path]:
    """Pulled releases of acme/a (road, curb, sky as 1, 2, 3) and acme/b (whose numbers 1, 2, 9 mean other things)."""
    a = pulled(folder / "a", samples=12, dataset="acme/a", name="v1", change=named("road", "curb", "sky"))
    ids = (1, 2, 9)[: len(second)]
    b = pulled(
        folder / "b",
        samples=12,
        seed=1,
        dataset="acme/b",
        name="v7",
        category_ids=ids,
        change=named(*second),
        **options,
    )
    return a, b


# -------------------------------------------------------------------- several releases


def test_two_datasets_become_one_and_every_pixel_is_right(tmp_path: Path, cli: Cli) -> None:
    a, b = two_datasets(tmp_path)
    said = cli("convert", a, b, "--out", tmp_path / "data", "--json")
    record = json.loads(said.stdout)
    assert (record["dataset"], record["release"], record["samples"]) == ("acme/a + acme/b", "v1+v7", 24)
    labels = labelsync.load(tmp_path / "data").labels
    assert labels.names == ("road", "curb", "sky", "pole")
    rows = rows_of(tmp_path / "data")
    for seed, drawn in enumerate(("a", "b")):
        for i in range(12):
            uuid = sample_uuid(i, seed=seed)
            expected = by_hand(tmp_path / drawn / "drawn", uuid, labels)
            np.testing.assert_array_equal(decode_semantic(rows[uuid].label), expected)
    inputs = read_manifest(tmp_path / "data").inputs
    assert inputs == {f"release{n}": read_manifest(p).digest for n, p in (("", a), (" 2", b))}


def test_every_sample_of_every_release_has_its_row_and_the_card_tells_them_apart(tmp_path: Path, cli: Cli) -> None:
    a, b = two_datasets(tmp_path, skipped=[1], unlabeled=[2])
    record = json.loads(cli("convert", a, b, "--out", tmp_path / "data", "--json").stdout)
    assert {k: n for k, n in record["outcomes"].items() if n} == {"converted": 22, "unlabeled": 1, "filtered": 1}
    ledger = from_json(Ledger, (tmp_path / "data/ledger.json").read_bytes())
    assert [r.uuid for r in ledger.rows] == [sample_uuid(i, seed=s) for s in (0, 1) for i in range(12)]
    card = (tmp_path / "data/README.md").read_text()
    assert "2 releases of Segments.ai in one dataset: 22 labelled images, 4 classes" in card
    for dataset, release, digest, converted in (("acme/a", "v1", a, 12), ("acme/b", "v7", b, 10)):
        line = next(x for x in card.splitlines() if x.startswith(f"| {dataset} | `{release}`"))
        assert f"| 12 | {converted} | `{read_manifest(digest).digest}` |" in line
    assert "| 3 | sky |" in card and "Dropped" not in card


def test_the_order_of_the_releases_decides_the_numbers_and_nothing_else(tmp_path: Path, cli: Cli) -> None:
    a, b = two_datasets(tmp_path)
    cli("convert", a, b, "--out", tmp_path / "ab")
    cli("convert", b, a, "--out", tmp_path / "ba")
    assert labelsync.load(tmp_path / "ba").labels.names == ("sky", "road", "pole", "curb")
    assert split_of(tmp_path / "ab") == split_of(tmp_path / "ba")
    assert {u: r.image for u, r in rows_of(tmp_path / "ab").items()} == {
        u: r.image for u, r in rows_of(tmp_path / "ba").items()
    }
    cli("convert", b, a, "--out", tmp_path / "again", "--previous", tmp_path / "ab")
    assert digests(tmp_path / "again") == digests(tmp_path / "ab")


def test_two_rounds_of_one_dataset_are_refused_with_the_older_one_named(tmp_path: Path, cli: Cli) -> None:
    def later(document: Document) -> None:
        document["created_at"] = "2024-03-01 00:00:00+00:00"

    v1 = pulled(tmp_path / "one", samples=6)
    v2 = pulled(tmp_path / "two", samples=8, name="v2.0", change=later)
    for order in ((v1, v2), (v2, v1)):
        said = cli("convert", *order, "--out", tmp_path / "data", code=1).stderr
        assert f"(6 such samples); two rounds of one dataset: leave out the older one, {v1}, and keep {v2}" in said
    said = cli("convert", v1, v1, "--out", tmp_path / "data", code=1).stderr
    assert f"{v1} is given twice" in said
    assert not (tmp_path / "data").exists()


def test_two_releases_of_one_dataset_with_samples_of_their_own_are_fine(tmp_path: Path, cli: Cli) -> None:
    """Release files trimmed by hand, a site each."""
    a, b = (pulled(tmp_path / str(seed), samples=6, seed=seed) for seed in (0, 1))
    record = json.loads(cli("convert", a, b, "--out", tmp_path / "data", "--json").stdout)
    assert (record["dataset"], record["release"], record["samples"]) == ("acme/sidewalk", "v1.0", 12)
    c = pulled(tmp_path / "c", samples=6, seed=2, change=named("class-2", "class-1", "class-3"))
    said = cli("convert", a, c, "--out", tmp_path / "more", code=1).stderr
    assert "'class-2' is number 1 in acme/sidewalk v1.0, and another release of acme/sidewalk has 'class-1'" in said


def test_entries_without_a_uuid_are_no_shared_samples(tmp_path: Path, cli: Cli) -> None:
    def lose(document: Document) -> None:
        del document["dataset"]["samples"][2]["uuid"]

    parts = [
        pulled(tmp_path / d, samples=8, seed=i, dataset=f"acme/{d}", change=lose) for i, d in enumerate(("a", "b"))
    ]
    record = json.loads(cli("convert", *parts, "--out", tmp_path / "data", "--json").stdout)
    assert (record["outcomes"]["converted"], record["outcomes"]["failed"]) == (14, 2)
    ledger = from_json(Ledger, (tmp_path / "data/ledger.json").read_bytes())
    assert sorted(r.uuid for r in ledger.failed) == ["#3@1", "#3@2"]


def test_names_that_are_nearly_equal_are_refused_and_a_labels_file_decides(tmp_path: Path, cli: Cli) -> None:
    a, b = two_datasets(tmp_path, second=("Sky", "road", "pole"))
    said = cli("convert", a, b, "--out", tmp_path / "data", code=1).stderr
    assert "category 'Sky' and category 'sky' of acme/a differ in spelling alone: one class or two?; say so" in said
    (tmp_path / "labels.toml").write_text('[classes]\nsky = ["sky", "Sky"]\n')
    cli("convert", a, b, "--out", tmp_path / "data", "--labels", tmp_path / "labels.toml")
    assert labelsync.load(tmp_path / "data").labels.names == ("sky", "road", "curb", "pole")


def test_a_dataset_joins_in_a_later_round(tmp_path: Path, cli: Cli) -> None:
    a, b = two_datasets(tmp_path)
    cli("convert", a, "--out", tmp_path / "first")
    cli("convert", b, a, "--out", tmp_path / "second", "--previous", tmp_path / "first")
    labels = labelsync.load(tmp_path / "second").labels
    assert labels.names == ("road", "curb", "sky", "pole")
    before, after = split_of(tmp_path / "first"), split_of(tmp_path / "second")
    assert len(after) == 24 and {u: after[u] for u in before} == before
    old, new = rows_of(tmp_path / "first"), rows_of(tmp_path / "second")
    assert all(new[u] == old[u] for u in old)
    assert "Since the earlier round: pole is new." in (tmp_path / "second/README.md").read_text()


def test_a_round_of_another_dataset_takes_its_numbers_for_no_renames(tmp_path: Path, cli: Cli) -> None:
    """Number 1 is road in acme/a and sky in acme/b."""
    a, b = two_datasets(tmp_path)
    cli("convert", a, "--out", tmp_path / "first", "--fractions", "100,0,0")
    cli("convert", b, "--out", tmp_path / "second", "--previous", tmp_path / "first")
    labels = labelsync.load(tmp_path / "second").labels
    assert labels.names == ("road", "curb", "sky", "pole")
    assert labels.category_table("acme/b") == {1: 3, 2: 1, 9: 4}


def test_the_same_releases_again_do_nothing(tmp_path: Path, cli: Cli) -> None:
    a, b = two_datasets(tmp_path)
    cli("convert", a, b, "--out", tmp_path / "data")
    assert json.loads(cli("convert", a, b, "--out", tmp_path / "data", "--json").stdout)["unchanged"]
    cli("convert", b, a, "--out", tmp_path / "data", code=1)  # another conversion, which must not replace this one


def test_releases_of_different_task_types_join_too(tmp_path: Path, cli: Cli) -> None:
    """Images with bitmaps, sequences, and polygons whose numbers mean other classes."""

    def other_dataset(document: Document) -> None:
        document["dataset"]["name"] = "shapes"
        named("class-3", "class-1", "class-2")(document)

    a = pulled(tmp_path / "a", samples=12)
    sequences, shapes = draw_sequences(tmp_path / "b", seed=1), draw_shapes_release(tmp_path / "c", seed=2)
    edit_release(sequences.path, lambda d: d["dataset"].update(name="drives"))
    edit_release(shapes.path, other_dataset)
    b, c = (labelsync.pull(d.path, out=tmp_path / f"pulled-{i}").path for i, d in enumerate((sequences, shapes)))
    cli("convert", a, b, c, "--out", tmp_path / "data")
    dataset = labelsync.load(tmp_path / "data")
    assert dataset.labels.names == ("class-1", "class-2", "class-3")
    rows = rows_of(dataset)
    assert len(rows) == 12 + len(sequences.categories) + len(shapes.categories)
    for drawn, table in ((sequences, [0, 1, 2, 3]), (shapes, [0, 3, 1, 2])):
        for uuid, categories in drawn.categories.items():
            np.testing.assert_array_equal(decode_semantic(rows[uuid].label), np.array(table)[categories.clip(0)])


def test_no_release_at_all_is_refused(tmp_path: Path, cli: Cli) -> None:
    with pytest.raises(labelsync.LabelsyncError, match="no release is given"):
        labelsync.convert([], out=tmp_path / "data")
    assert "Missing argument" in cli("convert", "--out", tmp_path / "data", code=2).stderr


# -------------------------------------------------------------------- a labels file

FILE = """
rest = "drop"

[classes]
walkable = { categories = ["class-3", "class-1"], color = "#0000ff" }
"""


def test_a_labels_file_is_followed_to_the_pixel_and_pinned(tmp_path: Path, cli: Cli) -> None:
    release = pulled(tmp_path, samples=12, classes=4)
    labels_file = tmp_path / "labels.toml"
    labels_file.write_text(FILE + 'other = "class-4"\n')
    cli("convert", release, "--out", tmp_path / "a", "--labels", labels_file)
    plain = labelsync.convert(release, out=tmp_path / "plain")
    assert json.loads((tmp_path / "a/id2label.json").read_text()) == {"0": "unlabeled", "1": "walkable", "2": "other"}
    rows, unmerged = rows_of(tmp_path / "a"), rows_of(Path(plain.path))
    table = np.array([0, 1, 0, 1, 2])  # class-2 is dropped
    for uuid, row in rows.items():
        np.testing.assert_array_equal(decode_semantic(row.label), table[decode_semantic(unmerged[uuid].label)])
    card = (tmp_path / "a/README.md").read_text()
    assert "| 1 | walkable | `#0000ff` |" in card and "| class-1, class-3 |" in card
    assert "Dropped, and so 0 like unlabeled pixels: class-2." in card
    assert f"| digest of the labels file | `{sha256_file(labels_file)}` |" in card

    def grow(document: Document) -> None:
        document["dataset"]["task_attributes"]["categories"].append({"name": "class-5", "id": 5})

    later = pulled(tmp_path / "later", samples=16, classes=4, name="v2.0", change=grow)
    cli("convert", later, "--out", tmp_path / "b", "--previous", tmp_path / "a")
    assert (tmp_path / "b/id2label.json").read_text() == (tmp_path / "a/id2label.json").read_text()
    assert labelsync.load(tmp_path / "b").labels.category_table() == {1: 1, 2: 0, 3: 1, 4: 2, 5: 0}
    assert rows.items() <= rows_of(tmp_path / "b").items()
    labels_file.write_text(FILE + 'other = ["class-4", "class-2"]\n')
    said = cli("convert", later, "--out", tmp_path / "c", "--previous", tmp_path / "a", "--labels", labels_file, code=1)
    assert "category 'class-2' is drawn as 'unlabeled' in the earlier round" in said.stderr
    allowed = ("--labels", labels_file, "--allow-renumbering")
    cli("convert", later, "--out", tmp_path / "c", "--previous", tmp_path / "a", *allowed)
    assert "category class-2 is drawn as other in place of unlabeled" in (tmp_path / "c/README.md").read_text()


def test_a_sample_of_dropped_categories_alone_is_empty_and_says_why(tmp_path: Path, cli: Cli) -> None:
    def only_first(document: Document) -> None:
        for sample in document["dataset"]["samples"][:2]:
            for annotation in sample["labels"]["ground-truth"]["attributes"]["annotations"]:
                annotation["category_id"] = 1

    release = pulled(tmp_path, samples=12, change=only_first)
    (tmp_path / "labels.toml").write_text('drop = ["class-1"]')
    for mode in ("ignore", "class"):
        options = ("--labels", tmp_path / "labels.toml", "--unlabeled", mode)
        cli("convert", release, "--out", tmp_path / mode, *options)
    assert ledger_of(tmp_path / "ignore")["frame_0000.jpg"] == (
        "empty",
        "all its annotations are of dropped categories",
    )
    assert ledger_of(tmp_path / "class")["frame_0000.jpg"] == ("converted", "")  # its other pixels are background
    rows = rows_of(tmp_path / "class")
    labels = labelsync.load(tmp_path / "class").labels
    bitmap = decode_semantic(rows[sample_uuid(0)].label)
    assert set(np.unique(bitmap)) == {0, labels.background_id}
    assert "are 0, of categories that were dropped" in (tmp_path / "class/README.md").read_text()


def test_a_labels_file_that_does_not_fit_is_one_line_that_names_it(tmp_path: Path, cli: Cli) -> None:
    release, labels_file = pulled(tmp_path, samples=6), tmp_path / "labels.toml"
    labels_file.write_text('[classes]\nroad = "clas-1"')
    said = cli("convert", release, "--out", tmp_path / "a", "--labels", labels_file, code=1).stderr
    assert f"--labels {labels_file}: class 'road' names 'clas-1', which is no category of the release" in said
    assert "did you mean 'class-1'?" in said
    labels_file.write_text('[classes]\nroad = ["class-1"')
    assert "is not TOML" in cli("convert", release, "--out", tmp_path / "a", "--labels", labels_file, code=2).stderr


def test_the_earlier_round_may_be_on_the_hub(
    tmp_path: Path, cli: Cli, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
    a, b = two_datasets(tmp_path)
    (tmp_path / "labels.toml").write_text('drop = ["curb"]\n[classes]\nair = "sky"\n')
    cli("convert", a, "--out", tmp_path / "first", "--labels", tmp_path / "labels.toml")
    cli("push", tmp_path / "first", "--repo-id", "acme/chosen-rounds")
    assert {t.name for t in HfApi(endpoint=hub.url).list_repo_refs("acme/chosen-rounds", repo_type="dataset").tags} == {
        "v1"
    }
    cli("convert", a, b, "--out", tmp_path / "second", "--previous", "acme/chosen-rounds@v1")
    labels = labelsync.load(tmp_path / "second").labels
    assert labels.names == ("air", "road", "pole")
    assert labels.category_table("acme/b") == {1: 1, 2: 2, 9: 3}
    before, after = split_of(tmp_path / "first"), split_of(tmp_path / "second")
    assert {u: after[u] for u in before} == before
    pushed = json.loads(cli("push", tmp_path / "second", "--repo-id", "acme/chosen-rounds", "--json").stdout)
    assert pushed["tag"] == "v1+v7"
    assert labelsync.load("acme/chosen-rounds@v1+v7").labels == labels


# -------------------------------------------------------------------- metadata


def weather(i: int) -> dict[str, Any]:
    kinds = [{"weather": "rain", "night": False}, {"weather": "sun", "night": True}, {"weather": "snow"}, {}]
    return kinds[i % 4] | {"lane": i % 3}


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        (["weather=rain"], {0}),
        (["weather=rain", "weather=snow"], {0, 2}),
        (["weather=rain", "weather=sun", "night=true"], {1}),
        (["night=false"], {0}),
        (["weather=sun", "weather=fog"], {1}),
    ],
)
def test_samples_are_chosen_by_metadata(tmp_path: Path, cli: Cli, asked: list[str], taken: set[int]) -> None:
    release = pulled(tmp_path, samples=24, change=described(weather), unlabeled=[23], skipped=[20])
    flags = [x for value in asked for x in ("--metadata", value)]
    cli("convert", release, "--out", tmp_path / "data", *flags)
    ledger = ledger_of(tmp_path / "data")
    for i in range(24):
        outcome, reason = ledger[f"frame_{i:04d}.jpg"]
        if i % 4 in taken:
            assert outcome == "filtered" if i == 20 else "converted"
        else:
            assert outcome == "filtered"
            assert reason.startswith("metadata ") or reason.startswith("it has no metadata ")
    assert len(rows_of(tmp_path / "data")) == sum(o == "converted" for o, _ in ledger.values())
    cli("convert", release, "--out", tmp_path / "data", "--metadata", "lane=0", code=1)  # it is another dataset
    if asked == ["weather=rain", "weather=snow"]:
        assert ledger["frame_0001.jpg"] == ("filtered", "metadata weather is sun")
        assert ledger["frame_0003.jpg"] == ("filtered", "it has no metadata weather")
        assert "| metadata asked for | weather=rain or snow |" in (tmp_path / "data/README.md").read_text()


@pytest.mark.parametrize(
    ("asked", "says", "code"),
    [
        ("wether=rain", "no sample has metadata 'wether'; there are: lane, night, weather; did you mean 'weather'?", 2),
        ("weather=fog", "no sample has weather=fog; its values are: rain (6), snow (6), sun (6)", 2),
        ("weather", "--metadata 'weather' is no key=value", 2),
        ("=rain", "is no key=value", 2),
    ],
)
def test_metadata_that_no_sample_has_is_refused(tmp_path: Path, cli: Cli, asked: str, says: str, code: int) -> None:
    release = pulled(tmp_path, samples=24, change=described(weather))
    assert says in cli("convert", release, "--out", tmp_path / "data", "--metadata", asked, code=code).stderr
    assert not (tmp_path / "data").exists()


def test_a_release_without_metadata_says_so(tmp_path: Path, cli: Cli) -> None:
    said = cli("convert", pulled(tmp_path, samples=6), "--out", tmp_path / "data", "--metadata", "a=b", code=2).stderr
    assert "the release has no metadata at all" in said


# -------------------------------------------------------------------- splits that the samples say


def by_tens(i: int) -> dict[str, Any]:
    return {"split": ("train", "train", "train", "validation", "test")[i % 5], "site": f"site-{i % 5}"}


def test_samples_may_say_their_split(tmp_path: Path, cli: Cli) -> None:
    release = pulled(tmp_path, samples=20, change=described(by_tens))
    cli("convert", release, "--out", tmp_path / "a", "--split-by", "metadata.split")
    assert split_of(tmp_path / "a") == {sample_uuid(i): by_tens(i)["split"] for i in range(20)}
    pinned = json.loads((tmp_path / "a/splits.json").read_text())
    assert (pinned["split_by"], pinned["fractions"]) == ("metadata.split", None)
    assert "The samples say it themselves, in `metadata.split`." in (tmp_path / "a/README.md").read_text()

    later = pulled(tmp_path / "later", samples=30, name="v2.0", change=described(by_tens))
    cli("convert", later, "--out", tmp_path / "b", "--previous", tmp_path / "a")  # the rule is pinned too
    assert split_of(tmp_path / "b") == {sample_uuid(i): by_tens(i)["split"] for i in range(30)}
    cli("convert", later, "--out", tmp_path / "c", "--previous", tmp_path / "a", "--fractions", "80,10,10")
    hashed = split_of(tmp_path / "c")  # what is new goes by hash then, what is pinned stays
    assert {u: hashed[u] for u in split_of(tmp_path / "a")} == split_of(tmp_path / "a")
    assert hashed != split_of(tmp_path / "b")


def test_a_pinned_sample_never_moves_whatever_it_says(tmp_path: Path, cli: Cli) -> None:
    release = pulled(tmp_path, samples=20, change=described(by_tens))
    cli("convert", release, "--out", tmp_path / "a", "--split-by", "metadata.split")

    def moved(i: int) -> dict[str, Any]:
        return {"split": "test"} if i == 0 else by_tens(i)

    later = pulled(tmp_path / "later", samples=20, change=described(moved))
    said = cli("convert", later, "--out", tmp_path / "b", "--previous", tmp_path / "a", code=1).stderr
    assert "--split-by metadata.split moves samples" in said
    assert "'frame_0000.jpg: train -> test'" in said
    cli("convert", pulled(tmp_path / "c", samples=20), "--out", tmp_path / "hashed")
    options = ("--previous", tmp_path / "hashed", "--split-by", "metadata.split")
    assert "moves samples" in cli("convert", release, "--out", tmp_path / "b", *options, code=1).stderr


def test_values_that_are_no_splits_are_groups(tmp_path: Path, cli: Cli) -> None:
    release = pulled(tmp_path, samples=20, change=described(by_tens))
    cli("convert", release, "--out", tmp_path / "a", "--split-by", "metadata.site")
    cli("convert", release, "--out", tmp_path / "b", "--group-by", "metadata.site")
    assert (tmp_path / "a/splits.json").read_text() == (tmp_path / "b/splits.json").read_text()
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert len({(i % 5, split_of(tmp_path / "a")[sample_uuid(i)]) for i in range(20)}) == 5
    cli("convert", release, "--out", tmp_path / "c", "--split-by", "metadata.site", "--previous", tmp_path / "a")
    plain = labelsync.convert(release, out=tmp_path / "plain").path
    options = ("--split-by", "metadata.site", "--previous", plain)
    said = cli("convert", release, "--out", tmp_path / "d", *options, code=2).stderr
    assert "--split-by metadata.site makes groups, and the earlier round grouped by 'uuid'" in said


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("val", "'frame_0003.jpg' has metadata split=val, which is no split; write 'validation'"),
        ("valid", "write 'validation'"),
        ("dev", "write 'validation'"),
        ("Train", "write 'train'"),
        ("north", "'frame_0000.jpg' has the split 'train', but 'frame_0003.jpg' has 'north'"),
        (None, "--split-by metadata.split: sample 'frame_0003.jpg' has no split"),
        ("", "sample 'frame_0003.jpg' has no split"),
        (7, "'frame_0003.jpg' has '7'"),
    ],
)
def test_values_of_two_kinds_are_one_error_that_names_a_sample(
    tmp_path: Path, cli: Cli, value: object, says: str
) -> None:
    def values(i: int) -> dict[str, Any]:
        return {"split": value} if i == 3 else by_tens(i)

    release = pulled(tmp_path, samples=20, change=described(values))
    assert says in cli("convert", release, "--out", tmp_path / "a", "--split-by", "metadata.split", code=1).stderr
    assert not (tmp_path / "a").exists()


def test_only_samples_that_are_converted_need_a_split(tmp_path: Path, cli: Cli) -> None:
    def values(i: int) -> dict[str, Any]:
        return {} if i in (3, 4) else by_tens(i)

    release = pulled(tmp_path, samples=20, change=described(values), unlabeled=[3], skipped=[4])
    cli("convert", release, "--out", tmp_path / "a", "--split-by", "metadata.split")
    assert len(rows_of(tmp_path / "a")) == 18


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--split-by", "split"], "--split-by 'split' is no rule; write --split-by metadata.KEY"),
        (["--split-by", "metadata."], "is no rule"),
        (
            ["--split-by", "metadata.spilt"],
            "no sample has metadata 'spilt'; there are: site, split; did you mean 'split'",
        ),
        (["--split-by", "metadata.split", "--splits", "s.json"], "--split-by and --splits both say"),
        (["--split-by", "metadata.split", "--fractions", "80,10,10"], "--fractions has no say beside --split-by"),
        (["--split-by", "metadata.site", "--group-by", "name"], "makes groups, and so does --group-by name"),
    ],
)
def test_what_contradicts_a_split_by_is_refused(tmp_path: Path, cli: Cli, flags: list[str], says: str) -> None:
    (tmp_path / "s.json").write_text('{"train": ["frame_0000.jpg"]}')
    flags = [str(tmp_path / f) if f == "s.json" else f for f in flags]
    release = pulled(tmp_path, samples=20, change=described(by_tens))
    assert says in cli("convert", release, "--out", tmp_path / "a", *flags, code=2).stderr


def test_splits_that_tear_a_group_are_refused(tmp_path: Path, cli: Cli) -> None:
    release = pulled(tmp_path, samples=20, groups=4)
    document = edit_release(tmp_path / "drawn/release.json", lambda _: None)
    edit_release(
        document,
        lambda d: [s["metadata"].update(by_tens(i)) for i, s in enumerate(d["dataset"]["samples"])] and None,
    )
    release = Path(labelsync.pull(document, out=tmp_path / "again").path)
    options = ("--split-by", "metadata.split", "--group-by", "metadata.sequence")
    said = cli("convert", release, "--out", tmp_path / "a", *options, code=1).stderr
    assert "--split-by metadata.split tears the group 'seq-0 (test, train, validation)' apart" in said


def test_a_sequence_says_the_split_of_its_frames(tmp_path: Path, cli: Cli) -> None:
    drawn = draw_sequences(tmp_path / "drawn", sequences=6)
    edit_release(drawn.path, described(lambda i: {"split": ("train", "validation", "test")[i % 3]}))
    release = labelsync.pull(drawn.path, out=tmp_path / "pulled").path
    cli("convert", release, "--out", tmp_path / "data", "--split-by", "metadata.split")
    splits = split_of(tmp_path / "data")
    assert len(splits) == 18
    assert len({(u.partition(".")[0], split) for u, split in splits.items()}) == 6


def test_the_command_counts_one_shard_as_one(tmp_path: Path, cli: Cli) -> None:
    release = pulled(tmp_path, samples=4)
    assert "(1 shard, " in cli("convert", release, "--out", tmp_path / "a", "--fractions", "1,0,0").stdout
    assert "(3 shards, " in cli("convert", release, "--out", tmp_path / "b").stdout
    said = cli("convert", release, "--out", tmp_path / "c", "--group-by", "name:(", code=2).stderr
    assert "'(' is no regular expression" in said and "; close its brackets" in said
