"""Safety figures: by hand, against the slow way, and the two predictors that mean IoU cannot tell apart."""

import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st

import labelsync
from labelsync.errors import OptionError
from labelsync.evaluation.boundary import boundary_areas
from labelsync.evaluation.calibration import BINS
from labelsync.evaluation.compare import compare
from labelsync.evaluation.confusion import confusion
from labelsync.evaluation.figures import Figures
from labelsync.evaluation.groups import NEAR_FIELD, Groups, check_near_field, groups_for, trapezoid
from labelsync.evaluation.measure import ImageCounts, together
from labelsync.evaluation.safety import SafetyMeasure, longest_false_path, safety_ratios, safety_scores
from labelsync.evaluation.tally import ImageFacts, label_digest, sparse
from labelsync.records.results import EvaluateRecord
from labelsync.records.scores import SafetyScores
from labelsync.records.text import from_json
from labelsync.sidewalk import preset
from tests.models import loud_segformer
from tests.releases import draw_release, edit_release

Map = npt.NDArray[Any]

NAMES = ("sidewalk", "curb", "road", "person", "car", "sky", "grass")
SIDEWALK, CURB, ROAD, PERSON, CAR, SKY, GRASS = range(1, 8)
GROUPS = Groups(("sidewalk",), ("person", "car"), ("curb", "road"), ("sky", "grass"), ("curb",))


def found(
    *pairs: tuple[Map, Map], near_field: tuple[float, float, float] = NEAR_FIELD
) -> tuple[SafetyScores, dict[str, float | None]]:
    """The safety scores of labels and predictions, and all figures."""
    measure = SafetyMeasure(GROUPS, NAMES, near_field)
    images = [
        ImageCounts(
            ImageFacts(f"{i}.png", str(i), label_digest(label), str(i)),
            sparse(confusion(label, prediction, 7)),
            boundary_areas(label, prediction, 7, width=0.01),
            np.zeros((3, BINS)),
            measure.image(label, prediction),
        )
        for i, (label, prediction) in enumerate(pairs)
    ]
    tally = together(images, 7)
    ratios = safety_ratios(tally, GROUPS, NAMES)
    figures = Figures(tally, NAMES, ratios).whole()
    return safety_scores(tally, figures, ratios, GROUPS), figures


