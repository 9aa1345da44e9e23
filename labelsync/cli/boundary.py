"""The one place where errors become a line on stderr and an exit code, and records become output.

Exit codes: 0 done, 1 a known error, 2 usage, 3 a gate not met, 130 interrupted. A known error is a `LabelsyncError`, or
the operating system refusing a file (a full disk, a missing permission); anything else is a bug and keeps its
traceback. LABELSYNC_DEBUG=1 shows the traceback of known errors too.
stdout carries the record (`--json`: the record as JSON and nothing else); everything else goes to stderr.
"""

import errno
import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any

import click

from labelsync.cli.options import refuse_empty
from labelsync.errors import GateFailed, LabelsyncError
from labelsync.records.text import to_json

_DETAILS = 20

_ROOM = "make room or choose another --out, then run it again"
_PLACE = "choose another --out, or repair that one"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_OS_ERRORS = {
    errno.ENOSPC: ("the disk is full", _ROOM),
    errno.EDQUOT: ("the disk quota is used up", _ROOM),
    errno.EFBIG: ("the file is too large for this file system", _ROOM),
    errno.EROFS: ("the file system is read-only", _PLACE),
    errno.EACCES: ("no permission", "check the rights of that file or folder"),
    errno.EPERM: ("not permitted", "check the rights of that file or folder"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", _PLACE),
    errno.EISDIR: ("it is a folder, not a file", _PLACE),
    errno.EEXIST: ("something else lies there", _PLACE),
    errno.EBUSY: ("it is in use", "choose another --out"),
    errno.ENAMETOOLONG: ("the file name is too long", "choose a shorter one"),
    errno.EMFILE: ("too many open files", "raise `ulimit -n`, or use fewer --workers"),
    errno.EIO: ("the disk fails", "check it, then run it again"),
}


class Commands(MutableMapping[str, click.Command]):
    """Commands by name, each imported when it is first looked at: all of them are a third of a command's start.

    Args:
        modules: name -> module of `labelsync.cli` in which the command stands under its name, "-" written "_".
    """

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._found: dict[str, click.Command | str] = dict(modules)

    def __getitem__(self, name: str) -> click.Command:
        found = self._found[name]
        if isinstance(found, str):
            command: click.Command = getattr(import_module(f"labelsync.cli.{found}"), name.replace("-", "_"))
            found = self._found[name] = command
        return found

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._found[name] = command

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class Group(click.Group):
    """A click group that keeps the order commands were added in and ends known errors in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Commands in the order of a labeling round, not of the alphabet."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, once no value is empty."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            refuse_empty(command, click.Context(command, parent=ctx, info_name=name), rest)
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a known error becomes its line and its exit code."""
        try:
            return super().invoke(ctx)
        except LabelsyncError as e:
            _raise_if_debugging()
            _fail(e.message, e.hint, e.details)
            ctx.exit(e.exit_code)
        except KeyboardInterrupt as e:
            _fail("interrupted", str(e) or "run it again to go on", ())  # a verb that can resume says how
            ctx.exit(130)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as e:
            known = _of_the_system(e)
            if known is None:
                raise
            _raise_if_debugging()
            _fail(*known, ())
            ctx.exit(1)


def show(record: object, *, as_json: bool, text: Callable[[Any], str]) -> None:
    """Print a verb's record on stdout: as JSON, or as `text(record)` for people."""
    click.echo(to_json(record) if as_json else text(record))


def show_gated(verb: Callable[[], object], *, as_json: bool, text: Callable[[Any], str]) -> None:
    """`show` what the verb returns, also when it ends in gates that are not met: then the error follows the record."""
    try:
        record = verb()
    except GateFailed as e:
        show(e.record, as_json=as_json, text=text)
        raise
    show(record, as_json=as_json, text=text)


def _of_the_system(error: Exception) -> tuple[str, str] | None:
    """(message, next move) if the operating system refused a file, else None."""
    for e in _chain(error):  # libraries that write in C++ or Rust bury a full disk below an error of their own
        if isinstance(e, OSError) and e.errno in _OS_ERRORS and (e is error or e.errno in _FULL):
            what, hint = _OS_ERRORS[e.errno]
            # of a copy that did not fit, the system names the source first; what is full is the other side
            where = (e.errno in _FULL and e.filename2) or e.filename
            return (f"{what}: {where}" if where else what), hint
        if os.strerror(errno.ENOSPC) in str(e):
            return _OS_ERRORS[errno.ENOSPC]
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _fail(message: str, hint: str, details: tuple[str, ...]) -> None:
    for line in details[:_DETAILS]:
        click.echo(f"  {_plain(line)}", err=True)
    if len(details) > _DETAILS:
        click.echo(f"  and {len(details) - _DETAILS} more", err=True)
    click.echo(f"labelsync: {_plain(message)}" + (f"; {_plain(hint)}" if hint else ""), err=True)


def _plain(text: str) -> str:
    """Text on one line and without control characters, which a sample's name may hold."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _raise_if_debugging() -> None:
    if os.environ.get("LABELSYNC_DEBUG"):
        raise  # noqa: PLE0704 - called from inside an except block
