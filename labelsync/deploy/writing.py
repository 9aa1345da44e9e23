"""One label onto Segments.ai, or back off it, between two looks at what is there.

The API has no conditional write. What is done instead:

* The bitmap is uploaded first and the journal is on the disk, so that nothing lies between the look before and the
  write but the way of the two requests.
* A label that anybody has touched (any status but UNLABELED, LABELING_IN_PROGRESS included, or any annotation) is left
  alone.
* After the write the label is read again. Another label there is somebody's who wrote after us: it stands. Our label
  there, but made (`created_by`) by somebody else, means that theirs came between our look and our write and is
  overwritten: the window that the API leaves open. It cannot be read any more, so it is reported as an error, with the
  name of whoever drew it.
* Two who come in that window are not seen: one who uses the very key's account, and one who begins to draw where an
  UNLABELED label was there already, since that keeps its `created_by`. Nothing that the API tells later shows them.
* A write whose answer was lost may have been done: before it is made again, the label is read.

Taking back has the same window: between the last look and the DELETE, one request later, the API protects nobody.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict

from labelsync.deploy.journal import Entry, Journal
from labelsync.errors import AuthError, ServiceError
from labelsync.records.prelabels import PrelabelRow
from labelsync.release import transport
from labelsync.release.labeling import UNLABELED, Labeling, LabelState, NewLabel, SampleState

WRITERS = 4  # labels written, or taken back, at the same time; each takes five requests, one after the other
TRIES = 3  # of a write that the platform may or may not have done


def attempts() -> Iterator[int]:
    """0, 1, .. below `TRIES`, with a longer pause before each but the first."""
    for again in range(TRIES):
        if again:
            time.sleep(transport.BACKOFF_SECONDS * 2**again)
        yield again


def is_free(label: LabelState | None) -> bool:
    """Whether nobody has touched the label of a sample."""
    return label is None or (label.status == UNLABELED and not label.annotations)


def write_label(
    platform: Labeling, journal: Journal, sample: SampleState, label: NewLabel, *, user: str
) -> PrelabelRow:
    """Write `label` if nobody has touched the sample; every step is in the journal before and after it.

    Raises:
        AuthError: the key may not write; whether the label is there stays open in the journal.
    """
    bitmap = label.bitmap_url
    pairs = [list(pair) for pair in label.annotations]
    journal.add("writing", uuid=sample.uuid, name=sample.name, bitmap=bitmap, annotations=pairs)
    try:
        sent, failure = _put(platform, journal, sample.uuid, label)
        after = platform.read(sample.uuid)
    except AuthError:
        raise
    except ServiceError as e:
        return PrelabelRow(sample.uuid, sample.name, "failed", f"{e.message}; run it again to see what is there")
    return settle(journal, journal.past.entries[bitmap], after, user=user, sent=sent, failure=failure)


def _put(platform: Labeling, journal: Journal, uuid: str, label: NewLabel) -> tuple[bool, str]:
    """Write while nobody has touched the sample.

    Returns:
        Whether anything was sent, and "" or why the last try failed, perhaps after all was done.
    """
    sent, failure = False, ""
    for _ in attempts():
        if not is_free(_look(platform, journal, uuid, label)):
            break
        sent = True
        try:
            platform.write(uuid, label)
        except AuthError:
            raise
        except ServiceError as e:
            failure = e.message
        else:
            return sent, ""
    return sent, failure


def _look(platform: Labeling, journal: Journal, uuid: str, label: NewLabel) -> LabelState | None:
    """What stands there; if it is to be put back, the journal has it already, so that the write can follow at once."""
    noted: LabelState | None = None
    while (now := platform.read(uuid)) is not None and is_free(now) and now != noted:
        journal.add("earlier", bitmap=label.bitmap_url, label=asdict(now))
        noted = now
    return now


def settle(
    journal: Journal, entry: Entry, now: LabelState | None, *, user: str, sent: bool = True, failure: str = ""
) -> PrelabelRow:
    """What became of a label now that the sample's label is `now`; `sent` = it was, or may have been, written."""
    uuid, name, bitmap = entry.uuid, entry.name, entry.label.bitmap_url
    if now is not None and entry.label.is_in(now):
        return _settle_ours(journal, entry, now, user=user)
    if is_free(now):
        journal.add("withdrawn", bitmap=bitmap)
        if failure:
            return PrelabelRow(uuid, name, "failed", failure)
        return PrelabelRow(uuid, name, "lost", "the label was deleted in the moment it was written")
    assert now is not None  # noqa: S101 - no label is free
    who = now.updated_by or now.created_by or "somebody"
    if not sent:
        journal.add("withdrawn", bitmap=bitmap)
        return PrelabelRow(uuid, name, "touched", f"{who} came first", now.status)
    journal.add("lost", bitmap=bitmap, overwrote=False)
    return PrelabelRow(uuid, name, "lost", f"{who} wrote in the same moment, and that stands", now.status)


def _settle_ours(journal: Journal, entry: Entry, now: LabelState, *, user: str) -> PrelabelRow:
    count = len(entry.label.annotations)
    if entry.earlier is None and user and now.created_by not in ("", user):
        journal.add("lost", bitmap=entry.label.bitmap_url, overwrote=True, updated_at=now.updated_at)
        why = f"a label that {now.created_by} began in the same moment was overwritten: ask {now.created_by} to look"
        return PrelabelRow(entry.uuid, entry.name, "failed", why, now.status, count)
    journal.add("wrote", bitmap=entry.label.bitmap_url, updated_at=now.updated_at)
    return PrelabelRow(entry.uuid, entry.name, "prelabeled", "", now.status, count)
