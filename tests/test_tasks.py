"""Sequences, cameras and shapes through the commands: pulled from a server, converted, compared; pixel by pixel."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

import labelsync
from labelsync.errors import ReleaseFormatError
from labelsync.pixels.image import decode_image
from labelsync.pixels.semantic import decode_semantic
from labelsync.records.changes import DiffRecord
from labelsync.records.release import LedgerRow, Row
from labelsync.records.text import from_json
from tests.commands import Commands
from tests.loopback.segments import LoopbackSegments
from tests.releases import edit_release, sample_uuid
from tests.tasks import SIZE, Drawn, draw_multisensor, draw_sequences, draw_shapes_release

Cli = Callable[..., Result]


def compare(commands: Commands, drawn: Drawn, name: str = "data") -> dict[str, tuple[str, Row]]:
    """Every pixel of every row with what was drawn; the categories 1, 2, 3 have those disk ids."""
    rows = commands.rows(name)
    for uuid, (_, row) in rows.items():
        np.testing.assert_array_equal(decode_semantic(row.label), drawn.categories[uuid].clip(0), err_msg=uuid)
        assert row.image == drawn.images[uuid].read_bytes()
    return rows


def splits_of_groups(rows: dict[str, tuple[str, Row]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for uuid, (split, _) in rows.items():
        found.setdefault(uuid.split(".")[0], set()).add(split)
    return found


# -------------------------------------------------------------------- sequences


def test_every_frame_of_a_sequence_is_a_row(commands: Commands, tmp_path: Path) -> None:
    drawn = draw_sequences(tmp_path / "drawn", sequences=5, undrawn=[(0, 1), (2, 0)], unlabeled=[4], extra=1)
    pulled = commands.pull(drawn.path)
    assert pulled.samples == 5 * 3 + 5  # the extra frame of each has no label
    assert pulled.outcomes["pulled"] == 4 * 3 - 2
    made = commands.convert()
    rows = compare(commands, drawn)
    assert set(rows) == set(drawn.categories)
    assert made.outcomes["converted"] == 10
    assert made.outcomes["unlabeled"] == 10
    ledger = commands.ledger()
    assert set(ledger) == set(drawn.images)
    first, uuid = sample_uuid(0), sample_uuid(4)
    assert ledger[f"{first}.00001"].reason == "no label on this frame"
    assert ledger[f"{uuid}.00000"].outcome == "unlabeled"
    assert ledger[f"{first}.00000"] == LedgerRow(f"{first}.00000", "drive_0/frame_00000", "converted", "", "LABELED")
    assert rows[f"{first}.00002"][1].name == "drive_0/frame_00002"


def test_a_sequence_is_never_torn_and_its_later_frames_follow_it(commands: Commands, tmp_path: Path) -> None:
    first = draw_sequences(tmp_path / "one", sequences=9, frames=2, unlabeled=[3])
    commands.pull(first.path, "r1")
    commands.convert("d1", release="r1")
    assert all(len(splits) == 1 for splits in splits_of_groups(commands.rows("d1")).values())
    pinned = json.loads((tmp_path / "d1/splits.json").read_text())
    before = splits_of_groups(commands.rows("d1"))
    assert pinned["group_by"] == "uuid"
    assert {k: {v} for k, v in pinned["groups"].items()} == before

    # five frames more each, the frames of before no longer labelled: only the group says where they belong
    gone = [(s, f) for s in range(9) for f in range(2)]
    second = draw_sequences(tmp_path / "two", sequences=12, frames=7, name="v2.0", undrawn=gone)
    commands.pull(second.path, "r2")
    commands.convert("d2", "--previous", tmp_path / "d1", release="r2")
    after = splits_of_groups(compare(commands, second, "d2"))
    assert all(len(splits) == 1 for splits in after.values())
    assert {k: after[k] for k in before} == before
    assert set(after) - set(before) == {sample_uuid(i) for i in (3, 9, 10, 11)}
    assert "By a stable hash of the image, or of its whole sequence" in (tmp_path / "d2/README.md").read_text()


def test_splits_can_be_given_by_sequence(commands: Commands, tmp_path: Path) -> None:
    drawn = draw_sequences(tmp_path / "drawn", sequences=4, unlabeled=[3])
    commands.pull(drawn.path)
    given = {"train": [sample_uuid(0), sample_uuid(3)], "test": [sample_uuid(1), sample_uuid(2)]}  # 3 has no label yet
    (tmp_path / "s.json").write_text(json.dumps(given))
    commands.convert("data", "--splits", tmp_path / "s.json")
    assert splits_of_groups(commands.rows()) == {sample_uuid(0): {"train"}} | {sample_uuid(i): {"test"} for i in (1, 2)}
    given["test"].append(f"{sample_uuid(0)}.00001")
    (tmp_path / "s.json").write_text(json.dumps(given))
    torn = commands.cli(
        "convert", tmp_path / "release", "--out", tmp_path / "torn", "--splits", tmp_path / "s.json", code=1
    )
    assert "into two splits" in torn.stderr


def test_plain_files_of_frames_have_names_of_their_own(commands: Commands, tmp_path: Path) -> None:
    drawn = draw_sequences(tmp_path / "drawn")
    commands.pull(drawn.path)
    commands.convert("data", "--format", "bitmaps")
    files = {p.stem for p in (tmp_path / "data/labels").rglob("*.png")}
    assert files == {f"drive_{s}-frame_{f:05d}" for s in range(4) for f in range(3)}


def test_the_status_is_that_of_the_whole_sequence(commands: Commands, tmp_path: Path) -> None:
    drawn = draw_sequences(tmp_path / "drawn", sequences=5)
    edit_release(
        drawn.path, lambda d: d["dataset"]["samples"][1]["labels"]["ground-truth"].update(label_status="SKIPPED")
    )
    commands.pull(drawn.path)
    made = commands.convert()
    assert (made.outcomes["converted"], made.outcomes["filtered"]) == (12, 3)
    assert {r.status for u, r in commands.ledger().items() if u.startswith(sample_uuid(1))} == {"SKIPPED"}


# -------------------------------------------------------------------- multisensor


def test_the_cameras_of_a_multisensor_release_are_rows_and_a_moment_is_one_group(
    commands: Commands, tmp_path: Path
) -> None:
    drawn = draw_multisensor(tmp_path / "drawn", samples=5)
    pulled = commands.pull(drawn.path)
    assert pulled.samples == 5 * 2 * 2  # the lidar is no row
    commands.convert()
    rows = compare(commands, drawn)
    assert set(rows) == set(drawn.categories)
    assert rows[f"{sample_uuid(0)}.rear-left.00001"][1].name == "drive_0/REAR/left/frame_00001"
    groups = splits_of_groups(rows)
    assert set(groups) == {sample_uuid(i) for i in range(5)}
    assert all(len(splits) == 1 for splits in groups.values())
    assert {r.status for r in commands.ledger().values()} == {"REVIEWED"}


# -------------------------------------------------------------------- shapes


@pytest.mark.parametrize("task_type", ["vector", "bboxes", "image-vector-sequence"])
def test_every_pixel_of_drawn_shapes_is_that_of_the_last_one_over_it(
    commands: Commands, tmp_path: Path, server: LoopbackSegments, task_type: str
) -> None:
    drawn = draw_shapes_release(tmp_path / "drawn", task_type=task_type)
    pulled = commands.pull(drawn.path)
    assert pulled.fetched == len(drawn.images)  # the images, and nothing else
    made = commands.convert()
    rows = compare(commands, drawn)
    assert set(rows) == set(drawn.categories)
    assert (
        made.undrawn.get("point", 0) == made.undrawn.get("polyline", 0) == (0 if task_type == "bboxes" else len(rows))
    )
    if task_type == "image-vector-sequence":
        assert all(len(splits) == 1 for splits in splits_of_groups(rows).values())


def test_lines_are_drawn_when_they_are_given_a_width(commands: Commands, tmp_path: Path) -> None:
    drawn = draw_shapes_release(tmp_path / "drawn")  # the line goes from (1, 1) to (9, 1), after all other shapes
    commands.pull(drawn.path)
    without = commands.convert("without")
    compare(commands, drawn, "without")
    made = commands.convert("data", "--line-width", "2")
    for bitmap in drawn.categories.values():
        bitmap[0:2, 1:9] = 2
    compare(commands, drawn)
    assert without.undrawn == made.undrawn | {"polyline": 6}
    assert made.undrawn["point"] == 6
    # the width is the earlier round's unless another is given
    again = commands.convert("again", "--previous", tmp_path / "data")
    compare(commands, drawn, "again")
    assert again.undrawn == made.undrawn
    off = commands.convert("off", "--previous", tmp_path / "data", "--line-width", "0")
    assert off.undrawn == without.undrawn


def test_what_was_not_drawn_is_told_everywhere(commands: Commands, tmp_path: Path) -> None:
    drawn = draw_shapes_release(tmp_path / "drawn", samples=8)

    def change(document: dict[str, Any]) -> None:
        labels = [s["labels"]["ground-truth"]["attributes"] for s in document["dataset"]["samples"]]
        labels[0]["annotations"] = labels[0]["annotations"][-2:]  # a point and a line
        labels[1]["annotations"] = []
        labels[2]["annotations"][0] |= {"points": [[90, 90], [99, 99]]}  # a box outside the image

    edit_release(drawn.path, change)
    commands.pull(drawn.path)
    made = commands.convert()
    ledger = commands.ledger()
    lost, empty, partly = (ledger[sample_uuid(i)] for i in range(3))
    assert (lost.outcome, lost.reason) == ("empty", "nothing of it touches a pixel: 1 point, 1 polyline")
    assert lost.undrawn == {"point": 1, "polyline": 1}
    assert (empty.outcome, empty.reason) == ("empty", "it has no annotations")
    assert (partly.outcome, partly.undrawn["bbox"] >= 1) == ("converted", True)
    total: Counter[str] = Counter()
    for row in ledger.values():
        total.update(row.undrawn)
    assert made.undrawn == dict(total)
    assert made.undrawn["point"] == 7
    assert json.loads((tmp_path / "data/manifest.json").read_text())["summary"]["undrawn"] == made.undrawn
    told = ", ".join(f"{n} {kind}" for kind, n in sorted(total.items()))
    assert f"Annotations that touch no pixel, such as points: {told}." in (tmp_path / "data/README.md").read_text()
    text = commands.cli("convert", tmp_path / "release", "--out", tmp_path / "data").stdout
    assert f"annotations that touch no pixel: {told} (--line-width N draws polylines)" in text


def test_a_release_of_bitmaps_says_nothing_of_shapes(commands: Commands, tmp_path: Path) -> None:
    commands.pull(draw_sequences(tmp_path / "drawn").path)
    assert commands.convert().undrawn == {}
    assert "touch no pixel" not in (tmp_path / "data/README.md").read_text()
    again = commands.cli("convert", tmp_path / "release", "--out", tmp_path / "data")
    assert "touch no pixel" not in again.output


def test_unlabeled_pixels_around_shapes_can_be_a_class(commands: Commands, tmp_path: Path) -> None:
    drawn = draw_shapes_release(tmp_path / "drawn")
    edit_release(
        drawn.path, lambda d: d["dataset"]["samples"][0]["labels"]["ground-truth"]["attributes"].update(annotations=[])
    )
    drawn.categories[sample_uuid(0)][:] = -1
    commands.pull(drawn.path)
    made = commands.convert("data", "--unlabeled", "class")
    assert made.outcomes["converted"] == 6
    for uuid, (_, row) in commands.rows().items():
        expected = np.where(drawn.categories[uuid] < 0, 4, drawn.categories[uuid])
        np.testing.assert_array_equal(decode_semantic(row.label), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_shapes_are_in_the_frame_that_exif_asks_for(commands: Commands, tmp_path: Path, orientation: int) -> None:
    drawn = draw_shapes_release(tmp_path / "drawn", samples=3)
    path = drawn.images[sample_uuid(0)]
    upright = Image.open(path).convert("RGB")
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # the inverse, as PIL.Image.Transpose
    exif = Image.Exif()
    exif[0x0112] = orientation
    (upright if back is None else upright.transpose(Image.Transpose(back))).save(path, exif=exif)
    commands.pull(drawn.path)
    commands.convert()
    row = compare(commands, drawn)[sample_uuid(0)][1]
    np.testing.assert_array_equal(decode_image(row.image), np.asarray(upright))
    assert decode_semantic(row.label).shape == SIZE


@pytest.mark.parametrize("width", ["-1", "0.5", "nan", "inf", "10001"])
def test_a_width_that_is_none_is_refused(commands: Commands, tmp_path: Path, width: str) -> None:
    commands.pull(draw_shapes_release(tmp_path / "drawn").path)
    done = commands.cli("convert", tmp_path / "release", "--out", tmp_path / "d", "--line-width", width, code=2)
    assert "it is 1 to 10000 pixels, or 0 to draw no lines" in done.stderr


def test_a_category_outside_the_taxonomy_loses_its_sample_by_name(commands: Commands, tmp_path: Path) -> None:
    drawn = draw_shapes_release(tmp_path / "drawn")
    edit_release(
        drawn.path,
        lambda d: d["dataset"]["samples"][2]["labels"]["ground-truth"]["attributes"]["annotations"][0].update(
            category_id=60000
        ),
    )
    commands.pull(drawn.path)
    done = commands.cli("convert", tmp_path / "release", "--out", tmp_path / "data", code=1)
    assert "sample 'sample_2.png' failed: annotation 1 has category 60000, which the taxonomy does not" in done.stderr


@pytest.mark.parametrize("task_type", ["vector", "bboxes", "image-vector-sequence"])
def test_release2dataset_says_what_draws_shapes(tmp_path: Path, task_type: str) -> None:
    drawn = draw_shapes_release(tmp_path / "drawn", task_type=task_type)
    with pytest.raises(ReleaseFormatError, match="whose labels are no bitmaps; labelsync pull and convert draw them"):
        labelsync.release2dataset(drawn.path)


def test_release2dataset_has_a_row_for_each_frame(tmp_path: Path) -> None:
    drawn = draw_sequences(tmp_path / "drawn", undrawn=[(1, 2)])
    rows = labelsync.release2dataset(drawn.path)
    assert rows["uuid"][:] == list(drawn.images)
    assert [uuid for uuid, status in zip(rows["uuid"], rows["status"], strict=True) if status == "UNLABELED"] == [
        f"{sample_uuid(1)}.00002"
    ]
    for row in rows:
        if row["status"] == "LABELED":
            found = labelsync.get_semantic_bitmap(row["label.segmentation_bitmap"], row["label.annotations"])
            np.testing.assert_array_equal(found, drawn.categories[row["uuid"]].clip(0))


# -------------------------------------------------------------------- diff


def diffed(cli: Cli, *argv: object, **kwargs: Any) -> DiffRecord:
    return from_json(DiffRecord, cli("diff", *argv, "--json", **kwargs).stdout)


def flow_of(old: np.ndarray, new: np.ndarray) -> Counter[tuple[int, int]]:
    return Counter((a, b) for a, b in zip(old.ravel().tolist(), new.ravel().tolist(), strict=True) if a != b)


def named(flow: Counter[tuple[int, int]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (a, b), n in flow.items():
        names = ["unlabeled" if c < 0 else f"class-{c}" for c in (a, b)]
        found.setdefault(names[0], {})[names[1]] = n
    return found


def test_frames_are_compared_one_by_one(tmp_path: Path, cli: Cli) -> None:
    old = draw_sequences(tmp_path / "one", undrawn=[(1, 0)])
    new = draw_sequences(tmp_path / "two", sequences=5, undrawn=[(2, 1)], name="v2.0")

    def change(document: dict[str, Any]) -> None:
        label = document["dataset"]["samples"][0]["labels"]["ground-truth"]["attributes"]
        label["frames"][2]["annotations"][0]["category_id"] = 3

    edit_release(new.path, change)
    record = diffed(cli, old.path, new.path)
    assert (record.old.samples, record.new.samples) == (12, 15)
    changes = {u: c.change for u, c in record.samples.items() if c.change not in ("redrawn", "added")}
    assert changes.pop(f"{sample_uuid(1)}.00000") == "labelled"
    assert changes.pop(f"{sample_uuid(2)}.00001") == "unlabelled"
    assert set(changes) <= {f"{sample_uuid(0)}.00002"}
    assert record.totals["added"] == 3


@pytest.mark.parametrize("kind", ["files", "folders", "names"])
def test_shapes_are_compared_by_the_pixels_they_draw(
    commands: Commands, tmp_path: Path, server: LoopbackSegments, cli: Cli, kind: str
) -> None:
    old = draw_shapes_release(tmp_path / "one", samples=5)
    server_url = server.mount(old.path.parent)
    edit_release(old.path, lambda d: absolute(d, server_url))
    new_path = tmp_path / "two.json"
    document = json.loads(old.path.read_text())
    samples = document["dataset"]["samples"]
    expected = {u: b.copy() for u, b in old.categories.items()}
    of = [s["labels"]["ground-truth"]["attributes"]["annotations"] for s in samples]
    of[0].append({"id": 9, "category_id": 3, "type": "bbox", "points": [[20, 20], [99, 4]]})  # beyond the image
    expected[sample_uuid(0)][4:20, 20:] = 3
    of[1][-2]["points"] = [[5, 5]]  # a point, which has no pixels
    of[2][0]["id"] = 70  # nothing that is drawn
    of[3].insert(0, of[3].pop(-1))  # the line, drawn first
    samples[4]["labels"]["ground-truth"] = None
    document["name"] = "v2.0"
    new_path.write_text(json.dumps(document))
    sources: list[object] = [old.path, new_path]
    if kind == "folders":
        sources = [tmp_path / "f1", tmp_path / "f2"]
        for path, out in zip((old.path, new_path), sources, strict=True):
            cli("pull", path, "--out", out)
    if kind == "names":
        sources = [server.add_round(old.path), server.add_round(new_path)]
    record = diffed(cli, *sources, env=server.env)
    changes = {u: c.change for u, c in record.samples.items()}
    ids = [sample_uuid(i) for i in range(5)]
    assert changes == {ids[0]: "relabelled", ids[1]: "redrawn", ids[3]: "redrawn", ids[4]: "unlabelled"}
    assert record.samples[ids[0]].flow == named(flow_of(old.categories[ids[0]], expected[ids[0]]))
    assert record.samples[ids[4]].pixels == int((old.categories[ids[4]] >= 0).sum())
    assert record.fetched == {"files": 4, "folders": 0, "names": 4}[kind]  # nothing for the third sample
    wide = diffed(cli, *sources, "--line-width", "2", env=server.env)
    assert wide.samples[ids[3]].change in ("relabelled", "redrawn")
    under = old.categories[ids[3]]
    after = under.copy()
    before_line = under.copy()
    before_line[0:2, 1:9] = 2
    after[0:2, 1:9] = np.where(under[0:2, 1:9] < 0, 2, under[0:2, 1:9])
    assert wide.samples[ids[3]].flow == named(flow_of(before_line, after))


def absolute(document: dict[str, Any], url: str) -> None:
    for sample in document["dataset"]["samples"]:
        image = sample["attributes"]["image"]
        image["url"] = url + image["url"]
