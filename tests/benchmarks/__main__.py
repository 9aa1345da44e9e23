"""`tox -e bench`: every benchmark, one after the other; the tables as Markdown on stdout.

`python -m tests.benchmarks NAME ...` runs those named; each is also a program, as `python -m tests.benchmarks.convert`.
"""

import importlib
import importlib.util
import os
import platform
import subprocess
import sys

from tests.benchmarks.measure import ROUNDS, workplace

NAMES = ("tutorial", "convert", "second_round", "input", "metric", "predict", "training", "pull_many")


def main(names: list[str]) -> None:
    """Run the benchmarks named, or all there are."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"Python {platform.python_version()}, {platform.machine()}, {cores} cores, medians of {ROUNDS}.", flush=True)
    for name in names or NAMES:
        if importlib.util.find_spec(f"tests.benchmarks.{name}") is None:
            continue
        bench = importlib.import_module(f"tests.benchmarks.{name}")
        if not hasattr(bench, "run"):  # a program that prints by itself
            print(f"\n### {name}\n", flush=True)
            subprocess.run([sys.executable, "-m", bench.__name__], check=True)
            continue
        with workplace() as folder:
            print(bench.run(folder), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
