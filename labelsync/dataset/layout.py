"""The order of a shard's rows, and its row groups: as the earlier round had them, and behind them what is new.

A Hub with content-defined chunks stores what it has not seen of a file, in pieces of some 64 kB, and an image is often
no larger than that. New rows between old ones would leave no piece as it was. So a row keeps its place for as long as
its sample is in the dataset, relabelled or not, the others close up where one goes, and new ones come last, by name and
uuid, in row groups of their own. The bytes of a row group follow from its rows alone, wherever in the file it begins.
"""

from collections.abc import Sequence
from itertools import islice

from labelsync.dataset.reuse import ShardRows
from labelsync.dataset.sample import LabelledSample

ROW_GROUP_BYTES = 4 << 20  # a row is read with its group: half a millisecond at this size, 4 ms at 32 MiB
LEAST_GROUP_BYTES = 1 << 20  # the rows of many small rounds share a group until it is as large as this


def in_place(samples: Sequence[LabelledSample], old: ShardRows | None) -> tuple[LabelledSample, ...]:
    """The samples of a shard in the order of their rows; those that are new to it in the order they come in."""
    places = {} if old is None else {uuid: at for at, (uuid, _, _) in enumerate(old.rows)}
    return tuple(sorted(samples, key=lambda s: places.get(s.uuid, len(places))))


class RowGroups:
    """Says where the row groups of a shard end.

    An earlier round's group stays one: it ends where it ended, whatever became of its rows, unless it is so small that
    the next rows join it. New rows fill groups up to `limit` bytes.
    """

    def __init__(self, old: ShardRows | None, *, limit: int, least: int) -> None:
        self.counts: list[int] = []
        self._limit, self._least = limit, least
        uuids = iter(() if old is None else [uuid for uuid, _, _ in old.rows])
        counts = enumerate(() if old is None else old.groups)
        self._group_of = {uuid: group for group, count in counts for uuid in islice(uuids, count)}
        self._group: int | None = None
        self._rows = self._size = 0

    def ends_before(self, uuid: str) -> bool:
        """Whether the group ends before the row of that sample."""
        return self._rows > 0 and self._group_of.get(uuid) != self._group and self._size >= self._least

    def add(self, uuid: str, size: int) -> bool:
        """A row of so many bytes more; whether the group ends behind it."""
        self._group = self._group_of.get(uuid)
        self._rows += 1
        self._size += size
        return self._group is None and self._size >= self._limit

    def end(self) -> None:
        """The group ends here."""
        if self._rows:
            self.counts.append(self._rows)
        self._rows = self._size = 0
