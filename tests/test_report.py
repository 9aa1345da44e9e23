"""A report through the real command: what it holds, what it never holds, and when it is written."""

import base64
import io
import json
import re
import shutil
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from markupsafe import escape
from PIL import Image

import labelsync
from labelsync.errors import DatasetError, DatasetNotFound, GateFailed, ModelNotFound, OptionError, OutputExists
from labelsync.evaluation import plots, worst
from labelsync.evaluation.cases import colored, errors, worst_cases
from labelsync.evaluation.course import spread
from labelsync.evaluation.latency import Export, Latency, read_export
from labelsync.evaluation.page import key_of, score, share, signed
from labelsync.evaluation.report import report
from labelsync.evaluation.sections import ClassRow, Shown, balance_chart, change_chart, class_chart, plain
from labelsync.evaluation.small import nearest
from labelsync.evaluation.tally import ImageFacts, Tally
from labelsync.evaluation.worst import PARTS, write_worst
from labelsync.pixels.image import encode_png
from labelsync.pixels.semantic import encode_semantic
from labelsync.records.release import Row
from labelsync.records.scores import CompareRecord, Delta
from tests.models import numbered
from tests.reported import ATTACK, CLASSES, Cli, Reported


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    return Reported(tmp_path_factory.mktemp("reported"))


@pytest.fixture(scope="module")
def page(world: Reported) -> str:
    """A report with every section."""
    return Path(report(world.evaluation, out=world.root / "whole.html", **world.all()).path).read_text()


def headings(text: str) -> list[tuple[str, str]]:
    return [(level, re.sub("<[^>]+>", "", said)) for level, said in re.findall(r"<h([1-6])[^>]*>(.*?)</h\1>", text)]


# -------------------------------------------------------------------- what it holds


def test_a_report_has_its_sections_in_order(page: str) -> None:
    assert [said for level, said in headings(page) if level == "2"] == [
        *("At a glance", "Changes since the baseline", "Safety", "Classes", "Worst images", "Slices", "Confusion"),
        *("Class balance", "Training", "Latency", "Provenance"),
    ]
    levels = [int(level) for level, _ in headings(page)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_numbers_are_those_of_the_evaluation(world: Reported, page: str) -> None:
    found = json.loads((world.evaluation / "evaluation.json").read_text())
    low, high = found["intervals"]["mean_iou"]
    assert f'<dd class="value">{found["mean_iou"]:.3f}</dd>' in page
    assert f"95 %: {low:.3f} to {high:.3f}" in page
    for iou in found["per_category_iou"].values():
        assert f'<td data-value="{iou}">{iou:.3f}</td>' in page
    for digest in ("model_digest", "dataset_digest"):
        assert found[digest] in page
    assert "12.5 ms" in page and "20.2 ms" in page
    delta = labelsync.compare(world.evaluation, baseline=world.baseline).figures["mean_iou"].delta
    assert signed(Delta(0, 0, delta)) in page
    assert str(world.root) not in page  # no path of a machine gets into a file


def test_the_worst_images_come_as_image_label_prediction_and_error(world: Reported, page: str) -> None:
    images = len((world.evaluation / "images.jsonl").read_text().splitlines())
    assert images > 6
    for layer in ("photo", "label", "prediction", "error"):
        found = re.findall(rf'<image id="{layer}-(\d+)" [^>]*href="data:image/(\w+);base64,([^"]+)"', page)
        assert [int(rank) for rank, _, _ in found] == list(range(1, images + 1))
        for _, kind, data in found:
            with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
                assert picture.format == kind.upper()
                assert picture.size == (64, 48)


@pytest.fixture
def turning(world: Reported, monkeypatch: pytest.MonkeyPatch) -> CompareRecord:
    """A line between failed and not that images of the drawn split cross both ways."""
    scores = [
        json.loads(line)["mean_iou"]
        for folder in (world.evaluation, world.baseline)
        for line in (folder / "images.jsonl").read_text().splitlines()
    ]
    compare = partial(labelsync.compare, fail_below=float(np.median(scores)))
    monkeypatch.setattr("labelsync.evaluation.report.compare", compare)
    return compare(world.evaluation, baseline=world.baseline, resamples=0)


def test_images_that_changed_sides_are_shown_with_what_both_models_saw(
    world: Reported, turning: CompareRecord, tmp_path: Path
) -> None:
    changes = (*turning.newly_failed[:6], *turning.newly_fixed[:6])
    assert changes
    new = tmp_path / "new"
    shutil.copytree(world.evaluation, new)
    old = tmp_path / "old"
    shutil.copytree(world.baseline, old)
    for name, dataset in (("a", None), ("b", world.data)):
        out = tmp_path / f"{name}.html"
        text = Path(report(new, baseline=old, dataset=dataset, out=out).path).read_text()
        for n, change in enumerate(changes, 1):
            (article,) = re.findall(rf'<article class="case" id="turn-{n}".*?</article>', text, re.DOTALL)
            assert str(escape(change.name)) in article
            assert [layer in article for layer in ("Image of", "Label of", "Baseline of", "Now of")] == [True] * 4
            layers = re.findall(r'href="(data:image/png[^"]*)"', article)
            assert len(set(layers)) == 3
            assert f'href="#turn-{n}"' in text
        for side in (new, old):  # the second time image and label come from the dataset alone
            shutil.rmtree(side / "worst", ignore_errors=True)
    page = Path(report(new, baseline=old, out=tmp_path / "none.html").path).read_text()
    assert "<article" not in page


def test_pictures_of_the_training_are_those_of_the_run(world: Reported, page: str) -> None:
    steps = sorted(p.name for p in (world.run / "pictures").iterdir())
    assert steps == ["step-000002", "step-000004"]
    for file in (world.run / "pictures").rglob("*.jpg"):
        assert base64.b64encode(file.read_bytes()).decode() in page


def test_what_is_not_given_is_not_there(world: Reported, tmp_path: Path) -> None:
    text = Path(report(world.evaluation, out=tmp_path / "r.html").path).read_text()
    found = [said for level, said in headings(text) if level == "2"]
    assert {"Changes since the baseline", "Training", "Latency"}.isdisjoint(found)
    assert all(f'id="{target}"' in text for target in re.findall(r'href="#([^"]+)"', text))


def test_a_run_or_dataset_of_something_else_is_told(world: Reported, tmp_path: Path) -> None:
    run = shutil.copytree(world.run, tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"digest": "0" * 64}))
    text = Path(report(world.evaluation, run=run, dataset=world.data, out=tmp_path / "r.html").path).read_text()
    assert "not the one of the evaluated model" in text
    assert "not the one that was evaluated on" not in text
    (run / "manifest.json").unlink()
    export = tmp_path / "export.json"
    export.write_text(json.dumps({"p50_ms": 1, "p95_ms": 2, "model_digest": "0" * 64}))
    text = Path(report(world.evaluation, run=run, export=export, out=tmp_path / "s.html").path).read_text()
    assert "The run is not finished" in text
    assert "latency shown here is not that of the evaluated model" in text


