"""`labelsync pull` from a loopback server and `labelsync convert`, as a user runs them, and what they left."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result

import labelsync
from labelsync.records.release import Ledger, LedgerRow, Row
from labelsync.records.results import ConvertRecord, PullRecord
from labelsync.records.text import from_json
from tests.loopback.segments import LoopbackSegments


class Commands:
    """The commands; every name is that of a folder in `folder`."""

    def __init__(self, cli: Callable[..., Result], server: LoopbackSegments, folder: Path) -> None:
        self.cli, self.server, self.folder = cli, server, folder

    def pull(self, release: Path, name: str = "release", *argv: object) -> PullRecord:
        """Put a release file on the server and pull it."""
        source = self.server.add_round(release)
        done = self.cli("pull", source, "--out", self.folder / name, *argv, "--json", env=self.server.env)
        return from_json(PullRecord, done.stdout)

    def refused(self, release: Path, *argv: object) -> str:
        """What a pull that fails says on stderr."""
        source = self.server.add_round(release)
        done: Result = self.cli("pull", source, "--out", self.folder / "none", *argv, code=1, env=self.server.env)
        assert not (self.folder / "none").exists()
        return done.stderr

    def convert(self, name: str = "data", *argv: object, release: str = "release", **kwargs: Any) -> ConvertRecord:
        """Convert a pulled release."""
        argv = ("convert", self.folder / release, "--out", self.folder / name, "--workers", "1", *argv, "--json")
        return from_json(ConvertRecord, self.cli(*argv, **kwargs).stdout)

    def rows(self, name: str = "data") -> dict[str, tuple[str, Row]]:
        """uuid -> split and row."""
        splits = labelsync.load(self.folder / name).splits
        return {row.uuid: (split, row) for split, rows in splits.items() for row in rows}

    def ledger(self, name: str = "data") -> dict[str, LedgerRow]:
        """uuid -> row."""
        ledger = from_json(Ledger, (self.folder / name / "ledger.json").read_bytes())
        assert len({r.uuid for r in ledger.rows}) == len(ledger.rows)
        return {r.uuid: r for r in ledger.rows}