def scene(height: int = 60, width: int = 80) -> Map:
    """Sky over sidewalk."""
    label = np.full((height, width), SIDEWALK, np.uint8)
    label[: height // 2] = SKY
    return label


# -------------------------------------------------------------------- what mean IoU cannot see


def test_of_two_predictors_with_one_mean_iou_the_one_that_eats_pedestrians_is_found() -> None:
    """Persons on the sidewalk and patches of grass in the sky, of one size: one loses these, the other those."""
    label = scene(80, 80)
    for x in (10, 40, 60):
        label[50:62, x : x + 6] = PERSON
        label[10:22, x : x + 6] = GRASS
    eats_persons = np.where(label == PERSON, SIDEWALK, label)
    eats_grass = np.where(label == GRASS, SKY, label)
    (bad, bad_figures), (good, good_figures) = found((label, eats_persons)), found((label, eats_grass))
    for name in ("mean_iou", "mean_accuracy", "overall_accuracy", "frequency_weighted_iou", "mean_dice"):
        assert bad_figures[name] == pytest.approx(good_figures[name], abs=1e-12)
    assert bad_figures["mean_iou"] < 0.8
    assert (bad.figures["obstacle_as_walkable"], good.figures["obstacle_as_walkable"]) == (1.0, 0.0)
    assert (bad.figures["near.missed_obstacles"], good.figures["near.missed_obstacles"]) == (1.0, 0.0)
    assert (bad.classes["person"].missed, good.classes["person"].missed) == (3, 0)
    assert bad.figures["walkable_precision"] < good.figures["walkable_precision"] == 1.0
    assert bad.figures["false_free_path"] > good.figures["false_free_path"] == 0.0


@given(st.integers(0, 10_000))
def test_a_perfect_predictor_is_safe_whatever_is_unlabeled(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label = np.kron(rng.integers(0, 8, (6, 8)), np.ones((5, 5), int)).astype(np.uint8)
    scores, _ = found((label, np.where(label == 0, rng.integers(0, 8, label.shape), label)))
    known = {name: value for name, value in scores.figures.items() if value is not None}
    assert {v for n, v in known.items() if n.endswith(("precision", "recall"))} <= {1.0}
    assert {v for n, v in known.items() if not n.endswith(("precision", "recall"))} <= {0.0}


# -------------------------------------------------------------------- pixels


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_pixel_figures_by_their_definition_over_the_image_and_in_the_field(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = [tuple(rng.integers(0, 8, (2, 12, 16)).astype(np.uint8)) for _ in range(2)]
    scores, _ = found(*pairs, near_field=(0.8, 0.3, 0.5))
    field = np.zeros((12, 16), bool)
    for y in range(6):  # the lowest 6 of 12 rows
        half = (0.3 + (0.8 - 0.3) * (y + 0.5) / 6) * 16 / 2
        for x in range(16):
            field[6 + y, x] = abs(x + 0.5 - 8) <= half
    for prefix, where in (("", np.ones((12, 16), bool)), ("near.", field)):
        label = np.concatenate([a[where] for a, _ in pairs])
        said = np.concatenate([b[where] for _, b in pairs])[label > 0]
        label = label[label > 0]
        obstacle, walkable = np.isin(label, (PERSON, CAR)), label == SIDEWALK
        expected = {
            "obstacle_as_walkable": (obstacle & (said == SIDEWALK)).sum() / obstacle.sum(),
            "walkable_precision": (walkable & (said == SIDEWALK)).sum() / (said == SIDEWALK).sum(),
            "walkable_recall": (walkable & (said == SIDEWALK)).sum() / walkable.sum(),
            "curb_recall": ((label == CURB) & (said == CURB)).sum() / (label == CURB).sum(),
        }
        for name, value in expected.items():
            assert scores.figures[prefix + name] == pytest.approx(value, abs=1e-12)


def test_the_field_is_symmetric_and_as_wide_as_it_is_said() -> None:
    field = trapezoid((100, 200), (1.0, 0.5, 0.4))
    assert field.shape == (40, 200)
    assert np.array_equal(field, field[:, ::-1])
    assert (field[-1].sum(), field[0].sum()) == (198, 102)
    assert trapezoid((100, 200), (1.0, 0.5, 0.4), 1 / 3)[-1].sum() == 66


# -------------------------------------------------------------------- things


def slow_components(inside: npt.NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    left, parts = {(int(y), int(x)) for y, x in np.argwhere(inside)}, []
    while left:
        waiting, part = deque([left.pop()]), []
        while waiting:
            y, x = waiting.popleft()
            part.append((y, x))
            for near in {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left:
                left.remove(near)
                waiting.append(near)
        parts.append(part)
    return parts


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_obstacles_are_connected_components_of_one_class(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label, said = rng.integers(0, 8, (2, 14, 18)).astype(np.uint8)
    scores, _ = found((label, said))
    field = np.zeros((14, 18), bool)
    field[14 - len(trapezoid((14, 18), NEAR_FIELD)) :] = trapezoid((14, 18), NEAR_FIELD)
    total = missed = near_total = near_missed = 0
    near_of = {}
    for c in (PERSON, CAR):
        before = near_total, near_missed
        for part in slow_components(label == c):
            is_missed = sum(said[p] in (PERSON, CAR) for p in part) < len(part) / 2
            total, missed = total + 1, missed + is_missed
            if any(field[p] for p in part):
                near_total, near_missed = near_total + 1, near_missed + is_missed
        near_of[NAMES[c - 1]] = (near_total - before[0], near_missed - before[1])
    assert scores.figures["missed_obstacles"] == (missed / total if total else None)
    assert scores.figures["near.missed_obstacles"] == (near_missed / near_total if near_total else None)
    assert sum(o.total for o in scores.sizes.values()) == sum(o.total for o in scores.classes.values()) == total
    assert {name: (o.total, o.missed) for name, o in scores.near_classes.items()} == near_of
    assert sum(o.missed for o in scores.near_sizes.values()) == near_missed
    for name, (there, gone) in near_of.items():
        assert scores.figures[f"near.missed.{name}"] == (gone / there if there else None)


def test_obstacles_count_alike_whatever_their_size_and_have_one() -> None:
    label = scene(300, 300)
    label[200:210, 10:20] = PERSON  # 100 pixels: small
    label[200:240, 60:100] = CAR  # 1600: medium
    label[160:290, 150:280] = CAR  # 16900: large
    said = label.copy()
    said[200:210, 10:15] = SIDEWALK  # half of the person is seen: not missed
    said[200:240, 60:81] = ROAD  # more than half of the car is gone
    said[160:290, 150:280] = PERSON  # taken for another obstacle: not missed
    scores, _ = found((label, said))
    assert {size: (o.total, o.missed) for size, o in scores.sizes.items()} == {
        "small": (1, 0),
        "medium": (1, 1),
        "large": (1, 0),
    }
    assert scores.figures["missed_obstacles"] == 1 / 3
    assert scores.figures["missed.car"] == 1 / 2


# -------------------------------------------------------------------- the path ahead


def test_the_false_path_is_what_is_claimed_beyond_the_first_obstacle() -> None:
    """A field of 24 rows; a pole stands in its middle 10 rows from the lower edge, 2 pixels wide."""
    label = scene(60, 80)
    label[44:50, 39:41] = PERSON
    blind = scene(60, 80)
    scores, figures = found((label, blind))
    assert scores.figures["false_free_path"] == figures["mean_false_free_path"] == (24 - 10) / 60
    assert scores.false_free_path_image == "0.png"
    afraid = blind.copy()
    afraid[56] = ROAD  # it claims less than there is: no danger
    assert found((label, afraid))[0].figures["false_free_path"] == 0.0


def test_the_longest_path_is_of_the_worst_image_and_the_mean_of_all() -> None:
    label, blind = scene(60, 80), scene(60, 80)
    label[44:50, 39:41] = PERSON
    unlabeled = np.zeros((60, 80), np.uint8)
    scores, _ = found((blind, blind), (label, blind), (unlabeled, blind))
    assert scores.figures["false_free_path"] == 14 / 60
    assert scores.false_free_path_image == "1.png"
    assert scores.figures["mean_false_free_path"] == pytest.approx(14 / 60 / 2, abs=1e-12)
    assert found((unlabeled, blind))[0].figures["false_free_path"] is None


def test_a_row_without_labels_is_passed_over_and_a_little_else_is_not_the_end() -> None:
    label, blind = scene(60, 80), scene(60, 80)
    label[52:] = 0  # the robot's own bonnet
    label[30:40] = ROAD
    assert found((label, blind))[0].figures["false_free_path"] == (40 - 36) / 60  # rows 36 to 39 of the field
    label[51, 40] = SKY  # one of the 21 pixels of that row: still 95 %
    assert found((label, blind))[0].figures["false_free_path"] == (40 - 36) / 60


# -------------------------------------------------------------------- groups


def test_the_sidewalk_classes_have_their_groups_and_others_are_other() -> None:
    groups = groups_for(["flat-sidewalk", "human-person", "flat-curb", "scooter"])
    assert groups == Groups(("flat-sidewalk",), ("human-person",), ("flat-curb",), ("scooter",), ("flat-curb",))
    assert groups_for(["cat", "dog"]) is None
    assert groups_for(["flat-sidewalk", "sky"]) is None  # nothing to run into
    every = groups_for([c.name for c in preset.CATEGORIES[1:]])
    assert sum(len(getattr(every, g)) for g in preset.GROUPS) == 34
    assert every.curb == ("flat-curb",)


def test_a_file_groups_any_classes(tmp_path: Path) -> None:
    path = tmp_path / "groups.toml"
    path.write_text('walkable = ["a"]\nobstacle = ["b", "later"]\nother = ["c"]\ncurb = ["c"]')
    assert groups_for(["a", "b", "c"], path) == Groups(("a",), ("b",), (), ("c",), ("c",))
    for text, why in (
        ('walkable = ["a"]\nobstacle = ["b"]', "class 'c' in no group"),
        ('walkable = ["a", "b"]\nobstacle = ["b"]\nother = ["c"]', "in walkable and obstacle"),
        ('walkable = ["a"]\nother = ["b", "c"]', "none to run into"),
        ('walkables = ["a"]', "'walkables' is no list"),
        ("walkable = 3", "'walkable' is no list"),
        ("walkable", "not TOML"),
    ):
        path.write_text(text)
        with pytest.raises(OptionError, match=why):
            groups_for(["a", "b", "c"], path)


@pytest.mark.parametrize("values", [(1.0, 0.4), (0.0, 0.4, 0.4), (1.0, 0.4, 1.4)])
def test_a_field_outside_the_image_is_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(OptionError, match="--near-field"):
        check_near_field(values)


# -------------------------------------------------------------------- the commands


def test_a_sidewalk_model_is_judged_for_its_safety(tmp_path: Path, cli: Callable[..., Result]) -> None:
    release = draw_release(tmp_path / "drawn", samples=10, size=(96, 128))
    edit_release(release, named("flat-sidewalk", "human-person", "flat-road"))
    cli("pull", release, "--out", tmp_path / "release")
    cli("convert", tmp_path / "release", "--out", tmp_path / "data", "--fractions", "0.4,0.2,0.4")
    labels = labelsync.load(tmp_path / "data").labels
    folder = loud_segformer(tmp_path / "model", labels)
    run = ("evaluate", folder, "--dataset", tmp_path / "data", "--device", "cpu")
    ended = cli(*run, "--out", tmp_path / "e", "--gate", "near.obstacle_as_walkable < 0", "--json", code=3)
    record = from_json(EvaluateRecord, ended.stdout)
    assert record.safety is not None
    names = list(record.per_category_iou)
    counts = np.array(json.loads((tmp_path / "e/confusion.json").read_text())["counts"])
    person, sidewalk = names.index("human-person"), names.index("flat-sidewalk")
    expected = counts[person, sidewalk + 1] / counts[person].sum()
    assert record.safety.figures["obstacle_as_walkable"] == pytest.approx(expected, abs=1e-12)
    low, high = record.intervals["obstacle_as_walkable"]
    assert low <= expected <= high
    assert "near.obstacle_as_walkable < 0: it is " in ended.stderr
    assert "obstacle_as_walkable" in cli(*run, "--out", tmp_path / "e").stdout
    (tmp_path / "groups.toml").write_text('walkable = ["flat-road"]\nobstacle = ["human-person", "flat-sidewalk"]')
    regrouped = ("--out", tmp_path / "o", "--groups", tmp_path / "groups.toml", "--json")
    other = from_json(EvaluateRecord, cli(*run, *regrouped).stdout)
    assert other.safety is not None
    assert other.safety.groups["walkable"] == ("flat-road",)
    same = compare(tmp_path / "e", baseline=tmp_path / "e", gate=["delta.false_free_path <= 0"])
    assert same.figures["obstacle_as_walkable"].delta == 0.0
    assert "obstacle_as_walkable" not in compare(tmp_path / "e", baseline=tmp_path / "o").figures


def named(*names: str) -> Callable[[dict[str, Any]], None]:
    def rename(document: dict[str, Any]) -> None:
        for category, name in zip(document["dataset"]["task_attributes"]["categories"], names, strict=True):
            category["name"] = name

    return rename


def test_no_image_has_no_longest_path() -> None:
    tally = together([], 7)
    empty = type(tally)((), 7, {**tally.arrays, "path": np.zeros((0, 3), np.int64)})
    assert longest_false_path(empty) == (None, "")
