"""`evaluate`: a model against the labels of a split. Streams: counts are kept, never a logit or a map."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from labelsync.dataset.load import LabeledDataset, load
from labelsync.dataset.published import split_at
from labelsync.errors import OptionError
from labelsync.evaluation.aligned import segmenter_for
from labelsync.evaluation.bootstrap import intervals, require_resamples, resampled
from labelsync.evaluation.boundary import WIDTH
from labelsync.evaluation.figures import HEADLINES, PER_CLASS, Figures
from labelsync.evaluation.folder import EVALUATION, figures_of, read_record
from labelsync.evaluation.gates import check_gates, read_gates, require_gates
from labelsync.evaluation.groups import NEAR_FIELD, Groups, check_near_field, groups_for
from labelsync.evaluation.measure import tally_rows
from labelsync.evaluation.safety import SafetyMeasure, safety_ratios, safety_scores
from labelsync.evaluation.slices import Describer, slice_scores
from labelsync.evaluation.tally import Tally, write_tally
from labelsync.evaluation.worst import write_worst
from labelsync.labels import LabelMap
from labelsync.model.segmenter import Segmenter
from labelsync.model.source import ModelFiles, locate
from labelsync.model.ways import Ways, read_ways
from labelsync.records.release import Row
from labelsync.records.results import EvaluateRecord
from labelsync.records.text import to_json
from labelsync.store.files import write_text
from labelsync.store.folder import already_made, stage_folder
from labelsync.store.manifest import write_manifest


def evaluate(
    model: str | Path,
    *,
    dataset: str | Path,
    split: str = "test",
    out: str | Path | None = None,
    batch_size: int = 8,
    device: str | None = None,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    window: str | None = None,
    limit: int | None = None,
    align: bool = False,
    renamed: Sequence[str] = (),
    by: Sequence[str] = (),
    boundary: float = WIDTH,
    resamples: int = 1000,
    groups: str | Path | None = None,
    near_field: Sequence[float] = NEAR_FIELD,
    gate: Sequence[str] = (),
    gates: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    id2label: str | Path | None = None,
    keep_zero: bool = False,
    config: str | None = None,
    overwrite: bool = False,
) -> EvaluateRecord:
    """Score a model on the labels of a split, at their own resolution.

    Leaves a folder with evaluation.json (scores and classes), confusion.json, images.jsonl and counts.npz (counts of
    every image, see `labelsync.evaluation.tally`), predictions/ (a small bitmap of disk ids for every image, numbered
    as the lines of images.jsonl from 00000) and worst/ (pictures of the images with the lowest mean IoU).

    Args:
        model: a model folder, a Hub id "user/name[@revision]", or an .onnx file of `export`.
        dataset: a dataset folder or a Hub id; a foreign one will do, as `load` reads it.
        split: name of the split; "test@v1.0" is that split as it was published at a tag of the dataset's Hub repo, with
            its labels then, or of a dataset folder of `run` in the round of that name: the same images for every model.
        out: folder to leave; None = ./<model>-<split>-evaluation.
        batch_size: images run through the model at once.
        device: "cuda", "cpu", ...; None = a GPU if there is one.
        flip, scales, window: also look at images mirrored, in several sizes and through windows, as `Segmenter` does;
            evaluation.json says which. Takes as much longer as there are views and windows.
        limit: score the first so many images of the split alone, in the order of the dataset: the images of a lower
            limit are among those of a higher one, and of a dataset on the Hub no shards are fetched but theirs. They
            need not be like the rest where a dataset is sorted. None = all.
        align: score although model and dataset do not have the same classes, matched by name. Classes that the model
            lacks then count as missed, and what it says beyond the dataset's classes as wrong.
        renamed: "OLD=NEW", where the dataset calls a class NEW that the model knows as OLD, as after a rename of a
            category on Segments.ai.
        by: score parts of the images too: "group", or "metadata.KEY" for each value of a Segments.ai metadata key.
        boundary: width of the band of the boundary IoU, as a share of the image's diagonal.
        resamples: draws of the bootstrap behind the 95 % intervals; 0 = none. It draws the dataset's groups, or images
            where it has none; its seed is 0, so the same counts have the same intervals.
        groups: a TOML file that says what classes mean to a robot, for the safety figures: lists walkable, obstacle,
            road, other, and curb; None = those of the 35 sidewalk classes, without which there are no such figures.
        near_field: the trapezoid in front of the robot: width at the image's lower edge, at its own upper edge, and
            height, as shares of the image.
        gate: thresholds as "mean_iou >= 0.55"; any figure of evaluation.json, "iou.CLASS", "mean_iou[weather=rain]".
        gates: a TOML file with more of them, gates = ["mean_iou >= 0.55", ..].
        image_column, label_column, id2label, keep_zero, config: of a foreign dataset, as for `load`.
        overwrite: replace an evaluation that lies at `out`. The same evaluation again does nothing.

    Raises:
        ModelNotFound, ModelError, DatasetNotFound, DatasetError: something is missing or does not fit.
        OptionError: a value that cannot be used.
        OutputExists: `out` is not empty.
        GateFailed: a gate is not met. The folder is left, and the error carries the record.
    """
    started = time.perf_counter()
    _require_range(boundary=boundary, resamples=resamples, limit=limit)
    ways = read_ways(flip=flip, scales=scales, window=window)
    stated = read_gates(gate, gates)
    path = Path(out or default_out(model, split))
    place, part = split_at(dataset, split)
    data = load(
        place,
        image_column=image_column,
        label_column=label_column,
        id2label=id2label,
        keep_zero=keep_zero,
        config=config,
    )
    rows = data.splits[part][:limit]
    left_out = len(data.splits[part]) - len(rows)
    describer = Describer(data, by)
    meanings = groups_for(data.labels.names, groups)
    near = check_near_field(near_field)
    sets = (tuple(sorted(set(renamed))), tuple(sorted(set(by))))
    settings = Settings(split, align, *sets, boundary, resamples, meanings, near, ways, limit if left_out else None)
    files = locate(model)
    inputs = {"model": files.digest, "dataset": data.digest}
    manifest = None if overwrite else already_made(path, "evaluate", inputs=inputs, settings=settings.stated)
    unchanged = manifest is not None
    if manifest is None:
        with stage_folder(path, stage="evaluate", overwrite=overwrite) as work:
            segmenter = segmenter_for(
                model, data, align=align, renamed=settings.renamed, ways=ways, device=device, batch_size=batch_size
            )
            tally = _tally(segmenter, rows, data.labels, describer, settings=settings, folder=work)
            summary = _summary(tally, data.labels, settings, unit=describer.unit)
            summary |= {"lacking": list(segmenter.lacking), "left_out": left_out, **_seen(ways)}
            _write(work, _about(files, place, data, inputs) | {"split": split} | summary, tally, data.labels)
            write_worst(work / "worst", segmenter, rows, tally, data.labels)
            manifest = write_manifest(
                work, "evaluate", inputs=inputs, settings=settings.stated, summary=_short(summary), labels=data.labels
            )
    here: dict[str, Any] = {"path": str(path), "model": str(model), "dataset": str(dataset), "unchanged": unchanged}
    record = read_record(path, manifest, here | {"seconds": round(time.perf_counter() - started, 1)})
    results = check_gates(stated, figures_of(record))
    record = replace(record, gates=results)
    require_gates(results, record)
    return record


@dataclass(frozen=True)
class Settings:
    """What shapes an evaluation beside the model and the dataset: the settings of its manifest."""

    split: str
    align: bool
    renamed: tuple[str, ...]
    by: tuple[str, ...]
    boundary: float
    resamples: int
    groups: Groups | None
    near_field: tuple[float, float, float]
    ways: Ways = field(default_factory=Ways)
    limit: int | None = None

    @property
    def stated(self) -> dict[str, Any]:
        """By name. What came later is left out where it is as it always was: those evaluations are still the same."""
        later = {"ways": Ways(), "limit": None}
        return {n: v for n, v in asdict(self).items() if n not in later or getattr(self, n) != later[n]}


def default_out(model: str | Path, split: str) -> Path:
    """./<model>-<split>-evaluation."""
    name, part = (re.sub(r"[^\w.@-]+", "-", text) for text in (short_name(model).replace("@", "-"), split))
    return Path(f"{name}-{part}-evaluation")


def short_name(source: str | Path) -> str:
    """A folder's own name, or a Hub id as it is; no path of a machine gets into a file."""
    path = Path(source).expanduser()
    return path.resolve().name if path.exists() or isinstance(source, Path) else str(source)


