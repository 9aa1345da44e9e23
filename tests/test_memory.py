"""Peak memory of a conversion does not depend on how many images there are, in a first round nor in a second one."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import labelsync
from tests.releases import draw_release, edit_release

SCRIPT = """
import resource, sys
import labelsync
release, out, *previous = sys.argv[1:]
record = labelsync.convert(release, out=out, previous=previous[0] if previous else None, workers=1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, record.bytes >> 20, record.decoded)
"""


def converted(release: Path, out: Path, *previous: Path) -> tuple[int, int, int]:
    """(peak MiB of the process, MiB of data, samples decoded)."""
    argv = [sys.executable, "-c", SCRIPT, release, out, *previous]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    peak, size, decoded = (int(n) for n in done.stdout.split())
    return peak, size, decoded


def pulled_rounds(folder: Path, drawn: Path, samples: int) -> tuple[Path, Path]:
    """The first `samples` of a drawn release, and the same with every tenth changed, so that each shard is touched."""

    def first(document: dict[str, Any]) -> None:
        document["dataset"]["samples"] = document["dataset"]["samples"][:samples]

    def second(document: dict[str, Any]) -> None:
        for s in document["dataset"]["samples"][::10]:
            s["name"] = f"renamed-{s['name']}"

    before = drawn.read_bytes()
    v1 = labelsync.pull(edit_release(drawn, first), out=folder / f"{samples}-v1").path
    v2 = labelsync.pull(edit_release(drawn, second), out=folder / f"{samples}-v2").path
    drawn.write_bytes(before)
    return Path(v1), Path(v2)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_samples(tmp_path: Path) -> None:
    drawn = draw_release(tmp_path / "drawn", samples=160, size=(800, 1200))
    peaks: dict[int, tuple[int, int]] = {}
    sizes: dict[int, int] = {}
    for samples in (40, 160):  # the small one has a shard of several row groups too
        v1, v2 = pulled_rounds(tmp_path, drawn, samples)
        first, sizes[samples], _ = converted(v1, tmp_path / f"{samples}-a")
        second, _, decoded = converted(v2, tmp_path / f"{samples}-b", tmp_path / f"{samples}-a")
        assert decoded == samples // 10
        peaks[samples] = first, second
    assert sizes[160] > sizes[40] + 30
    for few, many in zip(peaks[40], peaks[160], strict=True):
        assert many < few + 20, f"{peaks} MiB for {sizes} MiB of data"
    print(peaks, sizes)
