"""What a report says, section by section: rows for its tables, and its charts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from labelsync.evaluation import plots
from labelsync.evaluation.cases import hex_of
from labelsync.evaluation.figures import HEADLINES, Floats
from labelsync.evaluation.plots import Bar, Chart
from labelsync.evaluation.scores import ratio
from labelsync.evaluation.tally import Tally
from labelsync.labels import LabelMap
from labelsync.records.results import EvaluateRecord
from labelsync.records.scores import CompareRecord, Delta

TITLES = {
    "mean_iou": "Mean IoU",
    "mean_accuracy": "Mean accuracy",
    "overall_accuracy": "Overall accuracy",
    "frequency_weighted_iou": "Frequency-weighted IoU",
    "mean_dice": "Mean Dice (F1)",
    "mean_boundary_iou": "Boundary IoU",
    "expected_calibration_error": "Calibration error",
    "obstacle_as_walkable": "Obstacle pixels taken for walkable",
    "walkable_precision": "Walkable, precision",
    "walkable_recall": "Walkable, recall",
    "curb_recall": "Curb, recall",
    "missed_obstacles": "Obstacles missed",
    "missed_obstacles.small": "Small obstacles missed (below 32² pixels)",
    "missed_obstacles.medium": "Medium obstacles missed (below 96² pixels)",
    "missed_obstacles.large": "Large obstacles missed",
    "mean_false_free_path": "Free path that is not there, mean of the images",
    "false_free_path": "Free path that is not there, longest",
}
_LOWER = ("expected_calibration_error", "obstacle_as_walkable", "missed", "mean_false_free_path", "false_free_path")
_DANGERS = ("obstacle_as_walkable", "missed_obstacles")
_CONFUSED = 12  # rows of a list


@dataclass(frozen=True)
class Shown:
    """A figure as the page shows it; `change` is the difference to the baseline, where there is one."""

    name: str
    title: str
    value: float | None
    interval: tuple[float, float] | None = None
    change: Delta | None = None

    @property
    def lower_is_better(self) -> bool:
        """Whether less of it is better."""
        return self.name.removeprefix("near.").startswith(_LOWER)

    @property
    def verdict(self) -> str:
        """ "better" or "worse" than the baseline where the interval leaves 0 out and the digits show it, else ""."""
        if self.change is None or self.change.low is None or self.change.high is None:
            return ""
        if self.change.low <= 0 <= self.change.high or abs(self.change.delta or 0.0) < plots.NOTHING:
            return ""
        return "better" if (self.change.low > 0) != self.lower_is_better else "worse"


@dataclass(frozen=True)
class ClassRow:
    """A class: its colour as #rrggbb, its share of the labelled pixels, and its scores."""

    id: int
    name: str
    color: str
    share: float
    iou: Shown
    boundary_iou: float | None
    dice: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Confused:
    """Pixels labelled as one class and predicted as another; `share` of the labelled ones."""

    label: str
    prediction: str
    pixels: int
    share: float


@dataclass(frozen=True)
class SafetyRow:
    """A safety figure in the whole image and in the near field."""

    whole: Shown
    near: Shown | None


@dataclass(frozen=True)
class SliceTable:
    """The images of each value of a slicing."""

    by: str
    chart: Chart
    rows: tuple[tuple[str, int, Shown, float | None], ...]


def shown(name: str, record: EvaluateRecord, value: float | None, compared: CompareRecord | None) -> Shown:
    """A figure of an evaluation by the name that gates know."""
    change = compared.figures.get(name) if compared else None
    title = TITLES.get(name.removeprefix("near."), name)
    return Shown(name, title, value, record.intervals.get(name), change)


def headline(record: EvaluateRecord, compared: CompareRecord | None) -> tuple[Shown, ...]:
    """The figures on top: scores, and what is most dangerous."""
    found = [shown(name, record, getattr(record, name), compared) for name in HEADLINES]
    safety = record.safety.figures if record.safety else {}
    return (*found, *(shown(name, record, safety[name], compared) for name in _DANGERS if name in safety))


