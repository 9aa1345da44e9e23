"""`predict`: image files to semantic bitmaps at their own size, and overlays to look at."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from labelsync import store
from labelsync.deploy.images import find_images, output_names
from labelsync.errors import BitmapError, LabelsyncError, OptionError, SamplesFailed
from labelsync.labels import LabelMap
from labelsync.model.ahead import load_ahead
from labelsync.model.segmenter import Segmenter
from labelsync.model.source import locate
from labelsync.pixels.image import decode_image, encode_png
from labelsync.pixels.overlay import overlay, panel
from labelsync.pixels.semantic import encode_semantic
from labelsync.records.results import PredictRecord

_PICTURE_HEIGHTS = (240, 720)  # overlays are to look at; the bitmaps hold every pixel


@dataclass(frozen=True)
class Prediction:
    """One line of predictions.jsonl: what was made from an image; `problem` says why nothing was."""

    image: str
    sha256: str = ""
    bitmap: str = ""
    overlay: str = ""
    height: int = 0
    width: int = 0
    problem: str = ""


@dataclass(frozen=True)
class _Image:
    pixels: npt.NDArray[np.uint8]
    sha256: str


def predict(
    model: str | Path,
    *,
    images: str | Path | Sequence[str | Path],
    out: str | Path = Path("predictions"),
    overlays: bool = True,
    batch_size: int = 8,
    device: str | None = None,
    overwrite: bool = False,
) -> PredictRecord:
    """Segment image files.

    Leaves a folder with bitmaps/ (PNG of disk ids, at the image's size, EXIF orientation applied), overlays/ (colours
    and a legend), id2label.json and predictions.jsonl (image -> bitmap, in order).

    Args:
        model: a model folder or a Hub id "user/name[@revision]".
        images: a file, folder (all images below it) or glob, or several of them.
        out: folder to leave.
        overlays: also write pictures to look at.
        batch_size: images run through the model at once.
        device: "cuda", "cpu", ...; None = a GPU if there is one.
        overwrite: replace predictions that lie at `out`. The same predictions again do nothing.

    Raises:
        OptionError: no image there.
        ModelNotFound, ModelError: as `labelsync.Segmenter`.
        SamplesFailed: images could not be read; all others are done, and the folder is whole and says which failed.
            If none could be read, no folder is left.
        OutputExists: `out` is not empty.
    """
    started = time.perf_counter()
    given = [images] if isinstance(images, str | Path) else images
    files = find_images([str(item) for item in given], outside=Path(out))
    if not files:
        raise OptionError("no images", hint="give image files, folders or globs")
    inputs = {"model": locate(model).digest, "images": store.digest_of([[str(f), _digest(f)] for f in files])}
    settings = {"overlays": overlays}
    same = None if overwrite else _same(Path(out), store.fingerprint("predict", inputs, settings))
    if same is None:
        with store.stage_folder(out, stage="predict", overwrite=overwrite) as work:
            segmenter = Segmenter(model, device=device, batch_size=batch_size)
            made = _segment(segmenter, files, work, overlays=overlays)
            failed = {p.image: p.problem for p in made if p.problem}
            if len(failed) == len(files):
                raise _unread(failed, files, "nothing was written")
            _write(work, made, segmenter.labels, inputs=inputs, settings=settings)
    else:
        failed = same.summary["failed"]
    if failed:
        raise _unread(failed, files, f"the others are in {out}")
    return PredictRecord(
        path=str(out),
        model=str(model),
        images=len(files),
        failed=failed,
        seconds=round(time.perf_counter() - started, 1),
        unchanged=same is not None,
    )


def _digest(file: Path) -> str:
    """The digest of a file, "" if it cannot be read: that is said later, with its reason."""
    try:
        return store.sha256_file(file)
    except OSError:
        return ""


def _same(out: Path, wanted: str) -> store.Manifest | None:
    """The manifest at `out` if it is of the very same predictions, and nothing of it is gone."""
    try:
        manifest = store.read_manifest(out, "predict")
    except LabelsyncError:
        return None
    files = ((out / name, entry.size) for name, entry in manifest.files.items())
    whole = all(path.is_file() and path.stat().st_size == size for path, size in files)
    return manifest if whole and manifest.fingerprint == wanted else None


def _unread(failed: Mapping[str, str], files: Sequence[Path], rest: str) -> SamplesFailed:
    """The error for images that could not be read; `rest` says what became of the others."""
    return SamplesFailed(
        f"{len(failed)} of {len(files)} images could not be read; {rest}",
        hint="repair or leave out the images named above",
        details=[f"{image}: {problem}" for image, problem in failed.items()],
    )


def _segment(segmenter: Segmenter, files: Sequence[Path], work: Path, *, overlays: bool) -> list[Prediction]:
    """Predict and write batch by batch; one line per file, in order."""
    made: list[Prediction] = []
    named = dict(zip(files, output_names(files), strict=True))
    with tqdm(total=len(files), desc="predict", unit="image", disable=None) as bar:
        for batch in load_ahead(files, _read, batch_size=segmenter.batch_size):
            images = [loading.value for loading in batch if loading.value]
            bitmaps = iter(segmenter.segment_batch([image.pixels for image in images]))
            for loading in batch:
                if loading.value is None:
                    made.append(Prediction(str(loading.item), problem=loading.problem))
                    continue
                line = _save(
                    work,
                    named[loading.item],
                    loading.value,
                    next(bitmaps),
                    labels=segmenter.labels,
                    overlays=overlays,
                )
                made.append(replace(line, image=str(loading.item)))
            bar.update(len(batch))
    return made


def _save(
    work: Path, name: str, image: _Image, bitmap: npt.NDArray[Any], *, labels: LabelMap, overlays: bool
) -> Prediction:
    """Write the bitmap, and the overlay if wanted, of one image."""
    bitmap_path, overlay_path = f"bitmaps/{name}.png", f"overlays/{name}.png" if overlays else ""
    store.write_bytes(work / bitmap_path, encode_semantic(bitmap))
    if overlays:
        store.write_bytes(work / overlay_path, encode_png(_picture(image.pixels, bitmap, labels), level=3))
    height, width = bitmap.shape
    return Prediction("", image.sha256, bitmap_path, overlay_path, height, width)


def _picture(image: npt.NDArray[np.uint8], bitmap: npt.NDArray[Any], labels: LabelMap) -> npt.NDArray[np.uint8]:
    """The image under its classes, with a legend of those that occur."""
    present = [labels.classes[c - 1] for c in np.unique(bitmap) if c > 0]
    return panel(
        [("", overlay(image, bitmap, labels.colors))],
        [(c.name, c.color) for c in present],
        height=min(max(image.shape[0], _PICTURE_HEIGHTS[0]), _PICTURE_HEIGHTS[1]),
    )


def _read(file: Path) -> _Image:
    try:
        data = file.read_bytes()
    except OSError as e:
        raise BitmapError(e.strerror or str(e)) from None
    return _Image(decode_image(data), store.sha256(data))


def _write(
    work: Path,
    made: Sequence[Prediction],
    labels: LabelMap,
    *,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
) -> None:
    """id2label.json, predictions.jsonl and, last, the manifest."""
    store.write_text(work / "id2label.json", labels.id2label_json())
    lines = (json.dumps({k: v for k, v in asdict(p).items() if v}, ensure_ascii=False) for p in made)
    store.write_text(work / "predictions.jsonl", "".join(f"{line}\n" for line in lines))
    failed = {p.image: p.problem for p in made if p.problem}
    summary = {"images": len(made), "failed": failed}
    store.write_manifest(work, "predict", inputs=inputs, settings=settings, summary=summary, labels=labels)
