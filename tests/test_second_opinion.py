"""`check --model`: a planted label error comes first, and a perfect label is never doubted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st

import labelsync
from labelsync.errors import LabelsyncError
from labelsync.evaluation.components import components
from labelsync.labels import LabelMap
from labelsync.model.load import load_model, save_model
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.image import decode_image
from labelsync.pixels.instance import decode_instance_bitmap, encode_instance_bitmap
from labelsync.quality.contradict import contradictions
from labelsync.store.manifest import read_manifest, verify_files
from tests.models import label_map, loud, tiny_segformer
from tests.releases import draw_release, edit_release, sample_uuid
from tests.test_safety import slow_components

NAMES = ("class-1", "class-2", "class-3")
SAMPLES = 4

LABEL = np.array(
    [
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1, 0],
        [2, 2, 1, 1, 3, 3],
        [2, 2, 1, 1, 3, 3],
    ],
    np.uint8,
)
SAID = np.array(
    [
        [1, 1, 1, 1, 1, 3],
        [1, 1, 1, 1, 1, 3],
        [3, 3, 2, 1, 0, 3],
        [3, 3, 2, 1, 3, 3],
    ],
    np.uint8,
)
KNOWN = np.array([False, True, True, True])


def test_a_region_is_of_one_class_in_the_label_and_of_another_in_the_prediction():
    sure = np.full(LABEL.shape, 0.5, np.float32)
    sure[2:, :2] = 0.75
    found = sorted(contradictions(LABEL, SAID, sure, KNOWN, least=1), key=lambda r: -r.pixels)
    assert [(r.label, r.said, r.pixels, r.box, r.at) for r in found] == [
        (2, 3, 4, (0, 2, 2, 2), (0, 2)),
        (1, 2, 2, (2, 2, 1, 2), (2, 2)),
    ]  # not the unlabeled corner, and not where the model says nothing
    assert [(r.share, r.confidence, r.score) for r in found] == [
        (1.0, 0.75, 0.75),
        (pytest.approx(2 / 14), 0.5, pytest.approx(1 / 14)),
    ]
    assert len(contradictions(LABEL, SAID, sure, KNOWN, least=3)) == 1
    assert not contradictions(LABEL, LABEL, sure, KNOWN, least=1)


def test_a_class_that_the_model_does_not_know_is_not_judged():
    sure = np.ones(LABEL.shape, np.float32)
    found = contradictions(LABEL, SAID, sure, np.array([False, True, False, True]), least=1)
    assert [(r.label, r.said) for r in found] == [(1, 2)]


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_regions_are_those_that_a_search_pixel_by_pixel_finds(seed: int):
    rng = np.random.default_rng(seed)
    label, said = rng.integers(0, 4, (2, 9, 11)).astype(np.uint8)
    sure = rng.random(label.shape, np.float32)
    things = {c: slow_components(label == c) for c in (1, 2, 3)}
    expected = set()
    for a in (1, 2, 3):
        for b in (1, 2, 3):
            for part in slow_components((label == a) & (said == b)) if a != b else ():
                ys, xs = zip(*part, strict=True)
                whole = next(len(thing) for thing in things[a] if part[0] in thing)
                box = (min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1)
                confidence = round(float(np.mean([sure[p] for p in part])), 5)
                expected.add((a, b, len(part), round(len(part) / whole, 6), confidence, box))
    found = contradictions(label, said, sure, KNOWN, least=1)
    assert {(r.label, r.said, r.pixels, round(r.share, 6), round(r.confidence, 5), r.box) for r in found} == expected
    assert all(label[r.at[1], r.at[0]] == r.label and said[r.at[1], r.at[0]] == r.said for r in found)


# -------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose classes win here and there, surely."""
    folder = tiny_segformer(tmp_path_factory.mktemp("model") / "tiny", label_map(*NAMES), weights=True)
    loaded = loud(load_model(folder, device="cpu"))
    loaded.model.decode_head.classifier.weight.data.mul_(8)
    save_model(loaded, folder)
    return folder


@pytest.fixture
def release(tmp_path: Path, model: Path) -> Callable[..., Path]:
    """A release whose labels are what the model says, but for the errors planted in sample 2."""
    segmenter = Segmenter(model, device="cpu")

    def make(*, planted: bool) -> Path:
        path = draw_release(tmp_path / "drawn", samples=SAMPLES, size=(96, 128))
        for i in range(SAMPLES):
            image = decode_image((tmp_path / f"drawn/images/frame_{i:04d}.jpg").read_bytes())
            label = segmenter.segment(image)
            if planted and i == 2:
                label = mistaken(label)
            (tmp_path / f"drawn/bitmaps/{sample_uuid(i)}.png").write_bytes(
                encode_instance_bitmap(label.astype(np.uint32))
            )
        edit_release(path, of_classes)
        return Path(labelsync.pull(path, out=tmp_path / "release").path)

    return make


