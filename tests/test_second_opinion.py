"""`check --model`: a planted label error comes first, and a perfect label is never doubted."""

import json
import re
from collections import Counter
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
from labelsync.pixels.image import decode_image, encode_png
from labelsync.pixels.instance import decode_instance_bitmap, encode_instance_bitmap
from labelsync.pixels.semantic import encode_semantic
from labelsync.quality import check, second_opinion, usual
from labelsync.quality.contradict import SEAM, judge
from labelsync.quality.second_opinion import Opinion
from labelsync.quality.subject import Content, Subject
from labelsync.quality.usual import FLOOR
from labelsync.records.findings import Finding
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
        [3, 1, 2, 1, 0, 3],
        [3, 3, 2, 1, 3, 3],
    ],
    np.uint8,
)
KNOWN = np.array([False, True, True, True])


def test_a_region_is_what_of_a_thing_the_model_gives_another_class_whatever_it_gives():
    sure, likely = np.full(LABEL.shape, 0.5, np.float32), np.full(LABEL.shape, 0.25, np.float32)
    sure[2:, :2] = [[0.9, 0.1], [0.6, 0.6]]
    likely[3, 1] = 0.01
    found = judge(LABEL, SAID, sure, likely, KNOWN, least=1)
    regions = sorted(found.regions, key=lambda r: -r.pixels)
    assert [(r.label, r.said, r.pixels, r.share, r.box, r.at) for r in regions] == [
        (2, 3, 4, 1.0, (0, 2, 2, 2), (1, 3)),  # one, though the model says 1 in a part of it
        (1, 2, 2, pytest.approx(2 / 14), (2, 2, 1, 2), (2, 2)),
    ]  # not the unlabeled corner, and not where the model says nothing
    assert regions[0].confidence == pytest.approx((0.9 + 0.6 + 0.6) / 3)  # where it says 3
    assert np.exp(regions[0].log_likely) == pytest.approx((0.25**3 * 0.01) ** 0.25)
    assert len(judge(LABEL, SAID, sure, likely, KNOWN, least=3).regions) == 1
    assert not judge(LABEL, LABEL, sure, likely, KNOWN, least=1).regions


def test_the_things_are_told_whether_or_not_the_model_contradicts_them():
    sure = likely = np.full(LABEL.shape, 0.5, np.float32)
    for said in (SAID, LABEL):
        found = judge(LABEL, said, sure, likely, KNOWN, least=4)
        assert sorted(zip(found.classes, found.pixels, strict=True)) == [(1, 14), (2, 4), (3, 4)]
        assert np.allclose(found.log_likely, np.log(0.5))
    assert sorted(judge(LABEL, SAID, sure, likely, KNOWN, least=5).classes) == [1]


def test_a_class_that_the_model_does_not_know_is_not_judged():
    ones = np.ones(LABEL.shape, np.float32)
    found = judge(LABEL, SAID, ones, ones, np.array([False, True, False, True]), least=1)
    assert [(r.label, r.said) for r in found.regions] == [(1, 2)] and 2 not in found.classes


def test_a_seam_is_no_region_and_a_thin_thing_is_one():
    label, said = np.ones((400, 400), np.uint8), np.ones((400, 400), np.uint8)
    label[:, 200:] = 2
    said[:, 199:] = 2  # a column: the border drawn a little apart
    label[100:300, 50:52] = 3  # a pole, taken for what is behind it
    ones = np.ones(label.shape, np.float32)
    assert [r.label for r in judge(label, said, ones, ones, KNOWN, least=100).regions] == [3]


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_regions_are_those_that_a_search_pixel_by_pixel_finds(seed: int):
    rng = np.random.default_rng(seed)
    label, said = rng.integers(0, 4, (2, 9, 11)).astype(np.uint8)
    sure, likely = rng.random((2, *label.shape), np.float32)
    things = {c: slow_components(label == c) for c in (1, 2, 3)}
    expected = set()
    for c in (1, 2, 3):
        for part in slow_components((label == c) & (said > 0) & (said != c)):
            ys, xs = zip(*part, strict=True)
            whole = next(len(thing) for thing in things[c] if part[0] in thing)
            if len(part) < SEAM * whole:
                continue
            box = (min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1)
            count = Counter(int(said[p]) for p in part)
            mostly = min(count, key=lambda c, n=count: (-n[c], c))
            confidence = float(np.mean([sure[p] for p in part if said[p] == mostly]))
            log_likely = float(np.mean([np.log(max(likely[p], FLOOR)) for p in part]))
            y, x = min(part, key=lambda p: likely[p])
            shares = round(len(part) / whole, 6), _near(confidence), _near(log_likely)
            expected.add((c, mostly, len(part), *shares, box, (x, y)))
    found = judge(label, said, sure, likely, KNOWN, least=1).regions
    assert {
        (r.label, r.said, r.pixels, round(r.share, 6), _near(r.confidence), _near(r.log_likely), r.box, r.at)
        for r in found
    } == expected


