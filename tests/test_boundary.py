"""Every end a command can have: exit code, one line, the next move, and stdout for the record alone."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from labelsync import errors
from labelsync.cli.boundary import Group, show


@dataclass(frozen=True)
class Record:
    path: str
    score: float


def run(error: BaseException | None = None, *argv: str, env: dict[str, str] | None = None):
    """The boundary around a command that ends in `error`."""

    @click.group(cls=Group)
    def main() -> None: ...

    @main.command()
    @click.option("--json", "as_json", is_flag=True)
    def verb(as_json: bool) -> None:
        click.echo("working on it", err=True)
        if error is not None:
            raise error
        show(Record("p", 0.5), as_json=as_json, text=lambda r: f"{r.path} scores {r.score}")

    return CliRunner().invoke(main, ["verb", *argv], env=env)


def os_error(number: int, filename: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), filename)


# ---------------------------------------------------------------- done


def test_a_record_reads_well_or_is_json_and_nothing_else():
    assert run().stdout == "p scores 0.5\n"
    done = run(None, "--json")
    assert json.loads(done.stdout) == {"path": "p", "score": 0.5}
    assert done.stderr == "working on it\n"
    assert done.exit_code == 0


# ---------------------------------------------------------------- known errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ReleaseNotFound("no such release", hint="look again"), 1),
        (errors.OptionError("no such release", hint="look again"), 2),
        (errors.GateFailed("no such release", hint="look again"), 3),
    ],
)
def test_a_known_error_is_one_line_and_its_exit_code(error, code):
    done = run(error)
    assert done.exit_code == code
    assert done.stdout == ""
    assert done.stderr == "working on it\nlabelsync: no such release; look again\n"


def test_an_error_for_many_samples_names_the_first_twenty_and_counts_the_rest():
    few = run(errors.SamplesFailed("two failed", details=["a.jpg: gone", "b.jpg: gone"]))
    assert few.stderr.splitlines()[1:] == ["  a.jpg: gone", "  b.jpg: gone", "labelsync: two failed"]
    many = run(errors.SamplesFailed("many failed", details=[f"{i}.jpg" for i in range(25)])).stderr.splitlines()
    assert many[20:] == ["  19.jpg", "  and 5 more", "labelsync: many failed"]


def test_a_name_cannot_break_the_line_or_steer_the_terminal():
    done = run(errors.AssetError("sample 'a\nb\x1b[2Jc\u202e' failed", details=["x\ry é"]))
    assert done.stderr.splitlines()[1:] == [r"  x\ry é", r"labelsync: sample 'a\nb\x1b[2Jc\u202e' failed"]


def test_the_traceback_is_shown_on_demand():
    done = run(errors.ReleaseNotFound("no such release"), env={"LABELSYNC_DEBUG": "1"})
    assert isinstance(done.exception, errors.ReleaseNotFound)
    assert isinstance(run(os_error(errno.ENOSPC), env={"LABELSYNC_DEBUG": "1"}).exception, OSError)


# ---------------------------------------------------------------- the operating system


def buried(outer: Exception, inner: Exception, *, named: bool) -> Exception:
    """`outer` as a library raises it while it handles `inner`."""
    try:
        try:
            raise inner  # noqa: TRY301
        except Exception as e:
            if named:
                raise outer from e
            raise outer  # noqa: B904 - as careless libraries do
    except Exception as e:  # noqa: BLE001
        return e


@pytest.mark.parametrize(
    "error",
    [
        os_error(errno.ENOSPC, "out/data.parquet"),
        buried(RuntimeError("write failed"), os_error(errno.ENOSPC), named=True),
        buried(RuntimeError("unexpected pos 64 vs 0"), os_error(errno.ENOSPC), named=False),  # torch.save
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),  # safetensors
    ],
)
def test_a_full_disk_is_said_however_deep_it_is_buried(error):
    done = run(error)
    assert done.exit_code == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("labelsync: the disk is full")
    assert line.endswith("; make room or choose another --out, then run it again")
    assert ("out/data.parquet" in line) == (getattr(error, "filename", None) is not None)


def test_a_copy_that_does_not_fit_names_the_side_that_is_full():
    done = run(OSError(errno.ENOSPC, "", "mine/a.jpg", None, "full/a.jpg"))
    assert "the disk is full: full/a.jpg; make room" in done.stderr
    assert "mine" not in done.stderr


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EACCES, "no permission: /x; check the rights"),
        (errno.EROFS, "the file system is read-only: /x; choose another --out"),
        (errno.ENOTDIR, "a part of the path is a file, not a folder: /x; "),
        (errno.ENAMETOOLONG, "the file name is too long: /x; choose a shorter one"),
        (errno.EDQUOT, "the disk quota is used up: /x; make room"),
    ],
)
def test_a_refused_file_is_named_with_the_next_move(number, says):
    done = run(os_error(number, "/x"))
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith(f"labelsync: {says}")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bug"),
        os_error(errno.ENOENT, "a file that labelsync should have made"),
        buried(ValueError("a bug"), os_error(errno.EACCES), named=False),
    ],
)
def test_a_bug_keeps_its_traceback(error):
    assert run(error).exception is error


# ---------------------------------------------------------------- the user


def test_an_interrupt_is_130():
    done = run(KeyboardInterrupt())
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (130, "labelsync: interrupted; run it again to go on")


@pytest.mark.parametrize("argv", [["nothing"], ["pull"], ["pull", "x", "--wait", "long"], ["--nothing"]])
def test_usage_is_2_and_says_where_help_is(cli, argv):
    done = cli(*argv, code=2)
    assert "--help" in done.stderr
    assert "Error: " in done.stderr
    assert done.stdout == ""


def test_no_command_shows_the_commands_in_the_order_of_a_round(cli):
    shown = cli(code=2).output
    verbs = [line.split()[0] for line in shown.partition("Commands:")[2].splitlines() if line.strip()]
    order = "create add-images create-release pull diff convert check push verify show-recipe train"
    order += " evaluate compare report predict export select prelabel init run status promote rollback cache demo"
    assert " ".join(verbs) == order
    assert all(len(cli(verb, "--help").stdout.splitlines()) > 5 for verb in verbs)
    assert "..." not in shown.partition("Commands:")[2], "a command's one line is cut off"


def test_the_command_is_installed_and_is_the_module(tmp_path):
    for command in ([str(Path(sys.executable).with_name("labelsync"))], [sys.executable, "-m", "labelsync"]):
        done = subprocess.run(
            [*command, "convert", "nowhere", "--out", "out"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr == "labelsync: nowhere does not exist; run labelsync pull first\n"
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no such node\nat 0x7f.."), "no such node"),
        (ValueError("\n  \n  it is below\n"), "it is below"),
        (ValueError("\x1b[1;31mFail\x1b[m"), "[1;31mFail[m"),  # what no terminal takes for a colour
        (ValueError("\n"), "ValueError"),
        (KeyError(), "KeyError"),
        (errors.ModelError("no head", hint="take another"), "no head"),
        (ValueError("x" * 300), "x" * 200),
    ],
)
def test_the_first_line_of_a_vendors_error_is_fit_for_a_line_of_ours(error, line):
    assert errors.first_line(error) == line


@pytest.mark.parametrize("loaded", ["torch", "something_else"])
def test_a_process_with_torch_ends_as_usual(loaded: str) -> None:
    """Where nothing is looked for at the end, the compiler beside torch reports all that is left as leaks."""
    program = f"""
import atexit, gc, sys, types
sys.modules["{loaded}"] = types.ModuleType("{loaded}")
atexit.register(lambda: print(gc.get_freeze_count() > 0))
import labelsync.__main__
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(loaded != "torch")]
