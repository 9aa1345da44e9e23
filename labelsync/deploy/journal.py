"""The record of what prelabel writes: a file of JSON lines that is on the disk before and after every write.

A line is appended and flushed to the disk before the next step is taken, so whatever moment a run is killed in, the
record says which labels it may have written, and by their bitmap URLs, which nobody else has, which ones it did.

    {"event": "run", ...}        the model, dataset and settings; the first line of every run
    {"event": "writing", ...}    a label is about to be written: uuid, name, bitmap, annotations
    {"event": "earlier", ...}    what stood there before (a label with status UNLABELED), to be put back
    {"event": "wrote", ...}      it is there; updated_at as the platform has it
    {"event": "lost", ...}       somebody else wrote at the same time; `overwrote` says whether ours stands
    {"event": "withdrawn", ...}  it was not written after all
    {"event": "undoing", ...}, {"event": "undone", ...}, {"event": "end", ...}

    {"event": "ordering", ...}   a sample is about to get a priority: uuid, name, priority, strategy
    {"event": "ordered", ...}    it has it
    {"event": "unordered", ...}  it is taken back, or somebody has set another
"""

import json
import math
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from labelsync.errors import LabelsyncError
from labelsync.release.labeling import LabelState, NewLabel

RECORD = "record.jsonl"

Fate = Literal["writing", "wrote", "lost", "withdrawn", "undoing", "undone"]


@dataclass(frozen=True)
class Entry:
    """What the record knows of one label that was, or may have been, written.

    Attributes:
        fate: the last thing that is recorded of it; "writing" or "undoing" after a kill in the middle.
        earlier: what stood there before, None if nothing did.
        updated_at: as the platform had it after the write, "" if that was never read.
        overwrote: a label that somebody made in the same moment was overwritten.
    """

    uuid: str
    name: str
    label: NewLabel
    fate: Fate = "writing"
    earlier: LabelState | None = None
    updated_at: str = ""
    overwrote: bool = False
    run: int = 0

    @property
    def may_stand(self) -> bool:
        """Whether the label may be there now, as far as the record goes."""
        return self.fate in ("writing", "wrote", "undoing") or (self.fate == "lost" and self.overwrote)


@dataclass(frozen=True)
class Place:
    """What the record knows of the priority of one sample.

    Attributes:
        values: what was written, or may have been, the last one last.
        strategy: that the last one is of.
        is_written: whether the last one is known to be there.
    """

    uuid: str
    name: str
    values: tuple[float, ...] = ()
    strategy: str = ""
    is_written: bool = False
    run: int = 0

    def has(self, priority: float) -> bool:
        """Whether a sample's priority is one that was written here; a server may keep fewer digits."""
        return any(math.isclose(priority, value, rel_tol=1e-5, abs_tol=1e-7) for value in self.values)