def _near(x: float) -> float:
    return round(x, 4) + 0.0


# -------------------------------------------------------------------- what is usual


def test_what_is_usual_is_the_least_squares_line_of_each_class(monkeypatch):
    monkeypatch.setattr(usual, "_PRIOR", 1e-9)
    rng = np.random.default_rng(0)
    classes, pixels = rng.integers(1, 4, 300), rng.integers(10, 5000, 300)
    y = -3.5 + 0.2 * np.log(pixels) - 0.3 * classes + rng.normal(0, 0.1, 300)
    found = usual.Usual(3)
    for part in np.split(np.arange(300), [7, 7, 120]):
        found.add(classes[part], pixels[part], y[part])
    columns = np.stack([*(classes == c for c in (1, 2, 3)), np.log(pixels)], 1).astype(float)
    fitted = columns @ np.linalg.lstsq(columns, y, rcond=None)[0]
    assert np.allclose(found.log_usual(classes, pixels), fitted)


def test_what_is_usual_is_a_probability_and_rises_with_size():
    found = usual.Usual(2)
    assert found.log_usual([1, 2], [10, 10]).tolist() == [0.0, 0.0]  # nothing seen, nothing unusual
    found.add(np.array([1, 1, 1]), np.array([10, 100, 1000]), np.log([0.9, 0.5, 0.1]))
    low, high = found.log_usual([1, 1], [10, 10**6])
    assert low == high < 0  # larger is never less probable
    found.add(np.array([1] * 50), np.geomspace(10, 1000, 50), np.linspace(-2, 0, 50))
    assert found.log_usual([1], [10**9])[0] == 0.0
    assert not found.log_usual([], []).size


def test_one_wrong_label_moves_what_is_usual_by_no_more_than_its_bound():
    found = [usual.Usual(1) for _ in range(2)]
    for one, log_likely in zip(found, (-9.0, np.log(usual.LEAST_USUAL)), strict=True):
        one.add(np.array([1, 1]), np.array([100, 100]), np.array([-0.1, log_likely]))
    assert found[0].log_usual([1], [100]) == found[1].log_usual([1], [100])


# -------------------------------------------------------------------- the ranking


class Scripted:
    """A model of three classes that says what is scripted: (3, H, W) probabilities by an image's first pixel."""

    batch_size = 2
    lacking = ()

    def __init__(self, scripted: list[np.ndarray]) -> None:
        self.scripted = scripted

    def segment_with_labels(self, images: list[np.ndarray], labels: list[np.ndarray]) -> list[tuple[np.ndarray, ...]]:
        found = []
        for image, label in zip(images, labels, strict=True):
            p = np.concatenate([np.zeros((1, *label.shape)), self.scripted[image[0, 0, 0]]]).astype(np.float32)
            given = np.take_along_axis(p, label[None].astype(int), 0)[0]
            found.append((p.argmax(0).astype(np.uint8), p.max(0), given))
        return found


THING = np.s_[20:40, 20:40]


def scripted_opinion(cases: list[tuple[int, int, tuple[float, ...]]]) -> Opinion:
    """A sample for each case: one thing of a class on ground of another, the model sure of the ground, and what it says
    of the thing."""
    labels, rows, scripted = label_map(*NAMES), [], []
    for i, (ground, thing, says) in enumerate(cases):
        label = np.full((60, 60), ground, np.uint8)
        label[THING] = thing
        p = np.full((3, 60, 60), 0.005)
        p[ground - 1] = 0.99
        p[(slice(None), *THING)] = np.array(says)[:, None, None]
        scripted.append(p)
        image = encode_png(np.full((60, 60, 3), i, np.uint8))
        rows.append(Content("all", str(i), str(i), image, encode_semantic(label)))
    subject = Subject("", "convert", "", "", labels, {"all": len(rows)}, {}, (), rows.__getitem__)
    return Opinion(subject, Scripted(scripted))  # type: ignore[arg-type]


def names(found: list[Finding]) -> list[str]:
    return [f.name for f in found]


def test_an_improbable_label_comes_before_one_that_another_class_beats():
    beaten, improbable = (0.2, 0.8, 0.0), (0.0005, 0.49, 0.5095)  # the model is surer of another class in the first
    found = scripted_opinion([(3, 1, beaten), (3, 1, improbable)]).findings(bound=0, least=1)
    assert names(found) == ["1", "0"]


