"""What rounds leave on disk, beside labelsync.toml.

rounds/<name>/round.json      the record: how each stage ended, written after every one
rounds/<name>/release/        `pull`; release-2/, release-3/, .. where there are several datasets
rounds/<name>/diff.json       `diff` against the round before; diff-2.json, ..
rounds/<name>/check.json      `check` of the release; check-2.json, ..
rounds/<name>/check-dataset.json  `check` of the dataset, which knows of splits
rounds/<name>/dataset/        `convert`
rounds/<name>/model/          `train`
rounds/<name>/evaluation/     `evaluate`
rounds/<name>/baseline/       `evaluate` of the model that was published last, on this round's images and labels
rounds/<name>/comparison.json `compare` of the two
rounds/<name>/summary.md      the round on a page
rounds/production.json        the rounds whose models were in production, the last one is
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from labelsync.errors import DatasetError, LabelsyncError
from labelsync.pipeline.config import Config
from labelsync.records.rounds import RoundRecord, StageRun
from labelsync.records.text import from_json, to_json
from labelsync.store.files import digest_of, write_text
from labelsync.store.manifest import read_manifest, verify_files

ROUNDS = "rounds"
ROUND = "round.json"
PRODUCTION = "production.json"
PRODUCTION_TAG = "production"


@dataclass
class Round:
    """A round while it runs: the configuration, its record so far, and the rounds before it, oldest first."""

    config: Config
    record: RoundRecord
    earlier: tuple[RoundRecord, ...]
    forced: frozenset[str] = field(default_factory=frozenset)

    @property
    def folder(self) -> Path:
        """rounds/<name>."""
        return Path(self.record.path)

    @property
    def releases(self) -> list[Path]:
        """The release folders, in the order of the datasets."""
        count = len(self.record.releases)
        return [self.folder / ("release" if i == 0 else f"release-{i + 1}") for i in range(count)]

    @property
    def before(self) -> RoundRecord | None:
        """The round before."""
        return self.earlier[-1] if self.earlier else None

    def keep(self, run: StageRun, **facts: Any) -> None:
        """Put a stage's end into the record, and the record on disk."""
        stages = [s for s in self.record.stages if s.stage != run.stage]
        self.record = replace(self.record, stages=(*stages, run), **facts)
        write_round(self.record)

    def found(self, kind: str, repo: str, commit: Callable[[], str]) -> str | None:
        """ "user/name@commit" of what was published when this round first asked, None where nothing was.

        Its own publication comes later, and a run that is gone on with must not stand on that. `commit` asks the Hub,
        "" = there is nothing.
        """
        if not self.record.found.get(kind, "").startswith(f"{repo}@"):
            self.record = replace(self.record, found=self.record.found | {kind: f"{repo}@{commit()}"})
            write_round(self.record)
        name = self.record.found[kind]
        return None if name.endswith("@") else name


def rounds_folder(config: Config) -> Path:
    """Where the rounds of a configuration are."""
    return config.folder / ROUNDS


def write_round(record: RoundRecord) -> None:
    """Write round.json."""
    write_text(Path(record.path) / ROUND, to_json(record) + "\n")


def read_rounds(config: Config) -> tuple[RoundRecord, ...]:
    """Every round so far, by number.

    Raises:
        LabelsyncError: a round.json that labelsync did not write.
    """
    found = []
    for path in sorted(rounds_folder(config).glob(f"*/{ROUND}")):
        record = from_json(RoundRecord, path.read_bytes(), where=str(path))
        found.append(replace(record, path=str(path.parent)))  # the folder may have been moved
    return tuple(sorted(found, key=lambda r: r.number))


def round_name(releases: dict[str, str], *, taken: Sequence[RoundRecord] | None = None) -> str:
    """A name for a round, usable as a folder and as a tag: its release's, or those of several joined.

    Where one of the rounds in `taken` has that name and is of other releases (v1, v2, v1 of three datasets and later
    v1, v2, v2), a digest follows it.

    Raises:
        DatasetError: nothing in the name could be one.
    """
    names = list(dict.fromkeys(releases.values()))
    name = re.sub(r"[^\w.+-]+", "-", "+".join(names), flags=re.ASCII).strip("-.")[:80].strip("-.")
    if not name or name == PRODUCTION_TAG:
        raise DatasetError(f"release {names[0]!r} gives a round no name", hint="give the release another name")
    if any(record.name == name and record.releases != releases for record in taken or ()):
        name = f"{name[:71]}-{digest_of(releases)[:8]}"
    return name


def same_as_before(round: Round, stage: str, key: str, out: Path, verb: str) -> StageRun | None:
    """The stage's last end as "unchanged", if nothing that it depends on is new and its folder is whole."""
    last = round.record.stage(stage)
    if last is None or last.key != key or stage in round.forced:
        return None
    try:
        manifest = read_manifest(out, verb)
    except LabelsyncError:
        return None
    if verify_files(out, manifest):
        return None
    return replace(last, outcome="unchanged", seconds=0.0)


# -------------------------------------------------------------------- production


def production_history(config: Config) -> tuple[str, ...]:
    """Names of the rounds whose models were in production, in that order; the last one is."""
    path = rounds_folder(config) / PRODUCTION
    if not path.is_file():
        return ()
    try:
        names = json.loads(path.read_bytes())["rounds"]
        return tuple(str(name) for name in names)
    except (ValueError, KeyError, TypeError):
        raise LabelsyncError(f"{path} is not what labelsync writes", hint="delete it, and promote a round") from None


def write_production(config: Config, names: tuple[str, ...]) -> None:
    """Write production.json."""
    write_text(rounds_folder(config) / PRODUCTION, json.dumps({"rounds": list(names)}, indent=2) + "\n")
