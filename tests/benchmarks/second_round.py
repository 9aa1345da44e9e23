"""A second round: 2,000 samples of which one in twenty was labelled anew, fetched and converted after the first.

Every URL of the second release has another query string, as signed URLs have. A Hub with content-defined chunking
stores what it has not seen: chunks of about 64 kB whose borders follow the content, here those of FastCDC.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastcdc import fastcdc

from tests.benchmarks import scenes
from tests.benchmarks.measure import ROUNDS, Line, Measured, labelsync, median, say, served, size_of, table, workplace

SAMPLES, SHARE = 2000, 0.05
SIZE = (360, 480)
CHUNK = 64 << 10


@dataclass(frozen=True)
class Attempt:
    """The first and the second round, once: (pull, convert) of each, and the folder they are in."""

    rounds: tuple[tuple[Measured, Measured], tuple[Measured, Measured]]
    folder: Path


def run(
    folder: Path, *, samples: int = SAMPLES, rounds: int = ROUNDS, size: tuple[int, int] = SIZE, share: float = SHARE
) -> str:
    """Measure, and the table."""
    say(f"second round: drawing {samples} samples")
    relabelled = np.random.default_rng(scenes.SEED).choice(samples, round(samples * share), replace=False).tolist()
    one = scenes.release_of(folder / "drawn", samples=samples, size=size)
    two = scenes.next_round(one.parent, folder / "drawn-2", relabelled=relabelled, size=size)
    with served(folder) as url:
        for release, name in ((one, "drawn"), (two, "drawn-2")):
            # the same places in both rounds, so that an unchanged file is the same asset
            scenes.with_base_url(release, f"{url}/drawn-2", folder / f"{name}.json", query=f"?signature={name}")
        attempts = [attempt(folder, i, url) for i in range(rounds)]
    title = f"Second round, {samples} samples of {size[1]}x{size[0]}, {len(relabelled)} relabelled"
    return report(title, attempts, relabelled=relabelled, drawn=two.parent)


def attempt(folder: Path, index: int, url: str) -> Attempt:
    """Pull and convert the first round, then the second after it, with an empty cache to start with."""
    say(f"second round: attempt {index + 1}")
    place = folder / f"attempt-{index}"
    place.mkdir()
    cache = place / "cache"
    done = []
    for n, name in ((1, "drawn"), (2, "drawn-2")):
        pulled = labelsync("pull", f"{url}/{name}.json", "--out", place / f"release-{n}", cache=cache)
        previous = ["--previous", place / "dataset-1"] if n == 2 else []
        out = place / f"dataset-{n}"
        done.append((pulled, labelsync("convert", place / f"release-{n}", "--out", out, *previous, cache=cache)))
    return Attempt((done[0], done[1]), place)


# -------------------------------------------------------------------- the report


def report(title: str, attempts: list[Attempt], *, relabelled: list[int], drawn: Path) -> str:
    """The table: the second round beside the first."""
    last = attempts[-1]
    lines = fetched(last, relabelled=relabelled, drawn=drawn)
    decoded = [run[1].record.get("decoded") for run in last.rounds]
    if None not in decoded:
        lines.append(compared("samples read and decoded", decoded[0], decoded[1], aim=10, form="{:.0f}"))
    for name, stages in (("pull", (0,)), ("convert", (1,)), ("both", (0, 1))):
        first, second = (median([sum(a.rounds[n][i].seconds for i in stages) for a in attempts]) for n in (0, 1))
        aim = 5 if name == "both" else 0
        lines.append(compared(f"{name}, s", first, second, aim=aim, form="{:.2f}"))
    cpu = [sum(m.cpu for m in run) for run in last.rounds]
    lines.append(compared("both, CPU s", cpu[0], cpu[1], aim=0, form="{:.2f}"))
    lines += written(last.folder / "dataset-1", last.folder / "dataset-2")
    return table(title, lines, sides=("second round", "first round"))


def fetched(last: Attempt, *, relabelled: list[int], drawn: Path) -> list[Line]:
    """Bytes of bitmaps and images that came over the network. What is fetched and no new bitmap is an image."""
    entries: list[Any] = json.loads((drawn / "release.json").read_text())["dataset"]["samples"]
    new = sum(size_of(drawn / "bitmaps" / f"{entries[i]['uuid']}-2.png") for i in relabelled)
    images = size_of(drawn / "images")
    total, again = (run[0].record["bytes_fetched"] for run in last.rounds)
    return [
        Line("image bytes fetched", f"{again - new}", f"{images}", "", "0", again == new),
        compared("bitmap bytes fetched", total - images, again, aim=10, form="{:.0f}"),
    ]


def written(first: Path, second: Path) -> list[Line]:
    """Bytes of data files that are new on this disk, that differ, and that are in chunks the first round has not."""
    known = {(p.stat().st_ino, p.stat().st_dev) for p in first.rglob("*.parquet")}
    files = sorted(second.rglob("*.parquet"))
    own = sum(p.stat().st_size for p in files if (p.stat().st_ino, p.stat().st_dev) not in known)
    digests = {hashlib.sha256(p.read_bytes()).digest() for p in first.rglob("*.parquet")}
    other = sum(p.stat().st_size for p in files if hashlib.sha256(p.read_bytes()).digest() not in digests)
    chunks = dict(chunk for p in sorted(first.rglob("*.parquet")) for chunk in chunks_of(p))
    sent = {digest: size for p in files for digest, size in chunks_of(p) if digest not in chunks}
    total = size_of(first / "data")
    return [
        compared("bytes written here", total, own, aim=0, form="{:.0f}"),
        compared("bytes of changed files", total, other, aim=0, form="{:.0f}"),
        compared("bytes to a Hub with content-defined chunks", total, sum(sent.values()), aim=0, form="{:.0f}"),
    ]


def chunks_of(path: Path, size: int = CHUNK) -> Iterator[tuple[bytes, int]]:
    """(digest, size) of the content-defined chunks of a file: of `size` bytes, an eighth to twice as many each."""
    data = path.read_bytes()
    for chunk in fastcdc(data, min_size=size // 8, avg_size=size, max_size=size * 2):
        part = data[chunk.offset : chunk.offset + chunk.length]
        yield hashlib.sha256(part).digest(), len(part)


def compared(what: str, first: float, second: float, *, aim: float, form: str) -> Line:
    """A line on how much less the second round took; `aim` = how many times less it should, 0 = nothing is aimed at."""
    ratio = f"1/{first / second:.1f}" if second else "none"
    goal = f"1/{aim:g}" if aim else ""
    return Line(what, form.format(second), form.format(first), ratio, goal, second * aim <= first if aim else None)


if __name__ == "__main__":
    with workplace() as folder:
        print(run(folder))