def test_what_the_model_never_knows_ranks_below_what_it_always_knows():
    """Poles are always improbable, sky never: the same answer at the same place is news in the sky alone."""
    pole, sky = (0.05, 0.9, 0.05), (0.05, 0.05, 0.9)
    cases = [(3, 1, pole)] * 8 + [(1, 3, (0.9, 0.05, 0.05))] + [(1, 3, sky)] * 8
    found = scripted_opinion(cases).findings(bound=0, least=1)
    assert found[0].name == "8" and found[0].class_name == "class-3"
    assert found[0].score > 0.8 > found[1].score  # the default bound


def test_a_class_all_of_whose_labels_are_wrong_is_told_all_the_same():
    found = scripted_opinion([(2, 1, (0.0001, 0.0, 0.9999))] * 6).findings(bound=0.8, least=1)
    assert sorted(names(found)) == list("012345")


def test_a_score_says_how_much_less_probable_than_usual_a_label_is():
    opinion = scripted_opinion([(3, 1, (0.8, 0.1, 0.1))] * 20 + [(3, 1, (0.02, 0.9, 0.08))])
    (finding,) = opinion.findings(bound=0, least=1)
    (doubt,) = opinion.doubts
    expected = np.exp(opinion._usual.log_usual([1], [400])[0])
    assert 0.5 < expected < 0.8 and doubt.score == pytest.approx(1 - 0.02 / expected)
    assert finding.score == round(doubt.score, 6)
    said = f"look like class-2 (90% sure); class-1 is {expected / 0.02:.0f} times less likely there than usual"
    assert said in finding.message
    assert "400 pixels of class-1 at x 20, y 20 (20x20), all of that object" in finding.message
    assert not opinion.findings(bound=finding.score + 0.001, least=1)
    assert names(opinion.findings(bound=finding.score - 0.001, least=1)) == ["20"]


def test_what_waits_is_bounded_and_the_worst_are_those_of_all(monkeypatch):
    rng = np.random.default_rng(0)
    cases = []
    for i in range(60):
        likely = float(rng.choice([0.001, 0.01, 0.1, 0.3])) * rng.uniform(0.5, 1)
        cases.append((2, 1 + 2 * (i % 2), (likely, 1 - likely, 0) if i % 2 == 0 else (0, 1 - likely, likely)))
    whole = names(scripted_opinion(cases).findings(bound=0, least=1))
    monkeypatch.setattr(second_opinion, "KEPT", 10)
    opinion, waited = scripted_opinion(cases), []
    worst = opinion._worst
    monkeypatch.setattr(opinion, "_worst", lambda doubts: waited.append(len(doubts)) or worst(doubts))
    assert names(opinion.findings(bound=0, least=1)) == whole[:10]
    assert len(whole) == 60 and max(waited) <= 2 * 10 + 1 and len(waited) > 3


def test_of_two_alike_the_larger_then_the_first_comes_first():
    opinion = scripted_opinion([(3, 1, (0.1, 0.9, 0.0))] * 3)
    assert names(opinion.findings(bound=0, least=1)) == ["0", "1", "2"]


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


def test_samples_are_ranked_by_their_worst_region(release, model, tmp_path, cli):
    folder = release(planted=True)
    flags = ("--model", model, "--min-contradicted", "0", "--min-instance", "0")
    record = json.loads(cli("check", folder, *flags, "--json", "--limit", 0).stdout)
    found = [f for f in record["findings"] if f["kind"] == "contradicted-label"]
    (row,) = record["doubted"]
    assert (row["name"], row["uuid"]) == ("frame_0002.jpg", sample_uuid(2))
    assert (row["score"], row["regions"]) == (found[0]["score"], len(found))
    assert json.loads(cli("check", folder, *flags, "--json", "--ignore", "contradicted-label").stdout)["doubted"] == []
    shown = cli("check", folder, *flags, "--limit", 1).stdout
    assert "look at first" in shown and re.search(rf"frame_0002.jpg +{len(found)} +{row['score']:.3f}", shown)


def test_samples_follow_their_worst_region_and_each_is_there_once():
    def of(name: str, score: float) -> Finding:
        return Finding("contradicted-label", "info", "", name=name, uuid=name, score=score)

    others = [Finding("duplicate", "warning", "", name="d", uuid="d", score=9.0)]
    rows = check._doubted([*others, of("b", 0.9), of("a", 0.8), of("b", 0.7), of("c", 0.1)])
    assert [(r.name, r.score, r.regions) for r in rows] == [("b", 0.9, 2), ("a", 0.8, 1), ("c", 0.1, 1)]


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
