"""A disk that is really full: every command on a file system of 20 kB, in a mount namespace of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import labelsync
from tests.models import tiny_segformer
from tests.releases import draw_release

SCRIPT = """
import json, subprocess, sys
from pathlib import Path
from click.testing import CliRunner

disk, commands = Path(sys.argv[1]), json.loads(sys.argv[2])
ends = {}
from labelsync.cli.main import main
for verb, argv in commands.items():
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20k", "full", str(disk)], check=True)
    done = CliRunner().invoke(main, [verb, *argv], catch_exceptions=True)
    left = [p.relative_to(disk).as_posix() for p in disk.rglob("*") if p.is_file() and p.suffix != ".lock"]
    ends[verb] = [done.exit_code, done.stderr, repr(done.exception), left]
    subprocess.run(["umount", "-l", str(disk)], check=True)
print(json.dumps(ends))
"""


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str, list[str]]]:
    """How each command ended: exit code, stderr, exception, files left."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this system does not let its users mount")
    base = tmp_path_factory.mktemp("disk")
    drawn = draw_release(base / "drawn", samples=24)
    release = labelsync.pull(drawn, out=base / "release").path
    dataset = labelsync.convert(release, out=base / "dataset", workers=1).path
    model = tiny_segformer(base / "model", labelsync.load(dataset).labels, weights=True)
    disk = base / "full"
    disk.mkdir()
    out = ["--out", str(disk / "out")]
    commands = {
        "pull": [str(drawn), *out],
        "convert": [release, "--workers", "1", *out],
        "train": [dataset, "--model", str(model), "--epochs", "1", "--image-size", "64", *out],
        "evaluate": [str(model), "--dataset", dataset, *out],
        "predict": [str(model), f"{release}/images", *out],
        "demo": out,
    }
    argv = ["unshare", "-rm", sys.executable, "-c", SCRIPT, str(disk), json.dumps(commands)]
    root = str(Path(__file__).parents[1])
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=root, env=os.environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("verb", ["pull", "convert", "train", "evaluate", "predict", "demo"])
def test_a_full_disk_is_one_line_and_leaves_nothing_that_looks_finished(ends, verb):
    code, stderr, exception, left = ends[verb]
    assert code == 1, stderr
    assert "SystemExit" in exception, f"{exception}\n{stderr}"
    line = stderr.splitlines()[-1]
    assert line.startswith("labelsync: ")
    assert "the disk is full" in line or "No space left on device" in line
    assert "out/manifest.json" not in left
    assert not left or verb in ("train", "predict", "demo")  # those keep what they can go on from, or mark as theirs
