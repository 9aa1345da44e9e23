"""`convert`: a release folder into a dataset folder."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labelsync import store
from labelsync.dataset import card
from labelsync.dataset.joined import Joined, open_releases
from labelsync.dataset.metadata_file import METADATA, write_metadata
from labelsync.dataset.plan import Plan, make_plan, require_rows, required_splits
from labelsync.dataset.pool import write_shards
from labelsync.dataset.rules import Rules, make_rules
from labelsync.dataset.sample import LabelledSample
from labelsync.dataset.select import Selection, file_names
from labelsync.dataset.shards import DATA, Shard, ShardResult, dealt, shard_path
from labelsync.dataset.since import since
from labelsync.dataset.source import ID2LABEL, LEDGER, SPLITS_FILE
from labelsync.dataset.split_by import with_split_by
from labelsync.errors import DatasetError, LabelsyncError, OptionError, SamplesFailed
from labelsync.records.release import Ledger, LedgerRow, Release
from labelsync.records.results import ConvertRecord
from labelsync.records.text import to_json
from labelsync.store import Manifest

README = "README.md"
SAMPLES = "samples.json"  # of --format bitmaps


def convert(
    release: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    labels: str | Path | None = None,
    splits: str | Path | None = None,
    split_by: str | None = None,
    fractions: Sequence[float] | None = None,
    group_by: str | None = None,
    status: Sequence[str] = ("LABELED", "REVIEWED"),
    metadata: Sequence[str] = (),
    unlabeled: str | None = None,
    previous: str | Path | None = None,
    allow_renumbering: bool = False,
    line_width: float | None = None,
    columns: str = "pixel_values,label",
    format: str = "parquet",
    workers: int | None = None,
    allow_failed: int = 0,
    overwrite: bool = False,
) -> ConvertRecord:
    """Turn a release folder into a dataset folder: images as they are, labels as PNGs of disk ids.

    Args:
        release: the folder that `pull` left; or several, of different Segments.ai datasets. Their categories are
            joined by name; the first comes first in the class numbers.
        out: the folder to make.
        labels: a TOML file that merges, renames, drops and orders categories; see `dataset/labels_file.py`.
        splits: a JSON file, {"train": [names, uuids or groups], ..} or {name, uuid or group: split}; None = by hash.
        split_by: "metadata.KEY", whose values are "train", "validation" or "test"; or, if none of them is, groups as
            for `group_by`; None = the earlier round's.
        fractions: shares of train, validation and test, of 1 or of 100; None = the earlier round's, else 80, 10, 10.
        group_by: what is never torn apart by a split: "uuid" (an image, or a whole sequence of frames), "name",
            "metadata.KEY", or "name:REGEX" (its first group, else the whole match); None = the earlier round's, else
            "uuid".
        status: label statuses that are taken.
        metadata: "key=value", which a sample must have to be taken: of several keys all, of one key's values any.
        unlabeled: what pixels are that nobody labelled: "ignore" (0) or "class" (a class `background`); None = the
            earlier round's, else "ignore".
        previous: the dataset of an earlier round, a folder or "user/name@revision". Its class numbers, splits and
            number of shards are kept.
        allow_renumbering: follow category names where a release gives them other numbers than `previous` knows, and
            `labels` where it puts categories into other classes.
        line_width: pixels that polylines are wide, 1 or more; 0 = they are not drawn, and counted; None = the earlier
            round's, else 0.
        columns: names of the image and label column, "pixel_values,label" or "image,label".
        format: "parquet", or "bitmaps" for plain files in images/<split> and labels/<split>.
        workers: processes; None = as many as there are CPUs.
        allow_failed: number of samples that may be lost here. Those that were allowed to fail in the pull do not count.
        overwrite: replace another dataset at `out`. The same conversion again does nothing.

    Raises:
        OptionError: a value that cannot be used.
        DatasetNotFound: `release` or `previous` is no finished folder (or repo).
        TaxonomyError: the categories cannot be numbered, contradict `previous`, or leave nothing to train.
        DatasetError: nothing to convert, an empty split, or a `splits` file that does not fit.
        SamplesFailed: more than `allow_failed` samples failed; no folder is left.
        OutputExists, OutputLocked: something else lies at `out`, or is being made there.
    """
    for flag, n, least in (("--workers", 1 if workers is None else workers, 1), ("--allow-failed", allow_failed, 0)):
        if n < least:
            raise OptionError(f"{flag} is {n}, which is out of range", hint=f"give {least} or more")
    joined = open_releases(release)
    rules = make_rules(
        joined.taxonomies,
        labels=labels,
        splits=splits,
        split_by=split_by,
        fractions=fractions,
        group_by=group_by,
        status=status,
        metadata=metadata,
        unlabeled=unlabeled,
        previous=previous,
        allow_renumbering=allow_renumbering,
        line_width=line_width,
        columns=columns,
        format=format,
    )
    inputs = joined.inputs | rules.inputs
    same = _same(Path(out), store.fingerprint("convert", inputs, rules.settings))
    if same is not None and same.summary["lost"] <= allow_failed and _is_whole(Path(out), same):
        return _record(Path(out), same, unchanged=True)
    with store.stage_folder(out, stage="convert", overwrite=overwrite or same is not None) as work:
        selection = joined.select(status=rules.status, metadata=rules.metadata, line_width=rules.line_width)
        rules = with_split_by(rules, selection.of(joined.release.samples))
        made = _make(joined.release, selection, rules, work, workers=workers, allow_failed=allow_failed)
        _write_texts(work, joined, rules, made, inputs)
        manifest = store.write_manifest(
            work,
            "convert",
            inputs=inputs,
            settings=rules.settings,
            summary=_summary(joined, rules, made, work),
            labels=rules.labels,
        )
    return _record(Path(out), manifest)


# -------------------------------------------------------------------- the data


@dataclass(frozen=True)
class _Made:
    """The written data: `lost` = samples that failed here, `names` = file names of --format bitmaps."""

    plan: Plan
    results: list[ShardResult]
    ledger: Ledger
    lost: int
    names: dict[str, str]

    def rows(self, split: str) -> int:
        return sum(r.rows for r in self.results if r.split == split)

    @property
    def splits(self) -> dict[str, int]:
        return {split: self.rows(split) for split in self.plan.splits}

    def total(self, field: str) -> list[int]:
        """Sum over shards of `pixels` or `images`, by disk id."""
        return [int(n) for n in np.sum([getattr(r, field) for r in self.results], axis=0)]


def _make(
    release: Release, selection: Selection, rules: Rules, work: Path, *, workers: int | None, allow_failed: int
) -> _Made:
    """Convert, and if a split came out empty because its samples were dropped, deal out those that are left."""
    _require_samples(selection, release)
    samples = selection.samples
    ledger = dict(selection.ledger)
    while True:
        plan = make_plan(samples, release.samples, rules)
        names = file_names(samples) if rules.format == "bitmaps" else {}
        results = write_shards(_shards(plan, rules, work, names), workers=workers)
        ledger |= {row.uuid: row for r in results for row in r.ledger}
        lost = [r for r in ledger.values() if r.outcome == "failed" and r.uuid not in selection.allowed]
        _refuse_losses(lost, allow_failed, total=len(release.samples))
        kept = tuple(s for s in samples if ledger[s.uuid].outcome == "converted")
        made = _Made(plan, results, Ledger(tuple(ledger[s.uuid] for s in release.samples)), len(lost), names)
        is_free = rules.given is None and rules.earlier is None
        if not is_free or all(made.rows(s) for s in required_splits(rules)) or not 0 < len(kept) < len(samples):
            break
        samples = kept
        for name in (DATA, "images", "labels"):
            shutil.rmtree(work / name, ignore_errors=True)
    require_rows(plan, made.splits, rules)
    made.ledger.require_complete(release.samples)
    return made


def _shards(plan: Plan, rules: Rules, work: Path, names: dict[str, str]) -> list[Shard]:
    schema = card.features(rules.columns).arrow_schema if rules.format == "parquet" else None
    return [
        Shard(
            folder=str(work),
            split=split,
            path=shard_path(split, i, plan.shards[split]),
            samples=part,
            labels=rules.labels,
            schema=schema,
            names={s.uuid: names[s.uuid] for s in part} if names else None,
        )
        for split, samples in plan.splits.items()
        for i, part in enumerate(dealt(samples, plan.shards[split]))
    ]


def _require_samples(selection: Selection, release: Release) -> None:
    if selection.samples:
        return
    totals = Ledger(tuple(selection.ledger.values())).totals
    what = ", ".join(f"{n} {outcome}" for outcome, n in totals.items() if n) or "none at all"
    raise DatasetError(
        f"release {release.name!r} has no sample to convert: {what}",
        hint="label some, or take other statuses with --status",
    )


def _refuse_losses(lost: Sequence[LedgerRow], allowed: int, *, total: int) -> None:
    if len(lost) <= allowed:
        return
    more = f"; {len(lost) - 1} more of {total} samples failed" if len(lost) > 1 else ""
    raise SamplesFailed(
        f"sample {lost[0].name!r} failed: {lost[0].reason}{more}",
        hint=f"mend the labels on Segments.ai and pull again, or pass --allow-failed {len(lost)}",
        details=[f"{row.name!r} ({row.uuid}): {row.reason}" for row in lost] if more else (),
    )


# -------------------------------------------------------------------- around the data


def _write_texts(work: Path, joined: Joined, rules: Rules, made: _Made, inputs: dict[str, str]) -> None:
    facts = card.CardFacts(
        release=joined.release,
        releases=joined.parts(made.ledger) if len(joined.folders) > 1 else (),
        labels=rules.labels,
        changes=rules.changes,
        ledger=made.ledger,
        assignment=made.plan.assignment,
        splits=made.splits,
        sizes={split: sum(r.size for r in made.results if r.split == split) for split in made.plan.splits},
        pixels=made.total("pixels"),
        images=made.total("images"),
        columns=rules.columns if rules.format == "parquet" else (),
        status=rules.status,
        metadata=rules.metadata,
        inputs=inputs,
        since=since(
            rules.previous,
            ledger=made.ledger,
            splits=made.splits,
            pixels=made.total("pixels"),
            labels=rules.labels,
        ),
    )
    store.write_text(work / ID2LABEL, rules.labels.id2label_json())
    store.write_text(work / SPLITS_FILE, to_json(made.plan.assignment) + "\n")
    store.write_text(work / LEDGER, to_json(made.ledger) + "\n")
    store.write_text(work / README, card.render(facts))
    write_metadata(work, joined.release.samples, made.ledger)
    if made.names:
        store.write_text(work / SAMPLES, json.dumps(_listing(made), indent=1, ensure_ascii=False) + "\n")


def _listing(made: _Made) -> list[dict[str, str]]:
    """The files of --format bitmaps, in order of split and file name."""
    converted = {r.uuid for r in made.ledger.rows if r.outcome == "converted"}

    def entry(split: str, sample: LabelledSample) -> dict[str, str]:
        path = f"{split}/{made.names[sample.uuid]}"
        image = f"images/{path}{Path(sample.image.path).suffix}"
        return {"image": image, "label": f"labels/{path}.png", "name": sample.name, "uuid": sample.uuid}

    return [
        entry(split, sample)
        for split, samples in made.plan.splits.items()
        for sample in sorted(samples, key=lambda s: made.names[s.uuid])
        if sample.uuid in converted
    ]


def _summary(joined: Joined, rules: Rules, made: _Made, work: Path) -> dict[str, Any]:
    """The numbers of the record, and `rows` (per file), `pixels` (per disk id) and `lost` (samples) beside them."""
    files = [work / r.path for r in made.results] if rules.format == "parquet" else []
    pixels = made.total("pixels")
    return {
        "release": joined.release.name,
        "dataset": joined.release.dataset,
        "num_labels": rules.labels.num_labels,
        "samples": len(made.ledger.rows),
        "outcomes": dict(made.ledger.totals),
        "splits": made.splits,
        "shards": len(files),
        "bytes": sum(f.stat().st_size for f in files) if files else sum(r.size for r in made.results),
        "pixel_shares": {k: round(v, 6) for k, v in card.pixel_shares(rules.labels, pixels).items()},
        "rows": {r.path: r.rows for r in made.results} if files else {},
        "pixels": pixels,
        "undrawn": made.ledger.undrawn,
        "lost": made.lost,
        "releases": [{"dataset": f.release.dataset, "release": f.release.name} for f in joined.folders],
    }


def _same(out: Path, wanted: str) -> Manifest | None:
    """The manifest at `out` if it is of the very same conversion."""
    try:
        manifest = store.read_manifest(out, "convert")
    except LabelsyncError:
        return None
    return manifest if manifest.fingerprint == wanted else None


def _is_whole(out: Path, manifest: Manifest) -> bool:
    """Every file is there with its size; README.md may have been written on by hand."""
    files = ((out / name, entry.size) for name, entry in manifest.files.items() if name != README)
    return METADATA in manifest.files and all(path.is_file() and path.stat().st_size == size for path, size in files)


def _record(out: Path, manifest: Manifest, *, unchanged: bool = False) -> ConvertRecord:
    names = {f.name for f in dataclasses.fields(ConvertRecord)}
    known = {k: v for k, v in manifest.summary.items() if k in names}
    return ConvertRecord(path=str(out), digest=manifest.digest, unchanged=unchanged, **known)
