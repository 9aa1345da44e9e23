"""Safety: what a model's errors mean for a robot on the sidewalk.

Mean IoU weighs a pedestrian taken for sidewalk as a tree taken for a fence. Here classes have a meaning (`groups`):
walkable, obstacle, road, other. All of it is over labelled pixels, once over the whole image and once (`near.`) in the
near field, a trapezoid in front of the robot. With n(a, b) = pixels labelled as a class of a and predicted as one of b,

    obstacle_as_walkable = n(obstacle, walkable) / n(obstacle, all)     the robot would drive there: the false negative
                                                                        rate of obstacles that ends in a collision
    walkable_precision   = n(walkable, walkable) / n(all, walkable)     as precision and recall of drivable space in
    walkable_recall      = n(walkable, walkable) / n(walkable, all)     KITTI road (Fritsch, Kuehnl, Geiger, ITSC 2013)
    curb_recall          = n(curb, curb) / n(curb, all)

    missed_obstacles     = missed / all obstacles, an obstacle being a connected component (8 neighbours) of one class.
                           It is missed if less than half of its pixels are predicted as an obstacle of any class:
                           counted in things, as in component-wise evaluation of obstacle segmentation (Chan et al.,
                           SegmentMeIfYouCan, NeurIPS Datasets 2021), so that a far pedestrian weighs as much as a bus.
                           .small, .medium, .large are COCO's sizes (below 32^2, below 96^2 pixels, above; Lin et al.,
                           ECCV 2014), missed.CLASS are those of a class; near: those that reach into the near field, by
                           size and class too.

    free path            = rows of the middle third of the near field, from the image's lower edge up, until the first
                           row that is not free. A row is free if at least 95 % of its labelled pixels are walkable and
                           none is an obstacle; a row without labelled pixels is passed over.
    false_free_path      = the longest stretch that is claimed and not there: the largest claimed - true free path of
                           all images, where positive, as a share of the image's height. mean_false_free_path is its
                           mean over images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsync.evaluation.components import components
from labelsync.evaluation.confusion import Counts, confusion
from labelsync.evaluation.figures import Floats
from labelsync.evaluation.groups import GROUPS, Groups, trapezoid
from labelsync.evaluation.scores import ratio
from labelsync.evaluation.tally import Tally, sparse
from labelsync.records.scores import Obstacles, SafetyScores

SIZES = {"small": 32**2, "medium": 96**2, "large": np.inf}
"""Size of an obstacle -> pixels below which it is of that size, in rising order."""

FREE = 0.95
"""Share of a row's pixels that are walkable if the row is free."""


@dataclass(frozen=True, eq=False)
class ImageSafety:
    """What is kept of an image; the tables of `labelsync.evaluation.tally` without their first column."""

    near: Counts
    obstacles: Counts
    path: Counts


class SafetyMeasure:
    """Counts what is dangerous about a prediction.

    Args:
        groups: what the classes mean.
        names: of the K classes.
        near_field: see `labelsync.evaluation.groups.NEAR_FIELD`.
    """

    def __init__(self, groups: Groups, names: Sequence[str], near_field: tuple[float, float, float]) -> None:
        self.groups, self.near_field = groups, near_field
        self._number = len(names)
        self._is = {group: np.zeros(self._number + 1, bool) for group in ("walkable", "obstacle")}
        for group, table in self._is.items():
            table[groups.ids(group, names)] = True

    def image(self, label: npt.NDArray[Any], prediction: npt.NDArray[Any]) -> ImageSafety:
        """The counts of one image; (H, W) disk ids of one shape."""
        height, width = label.shape
        field = trapezoid((height, width), self.near_field)
        low = np.s_[height - len(field) :]
        return ImageSafety(
            near=sparse(confusion(np.where(field, label[low], 0), prediction[low], self._number)),
            obstacles=self._obstacles(label, prediction, field),
            path=self._path(label[low], prediction[low], height),
        )

    def _obstacles(self, label: npt.NDArray[Any], prediction: npt.NDArray[Any], field: npt.NDArray[np.bool_]) -> Counts:
        """(m, 4) rows class, pixels, pixels seen as any obstacle, 1 if in the near field; in order of these."""
        things = components(label, self._is["obstacle"])
        near = np.zeros(label.shape, bool)
        near[len(label) - len(field) :] = field
        seen = things.count(self._is["obstacle"][prediction])
        rows = np.stack([things.classes, things.pixels, seen, things.count(near) > 0], 1)
        return rows[np.lexsort(rows.T[::-1])]

    def _path(self, label: npt.NDArray[Any], prediction: npt.NDArray[Any], height: int) -> Counts:
        """(3,) rows of free path claimed, rows truly free, height of the image; all 0 if nothing there is labelled."""
        counted = trapezoid((height, label.shape[1]), self.near_field, 1 / 3)[-len(label) :] & (label > 0)
        pixels = counted.sum(1)
        if not pixels.any():
            return np.zeros(3, np.int64)
        lengths = [self._free_rows(bitmap, counted, pixels) for bitmap in (prediction, label)]
        return np.array([*lengths, height], np.int64)

    def _free_rows(self, bitmap: npt.NDArray[Any], counted: npt.NDArray[np.bool_], pixels: npt.NDArray[Any]) -> int:
        """Rows with labelled pixels from the lowest one up to the first that is not free."""
        walkable = (self._is["walkable"][bitmap] & counted).sum(1)
        blocked = (walkable < FREE * pixels) | (self._is["obstacle"][bitmap] & counted).any(1)
        upwards = blocked[::-1]
        end = int(upwards.argmax()) if upwards.any() else len(upwards)
        return int((pixels[::-1][:end] > 0).sum())


