"""`convert`: a release folder into a dataset folder."""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from labelsync.dataset.arrays import schema_of
from labelsync.dataset.cluster import dask_executor
from labelsync.dataset.joined import open_releases
from labelsync.dataset.layout import in_place
from labelsync.dataset.made import README, Made, summary_of, write_texts
from labelsync.dataset.metadata_file import METADATA
from labelsync.dataset.place import PARTS, Place, Stage, finished, is_whole, place_of
from labelsync.dataset.plan import Plan, make_plan, refuse_losses, require_rows, require_samples, required_splits
from labelsync.dataset.pool import write_shards
from labelsync.dataset.reuse import old_shards
from labelsync.dataset.rules import Rules, make_rules
from labelsync.dataset.select import Selection, file_names
from labelsync.dataset.shards import Shard, ShardResult, dealt, shard_paths
from labelsync.dataset.split_by import with_split_by
from labelsync.errors import OptionError
from labelsync.records.release import Ledger, Release
from labelsync.records.results import ConvertRecord
from labelsync.store.manifest import Manifest, fingerprint, write_manifest


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
    dask: str | None = None,
    executor: Executor | None = None,
    allow_failed: int = 0,
    overwrite: bool = False,
) -> ConvertRecord:
    """Turn a release folder into a dataset folder: images as they are, labels as PNGs of disk ids.

    Args:
        release: the folder that `pull` left; or several, of different Segments.ai datasets. Their categories are
            joined by name; the first comes first in the class numbers.
        out: the folder to make, or an fsspec URL such as "s3://bucket/prefix".
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
            number of shards are kept, shards that nothing happened to are linked, and unchanged rows are copied.
        allow_renumbering: follow category names where a release gives them other numbers than `previous` knows, and
            `labels` where it puts categories into other classes.
        line_width: pixels that polylines are wide, 1 or more; 0 = they are not drawn, and counted; None = the earlier
            round's, else 0.
        columns: names of the image and label column, "pixel_values,label" or "image,label".
        format: "parquet", or "bitmaps" for plain files in images/<split> and labels/<split>.
        workers: processes, or threads where there is little to do; None = as many as there are CPUs. Or how many shards
            `dask` or `executor` works on at once.
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
    _require_sensible(workers, allow_failed, dask, executor)
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
    place = place_of(out)
    same = finished(place, fingerprint("convert", inputs, rules.settings))
    if same is not None and same.summary["lost"] <= allow_failed and _is_whole(place, same):
        return _record(place, same, unchanged=True)
    with ExitStack() as stack:
        executor = stack.enter_context(dask_executor(dask)) if dask is not None else executor
        stage = stack.enter_context(place.staged(overwrite=overwrite or same is not None))
        selection = joined.select(status=rules.status, metadata=rules.metadata, line_width=rules.line_width)
        rules = with_split_by(rules, selection.of(joined.release.samples))
        write = partial(write_shards, workers=workers, executor=executor, here=place.in_memory)
        made = _make(joined.release, selection, rules, stage, write, allow_failed=allow_failed)
        write_texts(stage.work, joined, rules, made, inputs)
        manifest = write_manifest(
            stage.work,
            "convert",
            inputs=inputs,
            settings=rules.settings,
            summary=summary_of(joined, rules, made),
            labels=rules.labels,
            exclude=PARTS,
            known=made.files,
        )
    run = {name: sum(getattr(r, name) for r in made.results) for name in ("reused", "linked", "decoded")}
    return _record(place, manifest, **run)


def _is_whole(place: Place, manifest: Manifest) -> bool:
    """Every file is there that the manifest lists, and that a labelsync of today writes."""
    return METADATA in manifest.files and is_whole(place, manifest, but=README)


def _require_sensible(workers: int | None, allow_failed: int, dask: str | None, executor: Executor | None) -> None:
    if dask is not None and executor is not None:
        raise OptionError("dask and executor both say who does the work", hint="give one of them")
    for flag, value, least in (
        ("--workers", 1 if workers is None else workers, 1),
        ("--allow-failed", allow_failed, 0),
    ):
        if value < least:
            raise OptionError(f"{flag} is {value}, which is out of range", hint=f"give {least} or more")


# -------------------------------------------------------------------- the data


def _make(
    release: Release,
    selection: Selection,
    rules: Rules,
    stage: Stage,
    write: Callable[[Sequence[Shard]], list[ShardResult]],
    *,
    allow_failed: int,
) -> Made:
    """Convert, and if a split came out empty because its samples were dropped, deal out those that are left."""
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
        made = Made(plan, results, Ledger(tuple(ledger[s.uuid] for s in release.samples)), len(lost), names)
        is_free = rules.given is None and rules.earlier is None
        if not is_free or all(made.rows(s) for s in required_splits(rules)) or not 0 < len(kept) < len(samples):
            break
        samples = kept  # what was written for the others is swept: the manifest does not list it
    require_rows(plan, made.splits, rules)
    made.ledger.require_complete(release.samples)
    return made


def _shards(plan: Plan, rules: Rules, data: str, names: dict[str, str]) -> list[Shard]:
    schema = schema_of(rules.columns) if rules.format == "parquet" else None
    old = old_shards(rules.previous) if schema is not None else {}
    return [
        Shard(
            folder=data,
            split=split,
            path=path,
            samples=in_place(part, old[path].index if path in old else None),
            labels=rules.labels,
            schema=schema,
            names={s.uuid: names[s.uuid] for s in part} if names else None,
            old=old.get(path),
        )
        for split, samples in plan.splits.items()
        for path, part in zip(shard_paths(split, plan.shards[split]), dealt(samples, plan.shards[split]), strict=True)
    ]


def _record(place: Place, manifest: Manifest, **run: Any) -> ConvertRecord:
    """`run` = what this run did, which is not in the manifest: the same dataset may be made in several ways."""
    names = {f.name for f in dataclasses.fields(ConvertRecord)}
    known = {k: v for k, v in manifest.summary.items() if k in names}
    return ConvertRecord(path=place.name, digest=manifest.digest, **known, **run)