def test_a_part_of_the_split_and_another_way_of_looking_are_told(world: Reported, tmp_path: Path) -> None:
    part = tmp_path / "part"
    data = {"dataset": world.data, "out": part, "device": "cpu", "groups": world.root / "groups.toml"}
    labelsync.evaluate(world.run, limit=5, flip=True, **data)
    text = Path(report(part, baseline=world.baseline, on_common=True, out=tmp_path / "r.html").path).read_text()
    images = len((world.evaluation / "images.jsonl").read_text().splitlines())
    assert f"Only a part of the split was scored: {images - 5} of its images were left out." in text
    assert "did not look at the images in the same way: new --flip, baseline as it is" in text
    assert "Left out of the comparison, samples only in the baseline" in text


def test_an_evaluation_of_old_is_reported_with_the_pictures_it_has(world: Reported, tmp_path: Path) -> None:
    old = shutil.copytree(world.evaluation, tmp_path / "old")
    shutil.rmtree(old / "worst/parts")
    text = Path(report(old, out=tmp_path / "r.html").path).read_text()
    assert text.count("image, label and prediction side by side") == worst.WORST
    shutil.rmtree(old / "worst")
    text = Path(report(old, out=tmp_path / "r.html", overwrite=True).path).read_text()
    assert "The evaluation has no pictures" in text


# -------------------------------------------------------------------- what it never holds


def test_names_stay_text(page: str) -> None:
    assert page.count("<script") == page.count("</script>") == 1
    assert "<img src=x" not in page and "&lt;img src=x onerror" in page
    for name in CLASSES:
        assert name not in page
    assert "&lt;script&gt;alert(&#39;class&#39;)" in page


