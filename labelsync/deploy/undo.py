"""`prelabel --undo`: take back what a record says was written, as far as nobody has touched it since."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from labelsync.deploy.journal import RECORD, Entry, Journal, Place, opened, read
from labelsync.deploy.ledger import kept_ledger
from labelsync.deploy.ordering import reset_priority
from labelsync.deploy.writing import WRITERS, attempts, is_free
from labelsync.errors import AuthError, LabelsyncError, OptionError, SamplesFailed, ServiceError
from labelsync.records.prelabels import PrelabelLedger, PrelabelOutcome, PrelabelRecord, PrelabelRow
from labelsync.release.labeling import Labeling, LabelState
from labelsync.store.folder import locked


def undo_prelabels(record: str | Path, *, model: str, dataset: str, labelset: str, dry_run: bool) -> PrelabelRecord:
    """Delete the labels that a record says were written and that are still what was written.

    Where the record knows what stood there before, that is put back. The label is read right before and right after.
    Priorities that are still what was written become 0 again. The ledger then has a row for every sample of the record.

    Args:
        record: the folder that prelabel left, or its record.jsonl.
        model, dataset, labelset: "", or what the record must be of.

    Raises:
        LabelsyncError: no record there.
        OptionError: it is of another model, dataset, labelset or server.
        SamplesFailed: labels that could not be taken back; the others are.
    """
    if not str(record):  # as a path it would be the current folder
        raise OptionError("--undo is empty", hint="give the folder that prelabel left")
    given = Path(record)
    path = given / RECORD if given.is_dir() or given.suffix != ".jsonl" else given
    head = read(path).head
    if not head:
        raise LabelsyncError(f"{path} records no run", hint="give the folder that prelabel left")
    for name, value in (("model", model), ("dataset", dataset), ("labelset", labelset)):
        if value and value != head[name]:
            raise OptionError(f"{path} is of {name} {head[name]}, not {value}", hint=f"leave out the {name}")
    with locked(path.parent), Labeling(head["labelset"]) as platform, opened(path) as journal:
        if platform.server != head["server"]:
            raise OptionError(f"{path} is of {head['server']}, not {platform.server}", hint="set SEGMENTS_API_URL")
        past, rows = journal.past, dict[str, PrelabelRow]()
        every = [e for e in past.entries.values() if e.may_stand] + list(past.places.values())
        with kept_ledger(None if dry_run else path.parent, every, rows):
            _undo_all(platform, journal, every, rows, dry_run=dry_run)
    ledger = PrelabelLedger(tuple(rows[uuid] for uuid in dict.fromkeys(e.uuid for e in every)))
    if failed := ledger.failed:
        raise SamplesFailed(
            f"{len(failed)} of {len(rows)} samples could not be made what they were",
            hint="the others are; run it again",
            details=[f"{row.name!r}: {row.reason}" for row in failed],
        )
    return PrelabelRecord(
        path=str(path.parent),
        dataset=head["dataset"],
        labelset=head["labelset"],
        model=head["model"],
        samples=len(rows),
        outcomes=ledger.totals,
        annotations=sum(row.annotations for row in ledger.rows if row.outcome == "undone"),
        races=tuple(row for row in ledger.rows if row.outcome == "lost"),
        dry_run=dry_run,
        undo=True,
        ordered=sum(row.priority is not None for row in ledger.rows),
        theirs=sum(row.theirs is not None for row in ledger.rows),
    )


def _undo_all(
    platform: Labeling, journal: Journal, every: Sequence[Entry | Place], rows: dict[str, PrelabelRow], *, dry_run: bool
) -> None:
    """Some samples at a time, each its label first and then its priority; `rows` gets one for each."""
    parts: dict[str, list[Entry | Place]] = {}
    for part in every:
        parts.setdefault(part.uuid, []).append(part)

    def undo(uuid: str) -> None:
        row: PrelabelRow | None = None
        for part in parts[uuid]:
            if isinstance(part, Entry):
                row = _undo(platform, journal, part, dry_run=dry_run)
            else:
                row = _both(row, reset_priority(platform, journal, part, dry_run=dry_run))
        if row is not None:
            rows[uuid] = row

    with ThreadPoolExecutor(WRITERS, thread_name_prefix="undo") as pool:
        try:
            for _ in tqdm(pool.map(undo, parts), total=len(parts), desc="undo", unit="sample", disable=None):
                pass
        except BaseException:  # Ctrl-C, a refused key: what is under way comes to its end, and so into the record
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _both(label: PrelabelRow | None, reset: PrelabelRow) -> PrelabelRow:
    """One row of what became of a sample's label and of its priority."""
    if label is None:
        return reset
    if reset.outcome == "failed" and label.outcome != "failed":
        return replace(reset, annotations=label.annotations)
    return replace(label, priority=reset.priority, theirs=reset.theirs)


def _undo(platform: Labeling, journal: Journal, entry: Entry, *, dry_run: bool) -> PrelabelRow:
    """Take one label back; a request whose answer was lost is made again only where the label still stands."""
    failure = ""
    try:
        for again in attempts():
            now = platform.read(entry.uuid)
            if not _is_untouched(entry, now):
                return _close(journal, entry, now, tried=again > 0, dry_run=dry_run)
            if dry_run:
                return _row(entry, "undone", status=now.status if now else "")
            journal.add("undoing", bitmap=entry.label.bitmap_url)
            try:
                _take_back(platform, entry)
            except AuthError:
                raise
            except ServiceError as e:
                failure = e.message
            else:
                failure = ""
                break
        now = platform.read(entry.uuid)
    except AuthError:
        raise
    except ServiceError as e:
        return _row(entry, "failed", e.message)
    if _is_untouched(entry, now):
        return _row(entry, "failed", failure or "it is still there", now.status if now else "")
    return _close(journal, entry, now, tried=True, dry_run=dry_run)


def _take_back(platform: Labeling, entry: Entry) -> None:
    if entry.earlier is None:
        platform.delete(entry.uuid)
    else:
        platform.put_back(entry.uuid, entry.earlier)


def _is_untouched(entry: Entry, now: LabelState | None) -> bool:
    """Whether the sample has the very label that was written, last changed when it was written."""
    if now is None or not entry.label.is_in(now):
        return False
    return not entry.updated_at or now.updated_at == entry.updated_at


def _close(journal: Journal, entry: Entry, now: LabelState | None, *, tried: bool, dry_run: bool) -> PrelabelRow:
    """The row of a label that is not, or no longer, what was written."""
    before = entry.earlier
    is_back = now == before or (
        now is not None and before is not None and (now.status, now.attributes) == (before.status, before.attributes)
    )
    if (tried or entry.fate == "undoing") and is_back:
        if not dry_run:
            journal.add("undone", bitmap=entry.label.bitmap_url)
        return _row(entry, "undone", status=now.status if now else "")
    if is_free(now):
        return _row(entry, "gone", "it has no label any more")
    assert now is not None  # noqa: S101 - no label is free
    who = now.updated_by or now.created_by or "somebody"
    if tried:
        return _row(entry, "lost", f"{who} wrote in the same moment, and that stands", now.status)
    return _row(entry, "touched", f"{who} has worked on it", now.status)


def _row(entry: Entry, outcome: PrelabelOutcome, reason: str = "", status: str = "") -> PrelabelRow:
    return PrelabelRow(entry.uuid, entry.name, outcome, reason, status, len(entry.label.annotations))
