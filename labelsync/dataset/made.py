"""What a conversion made, and the texts beside its data: class names, splits, ledger, row keys, card."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labelsync.dataset import card
from labelsync.dataset.joined import Joined
from labelsync.dataset.metadata_file import write_metadata
from labelsync.dataset.plan import Plan
from labelsync.dataset.reuse import ROWS, RowIndex
from labelsync.dataset.rules import Rules
from labelsync.dataset.sample import LabelledSample
from labelsync.dataset.shards import ShardResult
from labelsync.dataset.since import since
from labelsync.dataset.source import ID2LABEL, LEDGER, SPLITS_FILE
from labelsync.records.release import Ledger
from labelsync.records.text import to_json
from labelsync.store.files import write_text
from labelsync.store.manifest import FileEntry

README = "README.md"
SAMPLES = "samples.json"  # of --format bitmaps


@dataclass(frozen=True)
class Made:
    """The written data: `lost` = samples that failed here, `names` = file names of --format bitmaps."""

    plan: Plan
    results: list[ShardResult]
    ledger: Ledger
    lost: int
    names: dict[str, str]

    def rows(self, split: str) -> int:
        """Rows of a split."""
        return sum(r.rows for r in self.results if r.split == split)

    @property
    def splits(self) -> dict[str, int]:
        """Rows of every split."""
        return {split: self.rows(split) for split in self.plan.splits}

    @property
    def files(self) -> dict[str, FileEntry]:
        """Path -> digest and size of every file that the shards wrote."""
        return {name: entry for r in self.results for name, entry in r.files.items()}

    @property
    def keys(self) -> dict[str, str]:
        """uuid -> row key; empty for plain bitmaps."""
        return {uuid: key for r in self.results if r.index is not None for uuid, key, _ in r.index.rows}

    def total(self, field: str) -> list[int]:
        """Sum over shards of `pixels` or `images`, by disk id."""
        return [int(n) for n in np.sum([getattr(r, field) for r in self.results], axis=0)]


def write_texts(work: Path, joined: Joined, rules: Rules, made: Made, inputs: dict[str, str]) -> None:
    """Write the texts into the folder of the data."""
    facts = card.CardFacts(
        release=joined.release,
        releases=joined.parts(made.ledger) if len(joined.folders) > 1 else (),
        labels=rules.labels,
        changes=rules.changes,
        ledger=made.ledger,
        assignment=made.plan.assignment,
        splits=made.splits,
        sizes={split: sum(r.size for r in made.results if r.split == split) for split in made.plan.splits},
        pixels=made.total("pixels"),
        images=made.total("images"),
        columns=rules.columns if rules.format == "parquet" else (),
        status=rules.status,
        metadata=rules.metadata,
        inputs=inputs,
        since=since(
            rules.previous,
            ledger=made.ledger,
            keys=made.keys,
            splits=made.splits,
            pixels=made.total("pixels"),
            labels=rules.labels,
        ),
    )
    write_text(work / ID2LABEL, rules.labels.id2label_json())
    write_text(work / SPLITS_FILE, to_json(made.plan.assignment) + "\n")
    write_text(work / LEDGER, to_json(made.ledger) + "\n")
    write_text(work / README, card.render(facts))
    write_metadata(work, joined.release.samples, made.ledger)
    if index := {r.path: r.index for r in made.results if r.index is not None}:
        write_text(work / ROWS, to_json(RowIndex(index), indent=None) + "\n")
    if made.names:
        write_text(work / SAMPLES, json.dumps(_listing(made), indent=1, ensure_ascii=False) + "\n")


def _listing(made: Made) -> list[dict[str, str]]:
    """The files of --format bitmaps, in order of split and file name."""
    converted = {r.uuid for r in made.ledger.rows if r.outcome == "converted"}

    def entry(split: str, sample: LabelledSample) -> dict[str, str]:
        path = f"{split}/{made.names[sample.uuid]}"
        image = f"images/{path}{Path(sample.image.path).suffix}"
        return {"image": image, "label": f"labels/{path}.png", "name": sample.name, "uuid": sample.uuid}

    return [
        entry(split, sample)
        for split, samples in made.plan.splits.items()
        for sample in sorted(samples, key=lambda s: made.names[s.uuid])
        if sample.uuid in converted
    ]


def summary_of(joined: Joined, rules: Rules, made: Made) -> dict[str, Any]:
    """The numbers of the record, and `rows` (per file), `pixels` (per disk id) and `lost` (samples) beside them."""
    files = made.files if rules.format == "parquet" else {}
    pixels = made.total("pixels")
    return {
        "release": joined.release.name,
        "dataset": joined.release.dataset,
        "num_labels": rules.labels.num_labels,
        "samples": len(made.ledger.rows),
        "outcomes": dict(made.ledger.totals),
        "splits": made.splits,
        "shards": len(files),
        "bytes": sum(entry.size for entry in made.files.values()),
        "pixel_shares": {k: round(v, 6) for k, v in card.pixel_shares(rules.labels, pixels).items()},
        "rows": {r.path: r.rows for r in made.results} if files else {},
        "pixels": pixels,
        "undrawn": made.ledger.undrawn,
        "lost": made.lost,
        "releases": [{"dataset": f.release.dataset, "release": f.release.name} for f in joined.folders],
    }
