"""`convert`: a release folder into a dataset folder."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from labelsync import store
from labelsync.dataset import card
from labelsync.dataset.cluster import dask_executor
from labelsync.dataset.place import PARTS, Place, Stage, finished, is_whole, place_of
from labelsync.dataset.plan import (
    Plan,
    make_plan,
    refuse_losses,
    require_rows,
    require_samples,
    required_splits,
)
from labelsync.dataset.pool import write_shards
from labelsync.dataset.reuse import ROWS, RowIndex, old_shards
from labelsync.dataset.rules import Rules, make_rules
from labelsync.dataset.sample import LabelledSample
from labelsync.dataset.select import file_names, select
from labelsync.dataset.shards import Shard, ShardResult, dealt, shard_paths
from labelsync.dataset.source import ID2LABEL, LEDGER, SPLITS_FILE
from labelsync.errors import OptionError
from labelsync.records.release import Ledger, Release
from labelsync.records.results import ConvertRecord
from labelsync.records.text import to_json
from labelsync.release.folder import ReleaseFolder, open_release
from labelsync.store import Manifest

README = "README.md"
SAMPLES = "samples.json"  # of --format bitmaps


def convert(
    release: str | Path,
    *,
    out: str | Path,
    splits: str | Path | None = None,
    fractions: Sequence[float] | None = None,
    group_by: str | None = None,
    status: Sequence[str] = ("LABELED", "REVIEWED"),
    unlabeled: str | None = None,
    previous: str | Path | None = None,
    allow_renumbering: bool = False,
    line_width: float | None = None,
    columns: str = "pixel_values,label",
    format: str = "parquet",
    workers: int | None = None,
    dask: str | None = None,
    executor: Executor | None = None,
    allow_failed: int = 0,
    overwrite: bool = False,
) -> ConvertRecord:
    """Turn a release folder into a dataset folder: images as they are, labels as PNGs of disk ids.

    Args:
        release: the folder that `pull` left.
        out: the folder to make, or an fsspec URL such as "s3://bucket/prefix".
        splits: a JSON file, {"train": [names, uuids or groups], ..} or {name, uuid or group: split}; None = by hash.
        fractions: shares of train, validation and test, of 1 or of 100; None = the earlier round's, else 80, 10, 10.
        group_by: what is never torn apart by a split: "uuid" (an image, or a whole sequence of frames), "name",
            "metadata.KEY", or "name:REGEX" (its first group, else the whole match); None = the earlier round's, else
            "uuid".
        status: label statuses that are taken.
        unlabeled: what pixels are that nobody labelled: "ignore" (0) or "class" (a class `background`); None = the
            earlier round's, else "ignore".
        previous: the dataset of an earlier round, a folder or "user/name@revision". Its class numbers, splits and
            number of shards are kept, shards that nothing happened to are linked, and unchanged rows are copied.
        allow_renumbering: follow category names where a release gives them other numbers than `previous` knows.
        line_width: pixels that polylines are wide, 1 or more; 0 = they are not drawn, and counted; None = the earlier
            round's, else 0.
        columns: names of the image and label column, "pixel_values,label" or "image,label".
        format: "parquet", or "bitmaps" for plain files in images/<split> and labels/<split>.
        workers: processes, None = as many as there are CPUs; or how many shards `dask` or `executor` works on at once.
        dask: "tcp://host:8786", the scheduler of a Dask cluster that does the work.
        executor: a `concurrent.futures.Executor` that does the work: threads, processes, `Client.get_executor()`. No
            flag can carry it. Workers that do not see the release folder fetch from the release's URLs.
        allow_failed: number of samples that may be lost here. Those that were allowed to fail in the pull do not count.
        overwrite: replace another dataset at `out`. The same conversion again does nothing.

    Raises:
        OptionError: a value that cannot be used.
        DatasetNotFound: `release` or `previous` is no finished folder (or repo).
        TaxonomyError: the categories cannot be numbered, contradict `previous`, or leave nothing to train.
        DatasetError: nothing to convert, an empty split, or a `splits` file that does not fit.
        SamplesFailed: more than `allow_failed` samples failed; no folder is left.
        OutputExists, OutputLocked, OutputError: something else lies at `out`, is being made there, or it cannot be
            written to.
        ServiceError: no Dask scheduler or worker answers.
    """
    if dask is not None and executor is not None:
        raise OptionError("dask and executor both say who does the work", hint="give one of them")
    for flag, value, least in (
        ("--workers", 1 if workers is None else workers, 1),
        ("--allow-failed", allow_failed, 0),
    ):
        if value < least:
            raise OptionError(f"{flag} is {value}, which is out of range", hint=f"give {least} or more")
    folder = open_release(release)
    rules = make_rules(
        folder.release.categories,
        splits=splits,
        fractions=fractions,
        group_by=group_by,
        status=status,
        unlabeled=unlabeled,
        previous=previous,
        allow_renumbering=allow_renumbering,
        line_width=line_width,
        columns=columns,
        format=format,
    )
    inputs = {"release": folder.manifest.digest} | rules.inputs
    place = place_of(out)
    same = finished(place, store.fingerprint("convert", inputs, rules.settings))
    if same is not None and same.summary["lost"] <= allow_failed and is_whole(place, same, but=README):
        return _record(place, same, unchanged=True)
    with ExitStack() as stack:
        executor = stack.enter_context(dask_executor(dask)) if dask is not None else executor
        stage = stack.enter_context(place.staged(overwrite=overwrite or same is not None))
        write = partial(write_shards, workers=workers, executor=executor, here=place.in_memory)
        made = _make(folder, rules, stage, write, allow_failed=allow_failed)
        _write_texts(stage.work, folder.release, rules, made, inputs)
        manifest = store.write_manifest(
            stage.work,
            "convert",
            inputs=inputs,
            settings=rules.settings,
            summary=_summary(folder.release, rules, made),
            labels=rules.labels,
            exclude=PARTS,
            known=made.files,
        )
    return _record(
        place,
        manifest,
        reused=sum(r.reused for r in made.results),
        linked=sum(r.linked for r in made.results),
        decoded=sum(r.decoded for r in made.results),
    )


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

    @property
    def files(self) -> dict[str, store.FileEntry]:
        return {name: entry for r in self.results for name, entry in r.files.items()}

    def total(self, field: str) -> list[int]:
        """Sum over shards of `pixels` or `images`, by disk id."""
        return [int(n) for n in np.sum([getattr(r, field) for r in self.results], axis=0)]


def _make(
    folder: ReleaseFolder,
    rules: Rules,
    stage: Stage,
    write: Callable[[Sequence[Shard]], list[ShardResult]],
    *,
    allow_failed: int,
) -> _Made:
    """Convert, and if a split came out empty because its samples were dropped, deal out those that are left."""
    release, selection = folder.release, select(folder, status=rules.status, line_width=rules.line_width)
    require_samples(selection, release)
    samples = selection.samples
    ledger = dict(selection.ledger)
    while True:
        plan = make_plan(samples, release.samples, rules)
        names = file_names(samples) if rules.format == "bitmaps" else {}
        results = write(_shards(plan, rules, stage.data, names))
        ledger |= {row.uuid: row for r in results for row in r.ledger}
        lost = [r for r in ledger.values() if r.outcome == "failed" and r.uuid not in selection.allowed]
        refuse_losses(lost, allow_failed, total=len(release.samples))
        kept = tuple(s for s in samples if ledger[s.uuid].outcome == "converted")
        made = _Made(plan, results, Ledger(tuple(ledger[s.uuid] for s in release.samples)), len(lost), names)
        is_free = rules.given is None and rules.earlier is None
        if not is_free or all(made.rows(s) for s in required_splits(rules)) or not 0 < len(kept) < len(samples):
            break
        samples = kept  # what was written for the others is swept: the manifest does not list it
    require_rows(plan, made.splits, rules)
    made.ledger.require_complete(release.samples)
    return made


def _shards(plan: Plan, rules: Rules, data: str, names: dict[str, str]) -> list[Shard]:
    schema = card.features(rules.columns).arrow_schema if rules.format == "parquet" else None
    old = old_shards(rules.previous) if schema is not None else {}
    return [
        Shard(
            folder=data,
            split=split,
            path=path,
            samples=part,
            labels=rules.labels,
            schema=schema,
            names={s.uuid: names[s.uuid] for s in part} if names else None,
            old=old.get(path),
        )
        for split, samples in plan.splits.items()
        for path, part in zip(shard_paths(split, plan.shards[split]), dealt(samples, plan.shards[split]), strict=True)
    ]


# -------------------------------------------------------------------- around the data


def _write_texts(work: Path, release: Release, rules: Rules, made: _Made, inputs: dict[str, str]) -> None:
    facts = card.CardFacts(
        release=release,
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
        inputs=inputs,
    )
    store.write_text(work / ID2LABEL, rules.labels.id2label_json())
    store.write_text(work / SPLITS_FILE, to_json(made.plan.assignment) + "\n")
    store.write_text(work / LEDGER, to_json(made.ledger) + "\n")
    store.write_text(work / README, card.render(facts))
    if index := {r.path: r.index for r in made.results if r.index is not None}:
        store.write_text(work / ROWS, to_json(RowIndex(index), indent=None) + "\n")
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


def _summary(release: Release, rules: Rules, made: _Made) -> dict[str, Any]:
    """The numbers of the record, and `rows` (per file), `pixels` (per disk id) and `lost` (samples) beside them."""
    files = made.files if rules.format == "parquet" else {}
    pixels = made.total("pixels")
    return {
        "release": release.name,
        "dataset": release.dataset,
        "num_labels": rules.labels.num_labels,
        "samples": len(made.ledger.rows),
        "outcomes": dict(made.ledger.totals),
        "splits": made.splits,
        "shards": len(files),
        "bytes": sum(entry.size for entry in made.files.values()),
        "pixel_shares": {k: round(v, 6) for k, v in card.pixel_shares(rules.labels, pixels).items()},
        "rows": {r.path: r.rows for r in made.results} if files else {},
        "pixels": pixels,
        "undrawn": made.ledger.undrawn,
        "lost": made.lost,
    }


def _record(place: Place, manifest: Manifest, **run: Any) -> ConvertRecord:
    """`run` = what this run did, which is not in the manifest: the same dataset may be made in several ways."""
    names = {f.name for f in dataclasses.fields(ConvertRecord)}
    known = {k: v for k, v in manifest.summary.items() if k in names}
    return ConvertRecord(path=place.name, digest=manifest.digest, **known, **run)