@dataclass
class Past:
    """What a record says so far.

    Attributes:
        head: the settings of the first run; {} for a record that is new.
        runs: number of runs.
        first: number of the first run since the last one that came to its end.
        is_open: whether the last run did not come to its end.
        entries: bitmap URL -> the label with it, in the order they were written.
        places: sample's uuid -> its priority, where one was, or may have been, written.
    """

    head: dict[str, Any] = field(default_factory=dict)
    runs: int = 0
    first: int = 0
    is_open: bool = False
    entries: dict[str, Entry] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)

    def take(self, line: Mapping[str, Any]) -> None:
        """One line more. Raises KeyError, TypeError for one that is none of a record."""
        event = line["event"]
        if event == "run":
            self.head = self.head or {k: v for k, v in line.items() if k != "event"}
            self.runs += 1
            self.first = self.first if self.is_open else self.runs
            self.is_open = True
        elif event == "end":
            self.is_open = False
        elif event == "writing":
            pairs = tuple((int(i), int(c)) for i, c in line["annotations"])
            label = NewLabel(line["bitmap"], pairs)
            self.entries[label.bitmap_url] = Entry(line["uuid"], line["name"], label, run=self.runs)
        elif event in ("ordering", "ordered", "unordered"):
            self._place(line["uuid"], event, line)
        else:
            self._change(self.entries[line["bitmap"]], event, line)

    def _place(self, uuid: str, event: str, line: Mapping[str, Any]) -> None:
        if event == "unordered":
            del self.places[uuid]
        elif event == "ordered":
            self.places[uuid] = replace(self.places[uuid], is_written=True)
        else:
            before = self.places[uuid].values if uuid in self.places else ()
            values = (*before, float(line["priority"]))
            self.places[uuid] = Place(uuid, line["name"], values, line["strategy"], run=self.runs)

    def is_ordered(self, uuid: str, strategy: str, *, whole: bool = False) -> bool:
        """Whether a sample has its priority by that strategy; `whole` = by a run, or runs, that came to their end."""
        place = self.places.get(uuid)
        if place is None or not place.is_written or place.strategy != strategy:
            return False
        return not (whole and self.is_open and place.run >= self.first)

    def is_ours(self, uuid: str, priority: float) -> bool:
        """Whether a priority that a sample has may be replaced: there is none, or it was written here."""
        place = self.places.get(uuid)
        return priority == 0 or (place is not None and place.has(priority))

    def ordered_since_end(self, strategy: str) -> int:
        """How many priorities were written by runs that were interrupted, since the last that was not."""
        done = (p.run >= self.first and self.is_ordered(uuid, strategy) for uuid, p in self.places.items())
        return sum(done) if self.is_open else 0

    def _change(self, entry: Entry, event: str, line: Mapping[str, Any]) -> None:
        if event == "earlier":
            changed = replace(entry, earlier=LabelState(**line["label"]))
        elif event == "wrote":
            changed = replace(entry, fate="wrote", updated_at=line["updated_at"])
        elif event == "lost":
            changed = replace(entry, fate="lost", overwrote=line["overwrote"], updated_at=line.get("updated_at", ""))
        elif event in ("withdrawn", "undoing", "undone"):
            changed = replace(entry, fate=cast("Fate", event))
        else:
            raise KeyError(event)
        self.entries[entry.label.bitmap_url] = changed

    def written_since_end(self) -> int:
        """How many labels were written by runs that were interrupted, since the last that was not."""
        return sum(e.run >= self.first and e.fate == "wrote" for e in self.entries.values()) if self.is_open else 0


class Journal:
    """An open record: every `add` is on the disk when it returns. Several threads may add."""

    def __init__(self, fd: int, past: Past) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self.past = past

    def add(self, event: str, **values: Any) -> None:
        """Append one line, or nothing of it: behind half a line of a full disk, the next one would be lost too."""
        line = {"event": event, **values}
        data = (json.dumps(line, ensure_ascii=False) + "\n").encode()
        with self._lock:
            end = os.lseek(self._fd, 0, os.SEEK_END)
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
                os.fsync(self._fd)
            except BaseException:
                with suppress(OSError):
                    os.ftruncate(self._fd, end)
                raise
            self.past.take(json.loads(json.dumps(line)))


@contextmanager
def opened(path: Path) -> Iterator[Journal]:
    """The record at `path`, made if it is not there. A last line that was cut short by a kill is taken away."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    past = Past() if is_new else read(path)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        size = 0 if is_new else path.read_bytes().rfind(b"\n") + 1
        os.ftruncate(fd, size)
        os.lseek(fd, size, os.SEEK_SET)
        if is_new:
            _sync_folder(path.parent)
        yield Journal(fd, past)
    finally:
        os.close(fd)


def read(path: Path) -> Past:
    """What the record at `path` says.

    Raises:
        LabelsyncError: no record, or a line that is not what prelabel writes.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise LabelsyncError(f"there is no record {path}", hint="give the folder that prelabel left") from None
    past = Past()
    for number, line in enumerate(data.split(b"\n")[:-1], 1):  # what follows the last newline was cut short by a kill
        try:
            past.take(json.loads(line))
        except (ValueError, KeyError, TypeError):
            raise LabelsyncError(
                f"{path}, line {number}, is not what prelabel writes", hint="take the record as it was left"
            ) from None
    return past


def _sync_folder(folder: Path) -> None:
    """Make the name of a new file durable too; there are systems on which a folder cannot be opened."""
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
