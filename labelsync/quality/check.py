"""`check`: what is wrong in a release or a dataset, before somebody trains on it."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from tqdm import tqdm

from labelsync.errors import GateFailed, OptionError, SamplesFailed
from labelsync.quality.advice import KINDS, advice
from labelsync.quality.balance import Tally, balance, missing_classes
from labelsync.quality.duplicates import duplicates, near_duplicates
from labelsync.quality.labelled import Bounds, counted
from labelsync.quality.likeness import BITS
from labelsync.quality.look import Seen, look
from labelsync.quality.sizes import surprises
from labelsync.quality.subject import Subject, open_subject
from labelsync.records.findings import CheckRecord, DoubtedSample, Finding, KindSummary
from labelsync.records.text import to_json
from labelsync.release.parse import check_status
from labelsync.store.files import write_text
from labelsync.store.folder import stage_folder
from labelsync.store.manifest import write_manifest

if TYPE_CHECKING:  # a check without a model needs no torch
    from labelsync.quality.second_opinion import Opinion

R = TypeVar("R")

_CHUNK = 16  # samples that a thread takes at a time: neighbours lie in one row group of a dataset
_SEVERITIES = ("error", "warning", "info")


def check(
    source: str | Path,
    *,
    strict: bool = False,
    ignore: Sequence[str] = (),
    status: Sequence[str] = ("LABELED", "REVIEWED"),
    near: int = 64,
    min_labelled: float = 0.01,
    min_instance: int = 10,
    limit: int = 10,
    workers: int | None = None,
    model: str | Path | None = None,
    min_contradicted: float = 0.8,
    batch_size: int = 8,
    device: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    open_issues: bool = False,
    dry_run: bool = False,
) -> CheckRecord:
    """Look through a release or a dataset for labels, images and splits that are not as they should be.

    An error makes a conversion fail or scores lie, a warning is probably a slip, an info is good to know. What is
    known of annotations (ids, instances) can be checked in a release only, what is known of splits in a dataset only.
    Images are read one by one; of each, 256 bits of its look and its size are kept.

    Args:
        source: a folder of `pull` or of `convert`, or a dataset "user/name[@revision]" on the Hub.
        strict: raise GateFailed if there is an error or a warning.
        ignore: kinds of findings to leave out.
        status: label statuses that are looked at in a release; a dataset holds what was converted.
        near: images of two splits that differ in at most so many of 256 bits are near-duplicates; see `likeness` for
            what differs in how many.
        min_labelled: a label is tiny if less than this share of its pixels is labelled.
        min_instance: an instance is tiny if it has fewer pixels.
        limit: findings of each kind, and doubted samples, that the record lists, the worst; 0 = all. All are counted.
        workers: threads; None = as many as there are CPUs.
        model: also ask a model, a folder or a Hub id "user/name[@revision]", and tell the regions that it gives another
            class than the label does, and the samples that hold them. It finds most in samples that it was not trained
            on.
        min_contradicted: least score of such a region, 0 to 1: how much less probable the model finds the label's class
            there than it usually does where the labels have that class, in a thing of that size. 0.8 = five times less.
        batch_size: images run through the model at once.
        device: "cuda", "cpu", ...; None = a GPU if there is one.
        out: a folder to leave: the record as check.json and, with a model, pictures/ of its worst findings.
        overwrite: replace what a check left at `out`.
        open_issues: tell labelers: open an issue on Segments.ai (SEGMENTS_API_KEY) at every sample of the regions that
            the record lists, so `limit` says how many at most. One that an earlier check opened and nobody has closed
            is not opened again.
        dry_run: with `open_issues`: only tell which issues would be opened.

    Raises:
        OptionError: a value that cannot be used.
        ModelNotFound, ModelError: no model, or one that knows none of the classes.
        OutputExists: `out` is not empty.
        GateFailed: `strict`, and something was found; its `record` is what would have been returned.
        DatasetNotFound: no finished folder of `pull` or `convert` there, or no such repo.
        ReleaseError, DatasetError: one that was edited or damaged as a whole. One broken file is a finding.
        TaxonomyError: categories of a release that cannot be told apart.
        AuthError, ServiceError: the Hub or Segments.ai does not show it, does not let the key, or does not answer.
        ReleaseNotFound: `open_issues`, and no such dataset on Segments.ai.
        SamplesFailed: issues that could not be opened; all others are.
    """
    for flag, value, least, most in (
        ("--near", near, 0, BITS),
        ("--min-labelled", min_labelled, 0, 1),
        ("--min-instance", min_instance, 0, None),
        ("--limit", limit, 0, None),
        ("--workers", 1 if workers is None else workers, 1, None),
        ("--min-contradicted", min_contradicted, 0, 1),
    ):
        if not (value >= least and (most is None or value <= most)):  # a NaN is refused too
            allowed = f"{least} or more" if most is None else f"{least} to {most}"
            raise OptionError(f"{flag} is {value}, which is out of range", hint=f"give {allowed}")
    unknown = sorted(set(ignore) - set(KINDS))
    if unknown:
        raise OptionError(f"no kind of finding is called {unknown[0]!r}", hint=f"there are: {', '.join(KINDS)}")
    for flag, given, needed in (("--open-issues", open_issues, model), ("--dry-run", dry_run, open_issues)):
        if given and not needed:
            raise OptionError(f"{flag} does nothing alone", hint="give --model and --open-issues")
    subject = open_subject(source, status=check_status(status))
    tell = _teller(subject, model, dry_run=dry_run) if open_issues and model is not None else None
    opinion = None if model is None else _opinion(model, subject, device=device, batch_size=batch_size)
    with nullcontext() if out is None else stage_folder(out, stage="check", overwrite=overwrite) as work:
        found, tally = _find(subject, Bounds(min_labelled, min_instance), near=near, workers=workers)
        if opinion:
            found += opinion.findings(bound=min_contradicted, least=min_instance)
        record = _record(subject, [f for f in found if f.kind not in ignore], tally, limit=limit)
        record = tell(record) if tell else record
        if work:
            _write(work, record, opinion, limit=limit)
    _refuse_failed(record)
    if strict and (record.errors or record.warnings):
        raise GateFailed(
            f"{record.source} has {counted(record.errors, 'error')} and {counted(record.warnings, 'warning')}",
            hint="mend them, or accept a kind with --ignore KIND",
            record=record,
        )
    return record


def _opinion(model: str | Path, subject: Subject, *, device: str | None, batch_size: int) -> "Opinion":
    """The model, answering in the subject's classes; torch is loaded for it alone."""
    from labelsync.model.segmenter import Segmenter
    from labelsync.quality.second_opinion import Opinion

    return Opinion(subject, Segmenter(model, device=device, batch_size=batch_size, labels=subject.labels))


