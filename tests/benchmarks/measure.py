"""What a benchmark stands on: programs measured with everything they start, a file server, medians, a table.

For POSIX systems: CPU time comes from wait4.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
ROUNDS = 3  # medians of so many
SAMPLE_S = 0.01  # how often the memory is looked at


@dataclass(frozen=True)
class Measured:
    """One run of a program: `cpu` of itself and all it waited for, `peak` = largest sum of resident bytes at once."""

    seconds: float
    cpu: float
    peak: int
    output: str

    @property
    def record(self) -> dict[str, Any]:
        """What it printed, as JSON."""
        record: dict[str, Any] = json.loads(self.output)
        return record


def measured(argv: Sequence[object], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Measured:
    """Run a program to its end. Raises RuntimeError with what it wrote if it fails."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.perf_counter()
        process = subprocess.Popen([str(a) for a in argv], env=env, cwd=cwd, stdout=out, stderr=err, text=True)
        with _memory_of(process.pid) as peak:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait for it again
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(map(str, argv))} ended with {process.returncode}:\n{err.read()[-3000:]}")
        return Measured(seconds, usage.ru_utime + usage.ru_stime, peak[0], out.read())


@contextmanager
def _memory_of(pid: int) -> Iterator[list[int]]:
    """[largest sum of resident bytes of the process and its descendants]. Pages they share count in each."""
    peak, done = [0], threading.Event()

    def watch() -> None:
        root = psutil.Process(pid)
        while not done.wait(SAMPLE_S):
            total = 0
            try:
                tree = [root, *root.children(recursive=True)]
            except psutil.Error:
                return
            for process in tree:
                try:
                    total += process.memory_info().rss
                except psutil.Error:  # it has just ended
                    continue
            peak[0] = max(peak[0], total)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def labelsync(*argv: object, cache: Path) -> Measured:
    """The real command with --json, with an asset cache of its own."""
    env = os.environ | {"LABELSYNC_CACHE": str(cache), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    return measured([sys.executable, "-m", "labelsync", *argv, "--json"], env=env)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL of a server of the files in `folder`, a process of its own, so that its work is not counted."""
    argv = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--protocol", "HTTP/1.1"]
    with subprocess.Popen(argv, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().split(" port ")[1].split()[0]
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def median(values: Sequence[float]) -> float:
    """The middle one, so that one disturbed run does not count."""
    return statistics.median(values)


@dataclass(frozen=True)
class Line:
    """One line of the report: what was measured, the two sides, the result and whether it is what was aimed at."""

    what: str
    here: str
    there: str
    result: str
    aim: str = ""
    met: bool | None = None


def table(title: str, lines: Sequence[Line], *, sides: tuple[str, str]) -> str:
    """A Markdown table under a heading."""
    marks = {None: "", True: "met", False: "**missed**"}
    rows = [("", *sides, "result", "aim", ""), ("---",) * 6]
    rows += [(x.what, x.here, x.there, x.result, x.aim, marks[x.met]) for x in lines]
    return f"\n### {title}\n\n" + "\n".join(f"| {' | '.join(r)} |" for r in rows) + "\n"


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder for drawn data and results that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="labelsync-bench-") as folder:
        yield Path(folder)


def timed(work: Callable[..., Any], spent: dict[str, float], stage: str) -> Callable[..., Any]:
    """The function, whose CPU seconds are added to those of its stage."""

    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        try:
            return work(*args, **kwargs)
        finally:
            spent[stage] += time.process_time() - start

    return call
