"""`convert` on local files against the floor that its codecs set, and where its time goes.

The floor is a bare loop over the same bitmaps with the same number of processes: read, decode, look up, encode, throw
away. What `convert` does besides (digests, images checked, pixels counted, Parquet, manifest, card) is its overhead.
"""

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import pyarrow.parquet as pq

from labelsync.labels import Category, from_categories
from labelsync.pixels.instance import decode_instance_bitmap
from labelsync.pixels.semantic import encode_semantic, instance_classes, to_semantic
from tests.benchmarks import scenes
from tests.benchmarks.measure import ROOT, ROUNDS, Line, labelsync, measured, median, say, table, timed, workplace

SAMPLES, COPIES = 60, 10  # 600 in all: processes that start must not be what is measured
AIM = 1.3

# Functions of `labelsync` whose time is taken, with all that they call, and what they do.
STAGES = {
    "read_file": "read and hash files",
    "require_whole": "see that the image is whole",
    "decode_instance_bitmap": "decode the bitmap",
    "to_semantic": "look up the classes",
    "count_pixels": "count pixels",
    "encode_semantic": "encode the label",
    "write_table": "write Parquet",
    "sha256_file": "hash the output",
}

Task = tuple[str, list[tuple[int, int]]]  # a bitmap's path, its (annotation id, category id) pairs


def run(
    folder: Path,
    *,
    samples: int = SAMPLES,
    copies: int = COPIES,
    rounds: int = ROUNDS,
    size: tuple[int, int] = scenes.FULL_HD,
) -> str:
    """Measure both in turn; the two tables."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    say(f"convert: drawing {samples} samples")
    drawn = scenes.release_of(folder / "drawn", samples=samples, copies=copies, size=size)
    labelsync("pull", drawn, "--out", folder / "release", cache=folder / "cache")
    everything = [(x, y) for i in range(rounds) for x, y in [both(folder, workers, i)]]
    ours, floor = [x for x, _ in everything], [y for _, y in everything]
    lines = []
    for what, at, aim in (("wall s", 0, AIM), ("CPU s", 1, None)):
        here, there = median([x[at] for x in ours]), median([x[at] for x in floor])
        ratio = here / there
        goal = "" if aim is None else f"under {aim}"
        lines.append(Line(what, f"{here:.2f}", f"{there:.2f}", f"{ratio:.2f} times", goal, aim and ratio < aim))
    title = f"Local files, {samples * copies} samples of {size[1]}x{size[0]}, {workers} processes"
    return table(title, lines, sides=("convert", "codec floor")) + profile(folder, samples * copies)


def both(folder: Path, workers: int, attempt: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """(seconds, CPU seconds) of the verb and of the floor; each in a process of its own, without its imports."""
    say(f"convert: round {attempt + 1}")
    env = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    ends = []
    for side in ("verb", "floor"):
        out = folder / f"{side}-{attempt}"
        done = measured([sys.executable, "-m", __spec__.name, side, folder / "release", out, workers], env=env)
        record = done.record
        ends.append((record["seconds"], done.cpu - record["cpu_before"]))
    return ends[0], ends[1]


# -------------------------------------------------------------------- one side, in a process of its own


def one_side(side: str, release: Path, out: Path, workers: int) -> None:
    """Do one side's work once and print how long it took and the CPU time that the imports before it did."""
    import kornia_rs  # noqa: F401 - it and pydantic are imported where they are needed, and that is not measured
    import pydantic  # noqa: F401

    import labelsync

    work = labelsync.convert if side == "verb" else floor
    before, start = time.process_time(), time.perf_counter()
    work(release, out=out, workers=workers)
    print(json.dumps({"seconds": time.perf_counter() - start, "cpu_before": before}))


def floor(release: Path, *, out: Path, workers: int) -> None:
    """Decode, look up and encode every bitmap of a release folder and keep nothing."""
    del out
    tasks = tasks_of(release)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        parts = [tasks[i : i + 32] for i in range(0, len(tasks), 32)]
        assert sum(pool.map(relabel, parts)) > 0


def tasks_of(release: Path) -> list[Task]:
    """What there is to do, read from the release file."""
    document = json.loads((release / "release.json").read_text())
    bitmaps = {p.stem: str(p) for p in (release / "bitmaps").iterdir()}
    return [
        (
            bitmaps[sample["uuid"]],
            [(a["id"], a["category_id"]) for a in sample["labels"]["ground-truth"]["attributes"]["annotations"]],
        )
        for sample in document["dataset"]["samples"]
    ]


def relabel(tasks: list[Task]) -> int:
    """The bare loop; bytes of the labels."""
    labels = from_categories(Category(i, f"class-{i}") for i in range(1, scenes.CLASSES + 1))
    categories, total = labels.category_table(), 0
    for path, annotations in tasks:
        ids = decode_instance_bitmap(Path(path).read_bytes())
        total += len(encode_semantic(to_semantic(ids, instance_classes(annotations, categories), dtype=labels.dtype)))
    return total


# -------------------------------------------------------------------- where the time goes


def profile(folder: Path, samples: int) -> str:
    """A table of CPU milliseconds per sample and stage, of the whole verb in one process."""
    import labelsync

    say("convert: profile")
    labelsync.convert(folder / "release", out=folder / "warm", workers=1)  # its imports are not what is measured
    with watched() as spent:
        start = time.process_time()
        labelsync.convert(folder / "release", out=folder / "profiled", workers=1)
        total = time.process_time() - start
    spent["everything else"] = total - sum(spent.values())
    lines = [f"| {stage} | {s / samples * 1e3:.2f} | {s / total:.0%} |" for stage, s in spent.items()]
    head = ["| stage | CPU ms per sample | share |", "| --- | --- | --- |"]
    whole = f"| all | {total / samples * 1e3:.2f} | 100% |"
    return "\n### Where convert's time goes, one process\n\n" + "\n".join([*head, *lines, whole]) + "\n"


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Stage -> CPU seconds inside its functions; they are wrapped wherever a module of labelsync has them."""
    spent = dict.fromkeys(STAGES.values(), 0.0)

    modules = [m for name, m in sys.modules.items() if name.startswith("labelsync.")]
    with ExitStack() as stack:
        for holder in (*modules, pq.ParquetWriter):
            for name, stage in STAGES.items():
                if callable(work := getattr(holder, name, None)):
                    stack.enter_context(mock.patch.object(holder, name, timed(work, spent, stage)))
        yield spent


if __name__ == "__main__":
    if len(sys.argv) > 1:
        one_side(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    else:
        with workplace() as folder:
            print(run(folder))