def test_nothing_refers_to_anything_outside(page: str) -> None:
    bare = re.sub(r"base64,[A-Za-z0-9+/=]+", "base64,", page)
    assert re.findall(r"""(?:src|href|srcset|action|data)\s*=\s*["'](?!data:|#)[^"']*""", bare) == []
    assert re.findall(r"url\(|@import|https?://|//cdn", bare) == []
    policy = re.search(r'Security-Policy" content="([^"]+)"', page)
    assert policy and policy[1].startswith("default-src &#39;none&#39;; img-src data:;")


def test_twenty_pictures_take_less_than_15_mb(tmp_path: Path) -> None:
    """Of noise, the worst there is for a JPEG, and of labels in many small parts."""
    rng = np.random.default_rng(0)
    labels, size = numbered(35), (720, 960)

    def bitmap() -> Any:
        return rng.integers(1, 36, (size[0] // 8, size[1] // 8)).repeat(8, 0).repeat(8, 1).astype(np.uint8)

    def noise() -> bytes:
        return encode_png(rng.integers(0, 256, (*size, 3), np.uint8), level=1)

    rows = [Row(f"{i}.png", str(i), noise(), encode_semantic(bitmap())) for i in range(PARTS)]
    counts = np.array([(i, 1 + i % 35, 1 + (i * j) % 35, 5 + j) for i in range(PARTS) for j in range(3)])
    arrays = {"confusion": counts, "boundary": np.zeros((PARTS, 3, 35)), "calibration": np.zeros((PARTS, 3, 15))}
    tally = Tally(tuple(ImageFacts(r.name, r.uuid, "", r.uuid) for r in rows), 35, arrays)

    class Noise:
        def segment(self, image: Any) -> Any:
            return bitmap()

    write_worst(tmp_path / "worst", Noise(), rows, tally, labels)  # type: ignore[arg-type]
    cases = worst_cases(tmp_path, tally, labels, None)
    assert len(cases) == PARTS
    assert sum(len(c.image) + len(c.label) + len(c.prediction) + len(c.error) for c in cases) < 15e6


# -------------------------------------------------------------------- when it is written


def test_the_same_report_is_the_same_bytes_and_is_written_once(world: Reported, tmp_path: Path, cli: Cli) -> None:
    argv = ("report", world.evaluation, "--baseline", world.baseline, "--run", world.run, "--out", tmp_path / "r.html")
    first = json.loads(cli(*argv, "--json").stdout)
    data = (tmp_path / "r.html").read_bytes()
    assert (first["bytes"], first["unchanged"]) == (len(data), False)
    written = (tmp_path / "r.html").stat().st_mtime_ns
    again = json.loads(cli(*argv, "--json").stdout)
    assert again == first | {"unchanged": True}
    assert (tmp_path / "r.html").stat().st_mtime_ns == written
    (tmp_path / "r.html").unlink()
    assert "r.html, " in cli(*argv).stdout
    assert (tmp_path / "r.html").read_bytes() == data


def test_another_file_is_left_alone_without_overwrite(world: Reported, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "r.html"
    out.write_text("<h1>mine</h1>")
    assert "--overwrite" in cli("report", world.evaluation, "--out", out, code=1).stderr
    assert out.read_text() == "<h1>mine</h1>"
    cli("report", world.evaluation, "--out", out, "--overwrite")
    key = key_of(out.read_text())
    assert len(key) == 64
    with pytest.raises(OutputExists):
        report(world.evaluation, gate=["mean_iou >= 0"], out=out)
    report(world.evaluation, gate=["mean_iou >= 0"], out=out, overwrite=True)
    assert key_of(out.read_text()) != key
    with pytest.raises(OutputExists):
        report(world.evaluation, out=tmp_path, overwrite=True)


def test_a_gate_that_is_not_met_is_on_the_page_and_in_the_exit_code(world: Reported, tmp_path: Path, cli: Cli) -> None:
    argv = ("report", world.evaluation, "--baseline", world.baseline, "--out", tmp_path / "r.html")
    done = cli(*argv, "--gate", "mean_iou >= 0.99", "--gate", "baseline.mean_iou >= 0", code=3)
    assert "NOT MET  mean_iou >= 0.99\nmet  baseline.mean_iou >= 0" in done.stdout
    text = (tmp_path / "r.html").read_text()
    assert "1 of 2 gates not met" in text and "mean_iou &gt;= 0.99" in text
    with pytest.raises(GateFailed) as failed:
        report(world.evaluation, gate=["no_such >= 1"], out=tmp_path / "s.html")
    assert failed.value.record.gates[0].value is None  # type: ignore[attr-defined]
    assert (tmp_path / "s.html").is_file()


def test_what_cannot_be_reported_is_refused_before_anything_is_written(world: Reported, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    with pytest.raises(DatasetNotFound, match="not evaluate"):
        report(world.data, out=out)
    with pytest.raises(ModelNotFound, match="is no run"):
        report(world.evaluation, run=world.data, out=out)
    with pytest.raises(OptionError, match="no p50 and p95"):
        report(world.evaluation, export=world.evaluation / "evaluation.json", out=out)
    with pytest.raises(OptionError, match="cannot be read"):
        report(world.evaluation, gate=["mean_iou"], out=out)
    edited = shutil.copytree(world.evaluation, tmp_path / "edited")
    (edited / "evaluation.json").write_text("{}")
    with pytest.raises(DatasetError, match="was changed"):
        report(edited, out=out)
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text("no json\n")
    with pytest.raises(DatasetError, match=r"metrics\.jsonl cannot be read"):
        report(world.evaluation, run=run, out=out)
    (run / "metrics.jsonl").write_text("")
    (run / "pictures/step-000001").mkdir(parents=True)
    (run / "pictures/step-000001/0-a.jpg").write_text("<svg onload=alert(1)>")
    with pytest.raises(DatasetError, match="is no picture"):
        report(world.evaluation, run=run, out=out)
    assert not out.exists()


# -------------------------------------------------------------------- its parts


def test_errors_tell_wrong_from_dangerous_and_unlabeled() -> None:
    label = np.array([[0, 1, 1, 2], [3, 3, 2, 2]], np.uint8)
    prediction = np.array([[1, 1, 2, 1], [3, 1, 2, 3]], np.uint8)
    walkable, obstacle = np.array([0, 1, 0, 0], bool), np.array([0, 0, 1, 0], bool)
    assert errors(label, prediction, obstacle=obstacle, walkable=walkable).tolist() == [[3, 0, 1, 2], [0, 1, 0, 1]]


@pytest.mark.parametrize("classes", [3, 200], ids=["with a palette", "without"])
def test_a_layer_is_see_through_where_nothing_is(classes: int) -> None:
    colors = numbered(classes).colors
    bitmap = np.array([[0, 0, 0, 0], [0, 2, 2, 2], [0, 2, 2, 2], [0, 2, 2, 2]], np.uint8)
    with Image.open(io.BytesIO(base64.b64decode(colored(bitmap, colors).partition(",")[2]))) as picture:
        pixels = np.asarray(picture.convert("RGBA"))
    assert pixels[0, 0, 3] == 0
    assert pixels[2, 2].tolist() == [*colors[2].tolist(), 140]


def test_a_small_bitmap_has_the_class_in_the_middle() -> None:
    bitmap = np.arange(36, dtype=np.uint8).reshape(6, 6)
    assert nearest(bitmap, (2, 2)).tolist() == [[7, 10], [25, 28]]
    assert nearest(bitmap, (6, 6)).tolist() == bitmap.tolist()


def test_steps_are_spread_with_the_ends_and_the_best() -> None:
    steps = list(range(10, 210, 10))
    assert spread(steps, 5) == [10, 60, 100, 150, 200] or spread(steps, 5)[0::4] == [10, 200]
    assert 130 in spread(steps, 5, keep=130) and len(spread(steps, 5, keep=130)) == 5
    assert spread([1, 2], 5, keep=7) == [1, 2]


def test_latency_is_found_wherever_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "export.json"
    file.write_text(
        json.dumps({"latency": [{"provider": "CPU", "threads": 2, "p50_ms": 3, "p95_ms": 4.5}], "p50": "x"})
    )
    assert read_export(file) == Export((Latency("CPU, 2 threads", 3.0, 4.5),))
    file.write_text(json.dumps({"onnx_p50_ms": 1, "onnx_p95_ms": 2}))
    assert read_export(file) == Export((Latency("onnx", 1.0, 2.0),))
    times = {"onnx": {"p50_ms": 1.0, "p95_ms": 2.0, "images_per_second": 9.0}}
    file.write_text(json.dumps({"latency": times, "model_digest": "abc", "bytes": 2000, "agreement": 0.999, "runs": 5}))
    facts = {"runs": "5", "agreement": "0.999", "bytes": "2,000"}
    assert read_export(file) == Export((Latency("onnx", 1.0, 2.0),), facts, "abc")
    for text in ("[", "{}", '{"p50": 1}'):
        file.write_text(text)
        with pytest.raises(OptionError):
            read_export(file)
    with pytest.raises(OptionError):
        read_export(tmp_path / "none.json")


def test_better_is_said_only_where_the_interval_is_clear() -> None:
    def verdict(name: str, low: float, high: float) -> str:
        return Shown(name, "", 0.5, None, Delta(0.5, 0.4, 0.1, low, high)).verdict

    assert verdict("mean_iou", 0.05, 0.15) == "better"
    assert verdict("mean_iou", -0.15, -0.05) == "worse"
    assert verdict("near.obstacle_as_walkable", 0.05, 0.15) == "worse"
    assert verdict("missed_obstacles.small", -0.2, -0.1) == "better"
    assert verdict("mean_iou", -0.01, 0.15) == ""
    assert Shown("mean_iou", "", 0.5, None, Delta(0.5, 0.5, 0.0002, 0.0001, 0.0003)).verdict == ""  # it reads 0.000
    assert Shown("mean_iou", "", 0.5, None, Delta(0.5, 0.4, 0.1)).verdict == ""


def test_numbers_read_well() -> None:
    assert [signed(Delta(0, 0, d)) for d in (0.1234, -0.1234, 0.0001, -0.0001, None)] == [
        *("+0.123", "−0.123", "0.000", "0.000", "–"),
    ]
    assert [score(v) for v in (0.5, 0.0004, 0.0, 1.0, None)] == ["0.500", "<0.001", "0.000", "1.000", "–"]
    assert [share(v) for v in (0.5, 0.00123, 0.0, None)] == ["50.0 %", "0.123 %", "0.0 %", "–"]


# -------------------------------------------------------------------- charts


def svg(url: str) -> str:
    return base64.b64decode(url.partition(",")[2]).decode()


def test_a_name_in_a_chart_is_text_and_no_formula() -> None:
    names = [*CLASSES, "line\nfeed\x00\x07", ATTACK.format("]]>"), "x" * 99]
    chart = plots.bars([plots.Bar(plain(n), 0.5) for n in names], axis="IoU", alt="")
    for url in (chart.light, chart.dark):
        root = ElementTree.fromstring(svg(url))  # noqa: S314 - our own
        assert not [e for e in root.iter() if e.tag.endswith("script")]
        said = {"".join(e.itertext()).strip() for e in root.iter() if e.tag.endswith("}text")}
        assert {plain(n).strip() for n in names} <= said


def texts(chart: plots.Chart) -> list[str]:
    root = ElementTree.fromstring(svg(chart.light))  # noqa: S314 - our own
    return ["".join(e.itertext()).strip() for e in root.iter() if e.tag.endswith("}text")]


def test_of_many_classes_the_charts_show_the_best_and_the_worst_and_say_so() -> None:
    """A hundred and fifty as in ADE20K: the classes that fail are those that one looks for."""
    number = 150
    labels = numbered(number)
    change = [Delta(i / 200, i / 200, (i - 75) / 1000) for i in range(number)]
    rows = [
        ClassRow(i, f"class {i}", "#000000", i / 11325, Shown("", "", i / 200, None, change[i - 1]), None, None, None)
        for i in range(1, number + 1)
    ]
    for chart, said in (
        (class_chart(rows, labels), "The 20 best and the 20 worst of 150 classes"),
        (change_chart(rows), "The 20 largest gains and the 20 largest losses of 150 classes"),
        (balance_chart(rows, "test", {}), "The 20 most frequent and the 20 rarest of 150 classes"),
    ):
        there = texts(chart)
        assert {"class 150", "class 131", "class 20", "class 1"} <= set(there) and "class 75" not in there
        assert chart.note == f"{said}; the table has all."
    few = class_chart(rows[:40], labels)
    assert few.note == "" and {"class 1", "class 20", "class 40"} <= set(texts(few))


def test_a_chart_is_the_same_whatever_somebody_has_set() -> None:
    def drawn() -> plots.Chart:
        points = [(i, 1 / (i + 1)) for i in range(5)]
        return plots.curves({"loss": {"training": points}}, best=3, alt="")

    first = drawn()
    with mpl.rc_context({"font.size": 30, "svg.hashsalt": "x", "axes.facecolor": "red"}):
        assert drawn() == first
        assert mpl.rcParams["font.size"] == 30
    assert svg(first.light) != svg(first.dark)
