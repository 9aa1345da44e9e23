"""What evaluations hold, and what `compare` returns. Figures go by the names that gates know them by."""

from dataclasses import dataclass, field

Figures = dict[str, float | None]


@dataclass(frozen=True)
class GateResult:
    """A gate as it was stated, the figure it found, and why it is not met ("" if it is)."""

    gate: str
    value: float | None
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether it is met."""
        return not self.reason


@dataclass(frozen=True)
class SliceScores:
    """The figures of a part of the images; `intervals` = name -> 95 % bootstrap interval."""

    images: int
    pixels: int
    figures: Figures
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Obstacles:
    """Labelled obstacles (connected components) of one size or class, and how many of them were missed."""

    total: int
    missed: int


@dataclass(frozen=True)
class SafetyScores:
    """What the errors mean for a robot on the sidewalk; see `labelsync.evaluation.safety` for every formula.

    `figures` by name; `sizes` and `classes` = obstacles by size and class, `near_sizes` and `near_classes` = those of
    them that reach into the near field; `false_free_path_image` = the image with the longest path that is claimed and
    not there; `groups` = group -> its classes.
    """

    figures: Figures
    sizes: dict[str, Obstacles]
    classes: dict[str, Obstacles]
    false_free_path_image: str
    groups: dict[str, tuple[str, ...]]
    near_sizes: dict[str, Obstacles] = field(default_factory=dict)
    near_classes: dict[str, Obstacles] = field(default_factory=dict)


@dataclass(frozen=True)
class Delta:
    """A figure in both evaluations; `low`, `high` = 95 % paired bootstrap interval of `delta` = new - baseline."""

    new: float | None
    baseline: float | None
    delta: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ImageChange:
    """An image that crossed the line; `picture` is a file below the folder that `compare` left, or without one below
    the new evaluation folder; "" if it has none."""

    name: str
    uuid: str
    baseline: float
    new: float
    picture: str = ""


@dataclass(frozen=True)
class CompareRecord:
    """`compare`: two evaluations on the same images and labels.

    `figures` = name -> delta, `slices` = slicing -> value -> name -> delta; `newly_failed` = images whose mean IoU was
    at least `fail_below` and is below now, worst first, `newly_fixed` the other way round; `left_out` = what only one
    side has, with `--on-common`; `resampled` says what the intervals draw from; `seen` = "new" and "baseline" ->
    how images were looked at (`--flip` and so on), where that differs: then a delta is not of the models alone;
    `path` = the folder with pictures of the images, "" if none was asked for.
    """

    new: str
    baseline: str
    images: int
    classes: tuple[str, ...]
    left_out: dict[str, tuple[str, ...]]
    figures: dict[str, Delta]
    slices: dict[str, dict[str, dict[str, Delta]]]
    fail_below: float
    newly_failed: tuple[ImageChange, ...]
    newly_fixed: tuple[ImageChange, ...]
    resampled: str
    gates: tuple[GateResult, ...] = ()
    seen: dict[str, str] = field(default_factory=dict)
    path: str = ""
