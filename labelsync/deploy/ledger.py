"""ledger.json of prelabel and its undo: what became of every sample, whatever ended the run."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from labelsync.errors import LabelsyncError
from labelsync.records.prelabels import PrelabelLedger, PrelabelRow
from labelsync.records.text import to_json
from labelsync.store.files import write_text

LEDGER = "ledger.json"


class Named(Protocol):
    """A sample, or what a record knows of one."""

    @property
    def uuid(self) -> str:
        """The sample's."""

    @property
    def name(self) -> str:
        """The sample's."""


@contextmanager
def kept_ledger(folder: Path | None, samples: Sequence[Named], rows: Mapping[str, PrelabelRow]) -> Iterator[None]:
    """Write the ledger once the block ends, also where an error or a Ctrl-C ends it.

    That of an earlier run goes first: after a SIGKILL there is none, and the record alone knows.

    Args:
        folder: where it is left; None = nowhere.
        samples: what has a row, in order.
        rows: uuid -> row, filled by the block. A sample that has none by the end was not tried.
    """
    if folder is None:
        yield
        return
    named = {s.uuid: s for s in samples}.values()
    (folder / LEDGER).unlink(missing_ok=True)
    try:
        yield
    except BaseException as e:
        with suppress(OSError):  # a full disk is what ended it
            _write(folder, [rows.get(s.uuid) or _not_tried(s, e) for s in named])
        raise
    _write(folder, [rows[s.uuid] for s in named])


def _write(folder: Path, rows: Sequence[PrelabelRow]) -> None:
    write_text(folder / LEDGER, to_json(PrelabelLedger(tuple(rows))) + "\n")


def _not_tried(sample: Named, why: BaseException) -> PrelabelRow:
    if not isinstance(why, Exception):  # Ctrl-C
        return PrelabelRow(sample.uuid, sample.name, "left", "the run was interrupted before its turn")
    reason = why.message if isinstance(why, LabelsyncError) else type(why).__name__  # others' words may hold URLs
    reason = why.strerror if isinstance(why, OSError) and why.strerror else reason
    return PrelabelRow(sample.uuid, sample.name, "failed", f"not tried: {reason}")
