"""`predict`: images and videos to semantic bitmaps at their own size, and overlays to look at."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from labelsync.deploy.flicker import film_path, watch
from labelsync.deploy.kept import Kept, keeping, to_line
from labelsync.deploy.output import Prediction, Wanted, answers, save
from labelsync.deploy.sources import Item, Source, find_sources
from labelsync.errors import SamplesFailed
from labelsync.model.ahead import Loading, load_ahead
from labelsync.model.loaded import pick_device
from labelsync.model.precision import pick_precision, refuse_precision
from labelsync.model.segmenter import Segmenter
from labelsync.model.source import locate
from labelsync.model.ways import read_ways
from labelsync.pixels.image import decode_image
from labelsync.records.results import PredictRecord, VideoScores
from labelsync.records.text import from_json, to_json
from labelsync.store.files import digest_of, sha256, write_text
from labelsync.store.folder import already_made, stage_folder
from labelsync.store.manifest import Manifest, write_manifest

_WRITERS = 4  # PNG and JPEG are packed without the interpreter lock


@dataclass(frozen=True, eq=False)
class _Image:
    """An image in memory, or the line that an earlier run has left of it."""

    digest: str
    pixels: npt.NDArray[np.uint8] | None
    line: Prediction | None = None

    @property
    def shown(self) -> npt.NDArray[np.uint8]:
        """The pixels of one that is in memory."""
        assert self.pixels is not None  # noqa: S101 - for the type; `_load` makes no other
        return self.pixels


def predict(
    model: str | Path,
    *,
    images: str | Path | Sequence[str | Path],
    out: str | Path = Path("predictions"),
    split: str | None = None,
    overlays: bool = True,
    entropy: bool = False,
    probabilities: bool = False,
    precision: str = "auto",
    batch_size: int = 8,
    device: str | None = None,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    window: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    id2label: str | Path | None = None,
    keep_zero: bool = False,
    config: str | None = None,
    overwrite: bool = False,
) -> PredictRecord:
    """Segment images and videos.

    Leaves a folder with bitmaps/ (PNG of disk ids, at the image's size, EXIF orientation applied), overlays/ (colours
    and a legend), id2label.json and predictions.jsonl (image -> files, in order). Of a video it leaves a bitmap of
    every frame, an overlay video in videos/, and says how much the classes flicker (see
    `labelsync.deploy.flicker.Flicker`). An interrupted run goes on where it was when the same command is given again;
    until then .OUT.unfinished beside the folder has what is done.

    Args:
        model: a model folder, a Hub id "user/name[@revision]", or an .onnx file of `export`.
        images: files, folders (all images below them), globs and videos; a folder or Hub id of a dataset, with `split`;
            "owner/name", which is no path here, for all samples of a dataset on Segments.ai (SEGMENTS_API_KEY). Of
            several datasets, or files beside one, what is made of each dataset lies in a folder of its name.
        out: folder to leave.
        split: which split of the datasets that `images` names, as for `evaluate`.
        overlays: also write pictures to look at, and of a video an overlay video.
        entropy: also write entropy/ (8-bit PNG): 0 = one class has all the probability, 255 = all classes are equally
            likely (255 H / log C). The mean of an image, in 0..1, is `mean_entropy` in predictions.jsonl.
        probabilities: also write probabilities/ (`numpy.load(..)["probabilities"]`): (K, H, W) uint8, [i] is the
            softmax probability of class id i + 1 in 255ths. Several megabytes an image; images then run one by one.
        precision: "fp32", "bf16" or "fp16" (mixed precision), "auto" = fp16 on a CUDA device, fp32 elsewhere.
            `evaluate` always computes in fp32. An .onnx file computes in what it was exported in: refused beside one.
        batch_size: images run through the model at once.
        device: "cuda", "cpu", ...; None = a GPU if there is one.
        flip, scales, window: also look at images mirrored, in several sizes and through windows, as `Segmenter` does.
        image_column, label_column, id2label, keep_zero, config: of a foreign dataset, as for `load`.
        overwrite: replace predictions that lie at `out`. The same predictions again do nothing.

    Raises:
        OptionError: no image there, or a value that cannot be used.
        ModelNotFound, ModelError: as `labelsync.Segmenter`.
        DatasetNotFound, DatasetError, ReleaseNotFound, AuthError, ServiceError: no such dataset or split.
        SamplesFailed: images could not be read; all others are done, and the folder is whole and says which failed.
            If none could be read, no folder is left.
        OutputExists: `out` is not empty.
    """
    started = time.perf_counter()
    given = [images] if isinstance(images, str | Path) else images
    reading: dict[str, Any] = {
        "image_column": image_column,
        "label_column": label_column,
        "id2label": id2label,
        "keep_zero": keep_zero,
        "config": config,
    }
    files = locate(model)
    if files.file is not None and precision != "auto":
        refuse_precision(files.source, precision)
    computed = pick_precision(precision if files.file is None else "fp32", pick_device(device))
    sources = find_sources([str(item) for item in given], split=split, reading=reading, outside=Path(out))
    inputs = {"model": files.digest, "images": digest_of([[s.shown, s.digest] for s in sources])}
    wanted = Wanted(overlays, entropy, probabilities)
    ways = read_ways(flip=flip, scales=scales, window=window)
    seen: dict[str, Any] = {"flip": ways.flip, "scales": list(ways.scales), "window": ways.window_text}
    settings = asdict(wanted) | seen | {"precision": computed}
    manifest = None if overwrite else already_made(Path(out), "predict", inputs=inputs, settings=settings)
    unchanged, resumed = manifest is not None, 0
    if manifest is None:
        with stage_folder(out, stage="predict", overwrite=overwrite) as work:
            segmenter = Segmenter(model, device=device, batch_size=batch_size, precision=computed, **seen)
            with keeping(Path(out), digest_of([inputs["model"], settings])) as kept:
                run = _Run(segmenter, kept, wanted)
                made = [line for source in sources for line in run.segment(source)]
                _refuse_nothing(made, kept)
                videos = run.watch(sources, made)
                kept.hand_over(work)
            resumed = run.resumed
            manifest = _write(work, made, videos, segmenter, inputs=inputs, settings=settings)
    record = _record(manifest, path=str(out), model=str(model))
    if record.failed:
        raise _unread(record.failed, record.images, f"the others are in {out}")
    return replace(record, seconds=round(time.perf_counter() - started, 1), resumed=resumed, unchanged=unchanged)


def _refuse_nothing(made: Sequence[Prediction], kept: Kept) -> None:
    """Raises SamplesFailed if no image at all could be read."""
    failed = {line.image: line.problem for line in made if line.problem}
    if not any(line.bitmap for line in made):
        kept.discard()
        raise _unread(failed, len(made), "nothing was written")


def _unread(failed: Mapping[str, str], images: int, rest: str) -> SamplesFailed:
    """The error for images that could not be read; `rest` says what became of the others."""
    return SamplesFailed(
        f"{len(failed)} of {images} images could not be read; {rest}",
        hint="repair or leave out the images named above",
        details=[f"{image}: {problem}" for image, problem in failed.items()],
    )


class _Run:
    """Sources through a model, into the folder that is kept until all are done."""

    def __init__(self, segmenter: Segmenter, kept: Kept, wanted: Wanted) -> None:
        self._segmenter, self._kept, self._wanted = segmenter, kept, wanted
        self.resumed = 0

    def segment(self, source: Source) -> Iterator[Prediction]:
        """A line for every image, in order. While the model is at a batch, the next is read and the last written."""
        size = 1 if self._wanted.probabilities else self._segmenter.batch_size
        title = f"predict {source.video.name}" if source.video else "predict"
        waiting: list[Future[Prediction]] = []
        with (
            tqdm(total=source.count or None, desc=title, unit="image", disable=None) as bar,
            ThreadPoolExecutor(_WRITERS, thread_name_prefix="labelsync-write") as pool,
        ):
            for batch in load_ahead(source.items(), self._load, batch_size=size):
                images = [x.value.pixels for x in batch if x.value and x.value.pixels is not None]
                found = iter(answers(self._segmenter, images, self._wanted))
                yield from (future.result() for future in waiting)  # never more than two batches in memory
                waiting = [
                    pool.submit(self._save, loading, next(found) if _is_new(loading) else None) for loading in batch
                ]
                self.resumed += sum(x.value is not None and x.value.line is not None for x in batch)
                bar.update(len(batch))
            yield from (future.result() for future in waiting)

    def watch(self, sources: Iterable[Source], made: Sequence[Prediction]) -> dict[str, VideoScores]:
        """Of each video, how much it flickers; and its overlay video, if overlays are wanted."""
        scores: dict[str, VideoScores] = {}
        for source in sources:
            if source.video is not None:
                lines = [m for m in made if m.image == source.shown and m.bitmap]
                scores[source.shown] = watch(
                    source.video,
                    [self._kept.folder / line.bitmap for line in lines],
                    labels=self._segmenter.labels,
                    film=self._kept.folder / film_path(source.name) if self._wanted.overlays else None,
                )
        return scores

    def _load(self, item: Item) -> _Image:
        data = item.read()
        digest = sha256(data) if isinstance(data, bytes) else item.digest
        if (line := self._kept.find(item.name, digest)) is not None:
            return _Image(digest, None, line)
        return _Image(digest, decode_image(data) if isinstance(data, bytes) else data)

    def _save(self, loading: Loading[Item, _Image], answer: Any) -> Prediction:
        item, image = loading.item, loading.value
        where = Prediction(item.image, item.frame, item.seconds)
        if image is None:
            return replace(where, problem=loading.problem)
        if image.line is not None:
            return replace(image.line, image=item.image, frame=item.frame, seconds=item.seconds)
        wanted = replace(self._wanted, overlays=self._wanted.overlays and item.frame is None)
        where = replace(where, sha256=image.digest)
        labels = self._segmenter.labels
        line = save(self._kept.folder, item.name, image.shown, answer, where, labels=labels, wanted=wanted)
        self._kept.add(line)
        return line


def _is_new(loading: Loading[Item, _Image]) -> bool:
    return loading.value is not None and loading.value.pixels is not None


def _write(
    work: Path,
    made: Sequence[Prediction],
    videos: Mapping[str, VideoScores],
    segmenter: Segmenter,
    *,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
) -> Manifest:
    """id2label.json, predictions.jsonl and, last, the manifest."""
    write_text(work / "id2label.json", segmenter.labels.id2label_json())
    write_text(work / "predictions.jsonl", "".join(to_line(line) for line in made))
    failed = {line.image: line.problem for line in made if line.problem}
    summary: dict[str, Any] = {"images": len(made), "failed": failed, "precision": segmenter.precision}
    summary["videos"] = {name: asdict(v) for name, v in videos.items()}
    return write_manifest(work, "predict", inputs=inputs, settings=settings, summary=summary, labels=segmenter.labels)


def _record(manifest: Manifest, **here: Any) -> PredictRecord:
    """The record of predictions, made just now or found; `here` = what depends on this call."""
    older = {"videos": {}, "precision": manifest.settings.get("precision", "fp32")}  # what old manifests lack
    return from_json(PredictRecord, to_json(older | manifest.summary | here | {"seconds": 0.0}), where="record")