# -------------------------------------------------------------------- what is scored


def _require_range(*, boundary: float, resamples: int, limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise OptionError(f"--limit is {limit}", hint="score 1 image or more, or leave it out for all")
    if not 0 < boundary < 1:
        raise OptionError(f"--boundary is {boundary:g}", hint="it is a share of the image's diagonal, as 0.005")
    require_resamples(resamples)


def _tally(
    segmenter: Segmenter,
    rows: Sequence[Row],
    labels: LabelMap,
    describer: Describer,
    *,
    settings: Settings,
    folder: Path,
) -> Tally:
    safety = SafetyMeasure(settings.groups, labels.names, settings.near_field) if settings.groups else None
    return tally_rows(
        segmenter,
        rows,
        labels,
        describer.facts,
        boundary=settings.boundary,
        safety=safety,
        folder=folder,
        progress=f"evaluate {settings.split}",
    )


# -------------------------------------------------------------------- what is written


def _summary(tally: Tally, labels: LabelMap, settings: Settings, *, unit: str) -> dict[str, Any]:
    """The numbers of the record, the manifest and evaluation.json; NaN is None."""
    ratios = safety_ratios(tally, settings.groups, labels.names) if settings.groups else {}
    figures = Figures(tally, labels.names, ratios)
    whole = figures.whole()
    drawn, resamples = [image.group for image in tally.images], settings.resamples
    numbers = {
        "images": len(tally.images),
        "pixels": int(tally.areas[:, 2].sum()),
        **{name: whole[name] for name in HEADLINES},
        **{f"per_category_{kind}": {n: whole[f"{kind}.{n}"] for n in labels.names} for kind in PER_CLASS},
        "boundary_width": settings.boundary,
        "safety": safety_scores(tally, whole, ratios, settings.groups) if settings.groups else None,
        "intervals": intervals(figures, drawn, resamples=resamples),
        "resampled": resampled(drawn, unit, resamples=resamples),
        "slices": slice_scores(tally, figures, resamples=resamples),
    }
    plain: dict[str, Any] = json.loads(to_json(numbers))
    return plain


def _seen(ways: Ways) -> dict[str, Any]:
    """How images were looked at, under the names of the flags."""
    return {"flip": ways.flip, "scales": list(ways.scales), "window": ways.window_text}


def _about(model: ModelFiles, dataset: str | Path, data: LabeledDataset, inputs: Mapping[str, str]) -> dict[str, Any]:
    return {
        "model": short_name(model.source),
        "model_digest": inputs["model"],
        "model_revision": model.revision,
        "dataset": short_name(dataset),
        "dataset_digest": inputs["dataset"],
        "dataset_revision": data.revision,
        "release": data.release,
    }


def _write(work: Path, evaluation: dict[str, Any], tally: Tally, labels: LabelMap) -> None:
    write_text(work / EVALUATION, _json(evaluation, indent=2))
    columns = list(labels.id2label.values())
    counts = {"rows": columns[1:], "columns": columns, "counts": tally.confusion.tolist()}
    write_text(work / "confusion.json", _json(counts))
    write_tally(work, tally)


def _short(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What of it the manifest repeats."""
    names = ("images", "pixels", *HEADLINES, *(f"per_category_{kind}" for kind in PER_CLASS), "resampled", "lacking")
    return {name: summary[name] for name in names}


def _json(value: Any, *, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