# -------------------------------------------------------------------- figures


def safety_ratios(tally: Tally, groups: Groups, names: Sequence[str]) -> dict[str, Floats]:
    """Every figure that is a ratio of sums over images: name -> (N, 2) what stands above and below the line."""
    found: dict[str, Floats] = {}
    for prefix, table in (("", "confusion"), ("near.", "near")):
        found |= {f"{prefix}{name}": pair for name, pair in _pixel_ratios(tally, table, groups, names).items()}
    image, number, pixels, seen, near = tally.arrays["obstacles"].T
    missed = 2 * seen < pixels

    def counted(chosen: npt.NDArray[np.bool_]) -> Floats:
        images = len(tally.images)
        rows = [np.bincount(image[which], minlength=images) for which in (chosen & missed, chosen)]
        return np.stack(rows, 1).astype(np.float64)

    for prefix, where in (("", np.ones(len(image), bool)), ("near.", near > 0)):
        found[f"{prefix}missed_obstacles"] = counted(where)
        for size, which in _sized(pixels).items():
            found[f"{prefix}missed_obstacles.{size}"] = counted(where & which)
        for i in groups.ids("obstacle", names):
            found[f"{prefix}missed.{names[i - 1]}"] = counted(where & (number == i))
    claimed, true, height = tally.arrays["path"].T.astype(np.float64)
    excess = ratio(np.maximum(claimed - true, 0), height)
    found["mean_false_free_path"] = np.stack([np.nan_to_num(excess), (height > 0).astype(np.float64)], 1)
    return found


def longest_false_path(tally: Tally) -> tuple[float | None, str]:
    """The longest path that is claimed and not there, as a share of the image's height, and the name of the image."""
    claimed, true, height = tally.arrays["path"].T.astype(np.float64)
    if not (height > 0).any():
        return None, ""
    excess = np.nan_to_num(ratio(np.maximum(claimed - true, 0), height))
    longest = int(excess.argmax())
    return float(excess[longest]), tally.images[longest].name if excess[longest] else ""


def safety_scores(
    tally: Tally, figures: Mapping[str, float | None], ratios: Mapping[str, Floats], groups: Groups
) -> SafetyScores:
    """The record of the ratios and of the longest false path; `figures` has the value of every ratio."""
    longest, image = longest_false_path(tally)
    return SafetyScores(
        figures={name: figures[name] for name in ratios} | {"false_free_path": longest},
        sizes={size: _obstacles(ratios[f"missed_obstacles.{size}"]) for size in SIZES},
        classes={name: _obstacles(ratios[f"missed.{name}"]) for name in groups.obstacle},
        near_sizes={size: _obstacles(ratios[f"near.missed_obstacles.{size}"]) for size in SIZES},
        near_classes={name: _obstacles(ratios[f"near.missed.{name}"]) for name in groups.obstacle},
        false_free_path_image=image,
        groups={group: getattr(groups, group) for group in (*GROUPS, "curb")},
    )


def _obstacles(pair: Floats) -> Obstacles:
    missed, total = pair.sum(0)
    return Obstacles(total=int(total), missed=int(missed))


def _pixel_ratios(tally: Tally, table: str, groups: Groups, names: Sequence[str]) -> dict[str, Floats]:
    image, label, prediction, pixels = tally.arrays[table].T
    of = {g: np.isin(np.arange(len(names) + 1), groups.ids(g, names)) for g in ("walkable", "obstacle", "curb")}

    def pair(above: npt.NDArray[np.bool_], below: npt.NDArray[np.bool_]) -> Floats:
        sums = [np.bincount(image, weights=pixels * which, minlength=len(tally.images)) for which in (above, below)]
        return np.stack(sums, 1)

    meant, said = {g: of[g][label] for g in of}, {g: of[g][prediction] for g in of}
    return {
        "obstacle_as_walkable": pair(meant["obstacle"] & said["walkable"], meant["obstacle"]),
        "walkable_precision": pair(meant["walkable"] & said["walkable"], said["walkable"]),
        "walkable_recall": pair(meant["walkable"] & said["walkable"], meant["walkable"]),
        "curb_recall": pair(meant["curb"] & said["curb"], meant["curb"]),
    }


def _sized(pixels: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.bool_]]:
    """size -> which of the obstacles are of it."""
    bounds = [0, *SIZES.values()]
    return {size: (pixels >= bounds[i]) & (pixels < bounds[i + 1]) for i, size in enumerate(SIZES)}
