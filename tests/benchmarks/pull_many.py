"""A pull of many small samples over loopback HTTP with faults that pass:

    python -m tests.benchmarks.pull_many --samples 10000

The release, its images and its bitmaps are drawn in memory, each under a URL of its own; a loopback Segments.ai in a
process of its own serves them. The first request of two in a hundred files meets a fault: a 500, a cut transfer, a 429
with Retry-After, or a connection that ends without an answer. The folder must be complete all the same, file by file.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import zlib
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.loopback.faults import Fault, Faults
from tests.loopback.segments import KEY, LoopbackSegments
from tests.releases import draw_release, release_document

NAME = "acme/many@v1"
VARIANTS = 20  # drawn scenes; files repeat their bytes behind the end marker of the format, one of them each
EVERY = 50  # one fault in so many files: 2 %
KINDS = (
    {"kind": "status", "code": 500},
    {"kind": "cut", "after": 300},
    {"kind": "status", "code": 429, "headers": {"Retry-After": "1"}},
    {"kind": "drop"},
)


class PassingFaults(Faults):
    """A fault for the first request of every `EVERY`th file, by its URL; the second request is answered."""

    def __init__(self, paths: list[str]) -> None:
        super().__init__()
        chosen = sorted(paths, key=lambda p: zlib.crc32(p.encode()))[::EVERY]
        self._waiting = dict(zip(chosen, itertools.cycle(KINDS)))
        self.made = 0

    def take(self, *, method: str, path: str, server: str) -> Fault | None:
        """The fault of this path, once."""
        options = self._waiting.pop(path, None)
        if options is None:
            return None
        self.made += 1
        return Fault(**options)  # type: ignore[arg-type]


def put_release(server: LoopbackSegments, *, samples: int) -> dict[str, bytes]:
    """A release of `samples` samples on the server: path of each file -> its bytes, no two alike."""
    drawn = []
    with tempfile.TemporaryDirectory() as folder:
        path = draw_release(Path(folder), samples=VARIANTS, size=(32, 40))
        for entry in json.loads(path.read_text())["dataset"]["samples"]:
            label = entry["labels"]["ground-truth"]["attributes"]
            files = (entry["attributes"]["image"]["url"], label["segmentation_bitmap"]["url"])
            drawn.append((label["annotations"], *((path.parent / f).read_bytes() for f in files)))
    entries, files = [], {}
    for i in range(samples):
        annotations, image, bitmap = drawn[i % VARIANTS]
        tail = b"\0" * (1 + i % 40) + i.to_bytes(4, "big") + b"\0"  # its own content: the cache joins equal ones
        paths = (f"/many/{i:06d}.jpg", f"/many/{i:06d}.png")
        files |= {paths[0]: image + tail, paths[1]: bitmap + tail}
        urls = [server.storage_url + p for p in paths]
        attributes = {"annotations": annotations, "segmentation_bitmap": {"url": urls[1]}}
        entries.append(
            {
                "uuid": f"sample-{i:06d}",
                "name": f"{i:06d}.jpg",
                "attributes": {"image": {"url": urls[0]}},
                "metadata": {},
                "labels": {"ground-truth": {"label_status": "LABELED", "attributes": attributes}},
            }
        )
    server.bucket.objects |= {p.lstrip("/"): data for p, data in files.items()}
    server.platform.add_round(release_document(entries, name="v1", dataset="acme/many"))
    return files


def prepare(server: LoopbackSegments, *, samples: int) -> tuple[dict[str, bytes], PassingFaults]:
    """The release on a server that is not started yet, and the faults it will make."""
    files = put_release(server, samples=samples)
    faults = PassingFaults(sorted(files))
    server.replace_faults(faults)
    return files, faults


def missing(folder: Path, files: dict[str, bytes]) -> list[str]:
    """Paths of files that are not in a release folder byte for byte."""
    from labelsync.release.folder import open_release

    release = open_release(folder)
    lost = []
    for sample in release.release.samples:
        stem = sample.name.removesuffix(".jpg")
        for path, there in (
            (f"/many/{stem}.jpg", release.image(sample)),
            (f"/many/{stem}.png", release.bitmap(sample)),
        ):
            if there is None or there.read_bytes() != files[path]:
                lost.append(path)
    return lost


def serve(samples: int, pipe: Connection) -> None:
    """Serve until told to stop; then say what there was to serve, and the requests and faults."""
    server = LoopbackSegments()
    files, faults = prepare(server, samples=samples)
    with server:
        pipe.send(server.url)
        pipe.recv()
        pipe.send((files, len(server.log), faults.made))


def main() -> int:
    """Pull once and print the figures; 1 if anything is missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pull_many", description=__doc__.partition(":")[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=16)
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")  # a process that the figures leave out
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(args.samples, theirs), daemon=True)
    server.start()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "SEGMENTS_API_URL": ours.recv(),
            "SEGMENTS_API_KEY": KEY,
            "LABELSYNC_CACHE": f"{folder}/cache",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        record, figures = measured(Path(folder) / "out", workers=args.workers)
        ours.send("stop")
        files, requests, faults = ours.recv()
        lost = missing(Path(folder) / "out", files)
    server.join()
    figures |= {"requests": requests, "faults": faults, "files": len(files), "missing": len(lost)}
    sys.stdout.write(f"{record.samples} samples: {record.outcomes}\n")
    sys.stdout.writelines(f"  {name:20} {value}\n" for name, value in figures.items())
    return int(bool(lost) or record.outcomes["pulled"] != args.samples)


def measured(out: Path, *, workers: int) -> tuple[Any, dict[str, Any]]:
    """One pull, with its seconds and the process's peak memory."""
    from labelsync import pull

    wall, cpu = time.perf_counter(), time.process_time()
    record = pull(NAME, out=out, workers=workers)
    figures = {
        "wall s": round(time.perf_counter() - wall, 1),
        "CPU s": round(time.process_time() - cpu, 1),
        "peak memory MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "bytes fetched": record.bytes_fetched,
    }
    return record, figures


if __name__ == "__main__":
    sys.exit(main())
