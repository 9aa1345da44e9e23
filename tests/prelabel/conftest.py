"""A loopback Segments.ai with a half-labelled dataset, a tiny model that fits it, and the command over both."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import Result

from labelsync.deploy.instances import merge_specks
from labelsync.deploy.journal import RECORD
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.instance import decode_instance_bitmap
from labelsync.records.prelabels import PrelabelLedger, PrelabelRecord, PrelabelRow
from labelsync.records.text import from_json
from tests.loopback.segments import KEY, LoopbackSegments
from tests.loopback.segments_people import Person
from tests.models import label_map, loud_segformer
from tests.releases import draw_release, edit_release, sample_uuid

DATASET = "acme/sidewalk"
IDS = (0, 7, 300)  # category 0 is a class; there are gaps, and numbers above 255
FREE = (1, 2, 4, 5)  # samples without a label, of six
MIN_SIZE = 8


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the classes that releases are drawn with, which sees all of them."""
    return loud_segformer(tmp_path_factory.mktemp("prelabel") / "model", label_map(*(f"class-{i}" for i in IDS)))


@dataclass
class World:
    """The command, what is on the server, and what it left in the folder `p`."""

    cli: Callable[..., Result]
    server: LoopbackSegments
    folder: Path
    model: Path
    jane: Person = field(init=False)

    def __post_init__(self) -> None:
        self.jane = Person(self.server.platform, "jane")

    def draw(self, change: Callable[[dict[str, Any]], None] = lambda _: None, **how: Any) -> None:
        """Put a dataset on the server; `change` edits the release's document first."""
        add = {"private": how.pop("private")} if "private" in how else {}
        drawn: dict[str, Any] = {"samples": 6, "unlabeled": FREE, "category_ids": IDS} | how
        path = draw_release(self.folder / "drawn", **drawn)
        edit_release(path, change)
        self.server.add_round(path, **add)

    def run(self, *argv: object, code: int = 0) -> Result:
        """`labelsync prelabel` with the model and the dataset; the queue stays as it is unless `argv` says."""
        argv = ("--strategy", "none", *argv)
        argv = (self.model, DATASET, "--min-size", MIN_SIZE, "--out", self.folder / "p", "--device", "cpu", *argv)
        done = self.cli("prelabel", *argv, code=code, env=self.server.env)
        assert KEY not in done.output
        return done

    def record(self, *argv: object) -> PrelabelRecord:
        """What a run that succeeds returns."""
        return from_json(PrelabelRecord, self.run(*argv, "--json").stdout)

    def undo(self, *argv: object, code: int = 0) -> Result:
        """`labelsync prelabel --undo`."""
        return self.cli("prelabel", "--undo", self.folder / "p", *argv, code=code, env=self.server.env)

    def undone(self, *argv: object) -> PrelabelRecord:
        """What an undo that succeeds returns."""
        return from_json(PrelabelRecord, self.undo(*argv, "--json").stdout)

    def ledger(self) -> dict[str, PrelabelRow]:
        """uuid -> row, as the last run left it."""
        ledger = from_json(PrelabelLedger, (self.folder / "p/ledger.json").read_bytes())
        assert sorted(r.uuid for r in ledger.rows) == sorted(self.server.platform.datasets[DATASET].samples)
        return {r.uuid: r for r in ledger.rows}

    def outcomes(self, indices: Sequence[int] = range(6)) -> list[str]:
        """Of the samples, as the ledger has them."""
        rows = self.ledger()
        return [rows[sample_uuid(i)].outcome for i in indices]

    def events(self) -> list[str]:
        """Of the record, in order."""
        return [json.loads(line)["event"] for line in (self.folder / "p" / RECORD).read_text().splitlines()]

    def label(self, index: int) -> dict[str, Any] | None:
        """The label of a sample as the platform holds it."""
        return self.server.platform.sample(sample_uuid(index))[1].labels.get("ground-truth")

    def statuses(self) -> list[str]:
        """Of all samples' labels, "" for none."""
        return [(self.label(i) or {}).get("label_status", "") for i in range(6)]

    def bitmap(self, index: int) -> npt.NDArray[np.uint32]:
        """The instance bitmap of a sample's label, as it was uploaded."""
        label = self.label(index)
        assert label is not None
        url: str = label["attributes"]["segmentation_bitmap"]["url"]
        return decode_instance_bitmap(self.server.bucket.objects[url.removeprefix(f"{self.server.storage_url}/")])

    def predicted(self, index: int) -> npt.NDArray[Any]:
        """What the label should show: (H, W) disk ids of the model, specks merged."""
        file = self.folder / f"drawn/images/frame_{index:04d}.jpg"
        return merge_specks(Segmenter(self.model, device="cpu").segment(file), min_size=MIN_SIZE)

    def priorities(self) -> list[float]:
        """Of all samples, as the platform holds them."""
        return [self.server.platform.sample(sample_uuid(i))[1].priority for i in range(6)]

    def puts(self) -> int:
        """Labels that were written, by the number of requests."""
        return len(self.server.log.find("PUT", "/labels/"))


@pytest.fixture
def world(cli: Callable[..., Result], server: LoopbackSegments, tmp_path: Path, model: Path) -> World:
    """Six samples of acme/sidewalk, of which 1, 2, 4 and 5 have no label."""
    made = World(cli, server, tmp_path, model)
    made.draw()
    return made
