"""`compare`: two evaluations of the same images and labels, figure by figure and image by image."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from labelsync.errors import DatasetError, OptionError
from labelsync.evaluation.bootstrap import Intervals, paired_intervals, require_resamples, resampled
from labelsync.evaluation.changes import write_changes
from labelsync.evaluation.figures import Figures
from labelsync.evaluation.gates import check_gates, read_gates, require_gates
from labelsync.evaluation.groups import GROUPS
from labelsync.evaluation.safety import longest_false_path
from labelsync.evaluation.side import Side, read_side
from labelsync.evaluation.tally import Tally, members_of
from labelsync.evaluation.worst import worst_pictures
from labelsync.records.scores import CompareRecord, Delta, ImageChange

FAIL_BELOW = 0.5


def compare(
    new: str | Path,
    *,
    baseline: str | Path,
    on_common: bool = False,
    fail_below: float = FAIL_BELOW,
    resamples: int = 1000,
    gate: Sequence[str] = (),
    gates: str | Path | None = None,
    dataset: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> CompareRecord:
    """Tell what changed from one evaluation to another, on the same images with the same labels.

    Every delta is new - baseline, with a 95 % interval of a paired bootstrap: both sides are computed of the same draws
    of groups, so what makes an image hard for both cancels out. An image has failed where its own mean IoU is below
    `fail_below`; newly failed are those that had not in the baseline, newly fixed those that had and have no more.

    Args:
        new: the folder that `evaluate` left.
        baseline: the folder of the evaluation that it is measured against.
        on_common: compare what both share: samples with equal labels, and classes of one name and number that
            both models know. Pixels of other classes are left out, and predictions of them are wrong.
        fail_below: mean IoU of an image below which it has failed.
        resamples: draws of the bootstrap, whose seed is 0; 0 = no intervals.
        gate: thresholds as "delta.mean_iou >= -0.01" or, of the new evaluation, "mean_iou >= 0.55".
        gates: a TOML file with more of them, gates = ["delta.mean_iou >= -0.01", ..].
        dataset: the dataset folder or Hub id that one of them was made of, for pictures: the evaluations keep a small
            prediction of every image, and image and label of their 20 worst alone.
        out: folder to leave, with a picture of the newly failed images (failed/) and of the newly fixed ones (fixed/),
            the first 100 of each: image, label and what both models saw. None = no folder.
        overwrite: replace the pictures of another comparison that lie at `out`. The same again does nothing.

    Raises:
        DatasetNotFound: a folder that is no finished evaluation, or no such dataset.
        DatasetError: samples, labels or classes differ, or nothing is shared; or an evaluation was edited; or `dataset`
            is another.
        OutputExists: `out` is not empty.
        OptionError: a value that cannot be used.
        GateFailed: a gate is not met; the error carries the record.
    """
    if not 0 <= fail_below <= 1:
        raise OptionError(f"--fail-below is {fail_below:g}", hint="it is a mean IoU, as 0.5")
    if dataset is not None and out is None:
        raise OptionError("--dataset is for pictures, and there is no --out", hint="say where with --out DIR")
    require_resamples(resamples)
    stated = read_gates(gate, gates)
    sides = read_side(new), read_side(baseline)
    left_out = differences(*sides)
    if left_out and not on_common:
        raise _refusal(sides, left_out)
    after, before = _shared(sides[0], sides[1]), _shared(sides[1], sides[0])
    skipped = _incomparable(*sides)
    figures = after.figures(skipped), before.figures(skipped)
    groups = [image.group for image in after.tally.images]
    between = paired_intervals(*figures, groups, resamples=resamples)
    failed, fixed = _changes(after, before, _pictures(sides[0]), fail_below)
    if out is not None:
        kept: dict[str, Any] = {"dataset": dataset, "fail_below": fail_below, "overwrite": overwrite}
        failed, fixed = write_changes(Path(out), (failed, fixed), *sides, **kept)
    unit = "image" if all(image.group == image.uuid for image in after.tally.images) else "group"
    record = CompareRecord(
        new=str(new),
        baseline=str(baseline),
        images=len(after.tally.images),
        classes=after.classes,
        left_out=left_out,
        figures=_deltas(_whole(after, skipped), _whole(before, skipped), between),
        slices=_slices(after.tally, *figures, resamples=resamples),
        fail_below=fail_below,
        newly_failed=failed,
        newly_fixed=fixed,
        resampled=resampled(groups, unit, resamples=resamples),
        seen=_seen(*sides),
        path="" if out is None else str(out),
    )
    results = check_gates(stated, gate_figures(record))
    record = replace(record, gates=results)
    require_gates(results, record)
    return record


# -------------------------------------------------------------------- what both share


def differences(new: Side, old: Side) -> dict[str, tuple[str, ...]]:
    """What keeps two evaluations from being compared whole: a kind of difference -> the samples or classes."""
    after, before = ({image.uuid: image for image in side.tally.images} for side in (new, old))
    numbers = [{name: i for i, name in enumerate(side.classes)} for side in (new, old)]
    found = {
        "samples only in the new one": [i.name for i in after.values() if i.uuid not in before],
        "samples only in the baseline": [i.name for i in before.values() if i.uuid not in after],
        "labels that differ": [i.name for i in after.values() if before.get(i.uuid, i).label != i.label],
        "classes only in the new one": [n for n in new.classes if n not in numbers[1]],
        "classes only in the baseline": [n for n in old.classes if n not in numbers[0]],
        "classes that the new model does not know": new.lacking,
        "classes that the model of the baseline does not know": old.lacking,
        "classes with another number": [n for n in new.classes if numbers[1].get(n, numbers[0][n]) != numbers[0][n]],
    }
    return {what: tuple(names) for what, names in found.items() if names}


def _refusal(sides: tuple[Side, Side], left_out: Mapping[str, tuple[str, ...]]) -> DatasetError:
    lines = [
        f"{len(names)} {what}: {', '.join(names[:5])}{', ...' * (len(names) > 5)}" for what, names in left_out.items()
    ]
    return DatasetError(
        f"{sides[0].folder} and {sides[1].folder} were not made of the same images, labels and classes ({lines[0]})",
        hint="evaluate both on one split of one dataset (user/name@tag), or pass --on-common",
        details=lines,
    )


def _shared(side: Side, other: Side) -> Side:
    """What `side` has in common with `other`, in an order that does not depend on which of the two it is."""
    theirs = {image.uuid: image.label for image in other.tally.images}
    images = [i for i, image in enumerate(side.tally.images) if theirs.get(image.uuid) == image.label]
    images.sort(key=lambda i: side.tally.images[i].uuid)
    places = dict(enumerate(other.classes, 1))
    unknown = {*side.lacking, *other.lacking}
    classes = [i for i, name in enumerate(side.classes, 1) if places.get(i) == name and name not in unknown]
    if not images or not classes:
        raise DatasetError(
            f"{side.folder} and {other.folder} share no {'class' if images else 'image with the same label'}",
            hint="evaluate both on one split of one dataset, as user/name@tag",
        )
    names = tuple(side.classes[i - 1] for i in classes)
    return replace(side, tally=side.tally.select(images, classes), classes=names)


def _incomparable(new: Side, old: Side) -> set[str]:
    """Families of figures that the two sides did not count alike, or that one did not count."""
    settings = new.settings, old.settings
    skipped = set()
    if settings[0]["boundary"] != settings[1]["boundary"]:
        skipped |= {"mean_boundary_iou", "boundary_iou"}
    if new.classes != old.classes:  # the bins of the calibration know no classes
        skipped.add("expected_calibration_error")
    meanings = [s["groups"] for s in settings]
    if not all(meanings) or _meant_differently(*meanings) or settings[0]["near_field"] != settings[1]["near_field"]:
        skipped.add("safety")
    return skipped


def _seen(new: Side, old: Side) -> dict[str, str]:
    """How each model looked at the images, as flags; nothing where both did alike."""

    def flags(side: Side) -> str:
        ways = side.settings.get("ways")  # not stated: the whole image once
        if ways is None:
            return "as it is"
        parts = ["--flip"] if ways["flip"] else []
        parts += [f"--scales {','.join(f'{s:g}' for s in ways['scales'])}"] if ways["scales"] != [1.0] else []
        parts += [f"--window {'x'.join(map(str, ways['window']))}"] if ways["window"] else []
        return " ".join(parts)

    seen = {"new": flags(new), "baseline": flags(old)}
    return seen if seen["new"] != seen["baseline"] else {}


def _meant_differently(new: Mapping[str, list[str]], old: Mapping[str, list[str]]) -> bool:
    """Whether a class that both know is in two groups."""
    homes = [{name: group for group in GROUPS for name in side[group]} for side in (new, old)]
    return any(homes[1].get(name, group) != group for name, group in homes[0].items())


# -------------------------------------------------------------------- what changed


def _whole(side: Side, skipped: Collection[str]) -> dict[str, float | None]:
    """The figures of all images of a side; the longest false path, which is no sum over images, among them."""
    longest = {} if "safety" in skipped else {"false_free_path": longest_false_path(side.tally)[0]}
    return side.figures(skipped).whole() | longest


def _deltas(new: Mapping[str, float | None], old: Mapping[str, float | None], between: Intervals) -> dict[str, Delta]:
    """The figures of both sides and what lies between them."""
    found = {}
    for name in (name for name in new if name in old):
        a, b = new[name], old[name]
        known = a is not None and b is not None
        low, high = between.get(name, (None, None)) if known else (None, None)
        found[name] = Delta(a, b, a - b if a is not None and b is not None else None, low, high)
    return found


def _slices(tally: Tally, new: Figures, old: Figures, *, resamples: int) -> dict[str, dict[str, dict[str, Delta]]]:
    """slicing -> value -> figure -> delta, for the slicings of the new evaluation."""

    def deltas(members: list[int]) -> dict[str, Delta]:
        groups = [tally.images[i].group for i in members]
        parts = new.select(members), old.select(members)
        return _deltas(parts[0].whole(), parts[1].whole(), paired_intervals(*parts, groups, resamples=resamples))

    return {
        by: {value: deltas(members) for value, members in values.items()} for by, values in members_of(tally).items()
    }


def gate_figures(record: CompareRecord) -> dict[str, float | None]:
    """What gates know: "mean_iou" of the new evaluation, "baseline.mean_iou", "delta.mean_iou", and of slices."""
    tables = {"": record.figures}
    tables |= {f"[{by}={value}]": found for by, values in record.slices.items() for value, found in values.items()}
    figures: dict[str, float | None] = {}
    for where, table in tables.items():
        for name, delta in table.items():
            sides = {"": delta.new, "baseline.": delta.baseline, "delta.": delta.delta}
            figures |= {f"{prefix}{name}{where}": value for prefix, value in sides.items()}
    return figures


def _changes(
    new: Side, old: Side, pictures: Mapping[str, str], fail_below: float
) -> tuple[tuple[ImageChange, ...], tuple[ImageChange, ...]]:
    """Newly failed images, the worst first, and newly fixed ones, the best first."""
    failed, fixed = [], []
    for image, before, after in zip(new.tally.images, old.tally.mean_iou, new.tally.mean_iou, strict=True):
        change = ImageChange(image.name, image.uuid, before, after, pictures.get(image.uuid, ""))
        if after < fail_below <= before:
            failed.append(change)
        elif before < fail_below <= after:
            fixed.append(change)
    failed.sort(key=lambda c: (c.new, c.name))
    fixed.sort(key=lambda c: (-c.new, c.name))
    return tuple(failed), tuple(fixed)


def _pictures(side: Side) -> dict[str, str]:
    """uuid -> picture of it below the folder, for the worst images, as far as they are still there."""
    files = {i: f"worst/{file}" for i, file in worst_pictures(side.tally).items()}
    return {side.tally.images[i].uuid: file for i, file in files.items() if (side.folder / file).is_file()}
