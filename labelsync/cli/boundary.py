"""The one place where errors become a line on stderr and an exit code, and records become output.

Exit codes: 0 done, 1 a known error, 2 usage, 3 a gate not met. LABELSYNC_DEBUG=1 shows the traceback instead.
stdout carries the record (`--json`: the record as JSON and nothing else); everything else goes to stderr.
"""

import errno
import os
from collections.abc import Callable
from typing import Any

import click

from labelsync.errors import LabelsyncError
from labelsync.records import to_json

_DETAILS = 20

_OS_ERRORS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no permission",
    errno.ENAMETOOLONG: "the file name is too long",
}


class Group(click.Group):
    """A click group that keeps the order commands were added in and ends known errors in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Commands in the order of a labeling round, not of the alphabet."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a known error becomes its line and its exit code."""
        try:
            return super().invoke(ctx)
        except LabelsyncError as e:
            _raise_if_debugging()
            _fail(e.message, e.hint, e.details)
            ctx.exit(e.exit_code)
        except OSError as e:
            if e.errno not in _OS_ERRORS:
                raise
            _raise_if_debugging()
            where = f": {e.filename}" if e.filename else ""
            _fail(_OS_ERRORS[e.errno] + where, "make room or choose another --out, then run it again", ())
            ctx.exit(1)
        except KeyboardInterrupt:
            _fail("interrupted", "run it again to go on", ())
            ctx.exit(130)


def show(record: object, *, as_json: bool, text: Callable[[Any], str]) -> None:
    """Print a verb's record on stdout: as JSON, or as `text(record)` for people."""
    click.echo(to_json(record) if as_json else text(record))


def _fail(message: str, hint: str, details: tuple[str, ...]) -> None:
    for line in details[:_DETAILS]:
        click.echo(f"  {line}", err=True)
    if len(details) > _DETAILS:
        click.echo(f"  and {len(details) - _DETAILS} more", err=True)
    click.echo(f"labelsync: {message}" + (f"; {hint}" if hint else ""), err=True)


def _raise_if_debugging() -> None:
    if os.environ.get("LABELSYNC_DEBUG"):
        raise  # noqa: PLE0704 - called from inside an except block
