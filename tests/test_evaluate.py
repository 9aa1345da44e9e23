import json
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from click.testing import Result

import labelsync
from labelsync.dataset.load import LabeledDataset
from labelsync.errors import DatasetError, ModelError, OptionError, OutputExists
from labelsync.evaluation import evaluate as module
from labelsync.evaluation.confusion import confusion
from labelsync.evaluation.count import count
from labelsync.evaluation.evaluate import evaluate
from labelsync.evaluation.measure import tally_rows
from labelsync.evaluation.tally import ImageFacts, Tally, label_digest
from labelsync.evaluation.worst import worst_first
from labelsync.labels import LabelMap
from labelsync.model.load import load_model, new_model, save_model
from labelsync.model.segmenter import Segmenter
from labelsync.model.ways import read_ways
from labelsync.pixels.image import decode_image, encode_png
from labelsync.pixels.semantic import decode_semantic, encode_semantic
from labelsync.records.release import Row
from labelsync.records.results import EvaluateRecord
from labelsync.records.text import from_json
from labelsync.sidewalk.preset import CATEGORIES
from labelsync.store.manifest import read_manifest, verify_files
from tests import reference
from tests.models import label_map, loud, loud_segformer, numbered, tiny_segformer
from tests.pictures import picture
from tests.releases import draw_release

K = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loud_segformer(tmp_path_factory.mktemp("evaluate") / "tiny", numbered(K))


def row(image: npt.NDArray[np.uint8], label: npt.NDArray[Any], name: str = "a.png") -> Row:
    return Row(name, f"uuid-{name}", encode_png(image), encode_semantic(label))


def drawn_rows(labels: LabelMap, number: int = 5) -> list[Row]:
    """Images of several sizes with drawn labels, some of it unlabeled."""
    rows = []
    for seed in range(number):
        size_hw = (60 + 7 * seed, 90 - 5 * seed)
        rng = np.random.default_rng(100 + seed)
        label = rng.integers(0, labels.num_labels + 1, size_hw).astype(labels.dtype)
        rows.append(row(picture(seed, size_hw), label, f"drawn {seed}.png"))
    return rows


