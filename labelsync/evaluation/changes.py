"""Images that changed sides between two evaluations, as pictures: image, label, and what both models saw.

An evaluation keeps a small prediction of every image, and image and label of the worst ones; those of the others come
from the dataset.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from labelsync.errors import DatasetError
from labelsync.evaluation.side import Side
from labelsync.evaluation.small import Bitmap, prediction_file, small_jpeg, smaller
from labelsync.evaluation.tally import label_digest
from labelsync.evaluation.worst import Parts, file_name, read_parts
from labelsync.labels import LabelMap
from labelsync.pixels.image import decode_image, encode_png
from labelsync.pixels.overlay import overlay, panel
from labelsync.pixels.semantic import decode_semantic
from labelsync.records.release import Row
from labelsync.records.scores import ImageChange
from labelsync.store.files import write_bytes
from labelsync.store.folder import already_made, stage_folder
from labelsync.store.manifest import verify_files, write_manifest

PICTURED = 100
"""Newly failed images, and newly fixed ones, that get a picture."""


@dataclass(frozen=True, eq=False)
class Seen:
    """An image of two evaluations: a JPEG file, and (h, w) disk ids of the new one; None = no longer kept."""

    image: bytes
    label: Bitmap
    baseline: Bitmap | None
    new: Bitmap | None


def seen(
    changes: Sequence[ImageChange], new: Side, old: Side, rows: tuple[Side, Sequence[Row]] | None
) -> Iterator[tuple[ImageChange, Seen]]:
    """Those of the images of which there is something to see, one after the other.

    Args:
        new, old: both whole, as `read_side` reads them.
        rows: of one of them, where image and label are read; see `rows_of`. None = only those of the worst are there.

    Raises:
        BitmapError: a picture that is none.
        DatasetError: a label of the dataset is not the one that was scored.
    """
    places = [{image.uuid: i for i, image in enumerate(side.tally.images)} for side in (new, old)]
    kept = [read_parts(side.folder / "worst", side.tally) for side in (new, old)]
    table = _renumbered(old.labels, new.labels)
    for change in changes:
        at = [place[change.uuid] for place in places]
        parts = [found.get(i) for found, i in zip(kept, at, strict=True)]
        said = [_prediction(side, i, part) for side, i, part in zip((new, old), at, parts, strict=True)]
        shown = parts[0] or parts[1]
        if shown is not None:
            image, label = shown.image, shown.label
        elif rows is not None:
            image, label = _of_dataset(rows, at[0 if rows[0] is new else 1])
        else:
            continue
        fitting = [bitmap if bitmap is not None and bitmap.shape == label.shape else None for bitmap in said]
        before = None if fitting[1] is None else table[fitting[1]]
        yield change, Seen(image, label, before, fitting[0])


def rows_of(dataset: str | Path, new: Side, old: Side) -> tuple[Side, Sequence[Row]] | None:
    """The rows that one of two evaluations was made of, and which one; None if the dataset is that of neither.

    Raises:
        LabelsyncError: as `load`, and as `split_at` for an evaluation of "test@v1.0".
    """
    from labelsync.dataset.load import load
    from labelsync.dataset.published import split_at

    data = load(dataset)
    for side in (new, old):
        split, at, _ = side.settings["split"].partition("@")
        wanted, found = side.manifest.inputs["dataset"], data
        if at and data.digest != wanted:
            found = load(split_at(dataset, side.settings["split"])[0])
        if found.digest == wanted:
            return side, found.splits[split]
    return None


def write_changes(
    out: Path,
    changes: tuple[tuple[ImageChange, ...], tuple[ImageChange, ...]],
    new: Side,
    old: Side,
    *,
    dataset: str | Path | None,
    fail_below: float,
    overwrite: bool,
) -> tuple[tuple[ImageChange, ...], ...]:
    """failed/01-<name>.png and fixed/01-<name>.png below `out`, as far as there is something to see; the changes with
    their pictures. The same again does nothing.

    Raises:
        OutputExists: something else lies at `out`.
        DatasetError: `dataset` is that of neither evaluation, and what `seen` and `rows_of` raise.
    """
    rows = None if dataset is None else rows_of(dataset, new, old)
    if dataset is not None and rows is None:
        raise DatasetError(f"{dataset} is not the dataset of {new.folder}", hint="evaluation.json names it")
    names = [
        {c.uuid: f"{kind}/{rank:02d}-{file_name(c.name)}.png" for rank, c in enumerate(listed[:PICTURED], 1)}
        for kind, listed in zip(("failed", "fixed"), changes, strict=True)
    ]
    files = names[0] | names[1]
    inputs = {"new": new.manifest.digest, "baseline": old.manifest.digest}
    settings = {"fail_below": fail_below, "dataset": rows is not None, "images": sorted(files)}
    manifest = None if overwrite else already_made(out, "compare", inputs=inputs, settings=settings)
    if manifest is None or verify_files(out, manifest):
        with stage_folder(out, stage="compare", overwrite=overwrite) as work:
            for listed in changes:
                for change, found in seen(listed[:PICTURED], new, old, rows):
                    write_bytes(work / files[change.uuid], encode_png(_drawn(change, found, new.labels), level=3))
            summary = {"newly_failed": len(changes[0]), "newly_fixed": len(changes[1])}
            manifest = write_manifest(work, "compare", inputs=inputs, settings=settings, summary=summary)
    there = manifest.files
    return tuple(
        tuple(replace(c, picture=file if (file := files.get(c.uuid, "")) in there else "") for c in listed)
        for listed in changes
    )


# -------------------------------------------------------------------- one image


def _prediction(side: Side, image: int, parts: Parts | None) -> Bitmap | None:
    file = prediction_file(side.folder, image)
    if file.is_file():
        return decode_semantic(file.read_bytes())
    return parts.prediction if parts else None  # of an evaluation that kept those of the worst alone


def _of_dataset(rows: tuple[Side, Sequence[Row]], image: int) -> tuple[bytes, Bitmap]:
    """JPEG file and (h, w) label of an image, which must be what was scored."""
    facts, row = rows[0].tally.images[image], rows[1][image]
    label = decode_semantic(row.label)
    if row.uuid != facts.uuid or label_digest(label) != facts.label:
        raise DatasetError(f"{facts.name}: its label is not the one that was scored", hint="evaluate again")
    return small_jpeg(decode_image(row.image)), smaller(label)


def _renumbered(old: LabelMap, new: LabelMap) -> Bitmap:
    """(K + 1,) disk id of the baseline -> of the new evaluation: by name, and by number where only the name changed."""
    numbers = {name: i for i, name in enumerate(new.names, 1)}
    table = np.zeros(256 if old.num_labels < 256 else old.num_labels + 1, np.uint16)
    for i, name in enumerate(old.names, 1):
        renamed = i <= new.num_labels and new.names[i - 1] not in old.names
        table[i] = numbers.get(name, i if renamed else 0)
    return table.astype(new.dtype)


def _drawn(change: ImageChange, found: Seen, labels: LabelMap) -> Bitmap:
    """Side by side, with a legend."""
    image = decode_image(found.image)
    sides = (("baseline", change.baseline, found.baseline), ("new", change.new, found.new))
    bitmaps = [("label", found.label)]
    bitmaps += [(f"{side}, mean IoU {score:.3f}", bitmap) for side, score, bitmap in sides if bitmap is not None]
    present = np.unique(np.concatenate([bitmap.ravel() for _, bitmap in bitmaps]))
    legend = [(labels.names[c - 1], labels.classes[c - 1].color) for c in present if c > 0]
    layers = [(title, overlay(image, bitmap, labels.colors)) for title, bitmap in bitmaps]
    return panel([(change.name, image), *layers], legend)
