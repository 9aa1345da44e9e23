"""Drawn scenes and the release made of them."""

import json
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelsync.pixels.image import decode_image
from labelsync.pixels.instance import decode_instance_bitmap
from labelsync.release.parse import parse_release
from labelsync.sidewalk.canvas import Camera
from labelsync.sidewalk.layout import draw_light
from labelsync.sidewalk.preset import CATEGORIES as ALL
from labelsync.sidewalk.scenes import CATEGORIES, SIZE_HW, Scene, draw_release, draw_scene, flaws

NAMES = {c.id: c.name for c in ALL}
SCENES = 25


def scene(seed: int, *, size_hw: tuple[int, int] = (96, 128)) -> Scene:
    return draw_scene(np.random.default_rng(seed), draw_light(np.random.default_rng((seed, 1))), size_hw=size_hw)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn release of 25 samples, seed 3."""
    return draw_release(tmp_path_factory.mktemp("drawn"), scenes=SCENES, seed=3)


@pytest.fixture(scope="module")
def samples(release: Path) -> list[dict[str, Any]]:
    document: dict[str, Any] = json.loads(release.read_text())
    return list(document["dataset"]["samples"])


def label_of(sample: dict[str, Any]) -> Any:
    return sample["labels"]["ground-truth"]


# -------------------------------------------------------------------- scenes


def test_annotations_are_the_drawn_ids() -> None:
    for seed in range(6):
        drawn = scene(seed)
        assert drawn.image.shape == (96, 128, 3)
        assert drawn.image.dtype == np.uint8
        assert drawn.instances.shape == (96, 128)
        assert set(np.unique(drawn.instances)) - {0} == set(drawn.annotations)
        assert set(drawn.annotations.values()) <= {c.id for c in CATEGORIES}


def test_scenes_hold_all_twelve_classes_and_several_of_a_kind() -> None:
    owners = [list(scene(seed).annotations.values()) for seed in range(16)]
    assert {c for one in owners for c in one} == {c.id for c in CATEGORIES}
    assert len(CATEGORIES) == 12
    for category in CATEGORIES:
        most = max(Counter(one)[category.id] for one in owners)
        assert (most > 1) == category.has_instances, category.name


def test_a_scene_is_learnable_but_not_by_colour_alone() -> None:
    """The mean colours of sky and road differ; those of one class differ between scenes by as much."""
    means: dict[str, list[Any]] = {}
    for seed in range(8):
        drawn = scene(seed)
        for instance, category in drawn.annotations.items():
            means.setdefault(NAMES[category], []).append(drawn.image[drawn.instances == instance].mean(0))
    spread = np.linalg.norm(np.std(means["construction-building"], 0))
    apart = np.linalg.norm(np.mean(means["construction-building"], 0) - np.mean(means["flat-sidewalk"], 0))
    assert spread > apart


def test_what_stands_nearer_hides_what_is_behind() -> None:
    """The ground runs from the lower edge upwards, the sky from the upper edge downwards."""
    for seed in range(8):
        drawn = scene(seed)
        rows = {
            NAMES[c]: np.nonzero(drawn.instances == i)[0].mean()
            for i, c in drawn.annotations.items()
            if NAMES[c] in ("sky", "construction-building", "flat-sidewalk")
        }
        assert rows.get("sky", 0) < rows["flat-sidewalk"]
        assert rows.get("construction-building", 0) < rows["flat-sidewalk"]


def test_rays_and_projection_are_inverse() -> None:
    camera = Camera((40, 60), focal=50.0, horizon=16.0, height=1.2, yaw=0.4)
    dx, dy, dz = camera.rays()
    x, y, z = 7 * dx[0, 21], camera.height + 7 * dy[33, 0], 7 * dz[0, 21]
    assert camera.depth(x, z) == pytest.approx(7)
    assert camera.project([(x, y, z)])[0] == pytest.approx((21.5, 33.5), abs=1e-4)
    assert camera.project([(0.0, 0.0, -1.0)]) == []


# -------------------------------------------------------------------- the release


def test_same_seed_same_bytes_and_another_seed_other_bytes(tmp_path: Path) -> None:
    def files(folder: Path, seed: int) -> dict[str, bytes]:
        draw_release(folder, scenes=4, seed=seed)
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    first, again, other = files(tmp_path / "a", 7), files(tmp_path / "b", 7), files(tmp_path / "c", 8)
    assert first == again
    images = [{data for name, data in drawn.items() if name.startswith("images/")} for drawn in (first, other)]
    assert [len(i) for i in images] == [4, 4]
    assert not images[0] & images[1]


def test_release_parses_as_one_of_segments_ai(release: Path) -> None:
    parsed = parse_release(release.read_bytes(), where="drawn")
    assert (parsed.name, parsed.dataset, parsed.task_type) == (
        "v1.0",
        "labelsync/drawn-sidewalk",
        "segmentation-bitmap",
    )
    assert parsed.categories == CATEGORIES
    assert len(parsed.samples) == SCENES
    assert not [s.name for s in parsed.samples if s.problem]
    assert len({s.uuid for s in parsed.samples}) == SCENES
    assert all(uuid.UUID(s.uuid) for s in parsed.samples)


def test_flaws_are_drawn_as_announced(release: Path, samples: list[dict[str, Any]]) -> None:
    skipped, unlabeled, wrong_size = flaws(SCENES, 3)
    assert all((skipped, unlabeled, wrong_size))
    assert len(skipped | unlabeled | wrong_size) == len(skipped) + len(unlabeled) + len(wrong_size)
    for i, sample in enumerate(samples):
        label = label_of(sample)
        assert (label is None) == (i in unlabeled)
        assert decode_image((release.parent / sample["attributes"]["image"]["url"]).read_bytes()).shape[:2] == SIZE_HW
        if label is None:
            continue
        assert (label["label_status"] == "SKIPPED") == (i in skipped)
        bitmap = decode_instance_bitmap(
            (release.parent / label["attributes"]["segmentation_bitmap"]["url"]).read_bytes()
        )
        assert (bitmap.shape != SIZE_HW) == (i in wrong_size)
        drawn = {a["id"] for a in label["attributes"]["annotations"]}
        assert bool(drawn) == bool(bitmap.any()) == (i not in skipped)
        assert set(np.unique(bitmap)) - {0} <= drawn


def test_a_hundred_scenes_have_ten_flaws() -> None:
    assert [len(part) for part in flaws(100, 0)] == [4, 4, 2]
    assert flaws(100, 0) != flaws(100, 1)


def test_labels_are_reviewed_or_labeled_and_leave_some_pixels_out(release: Path, samples: list[dict[str, Any]]) -> None:
    statuses = Counter(label_of(s)["label_status"] for s in samples if label_of(s))
    assert set(statuses) == {"LABELED", "REVIEWED", "SKIPPED"}
    bitmaps = [
        decode_instance_bitmap((release.parent / label["attributes"]["segmentation_bitmap"]["url"]).read_bytes())
        for label in map(label_of, samples)
        if label and label["label_status"] != "SKIPPED"
    ]
    left_out = [float((b == 0).mean()) for b in bitmaps]
    assert max(left_out) > 0.001
    assert max(left_out) < 0.05


def test_scenes_of_one_walk_share_weather_and_not_content(samples: list[dict[str, Any]], release: Path) -> None:
    walks: dict[str, set[str]] = {}
    for sample in samples:
        walks.setdefault(sample["metadata"]["sequence"], set()).add(sample["metadata"]["weather"])
    assert len(walks) == SCENES // 5
    assert all(len(weather) == 1 for weather in walks.values())
    images = [(release.parent / s["attributes"]["image"]["url"]).read_bytes() for s in samples]
    assert len(set(images)) == SCENES
