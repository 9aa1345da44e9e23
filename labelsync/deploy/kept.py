"""What an interrupted run has done, kept for the next one of the same kind.

It lies beside the output folder, as .OUT.unfinished: the files as they will be called, lines.jsonl with a line for each
image that is done, and what makes two runs one of a kind. A finished run leaves nothing of it.
"""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from labelsync.deploy.output import Prediction
from labelsync.store.files import write_text

LINES, _KIND = "lines.jsonl", "kind.json"
_FILES = ("bitmap", "overlay", "entropy", "probabilities")


class Unfinished:
    """The folder with what is done until all is.

    Args:
        folder: it; made if it is not there, emptied if it is of another kind of run.
        kind: digest of the model and of the settings that shape what is kept.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        if folder.exists() and _read(folder / _KIND) != kind:
            shutil.rmtree(folder)
        folder.mkdir(exist_ok=True)
        write_text(folder / _KIND, kind)
        self.lines = _read(folder / LINES).splitlines()
        self._lock = threading.Lock()
        self._file = (folder / LINES).open("a", encoding="utf-8")
        self._file.write("\n")  # the last line may have been cut short

    def note(self, line: str) -> None:
        """Add a line, with its end. May be called from several threads."""
        with self._lock:
            self._file.write(line)
            self._file.flush()

    def discard(self) -> None:
        """Remove all of it."""
        self.close()
        shutil.rmtree(self.folder)

    def close(self) -> None:
        """Write no more."""
        self._file.close()


class Kept(Unfinished):
    """The folder that predictions are written to until all are done."""

    def __init__(self, folder: Path, kind: str) -> None:
        super().__init__(folder, kind)
        lines = (_line(text) for text in self.lines)
        self._done = {line.bitmap: line for line in lines if line is not None}

    def find(self, name: str, digest: str) -> Prediction | None:
        """The line of an image of that output name and content, if it is done and its files are there."""
        line = self._done.get(f"bitmaps/{name}.png")
        if line is None or line.sha256 != digest:
            return None
        made = [str(getattr(line, kind)) for kind in _FILES]
        return line if all((self.folder / path).is_file() for path in made if path) else None

    def add(self, line: Prediction) -> None:
        """Note that an image is done. May be called from several threads."""
        self.note(to_line(line))

    def hand_over(self, work: Path) -> None:
        """Move all files to `work`, on the same disk."""
        self.close()
        for name in (LINES, _KIND):
            (self.folder / name).unlink(missing_ok=True)
        for path in sorted(self.folder.iterdir()):
            path.rename(work / path.name)
        self.folder.rmdir()


def beside(out: Path) -> Path:
    """Where what is not finished lies."""
    out = out.resolve()
    return out.with_name(f".{out.name}.unfinished")


@contextmanager
def keeping(out: Path, kind: str) -> Iterator[Kept]:
    """The `Kept` beside `out`. The lock on `out` must be held."""
    kept = Kept(beside(out), kind)
    try:
        yield kept
    finally:
        kept.close()


def to_line(prediction: Prediction) -> str:
    """A line of JSON, without what is empty."""
    known = {k: v for k, v in asdict(prediction).items() if v not in ("", None) and (v or k not in ("height", "width"))}
    return json.dumps(known, ensure_ascii=False) + "\n"


def _line(text: str) -> Prediction | None:
    """A line that `to_line` wrote; None for one that was cut short."""
    try:
        found: dict[str, Any] = json.loads(text)
        return Prediction(**{k: v for k, v in found.items() if k in {f.name for f in fields(Prediction)}})
    except (ValueError, TypeError, AttributeError):
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