def class_rows(
    record: EvaluateRecord, labels: LabelMap, tally: Tally, compared: CompareRecord | None
) -> tuple[ClassRow, ...]:
    """Every class, in the order of the dataset."""
    shares = label_shares(tally)
    return tuple(
        ClassRow(
            id=i,
            name=c.name,
            color=hex_of(c.color),
            share=float(shares[i - 1]),
            iou=shown(f"iou.{c.name}", record, record.per_category_iou.get(c.name), compared),
            boundary_iou=record.per_category_boundary_iou.get(c.name),
            dice=record.per_category_dice.get(c.name),
            accuracy=record.per_category_accuracy.get(c.name),
        )
        for i, c in enumerate(labels.classes, 1)
    )


def label_shares(tally: Tally) -> Floats:
    """(K,) share of each class in the labelled pixels of the split; 0 where nothing is labelled."""
    meant = tally.areas[:, 2].sum(0).astype(np.float64)
    shares: Floats = meant / max(meant.sum(), 1.0)
    return shares


def safety_rows(record: EvaluateRecord, compared: CompareRecord | None) -> tuple[SafetyRow, ...]:
    """Every safety figure but those of single classes."""
    figures = record.safety.figures if record.safety else {}
    rows = []
    for name, value in figures.items():
        if name.startswith(("near.", "missed.")):
            continue
        near = f"near.{name}"
        beside = shown(near, record, figures[near], compared) if near in figures else None
        rows.append(SafetyRow(shown(name, record, value, compared), beside))
    return tuple(rows)