@pytest.fixture
def dataset(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`dataset(rows, labels)`: what `evaluate` finds whatever dataset it is asked for."""

    def give(rows: Sequence[Row], labels: LabelMap) -> None:
        def load(source: str | Path, **_: object) -> LabeledDataset:
            splits: Any = {"test": rows}
            return LabeledDataset(str(source), labels, splits, digest="d" * 64, release="v1", revision="")

        monkeypatch.setattr(module, "load", load)

    return give


# -------------------------------------------------------------------- counting


def tallied(segmenter: Any, rows: Sequence[Row]) -> Tally:
    def describe(row: Row, label: npt.NDArray[Any]) -> ImageFacts:
        return ImageFacts(row.name, row.uuid, label_digest(label), row.uuid)

    return tally_rows(segmenter, rows, numbered(K), describe, boundary=0.005)


def test_scores_are_those_of_the_published_formula_at_the_labels_own_resolution(model: Path) -> None:
    rows = drawn_rows(numbered(K))
    segmenter = Segmenter(model, device="cpu", batch_size=2)
    tally = tallied(segmenter, rows)
    total = count(segmenter, rows, numbered(K))
    labels = [decode_semantic(r.label) for r in rows]
    predictions = segmenter.segment_batch([r.image for r in rows])
    assert np.array_equal(total, sum(confusion(a, b, K) for a, b in zip(labels, predictions, strict=True)))
    assert np.array_equal(total, tally.confusion)
    assert [i.name for i in tally.images] == [r.name for r in rows]
    for mean_iou, areas, label, prediction in zip(tally.mean_iou, tally.areas, labels, predictions, strict=True):
        expected = reference.mean_iou(
            [prediction.astype(int) - 1], [label.astype(int) - 1], num_labels=K, ignore_index=-1
        )
        assert mean_iou == pytest.approx(expected["mean_iou"], abs=1e-12)
        assert areas[0].sum() / areas[2].sum() == pytest.approx(expected["overall_accuracy"], abs=1e-12)
        assert areas[2].sum() == (label > 0).sum()


class Echo:
    """Stands where a Segmenter does; answers with maps it was given, and counts the images it was asked."""

    def __init__(self, answers: Iterable[npt.NDArray[Any]] = (), batch_size: int = 4) -> None:
        self.answers = iter(answers)
        self.batch_size = batch_size
        self.device = torch.device("cpu")
        self.asked = 0

    def segment_batch(self, images: Sequence[Any]) -> list[npt.NDArray[Any]]:
        self.asked += len(images)
        return [next(self.answers, np.zeros(i.shape[:2], np.uint8)) for i in images]

    def segment_with_confidence(self, images: Sequence[Any]) -> list[tuple[npt.NDArray[Any], npt.NDArray[np.float32]]]:
        return [(bitmap, np.full(bitmap.shape, 0.5, np.float32)) for bitmap in self.segment_batch(images)]


def test_memory_does_not_grow_with_the_images() -> None:
    image = picture(0, (200, 300))
    one = row(image, np.ones((200, 300), np.uint8))

    def peak(number: int) -> int:
        rows = [one] * number
        tracemalloc.start()
        tallied(Echo(), rows)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    few = peak(32)
    assert peak(192) - few < 160 * 60_000 / 2  # 160 more uint8 maps alone would be 9.6 MB


def test_every_sample_that_cannot_be_scored_is_named_before_any_time_is_lost() -> None:
    good = row(picture(0), np.ones((70, 90), np.uint8), "good.png")
    bad = [
        row(picture(0), np.ones((90, 70), np.uint8), "turned.png"),
        row(picture(0), np.full((70, 90), K + 1, np.uint8), "outside.png"),
        replace(good, name="cut.png", image=good.image[:200]),
        replace(good, name="page.png", label=b"<html>"),
    ]
    echo = Echo(batch_size=1)
    with pytest.raises(DatasetError, match=r"turned\.png: the image is 90x70 and its label 70x90 \(and 3 more") as e:
        count(echo, [good, *bad, good, good, good], numbered(K))  # type: ignore[arg-type]
    assert [d.split(":")[0] for d in e.value.details] == ["turned.png", "outside.png", "cut.png", "page.png"]
    assert "class id 6, the classes are 0 to 5" in e.value.details[1]
    assert "its label" in e.value.details[3]
    assert echo.asked == 1


# -------------------------------------------------------------------- the verb


@pytest.mark.parametrize("num_labels", [2, 11, 254, 255, 300])
@pytest.mark.parametrize("unlabeled", [False, True])
def test_a_perfect_predictor_scores_exactly_one(
    tmp_path: Path, dataset: Callable[..., None], num_labels: int, unlabeled: bool
) -> None:
    """The labels are what the model says, so it can only be perfect; a part of them is unlabeled."""
    labels = numbered(num_labels)
    folder = loud_segformer(tmp_path / "tiny", labels)
    segmenter = Segmenter(folder, device="cpu", batch_size=1)
    rows = []
    for seed in range(3):
        label = segmenter.segment(picture(seed)).copy()
        if unlabeled:
            label[:20] = 0
        rows.append(row(picture(seed), label, f"{seed}.png"))
    dataset(rows, labels)
    record = evaluate(folder, dataset="x", out=tmp_path / "e", device="cpu", batch_size=1)
    assert (record.mean_iou, record.mean_accuracy, record.overall_accuracy) == (1.0, 1.0, 1.0)
    assert (record.frequency_weighted_iou, record.mean_dice, record.mean_boundary_iou) == (1.0, 1.0, 1.0)
    assert record.intervals["mean_iou"] == (1.0, 1.0)
    assert record.pixels == 3 * (50 if unlabeled else 70) * 90
    seen = {n for r in rows for n in np.unique(decode_semantic(r.label)).tolist()} - {0}
    assert len(seen) > 1
    assert [n for n, v in record.per_category_iou.items() if v == 1.0] == [labels.names[i - 1] for i in sorted(seen)]
    assert all(v is None for n, v in record.per_category_iou.items() if labels.id_of(n) not in seen)


def test_the_folder_says_what_was_scored_and_how_every_image_did(
    model: Path, tmp_path: Path, dataset: Callable[..., None]
) -> None:
    rows = drawn_rows(numbered(K), 8)
    unlabeled = row(picture(9), np.zeros((70, 90), np.uint8), "../../nothing labelled.png")
    dataset([*rows, unlabeled], numbered(K))
    record = evaluate(model, dataset="acme/sidewalk@v1", out=tmp_path / "e", device="cpu")
    out = tmp_path / "e"
    manifest = read_manifest(out, "evaluate")
    assert verify_files(out, manifest) == []
    assert (manifest.digest, manifest.inputs["dataset"]) == (record.digest, "d" * 64)
    assert manifest.labels == numbered(K)

    evaluation = json.loads((out / "evaluation.json").read_text())
    assert evaluation["mean_iou"] == record.mean_iou == manifest.summary["mean_iou"]
    assert evaluation["per_category_iou"] == record.per_category_iou
    assert (evaluation["model"], evaluation["dataset"], evaluation["split"]) == ("tiny", "acme/sidewalk@v1", "test")
    assert str(tmp_path) not in (out / "evaluation.json").read_text()

    counts = json.loads((out / "confusion.json").read_text())
    assert counts["columns"] == ["unlabeled", *counts["rows"]] == ["unlabeled", *numbered(K).names]
    assert np.sum(counts["counts"]) == record.pixels == sum((decode_semantic(r.label) > 0).sum() for r in rows)

    images = [json.loads(line) for line in (out / "images.jsonl").read_text().splitlines()]
    assert [i["name"] for i in images] == [r.name for r in [*rows, unlabeled]]
    assert (images[-1]["mean_iou"], images[-1]["pixels"], images[-1]["areas"]) == (None, 0, {})
    pooled = np.zeros((3, K))
    for image in images:
        for disk_id, values in image["areas"].items():
            pooled[:, int(disk_id) - 1] += values
    assert pooled[0].sum() / pooled[2].sum() == pytest.approx(record.overall_accuracy, abs=1e-12)

    worst = sorted(p.name for p in (out / "worst").glob("*.png"))
    ranked = sorted(images[:-1], key=lambda i: i["mean_iou"])
    assert worst == [f"{n:02d}-{i['name'].replace(' ', '_')}" for n, i in enumerate(ranked[:6], 1)]
    width = decode_image((out / "worst" / worst[0]).read_bytes()).shape[1]
    assert width > 3 * 360 * 50 / 95  # three pictures side by side, scaled to one height


def test_the_worst_come_first_and_what_has_no_label_is_not_among_them() -> None:
    scored = [("c", float("nan")), ("b", 0.5), ("a", 0.5), ("d", 0.1), ("e", float("nan")), ("f", 0.0)]
    assert worst_first(*zip(*scored, strict=True)) == [5, 3, 2, 1]


def test_the_same_input_gives_the_same_bytes(model: Path, tmp_path: Path, dataset: Callable[..., None]) -> None:
    dataset(drawn_rows(numbered(K)), numbered(K))
    records = [evaluate(model, dataset="x", out=tmp_path / n, device="cpu") for n in ("a", "b")]
    assert records[0].digest == records[1].digest


def test_classes_in_another_order_are_matched_by_name(
    model: Path, tmp_path: Path, dataset: Callable[..., None]
) -> None:
    dataset(drawn_rows(numbered(K)), numbered(K))
    straight = evaluate(model, dataset="x", out=tmp_path / "a", device="cpu")
    order = [3, 1, 5, 2, 4]
    turned = label_map(*(f"class {i}" for i in order))
    table = np.array([0, *(order.index(i) + 1 for i in range(1, K + 1))], np.uint8)
    rows = [replace(r, label=encode_semantic(table[decode_semantic(r.label)])) for r in drawn_rows(numbered(K))]
    dataset(rows, turned)
    other = evaluate(model, dataset="x", out=tmp_path / "b", device="cpu")
    assert list(other.per_category_iou) == list(turned.names)
    assert {n: other.per_category_iou[n] for n in numbered(K).names} == straight.per_category_iou


def test_other_classes_are_refused_by_name_unless_aligned(
    model: Path, tmp_path: Path, dataset: Callable[..., None]
) -> None:
    labels = label_map("class 1", "class 2", "kerb")
    rows = [replace(r, label=encode_semantic(decode_semantic(r.label) % 4)) for r in drawn_rows(numbered(K))]
    dataset(rows, labels)
    with pytest.raises(ModelError, match=r"only in .*tiny: class 3, class 4, class 5; only in data: kerb") as e:
        evaluate(model, dataset="data", out=tmp_path / "e", device="cpu")
    assert "--align" in e.value.hint
    assert not (tmp_path / "e").exists()
    record = evaluate(model, dataset="data", out=tmp_path / "e", device="cpu", align=True)
    own = Segmenter(model, device="cpu").segment_batch([r.image for r in rows])
    aligned = [np.where(m > 2, 0, m) for m in own]  # kerb is never said; what is no class of the dataset is 0
    expected = sum(confusion(decode_semantic(r.label), m, 3) for r, m in zip(rows, aligned, strict=True))
    counts = json.loads((tmp_path / "e" / "confusion.json").read_text())["counts"]
    assert counts == expected.tolist()
    assert record.per_category_iou["kerb"] == 0.0
    dataset(rows, label_map("x", "y", "z"))
    with pytest.raises(ModelError, match="do not have the same classes"):
        evaluate(model, dataset="data", out=tmp_path / "n", device="cpu", align=True)


# -------------------------------------------------------------------- the command


def test_the_command_prints_every_class_and_leaves_the_folder(
    model: Path, tmp_path: Path, dataset: Callable[..., None], cli: Callable[..., Result], monkeypatch: Any
) -> None:
    dataset(drawn_rows(numbered(K)), numbered(K))
    monkeypatch.chdir(tmp_path)
    printed = cli("evaluate", model, "--dataset", "x", "--device", "cpu").stdout
    out = tmp_path / "tiny-test-evaluation"
    scores = json.loads((out / "evaluation.json").read_text())
    for name in numbered(K).names:
        assert f"{name}  {scores['per_category_iou'][name]:.4f}" in printed
    assert f"mean IoU {scores['mean_iou']:.4f}" in printed
    before = (out / "manifest.json").stat().st_mtime_ns
    again = cli("evaluate", model, "--dataset", "x", "--batch-size", 2).stdout
    assert again.rstrip().endswith("tiny-test-evaluation (unchanged)")
    assert (out / "manifest.json").stat().st_mtime_ns == before
    line = cli("evaluate", model, "--dataset", "x", "--resamples", 10, code=1).stderr
    assert "tiny-test-evaluation exists" in line
    again = cli("evaluate", model, "--dataset", "x", "--device", "cpu", "--overwrite", "--json").stdout
    record = from_json(EvaluateRecord, again)
    assert record.mean_iou == scores["mean_iou"]
    assert record.digest == read_manifest(out).digest


def test_the_commands_refusals_are_one_line_and_leave_nothing(
    model: Path, tmp_path: Path, dataset: Callable[..., None], cli: Callable[..., Result]
) -> None:
    bad = row(picture(0), np.ones((90, 70), np.uint8), "turned.png")
    dataset([bad], numbered(K))
    error = cli("evaluate", model, "--dataset", "x", "--out", tmp_path / "e", code=1).stderr
    assert "turned.png: the image is 90x70 and its label 70x90" in error
    assert "nowhere" in cli("evaluate", tmp_path / "nowhere", "--dataset", "x", "--out", tmp_path / "e", code=1).stderr
    dataset([bad], label_map("a", "b"))
    assert "classes" in cli("evaluate", model, "--dataset", "x", "--out", tmp_path / "e", code=1).stderr
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")] == []


def test_an_evaluation_is_never_written_over_something_else(
    model: Path, tmp_path: Path, dataset: Callable[..., None]
) -> None:
    dataset(drawn_rows(numbered(K), 1), numbered(K))
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputExists):
        evaluate(model, dataset="x", out=tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_on_a_converted_round(tmp_path: Path, cli: Callable[..., Result]) -> None:
    """From a release file to scores through the commands; the scores are those of the rows as they are stored."""
    release = draw_release(tmp_path / "drawn", samples=10, wrong_size=[3])
    cli("pull", release, "--out", tmp_path / "release", "--allow-failed", 1)
    cli("convert", tmp_path / "release", "--out", tmp_path / "data", "--fractions", "0.4,0.3,0.3", "--allow-failed", 1)
    data = labelsync.load(tmp_path / "data")
    folder = loud_segformer(tmp_path / "tiny", data.labels)
    out = tmp_path / "evaluation"
    printed = cli("evaluate", folder, "--dataset", tmp_path / "data", "--out", out, "--device", "cpu", "--json").stdout
    record = from_json(EvaluateRecord, printed)
    rows = list(data.splits["test"])
    segmenter = Segmenter(folder, device="cpu", labels=data.labels)
    total = sum(confusion(decode_semantic(r.label), segmenter.segment(r.image), data.labels.num_labels) for r in rows)
    assert np.abs(np.array(json.loads((out / "confusion.json").read_text())["counts"]) - total).sum() <= 4  # near ties
    assert (record.images, record.dataset_digest) == (len(rows), data.digest)
    missing = cli("evaluate", folder, "--dataset", tmp_path / "data", "--split", "val", "--out", out, code=1).stderr
    assert "no split 'val'" in missing
    assert "no manifest" in cli("evaluate", folder, "--dataset", tmp_path / "drawn", "--out", out, code=1).stderr


# -------------------------------------------------------------------- other ways of looking, and a part of the images


WAYS: dict[str, Any] = {"flip": True, "scales": (0.5, 1.0), "window": "50x60"}


def test_an_evaluation_says_how_images_were_looked_at_and_another_way_is_another(
    model: Path, tmp_path: Path, dataset: Callable[..., None], cli: Callable[..., Result]
) -> None:
    rows = drawn_rows(numbered(K))
    dataset(rows, numbered(K))
    out = tmp_path / "ways"
    argv = ["evaluate", model, "--dataset", "x", "--out", out, "--device", "cpu"]
    flags = ["--flip", "--scales", "1,0.5", "--window", "50x60"]
    printed = cli(*argv, *flags).stdout
    assert "5 images of test (mirrored too; inputs of 0.5, 1 times the model's; windows of 50x60)" in printed
    record = evaluate(model, dataset="x", out=out, device="cpu", **WAYS)
    assert record.unchanged
    assert (record.flip, record.scales, record.window, record.left_out) == (True, (0.5, 1.0), "50x60", 0)
    found = json.loads((out / "evaluation.json").read_text())
    assert (found["flip"], found["scales"], found["window"]) == (True, [0.5, 1.0], "50x60")
    for fewer in (flags[1:], [flags[0], *flags[3:]], flags[:3]):  # each flag makes another evaluation
        assert "exists" in cli(*argv, *fewer, code=1).stderr
    segmenter = Segmenter(model, device="cpu", **WAYS)
    total = sum(confusion(decode_semantic(r.label), segmenter.segment(r.image), K) for r in rows)
    counts = np.array(json.loads((out / "confusion.json").read_text())["counts"])
    assert np.abs(counts - total).sum() <= 4  # near ties
    plain = sum(confusion(decode_semantic(r.label), Segmenter(model).segment(r.image), K) for r in rows)
    assert np.abs(counts - plain).sum() > 100
    assert "--scales" in cli(*argv, "--scales", "0", code=2).stderr
    assert "--window" in cli(*argv, "--window", "wide", code=2).stderr


def test_a_perfect_predictor_is_perfect_and_calibrated_alike_in_every_way(
    model: Path, tmp_path: Path, dataset: Callable[..., None]
) -> None:
    """The confidence of the calibration is that of the same mean as the classes."""
    segmenter = Segmenter(model, device="cpu", batch_size=1, **WAYS)
    pictures = [picture(seed) for seed in range(3)]
    said = segmenter.segment_with_confidence(pictures)
    dataset(
        [row(p, label, f"{i}.png") for i, (p, (label, _)) in enumerate(zip(pictures, said, strict=True))], numbered(K)
    )
    record = evaluate(model, dataset="x", out=tmp_path / "e", device="cpu", batch_size=1, **WAYS)
    assert (record.mean_iou, record.overall_accuracy, record.mean_boundary_iou) == (1.0, 1.0, 1.0)
    sure = np.concatenate([confidence.ravel() for _, confidence in said])
    assert record.expected_calibration_error == pytest.approx(float((1 - sure.astype(float)).mean()), abs=1e-6)


def test_a_comparison_of_two_ways_says_so(
    model: Path, tmp_path: Path, dataset: Callable[..., None], cli: Callable[..., Result]
) -> None:
    dataset(drawn_rows(numbered(K)), numbered(K))
    evaluate(model, dataset="x", out=tmp_path / "plain", device="cpu", resamples=0)
    evaluate(model, dataset="x", out=tmp_path / "ways", device="cpu", resamples=0, **WAYS)
    printed = cli("compare", tmp_path / "ways", "--baseline", tmp_path / "plain").stdout
    assert "looked at otherwise: new --flip --scales 0.5,1 --window 50x60, baseline as it is" in printed
    assert "otherwise" not in cli("compare", tmp_path / "ways", "--baseline", tmp_path / "ways").stdout


def test_what_was_evaluated_before_there_were_other_ways_is_still_the_same() -> None:
    """A fingerprint that changes without a flag would have every team evaluate everything again."""
    settings = module.Settings("test", False, (), (), 0.005, 1000, None, (1.0, 0.4, 0.4))
    names = ["split", "align", "renamed", "by", "boundary", "resamples", "groups", "near_field"]
    assert list(settings.stated) == names
    assert list(replace(settings, ways=read_ways(flip=True), limit=3).stated) == [*names, "ways", "limit"]
    assert list(replace(settings, ways=read_ways(scales=(1,)), limit=None).stated) == names


def test_a_limit_scores_the_first_images_and_says_of_how_many(
    model: Path, tmp_path: Path, dataset: Callable[..., None], cli: Callable[..., Result]
) -> None:
    rows = drawn_rows(numbered(K))
    dataset(rows, numbered(K))
    argv = ["evaluate", model, "--dataset", "x", "--device", "cpu", "--resamples", 0]
    assert "2 of 5 images of test, " in cli(*argv, "--limit", 2, "--out", tmp_path / "two").stdout
    found = json.loads((tmp_path / "two" / "evaluation.json").read_text())
    assert (found["images"], found["left_out"]) == (2, 3)
    dataset(rows[:2], numbered(K))
    evaluate(model, dataset="x", out=tmp_path / "alone", device="cpu", resamples=0)
    for name in ("confusion.json", "images.jsonl", "counts.npz"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    dataset(rows, numbered(K))
    whole = evaluate(model, dataset="x", out=tmp_path / "whole", device="cpu", resamples=0)
    assert (whole.images, whole.left_out) == (5, 0)
    assert "5 images of test, " in cli(*argv, "--limit", 5, "--out", tmp_path / "whole").stdout
    assert evaluate(model, dataset="x", out=tmp_path / "whole", limit=9, resamples=0).unchanged
    assert "exists" in cli(*argv, "--limit", 4, "--out", tmp_path / "whole", code=1).stderr
    refused = cli("compare", tmp_path / "two", "--baseline", tmp_path / "whole", code=1).stderr
    assert "3 samples only in the baseline" in refused
    with pytest.raises(OptionError, match="--limit is 0"):
        evaluate(model, dataset="x", out=tmp_path / "none", limit=0)


@pytest.mark.parametrize("ways", [{}, {"flip": True}, WAYS])
def test_a_foreign_model_with_an_output_for_unlabeled_is_aligned_by_name(
    tmp_path: Path, dataset: Callable[..., None], ways: dict[str, Any]
) -> None:
    """As the published sidewalk models: 35 outputs, "unlabeled" first; here in an order of their own besides."""
    names = [c.name for c in CATEGORIES]
    labels = label_map(*names[1:])
    outputs = ["unlabeled", *(names[1 + (7 * i) % 34] for i in range(34))]
    folder, drawn = tmp_path / "sidewalk", numbered(35)
    loaded = loud(new_model(tiny_segformer(folder, drawn), drawn, image_size=(64, 64), seed=0))
    often = int(np.bincount(Segmenter(loaded).segment(picture(0)).ravel()).argmax()) - 1
    weight = loaded.model.get_parameter("decode_head.classifier.weight")
    with torch.no_grad():
        weight[[0, often]] = weight[[often, 0]]  # so that it says "unlabeled" somewhere
    save_model(loaded, folder)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(i): name for i, name in enumerate(outputs)}
    config["label2id"] = {name: i for i, name in enumerate(outputs)}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "id2label.json").unlink()
    positions = label_map(*(f"output {i}" for i in range(35)))
    by_position = replace(load_model(folder, device="cpu"), names=positions.names, labels=positions)
    rows = drawn_rows(labels, 3)
    dataset(rows, labels)
    record = evaluate(folder, dataset="sidewalk", out=tmp_path / "e", device="cpu", batch_size=1, **ways)
    assert record.lacking == ()
    said = Segmenter(by_position, batch_size=1, **ways).segment_batch([r.image for r in rows])
    table = np.array([0, 0, *(labels.id_of(name) for name in outputs[1:])])  # output 0 says of no class of the dataset
    total = sum(confusion(decode_semantic(r.label), table[m], 34) for r, m in zip(rows, said, strict=True))
    assert 0 < total[:, 0].sum() < total.sum() * 0.9
    assert len(np.unique(np.concatenate([m.ravel() for m in said]))) > 3
    counts = np.array(json.loads((tmp_path / "e" / "confusion.json").read_text())["counts"])
    assert np.abs(counts - total).sum() <= 4  # near ties
    assert record.safety is not None