def _teller(subject: Subject, model: str | Path, *, dry_run: bool) -> Callable[[CheckRecord], CheckRecord]:
    """What opens the issues of a record. That the key and the dataset are good for it is known before all the work.

    Raises:
        OptionError, AuthError, ServiceError, ReleaseNotFound: as `check`.
    """
    from labelsync.quality.issues import datasets_of, open_issues
    from labelsync.release.issues import Issues

    datasets = datasets_of(subject.dataset)
    with Issues() as platform:
        for name in datasets:
            platform.require_dataset(name)

    def tell(record: CheckRecord) -> CheckRecord:
        regions = [f for f in record.findings if f.kind == "contradicted-label"]
        with Issues() as platform:
            rows = open_issues(platform, regions, datasets=datasets, model=model, dry_run=dry_run)
        return replace(record, issues=rows, dry_run=dry_run)

    return tell


def _refuse_failed(record: CheckRecord) -> None:
    if failed := [row for row in record.issues if row.outcome == "failed"]:
        raise SamplesFailed(
            f"{len(failed)} of {counted(len(record.issues), 'issue')} could not be opened",
            hint="the others are; run it again",
            details=[f"{row.name!r}: {row.reason}" for row in failed],
        )


def _write(work: Path, record: CheckRecord, opinion: "Opinion | None", *, limit: int) -> None:
    """check.json, pictures/ and, last, the manifest."""
    write_text(work / "check.json", to_json(record) + "\n")
    if opinion:
        opinion.draw(work / "pictures", limit=limit)
    digests = {"model": opinion.digest} if opinion else {}
    counts = {"errors": record.errors, "warnings": record.warnings, "infos": record.infos}
    write_manifest(work, "check", inputs=digests, settings={}, summary=counts)