def mistaken(label: np.ndarray) -> np.ndarray:
    """The label with its largest component given another class."""
    found = components(label, np.array([False, True, True, True]))
    largest = int(found.pixels.argmax())
    changed = label.copy()
    of = np.full(label.size, -1)
    of[np.flatnonzero(label.ravel())] = found.at(np.flatnonzero(label.ravel()))
    changed.ravel()[of == largest] = found.classes[largest] % 3 + 1
    return changed


def of_classes(document: dict[str, Any]) -> None:
    """Annotation i is of category i, in every sample."""
    for sample in document["dataset"]["samples"]:
        sample["labels"]["ground-truth"]["attributes"]["annotations"] = [{"id": i, "category_id": i} for i in (1, 2, 3)]


def doubted(shown: Result) -> list[dict[str, Any]]:
    return [f for f in json.loads(shown.stdout)["findings"] if f["kind"] == "contradicted-label"]


def test_a_planted_error_is_found_and_drawn(release, model, tmp_path, cli):
    folder = release(planted=True)
    flags = ("--model", model, "--device", "cpu", "--min-contradicted", "0.01", "--out", tmp_path / "out", "--json")
    (finding, *others) = doubted(cli("check", folder, *flags))
    assert finding["name"] == "frame_0002.jpg" and finding["uuid"] == sample_uuid(2)
    assert finding["severity"] == "info" and "look like class-" in finding["message"]
    assert {f["name"] for f in others} <= {"frame_0002.jpg"}
    bitmap = decode_instance_bitmap((tmp_path / f"drawn/bitmaps/{sample_uuid(2)}.png").read_bytes())
    left, top, width, height = finding["region"]
    assert finding["class_name"] in {f"class-{c}" for c in np.unique(bitmap[top : top + height, left : left + width])}
    manifest = read_manifest(tmp_path / "out", "check")
    assert not verify_files(tmp_path / "out", manifest)
    assert manifest.inputs["model"] == load_model(model).digest
    pictures = sorted(p.name for p in (tmp_path / "out/pictures").iterdir())
    assert pictures[0] == "001-frame_0002.png" and len(pictures) == 1 + len(others)
    assert decode_image((tmp_path / "out/pictures" / pictures[0]).read_bytes()).shape[2] == 3
    assert json.loads((tmp_path / "out/check.json").read_text())["findings"]


def test_labels_that_the_model_agrees_with_are_never_doubted(release, model, tmp_path, cli):
    folder = release(planted=False)
    flags = ("--model", model, "--min-contradicted", "0", "--min-instance", "0", "--json")
    assert not doubted(cli("check", folder, *flags))
    labelsync.convert(folder, out=tmp_path / "data", workers=1)
    assert not doubted(cli("check", tmp_path / "data", *flags))


def test_what_cannot_be_judged_does_not_stop_the_rest(release, model, tmp_path, cli):
    folder = release(planted=True)
    image = folder / f"images/{sample_uuid(1)}.jpg"
    image.unlink()  # so that what the cache holds stays whole
    image.write_bytes(b"no image")
    shown = cli("check", folder, "--model", model, "--min-contradicted", "0.01", "--json")
    assert doubted(shown)[0]["name"] == "frame_0002.jpg"
    assert "broken-image" in json.loads(shown.stdout)["kinds"]


@pytest.mark.parametrize(
    ("flags", "code", "line"),
    [
        (("--model", "nowhere/"), 1, "nowhere"),
        (("--min-contradicted", "1.5"), 2, "--min-contradicted is 1.5"),
    ],
)
def test_refusals_are_one_line(release, model, tmp_path, cli, flags, code, line):
    folder = release(planted=False)
    shown = cli("check", folder, *(f.format(model=model) for f in flags), "--out", tmp_path / "out", code=code)
    assert line in shown.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_model_of_other_classes_is_refused(release, tmp_path):
    folder = release(planted=False)
    other = tiny_segformer(tmp_path / "other", label_map("sky", "sea"), weights=True)
    with pytest.raises(LabelsyncError, match="knows none of the classes"):
        labelsync.check(folder, model=other, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_classes_of_a_label_map_in_another_order_are_matched_by_name(release, model, tmp_path):
    folder = release(planted=False)
    loaded = load_model(model, device="cpu")
    turned = LabelMap(tuple(reversed(loaded.labels.classes)))
    assert Segmenter(model, labels=turned).labels.names == tuple(reversed(NAMES))
    record = labelsync.check(folder, model=model, min_contradicted=0.0)
    assert "contradicted-label" not in record.kinds
