"""The whole way from a release to a dataset: `labelsync pull` and `convert` against what the tutorials teach.

The other side is release2dataset of segments-ai 1.19.1 (the last but one that had it), map(get_semantic_bitmap) and
to_parquet, in an environment of its own with the versions that labelsync is tested with. Both fetch the same release
over loopback HTTP, with empty caches, and both are measured as whole processes. To start takes labelsync as long as its
work on so few samples; so the time is given without the imports of either side too.
"""

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import scenes
from tests.benchmarks.measure import (
    ROOT,
    ROUNDS,
    Line,
    labelsync,
    measured,
    median,
    say,
    served,
    size_of,
    table,
    workplace,
)

SAMPLES = 60
SDK = "segments-ai==1.19.1"
VERBS = """
import json, sys, time
import datasets, kornia_rs, labelsync, pydantic
work = (labelsync.pull, labelsync.convert)  # looking them up imports them
url, release, dataset = sys.argv[1:]
start = time.perf_counter()
work[0](url, out=release)
work[1](release, out=dataset)
print(json.dumps({"seconds": time.perf_counter() - start}))
"""
FLOW = Path(__file__).with_name("tutorial_flow.py")


@dataclass(frozen=True)
class Side:
    """One run of one side: seconds and CPU seconds in all, peak bytes of memory, bytes on disk.

    `work` = seconds without the start of Python and the imports.
    """

    seconds: float
    work: float
    cpu: float
    peak: int
    size: int


def run(folder: Path, *, samples: int = SAMPLES, rounds: int = ROUNDS, size: tuple[int, int] = scenes.FULL_HD) -> str:
    """Measure both sides in turn; the table."""
    say(f"tutorial: drawing {samples} samples")
    drawn = scenes.release_of(folder / "drawn", samples=samples, size=size)
    python = environment(folder / "environment")
    ours: list[Side] = []
    theirs: list[Side] = []
    with served(drawn.parent) as url:
        scenes.with_base_url(drawn, url, drawn.with_name("served.json"))
        for i in range(rounds):
            say(f"tutorial: round {i + 1} of {rounds}")
            theirs.append(flow(python, f"{url}/served.json", folder / f"theirs-{i}"))
            ours.append(commands(f"{url}/served.json", folder / f"ours-{i}", samples=samples))
    return report(ours, theirs, samples=samples, size_hw=size)


def environment(folder: Path) -> Path:
    """The Python of a new virtual environment with the tutorials' SDK and `datasets`."""
    say(f"tutorial: installing {SDK} and datasets")
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pins = (ROOT / "tests/constraints.txt").read_text().splitlines()
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(p for p in pins if not p.startswith("segments-ai")))
    env = {k: v for k, v in os.environ.items() if k not in ("PIP_CONSTRAINT", "PYTHONPATH")}
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", constraints]
    subprocess.run([*install, SDK, "datasets"], env=env, check=True, stdout=sys.stderr)
    return python


def flow(python: Path, url: str, folder: Path) -> Side:
    """The tutorials' way, once."""
    folder.mkdir()
    target = folder / "out.parquet"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    run = measured([python, FLOW, url, target, folder / "caches"], env=env, cwd=folder)
    work = sum(run.record[stage] for stage in ("release2dataset", "map", "to_parquet"))
    return Side(run.seconds, work, run.cpu, run.peak, size_of(target))


def commands(url: str, folder: Path, *, samples: int) -> Side:
    """labelsync's two commands, once."""
    folder.mkdir()
    pull = labelsync("pull", url, "--out", folder / "release", cache=folder / "cache")
    convert = labelsync("convert", folder / "release", "--out", folder / "dataset", cache=folder / "cache")
    outcomes = convert.record["outcomes"]
    if outcomes["converted"] != samples:
        raise RuntimeError(f"not every sample was converted: {outcomes}")
    argv = [sys.executable, "-c", VERBS, url, folder / "release-2", folder / "dataset-2"]
    env = os.environ | {"LABELSYNC_CACHE": str(folder / "cache-2"), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    return Side(
        pull.seconds + convert.seconds,
        measured(argv, env=env).record["seconds"],
        pull.cpu + convert.cpu,
        max(pull.peak, convert.peak),
        size_of(folder / "dataset"),
    )


def report(ours: list[Side], theirs: list[Side], *, samples: int, size_hw: tuple[int, int] = scenes.FULL_HD) -> str:
    """The table of both sides' medians."""

    def both(field: str) -> tuple[float, float]:
        return median([getattr(s, field) for s in ours]), median([getattr(s, field) for s in theirs])

    (cpu, their_cpu), (peak, their_peak), (size, their_size) = both("cpu"), both("peak"), both("size")
    leaner, smaller = their_peak / peak, their_size / size
    speeds = []
    for what, field in (("samples/s, imports left out", "work"), ("samples/s, whole processes", "seconds")):
        here, there = both(field)
        faster = there / here
        speeds.append(
            Line(
                what,
                f"{samples / here:.1f}",
                f"{samples / there:.2f}",
                f"{faster:.1f} times",
                "15 times",
                faster >= 15,
            )
        )
    return table(
        f"Release to dataset, {samples} samples of {size_hw[1]}x{size_hw[0]} over loopback HTTP",
        [
            *speeds,
            Line("CPU s", f"{cpu:.1f}", f"{their_cpu:.1f}", f"1/{their_cpu / cpu:.1f}"),
            Line(
                "peak memory, MB",
                f"{peak / 1e6:.0f}",
                f"{their_peak / 1e6:.0f}",
                f"1/{leaner:.1f}",
                "1/8",
                leaner >= 8,
            ),
            Line(
                "MB per sample on disk",
                f"{size / samples / 1e6:.2f}",
                f"{their_size / samples / 1e6:.2f}",
                f"1/{smaller:.1f}",
                "1/8",
                smaller >= 8,
            ),
        ],
        sides=("labelsync pull + convert", "the tutorials' flow"),
    )


if __name__ == "__main__":
    with workplace() as folder:
        print(run(folder))