def _find(subject: Subject, bounds: Bounds, *, near: int, workers: int | None) -> tuple[list[Finding], Tally]:
    """Every finding, in no order, and the sums over all labels."""
    tally = Tally.of(subject.splits, subject.labels)
    seen: list[Seen] = []

    def take(chunk: Sequence[int]) -> tuple[list[Seen], Tally]:
        part = Tally.of(subject.splits, subject.labels)
        looked = [look(subject, index, bounds) for index in chunk]
        for one, counts in looked:
            if counts is not None:
                part.add(one.split, counts)
        return [one for one, _ in looked], part

    for some, part in _spread(take, range(subject.count), workers=workers, desc="samples"):
        seen += some
        tally.merge(part)

    def spread(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        chunks = _spread(lambda chunk: [function(x) for x in chunk], items, workers=workers, desc="duplicates")
        return [result for chunk in chunks for result in chunk]

    same = duplicates(subject, seen, spread)
    alike = near_duplicates(seen, within=near, known=same, is_split=subject.stage == "convert")
    classes = missing_classes(balance(tally, subject.labels), subject.splits) if seen else []
    found = [*subject.lost, *(f for s in seen for f in s.findings), *same, *alike, *classes, *surprises(seen)]
    shapes = sum(s.has_shapes for s in seen)
    if shapes:
        message = f"{counted(shapes, 'label')} of shapes without a bitmap: their pixels were not looked at"
        found.append(Finding("shapes-only", "info", message, score=float(shapes)))
    return found, tally


def _spread(function: Callable[[Any], R], items: Sequence[Any], *, workers: int | None, desc: str) -> Iterator[R]:
    """`function` of each chunk of `items`, in order. Decoding releases the interpreter's lock, so threads do."""
    chunks = [items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK)]
    if not chunks:
        return
    count = min(workers or os.cpu_count() or 1, len(chunks))
    bar: tqdm[NoReturn] = tqdm(total=len(items), desc=desc, unit="sample", disable=None, file=sys.stderr)
    with ThreadPoolExecutor(count, thread_name_prefix="check") as pool, bar:
        try:
            for chunk, result in zip(chunks, pool.map(function, chunks), strict=True):
                yield result
                bar.update(len(chunk))
        except BaseException:  # Ctrl-C: what is under way may end, the rest never starts
            pool.shutdown(wait=False, cancel_futures=True)
            raise


# -------------------------------------------------------------------- the record


def _record(subject: Subject, found: Iterable[Finding], tally: Tally, *, limit: int) -> CheckRecord:
    findings = sorted(found, key=lambda f: _rank(f, list(subject.splits)))
    severities = Counter(f.severity for f in findings)
    kinds: dict[str, KindSummary] = {}
    listed: list[Finding] = []
    for kind in KINDS:
        same = [f for f in findings if f.kind == kind]
        if same:
            kinds[kind] = _summary(same, subject)
            listed += same[: limit or None]
    return CheckRecord(
        source=subject.source,
        stage=subject.stage,
        dataset=subject.dataset,
        release=subject.release,
        samples=subject.count,
        left_out=subject.left_out,
        splits=subject.splits,
        errors=severities["error"],
        warnings=severities["warning"],
        infos=severities["info"],
        kinds=kinds,
        classes=balance(tally, subject.labels),
        findings=tuple(listed),
        doubted=_doubted(findings)[: limit or None],
    )


def _doubted(findings: Sequence[Finding]) -> tuple[DoubtedSample, ...]:
    """The samples of the regions that a model contradicts, in the order of their worst one."""
    worst: dict[tuple[str, str], DoubtedSample] = {}
    for f in findings:
        if f.kind == "contradicted-label":
            new = DoubtedSample(f.split, f.name, f.uuid, f.score, 0)
            sample = worst.get((f.split, f.uuid), new)
            worst[f.split, f.uuid] = replace(sample, regions=sample.regions + 1)
    return tuple(worst.values())


def _rank(f: Finding, splits: list[str]) -> tuple[Any, ...]:
    """The worst first, and one order for one input."""
    split = splits.index(f.split) if f.split in splits else -1
    return _SEVERITIES.index(f.severity), -f.score, split, f.name, f.uuid, f.class_name, f.message


def _summary(same: Sequence[Finding], subject: Subject) -> KindSummary:
    count = Counter(f.severity for f in same)
    only = next(iter(subject.splits)) if subject.stage == "pull" else ""
    uuids = {(f.split or only, f.uuid) for f in same if f.uuid and f.kind != "lost-sample"}
    per_split = Counter(split for split, _ in uuids)
    return KindSummary(
        errors=count["error"],
        warnings=count["warning"],
        infos=count["info"],
        samples={split: per_split[split] for split in subject.splits if per_split[split]},
        advice=advice(same[0].kind, group_by=subject.group_by),
    )
