"""Which part of the test set an image belongs to: its group, and its value of a metadata key."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from labelsync.dataset.load import LabeledDataset
from labelsync.dataset.metadata import require_key
from labelsync.dataset.metadata_file import METADATA, read_metadata
from labelsync.dataset.split import GROUP_BY, groups_of, plain
from labelsync.errors import OptionError
from labelsync.evaluation.bootstrap import intervals
from labelsync.evaluation.figures import Figures
from labelsync.evaluation.tally import ImageFacts, Tally, label_digest, members_of
from labelsync.records.release import Row, Sample
from labelsync.records.scores import SliceScores

ABSENT = "(none)"
"""The slice of images that lack the key."""

_PREFIX = "metadata."


class Describer:
    """Says of a row what it is: `ImageFacts`.

    Args:
        data: the dataset; its splits.json has the rule of its groups, its metadata.json the rest.
        by: "group" or "metadata.KEY", one slicing each.

    Raises:
        OptionError: another `by`, or one that no sample of the dataset has.
        DatasetError: the dataset was converted before metadata travelled with it.
    """

    def __init__(self, data: LabeledDataset, by: Sequence[str]) -> None:
        pinned = data.files.assignment if data.files else None
        self._rule = pinned.group_by if pinned else GROUP_BY
        self._sequences = frozenset(pinned.groups) if pinned and self._rule == GROUP_BY else frozenset()
        self._metadata: Mapping[str, Mapping[str, Any]] = {}
        known = data.files is not None and METADATA in data.files.manifest.files
        if data.files is not None and (known or any(b.startswith(_PREFIX) for b in by)):
            self._metadata = read_metadata(data.files)
        if self._rule.startswith(_PREFIX) and not known and "group" not in by:
            self._rule = GROUP_BY  # a dataset of an earlier labelsync: each image stands for itself
        self._by = tuple(by)
        for name in by:
            self._require(name, data.source)

    @property
    def unit(self) -> str:
        """What is drawn by the bootstrap: "image", or "group by metadata.sequence"."""
        return f"group by {self._rule}" if self._has_groups else "image"

    @property
    def _has_groups(self) -> bool:
        return self._rule != GROUP_BY or bool(self._sequences)

    def facts(self, row: Row, label: npt.NDArray[Any]) -> ImageFacts:
        """The facts of a row with that label. Raises DatasetError if the dataset's rule finds no group for it."""
        metadata = dict(self._metadata.get(row.uuid, {}))
        entry = row.uuid.partition(".")[0]  # of a frame "<uuid of its sequence>.<index>"
        sequence = entry if entry in self._sequences else ""
        sample = Sample(row.uuid, row.name, None, metadata=metadata, sequence=sequence)
        group = groups_of([sample], self._rule)[row.uuid]
        slices = {
            short(by): group if by == "group" else value_of(metadata.get(by.removeprefix(_PREFIX))) for by in self._by
        }
        return ImageFacts(row.name, row.uuid, label_digest(label), group, slices)

    def _require(self, by: str, source: str) -> None:
        if by == "group":
            if not self._has_groups:
                raise OptionError(f"--by group: {source} has no groups", hint="convert it with --group-by")
            return
        if not by.startswith(_PREFIX) or by == _PREFIX:
            raise OptionError(f"--by {by!r} is no slicing", hint="it is group, or metadata.KEY")
        samples = [Sample(uuid, uuid, None, metadata=dict(found)) for uuid, found in self._metadata.items()]
        require_key(by.removeprefix(_PREFIX), samples, flag=f"--by {by}")


def short(by: str) -> str:
    """The name of a slicing in gates and records: metadata.weather -> weather.

    A metadata key "group" keeps its prefix, for "group" is the slicing by the groups of the splits.
    """
    return by if by == f"{_PREFIX}group" else by.removeprefix(_PREFIX)


def value_of(value: object) -> str:
    """The name of a slice: a metadata value as text, `ABSENT` for none.

    A text that reads "(none)" itself is put in quotes, and one in quotes in more of them: no two values are one slice.
    """
    text = plain(value)
    if text is None:
        return ABSENT
    return f'"{text}"' if text.strip('"') == ABSENT else text


def slice_scores(tally: Tally, figures: Figures, *, resamples: int) -> dict[str, dict[str, SliceScores]]:
    """slicing -> value -> the figures of its images."""
    pixels = tally.areas[:, 2].sum(1)

    def scored(members: list[int]) -> SliceScores:
        part = figures.select(members)
        return SliceScores(
            images=len(members),
            pixels=int(pixels[members].sum()),
            figures=part.whole(),
            intervals=intervals(part, [tally.images[i].group for i in members], resamples=resamples),
        )

    return {
        name: {value: scored(members) for value, members in values.items()}
        for name, values in members_of(tally).items()
    }
