"""What a round changed, for the card: the earlier dataset's manifest, ledger and row keys against this round's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labelsync.dataset.source import LEDGER, DatasetFiles
from labelsync.labels import UNLABELED, LabelMap
from labelsync.records.release import Ledger
from labelsync.records.text import from_json


@dataclass(frozen=True)
class ClassSince:
    """One class in both rounds: pixels, 0 where a round has none."""

    name: str
    before: int
    now: int


@dataclass(frozen=True)
class Since:
    """The difference to an earlier round.

    Attributes:
        release: name of the earlier release.
        added, removed: samples that have a row in one of the two rounds only, matched by uuid.
        kept: samples that have a row in both.
        changed: how many of these have another label, image or name; None where one of the two rounds keeps no keys of
            its rows, as plain bitmaps.
        splits: split -> (rows before, rows now).
        classes: those whose pixels differ, in the order of their numbers; "unlabeled" first.
    """

    release: str
    added: int
    removed: int
    kept: int
    changed: int | None
    splits: Mapping[str, tuple[int, int]]
    classes: tuple[ClassSince, ...]


def since(
    previous: DatasetFiles | None,
    *,
    ledger: Ledger,
    keys: Mapping[str, str],
    then: Mapping[str, str],
    splits: Mapping[str, int],
    pixels: Sequence[int],
    labels: LabelMap,
) -> Since | None:
    """What is different since `previous` (None = this is the first); pixels are compared by the pinned class numbers.

    Args:
        ledger, splits, pixels: of this round, as in `CardFacts`.
        keys, then: uuid -> row key of this round and of the earlier one; empty for plain bitmaps.

    Raises:
        DatasetError, ServiceError: the earlier ledger cannot be read.
    """
    if previous is None:
        return None
    summary = previous.manifest.summary
    earlier = from_json(Ledger, previous.path(LEDGER).read_bytes(), where=f"{LEDGER} of {previous.name}")
    before, now = _converted(earlier), _converted(ledger)
    rows: Mapping[str, int] = summary.get("splits", {})
    return Since(
        release=str(summary.get("release", "")),
        added=len(now - before),
        removed=len(before - now),
        kept=len(before & now),
        changed=_changed(then, keys),
        splits={split: (rows.get(split, 0), splits.get(split, 0)) for split in dict.fromkeys([*splits, *rows])},
        classes=_classes(summary.get("pixels", []), pixels, labels),
    )


def _converted(ledger: Ledger) -> set[str]:
    return {row.uuid for row in ledger.rows if row.outcome == "converted"}


def _changed(then: Mapping[str, str], keys: Mapping[str, str]) -> int | None:
    """Rows of both rounds whose keys differ, which are over all that a row's bytes depend on."""
    if not then or not keys:
        return None
    return sum(then[uuid] != keys[uuid] for uuid in then.keys() & keys.keys())


def _classes(before: Sequence[int], now: Sequence[int], labels: LabelMap) -> tuple[ClassSince, ...]:
    if not before:
        return ()
    then = [*before, *[0] * (len(now) - len(before))]
    names = (UNLABELED, *labels.names)
    found = [ClassSince(name, a, b) for name, a, b in zip(names, then, now, strict=True)]
    return tuple(c for c in found if c.before != c.now)
