"""Which samples of a dataset a run of prelabel works on, and what is known of all others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from labelsync.deploy.drafting import Job
from labelsync.deploy.journal import Entry
from labelsync.deploy.ordering import with_theirs
from labelsync.deploy.writing import is_free, settle
from labelsync.errors import AuthError, ServiceError
from labelsync.records.prelabels import PrelabelRow
from labelsync.release.labeling import PRELABELED, UNLABELED, SampleState


@dataclass(frozen=True)
class Work:
    """The samples of a dataset, sorted.

    Attributes:
        rows: sample's uuid -> its row, of those that are not predicted.
        samples: those that are, in the order of the queue.
        keep: row of each of `samples` whose label stays as it is: it is only to be ordered.
    """

    rows: Mapping[str, PrelabelRow]
    samples: Sequence[SampleState]
    keep: Mapping[str, PrelabelRow]


def find_work(job: Job, states: Sequence[SampleState], *, labels: bool, limit: int | None) -> Work:
    """Settle what an interrupted run left open, then say what is to be done.

    Args:
        states: every sample, in the order of the queue.
        labels: whether samples get labels, or only an order.
        limit: at most so many new ones; what the interrupted run did counts.
    """
    rows = _settle_open(job)
    fates = {e.uuid: e for e in job.past.entries.values()}  # what the record says last of each sample
    keep: dict[str, PrelabelRow] = {}
    for state in states:
        row = rows.get(state.uuid) or (_left_alone(state, fates.get(state.uuid)) if labels else _not_waiting(state))
        if row is None and not labels:
            row = PrelabelRow(state.uuid, state.name, "ordered", "", state.status)
        if row is None:
            continue
        settled = _in_its_place(job, state, row) if row.outcome in ("ordered", "there") else row
        if settled is None:
            keep[state.uuid] = row
        else:
            rows[state.uuid] = settled
    if limit is not None:
        limit = max(0, limit - (job.past.written_since_end() if labels else _ordered_before(job)))
    new = [s for s in states if s.uuid not in rows and (not labels or s.uuid not in keep)]
    for state in [] if limit is None else new[limit:]:
        rows[state.uuid] = PrelabelRow(state.uuid, state.name, "left", "beyond the limit")
        keep.pop(state.uuid, None)
    for uuid in keep:  # it may have been settled by what an interrupted run left open
        rows.pop(uuid, None)
    return Work(rows, [s for s in states if s.uuid not in rows], keep)


def _ordered_before(job: Job) -> int:
    """How many places of the interrupted run stay; a diverse order is made anew as a whole."""
    return 0 if job.strategy is None or job.strategy.diverse else job.past.ordered_since_end(job.strategy.name)


def _settle_open(job: Job) -> dict[str, PrelabelRow]:
    """Rows of the labels that may or may not have been written, or taken back, when an earlier run was killed."""
    rows: dict[str, PrelabelRow] = {}
    if job.journal is None:
        return rows
    for entry in [e for e in job.past.entries.values() if e.fate in ("writing", "undoing")]:
        try:
            now = job.platform.read(entry.uuid)
        except AuthError:
            raise
        except ServiceError as e:
            reason = f"{e.message}; run it again to see what is there"
            rows[entry.uuid] = PrelabelRow(entry.uuid, entry.name, "failed", reason)
            continue
        row = settle(job.journal, entry, now, user=job.user)
        if row.outcome == "prelabeled":
            row = replace(row, outcome="there", reason="the interrupted run had written it")
        if not is_free(now):  # else it is a sample like any other
            rows[entry.uuid] = row
    return rows


def _left_alone(state: SampleState, entry: Entry | None) -> PrelabelRow | None:
    """The row of a sample that gets no label; `entry` = what the record says of it."""
    if entry is not None and entry.fate == "wrote":
        if state.status == PRELABELED:
            return PrelabelRow(state.uuid, state.name, "there", "by an earlier run", state.status)
        reason = "its prelabel was deleted" if state.status == UNLABELED else "its prelabel was worked on"
        return PrelabelRow(state.uuid, state.name, "touched", reason, state.status)
    if state.status != UNLABELED and entry is not None and entry.fate == "lost":
        if entry.overwrote and state.status == PRELABELED:
            reason = "by an earlier run, over a label that somebody had begun"
            return PrelabelRow(state.uuid, state.name, "there", reason, state.status)
        reason = "somebody wrote in the same moment as an earlier run"
        return PrelabelRow(state.uuid, state.name, "touched", reason, state.status)
    if state.status != UNLABELED:
        return PrelabelRow(state.uuid, state.name, "labeled", f"status {state.status}", state.status)
    return _without_image(state)


def _not_waiting(state: SampleState) -> PrelabelRow | None:
    """The row of a sample that waits for no labeler, so that its place in the queue is nothing."""
    if state.status not in (UNLABELED, PRELABELED):
        return PrelabelRow(state.uuid, state.name, "labeled", f"status {state.status}", state.status)
    return _without_image(state)


def _without_image(state: SampleState) -> PrelabelRow | None:
    if state.image_url is None:
        return PrelabelRow(state.uuid, state.name, "failed", "its image has no URL", state.status)
    return None


def _in_its_place(job: Job, state: SampleState, row: PrelabelRow) -> PrelabelRow | None:
    """The row of a sample whose priority is not to be written, None for any other."""
    if job.strategy is None:
        return row
    if not job.past.is_ours(state.uuid, state.priority):
        return with_theirs(row, state.priority)
    if job.past.is_ordered(state.uuid, job.strategy.name, whole=job.strategy.diverse):
        return replace(row, outcome="there", reason=row.reason or "ordered by an earlier run")
    return None
