"""A sample's priority on Segments.ai, written between two looks at what is there, and taken back.

The labeling queue gives out samples of higher priority first; one that nobody has set is 0. Ours are between 0 and 1.
A priority that somebody else has set is left alone: whoever wants a sample first gives it 1 or more. The API has no
conditional write, so between the look and the write, one request later, it protects nobody.
"""

from dataclasses import replace

from labelsync.deploy.journal import Journal, Place
from labelsync.deploy.writing import attempts
from labelsync.errors import AuthError, ServiceError
from labelsync.records.prelabels import PrelabelRow
from labelsync.release.labeling import Labeling


def set_priority(
    platform: Labeling, journal: Journal, row: PrelabelRow, priority: float, *, strategy: str
) -> PrelabelRow:
    """Give the sample of a row its priority, unless somebody has set one; the row with what became of it.

    Raises:
        AuthError: the key may not write; the journal says that it was tried.
    """
    failure = ""
    for _ in attempts():
        try:
            now = platform.priority(row.uuid)
            if now is None:
                return replace(row, outcome="failed", reason="the sample was deleted meanwhile")
            if not journal.past.is_ours(row.uuid, now):
                return with_theirs(row, now)
            journal.add("ordering", uuid=row.uuid, name=row.name, priority=priority, strategy=strategy)
            platform.set_priority(row.uuid, priority)
        except AuthError:
            raise
        except ServiceError as e:
            failure = e.message
        else:
            journal.add("ordered", uuid=row.uuid)
            return replace(row, priority=priority)
    return replace(row, outcome="failed", reason=f"its priority was not written: {failure}")


def with_theirs(row: PrelabelRow, priority: float) -> PrelabelRow:
    """The row of a sample that keeps the priority which somebody has given it."""
    if row.outcome == "ordered":
        return replace(row, outcome="touched", reason=f"somebody has given it priority {priority:g}", theirs=priority)
    return replace(row, theirs=priority)


def reset_priority(platform: Labeling, journal: Journal, place: Place, *, dry_run: bool) -> PrelabelRow:
    """Make the priority of a sample 0 again if it still is one that the record knows.

    Raises:
        AuthError: the key may not write.
    """
    row = PrelabelRow(place.uuid, place.name, "undone", priority=place.values[-1])
    failure = ""
    for again in attempts():
        try:
            now = platform.priority(place.uuid)
            if now and place.has(now):
                if dry_run:
                    return row
                platform.set_priority(place.uuid, 0.0)
        except AuthError:
            raise
        except ServiceError as e:
            failure = e.message
            continue
        if not dry_run:
            journal.add("unordered", uuid=place.uuid)
        if now is None:
            return replace(row, outcome="gone", reason="there is no such sample any more", priority=None)
        if place.has(now) or (again and now == 0):  # a try whose answer was lost
            return row
        if now == 0:
            return replace(row, outcome="gone", reason="it has no priority any more", priority=None)
        reason = f"somebody has given it priority {now:g}"
        return replace(row, outcome="touched", reason=reason, priority=None, theirs=now)
    return replace(row, outcome="failed", reason=f"its priority was not taken back: {failure}", priority=None)