def confused(tally: Tally, labels: LabelMap) -> tuple[Confused, ...]:
    """What is taken for what, by pixels; 0 is no class of the dataset."""
    counts = tally.confusion
    wrong = counts.copy()
    np.fill_diagonal(wrong[:, 1:], 0)
    meant = counts.sum(1)
    ranked = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSED]
    cells = [(int(at // wrong.shape[1]), int(at % wrong.shape[1])) for at in ranked]
    return tuple(
        Confused(labels.names[y], labels.id2label[x] if x else "none of them", int(wrong[y, x]), wrong[y, x] / meant[y])
        for y, x in cells
        if wrong[y, x] > 0
    )


# -------------------------------------------------------------------- charts


def class_chart(rows: Sequence[ClassRow], labels: LabelMap) -> Chart:
    """IoU per class, the best first."""
    known = sorted((r for r in rows if r.iou.value is not None), key=lambda r: (-(r.iou.value or 0), r.id))
    found = [
        Bar(plain(r.name), r.iou.value, r.iou.interval, r.iou.change.baseline if r.iou.change else None,
            labels.classes[r.id - 1].color)
        for r in known
    ]  # fmt: skip
    ends = (
        f", from {known[0].iou.value:.3f} for {known[0].name} to {known[-1].iou.value:.3f} for {known[-1].name}"
        if known
        else ""
    )
    alt = f"Bars: IoU of each class{ends}. The table has all numbers."
    return plots.bars(found, axis="IoU", alt=alt, note=_left_out(len(found), "classes", "best", "worst"))


def confusion_chart(tally: Tally, labels: LabelMap) -> Chart:
    """The confusion counts as shares of each labelled class."""
    counts = tally.confusion.astype(np.float64)
    names = [plain(name) for name in labels.names]
    columns = names
    if counts[:, 0].any():
        columns = [*names, "none of them"]
        counts = np.roll(counts, -1, axis=1)
    else:
        counts = counts[:, 1:]
    found = ratio(counts, np.broadcast_to(counts.sum(1, keepdims=True), counts.shape).copy())
    alt = f"Heat map of {len(names)} labelled classes by predicted class; the list names the largest confusions."
    return plots.confusion(found, names, columns, alt=alt)


def balance_chart(rows: Sequence[ClassRow], split: str, whole: Mapping[str, float]) -> Chart:
    """Share of the labelled pixels, the most frequent class first; that in the whole dataset beside it."""
    ordered = sorted(rows, key=lambda r: (-r.share, r.id))
    series = {f"{split} split": [r.share for r in ordered]}
    if whole:
        series["whole dataset"] = [whole.get(r.name, 0.0) for r in ordered]
    rarest = next((r for r in reversed(ordered) if r.share > 0), ordered[-1])
    alt = (
        f"Points: share of the labelled pixels of each class, from {ordered[0].share:.1%} for {ordered[0].name} to "
        f"{rarest.share:.2%} for {rarest.name}. The table has all numbers."
    )
    note = _left_out(len(ordered), "classes", "most frequent", "rarest")
    return plots.shares([plain(r.name) for r in ordered], series, alt=alt, note=note)


def change_chart(rows: Sequence[ClassRow]) -> Chart:
    """What changed per class, the largest gain first."""
    found = [(r.name, r.iou.change) for r in rows if r.iou.change and r.iou.change.delta is not None]
    found.sort(key=lambda pair: (-(pair[1].delta or 0.0), pair[0]))
    bars = [Bar(plain(name), d.delta, _between(d)) for name, d in found]
    ends = ""
    if found:
        ends = f", from {found[0][1].delta:+.3f} for {found[0][0]} to {found[-1][1].delta:+.3f} for {found[-1][0]}"
    alt = f"Points with intervals: change of the IoU of each class{ends}."
    note = _left_out(len(bars), "classes", "largest gains", "largest losses")
    return plots.differences(bars, axis="change of the IoU since the baseline", alt=alt, note=note)


def image_chart(new: Sequence[float], old: Sequence[float]) -> Chart | None:
    """How the scores of single images are spread; None where no image has one."""
    scores, before = ([value for value in values if not math.isnan(value)] for values in (new, old))
    if not scores:
        return None
    ends = f"from {min(scores):.3f} to {max(scores):.3f}, half of them below {float(np.median(scores)):.3f}"
    alt = f"Histogram: mean IoU of each of {len(scores)} images, {ends}."
    return plots.histogram(scores, before, axis="mean IoU of an image", alt=alt)


def calibration_chart(tally: Tally) -> Chart | None:
    """How often the model is right over how sure it is; None where no confidence was kept."""
    pixels, right, sure = tally.arrays["calibration"].sum(0)
    known = pixels > 0
    if not known.any() or not sure.any():
        return None
    weight = pixels[known] / pixels.sum()
    alt = "Points: share of pixels that are right over the confidence of the model; on the dashed line both are equal."
    return plots.reliability(sure[known] / pixels[known], right[known] / pixels[known], weight, alt=alt)


def slice_tables(record: EvaluateRecord, compared: CompareRecord | None) -> tuple[SliceTable, ...]:
    """Each slicing: mean IoU of its values."""
    tables = []
    for by, values in record.slices.items():
        deltas = compared.slices.get(by, {}) if compared else {}
        rows = []
        for value, found in values.items():
            change = deltas.get(value, {}).get("mean_iou")
            mean = Shown("mean_iou", value, found.figures["mean_iou"], found.intervals.get("mean_iou"), change)
            rows.append((value, found.images, mean, found.figures["overall_accuracy"]))
        bars = [Bar(plain(v), m.value, m.interval, m.change.baseline if m.change else None) for v, _, m, _ in rows]
        alt = f"Bars: mean IoU of the images of each value of {by}. The table has the numbers."
        note = _left_out(len(bars), "values", "first", "last")
        tables.append(SliceTable(by, plots.bars(bars, axis="mean IoU", alt=alt, note=note), tuple(rows)))
    return tuple(tables)


def _left_out(number: int, what: str, first: str, last: str) -> str:
    """What a chart of so many rows shows of them; "" if it shows all."""
    half = plots.MOST // 2
    return (
        f"The {half} {first} and the {half} {last} of {number} {what}; the table has all." if number > 2 * half else ""
    )


def plain(text: str, limit: int = 36) -> str:
    """A name for a chart: one line, of characters that XML may hold, and not longer than there is room."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _between(delta: Delta) -> tuple[float, float] | None:
    return None if delta.low is None or delta.high is None else (delta.low, delta.high)
