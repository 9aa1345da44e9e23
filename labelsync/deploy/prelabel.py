"""`prelabel`: a model's predictions as the first draft of labels on Segments.ai, for people to correct."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from labelsync.deploy.categories import Placement, place
from labelsync.deploy.drafting import Job, draft
from labelsync.deploy.journal import RECORD, Past, opened, read
from labelsync.deploy.ledger import kept_ledger
from labelsync.deploy.strategy import read_strategy, require_strategy
from labelsync.deploy.undo import undo_prelabels
from labelsync.deploy.waiting import find_work
from labelsync.errors import OptionError, OutputExists, SamplesFailed
from labelsync.model.segmenter import Segmenter
from labelsync.model.source import locate
from labelsync.records.prelabels import PrelabelLedger, PrelabelRecord, PrelabelRow
from labelsync.release.labeling import Labeling, SampleState
from labelsync.store.folder import is_vacant, locked

GROUND_TRUTH = "ground-truth"


def prelabel(
    model: str | Path = "",
    *,
    dataset: str = "",
    labelset: str = GROUND_TRUTH,
    limit: int | None = None,
    min_size: int = 64,
    strategy: str = "margin",
    labels: bool = True,
    out: str | Path | None = None,
    batch_size: int = 8,
    device: str | None = None,
    dry_run: bool = False,
    undo: str | Path | None = None,
) -> PrelabelRecord:
    """Predict the unlabeled samples of a Segments.ai dataset and upload the predictions as PRELABELED labels.

    Their priority in the labeling queue is how unsure the model is of them, 0 to 1: people first see what it learns
    most from. Priorities that somebody has set are left alone.

    Each connected part of a class whose category has instances is an annotation of its own, any other class is one
    annotation. Samples are taken in the order of the labeling queue (priority, then name). What anybody has touched is
    left alone: the label is read right before and right after each write (see `labelsync.deploy.writing` for what the
    API leaves open). The same command after an interruption goes on, without doing anything twice.

    Leaves a folder with record.jsonl, which knows every write, and ledger.json, a row for every sample; both also when
    the platform or a Ctrl-C ends the run. Images go into the asset cache (LABELSYNC_CACHE), some ahead of the model;
    `pull` finds them there once the labels are released.

    Args:
        model: a model folder or a Hub id "user/name[@revision]". Only `undo` does without.
        dataset: "owner/name" on Segments.ai (key in SEGMENTS_API_KEY, server in SEGMENTS_API_URL). Only `undo` does
            without.
        labelset: where the labels go.
        limit: at most so many samples; None = all. What an interrupted run wrote counts.
        min_size: connected parts under so many pixels get the class they have the longest border with; 0 keeps all.
        strategy: what makes a sample come early: a small mean "margin" between its pixels' two likeliest classes; their
            mean "entropy"; "low-confidence", the share of pixels where no class has half of the probability; "flip",
            the share that changes its class when the image is mirrored; "diverse", that it looks like none before it;
            one of the first four "+diverse", as "entropy+diverse", for both; or "none", to leave the queue as it is. A
            diverse order is one among the samples of one run; of more than 2000 the others follow by uncertainty.
        labels: False = write no labels, and only order the samples that wait for a labeler, prelabeled ones included.
        out: folder of the record; None = "prelabels-<dataset>-<digest of the model>" here, so that a model goes on
            with its own record.
        batch_size: images run through the model at once.
        device: "cuda", "cpu", ...; None = a GPU if there is one.
        dry_run: predict, and write nothing anywhere but images into the cache.
        undo: take back the labels and priorities of this record (the folder, or its record.jsonl) that nobody has
            touched since, all of them: `limit`, `out`, `labels` and `strategy` are refused beside it.

    Raises:
        OptionError: a setting or labelset that does not exist.
        AuthError, ServiceError: no key, one without the right, or no server.
        ReleaseNotFound, ReleaseFormatError: no such dataset, or one of another task type than segmentation bitmaps.
        ModelNotFound, ModelError: as `labelsync.Segmenter`.
        TaxonomyError: the model's classes are not the dataset's categories.
        OutputExists, OutputLocked: `out` holds something else, or another run writes there.
        SamplesFailed: of some samples; all others are done, and the ledger says which and why.
    """
    if undo is not None:
        _refuse_beside_undo(limit=limit, out=out, labels=labels, strategy=strategy)
        other = labelset if labelset != GROUND_TRUTH else ""
        return undo_prelabels(undo, model=str(model), dataset=dataset, labelset=other, dry_run=dry_run)
    _check(model, dataset, limit=limit, min_size=min_size)
    order = None if strategy == "none" else read_strategy(strategy)
    if order is None and not labels:
        raise OptionError("without labels and without a strategy there is nothing to do", hint="choose a --strategy")
    files = locate(model)
    target = Path(out) if out is not None else Path(f"prelabels-{dataset.partition('/')[2]}-{files.digest[:8]}")
    with ExitStack() as held:
        platform = held.enter_context(Labeling(labelset))
        found = platform.dataset(dataset)
        segmenter = Segmenter(model, device=device, batch_size=batch_size)
        require_strategy(segmenter, order)
        placement = place(segmenter.labels, found.categories, dataset=dataset)
        head: dict[str, Any] = {"server": platform.server, "dataset": dataset, "labelset": labelset}
        head |= {"model": str(model), "digest": files.digest, "min_size": min_size}
        past = _past(target, head)
        journal = None
        if not dry_run:
            held.enter_context(locked(target))
            journal = held.enter_context(opened(target / RECORD))
            past = journal.past
            _require_same(target, past, head)  # another run may have begun the record before the lock was ours
        job = Job(platform, journal, past, segmenter, placement, min_size, "" if dry_run else platform.user(), order)
        states = platform.states(dataset)
        rows: dict[str, PrelabelRow] = {}
        with kept_ledger(None if dry_run else target, states, rows):
            _run(job, head, states, rows, labels=labels, limit=limit)
        ledger = PrelabelLedger(tuple(rows[s.uuid] for s in states))
        if journal is not None:
            journal.add("end")
    record = _record(
        ledger,
        placement,
        path="" if dry_run else str(target),
        dataset=dataset,
        labelset=labelset,
        model=str(model),
        dry_run=dry_run,
        labels=labels,
        strategy=order.name if order else "",
    )
    _refuse_losses(ledger, record)
    return record


def _record(ledger: PrelabelLedger, placement: Placement, **given: Any) -> PrelabelRecord:
    """What the run did; `given` = what it was asked for."""
    return PrelabelRecord(
        samples=len(ledger.rows),
        outcomes=ledger.totals,
        annotations=sum(row.annotations for row in ledger.rows),
        renamed=placement.renamed,
        undrawn=placement.undrawn,
        races=tuple(row for row in ledger.rows if row.outcome == "lost"),
        ordered=sum(row.priority is not None for row in ledger.rows),
        theirs=sum(row.theirs is not None for row in ledger.rows),
        **given,
    )


def _refuse_beside_undo(*, limit: int | None, out: str | Path | None, labels: bool, strategy: str) -> None:
    """Whatever sounds as if less than all were to be taken back."""
    given = {"--limit": limit is not None, "--out": out is not None, "--no-labels": not labels}
    for flag, is_given in (given | {"--strategy": strategy != "margin"}).items():
        if is_given:
            raise OptionError(f"{flag} says nothing to --undo, which takes a whole record back", hint="leave it out")


def _run(
    job: Job,
    head: Mapping[str, Any],
    states: Sequence[SampleState],
    rows: dict[str, PrelabelRow],
    *,
    labels: bool,
    limit: int | None,
) -> None:
    """Settle what an interrupted run left open, then predict and write; `rows` gets one for every sample."""
    work = find_work(job, states, labels=labels, limit=limit)
    if job.journal is not None:
        job.journal.add("run", **head)
    rows.update(work.rows)
    draft(job, work.samples, work.keep, rows)


def _check(model: str | Path, dataset: str, *, limit: int | None, min_size: int) -> None:
    if not str(model) or not dataset:
        raise OptionError("a model and a dataset are needed", hint="labelsync prelabel MODEL owner/dataset")
    owner, _, name = dataset.partition("/")
    if not owner or not name or "/" in name or "@" in dataset or {".", ".."} & {owner, name}:
        raise OptionError(f"{dataset!r} names no dataset", hint="write owner/dataset, without a release")
    for flag, value, least in (("--limit", limit, 1), ("--min-size", min_size, 0)):
        if value is not None and value < least:
            raise OptionError(f"{flag} is {value}, which is out of range", hint=f"give {least} or more")


def _past(target: Path, head: Mapping[str, Any]) -> Past:
    """What the record at `target` says, if it is one of the same model, dataset and settings, or there is none yet."""
    if not (target / RECORD).is_file():
        if not is_vacant(target):
            raise OutputExists(f"{target} is not a folder of prelabel", hint="choose another --out")
        return Past()
    past = read(target / RECORD)
    _require_same(target, past, head)
    return past


def _require_same(target: Path, past: Past, head: Mapping[str, Any]) -> None:
    """Raises OutputExists if the record is of another model, dataset or settings."""
    other = [k for k in head if k != "model" and past.head and past.head.get(k) != head[k]]
    if other:
        raise OutputExists(
            f"{target} holds the record of prelabels with another {other[0].replace('digest', 'model')}",
            hint="choose another --out",
        )


def _refuse_losses(ledger: PrelabelLedger, record: PrelabelRecord) -> None:
    if failed := ledger.failed:
        done = record.outcomes.get("prelabeled", 0) if record.labels else record.ordered
        what = "prelabeled" if record.labels else "ordered"
        raise SamplesFailed(
            f"{len(failed)} of {len(ledger.rows)} samples failed"
            + ("" if record.dry_run else f"; {done} others are {what}"),
            hint="what failed is tried again by the same command"
            + (f"; --undo {record.path} takes the others back" if done and not record.dry_run else ""),
            details=[f"{row.name!r}: {row.reason}" for row in (*failed, *record.races)],
        )
