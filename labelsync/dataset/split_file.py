"""Splits that a user gives in a file, and splits.json."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from labelsync.dataset.split import SPLITS, Assignment, pinned_groups
from labelsync.errors import DatasetError, OptionError, first_line
from labelsync.records.release import Sample
from labelsync.records.text import from_json

_FORMS = 'write {"train": ["a.jpg", ..], "test": [..]} or {"a.jpg": "train", ..}; names, uuids or groups'


def read_given(path: Path) -> dict[str, str] | Assignment:
    """The content of a `--splits` file: sample name, uuid or group -> split; or a splits.json of labelsync.

    Raises:
        OptionError: no such file, not JSON, of another form, or with a split of another name.
    """
    try:
        data = json.loads(path.read_bytes())
    except OSError as e:
        raise OptionError(f"--splits {path}: {e.strerror or e}", hint=_FORMS) from None
    except ValueError as e:
        raise OptionError(f"--splits {path} is not JSON ({first_line(e)})", hint=_FORMS) from None
    if isinstance(data, dict) and {"group_by", "samples", "format"} <= data.keys():
        return from_json(Assignment, path.read_bytes(), where=str(path))
    return _mapping(data, where=f"--splits {path}")


def given_splits(
    given: Mapping[str, str],
    samples: Iterable[Sample],
    groups: Mapping[str, str],
    *,
    every: Iterable[Sample],
    where: str,
    earlier: Assignment | None = None,
) -> dict[str, str]:
    """uuid -> split as `given` says.

    Args:
        given: sample name, uuid or group -> split.
        samples: the samples that need a split; `groups`: uuid -> group of each.
        every: all samples of the release: naming one that is not labelled yet is no mistake.

    Raises:
        DatasetError: names that no sample has, samples without a split, a group in two splits, a pinned sample moved.
    """
    samples, splits, used = list(samples), {}, set()
    for s in samples:
        keys = [k for k in (s.uuid, s.name, groups[s.uuid]) if k in given]
        used.update(keys)
        if len({given[k] for k in keys}) > 1:
            raise DatasetError(f"{where} puts sample {s.name!r} into two splits", hint=f"by {' and '.join(keys)}")
        if keys:
            splits[s.uuid] = given[keys[0]]
    known = used | {k for s in every for k in (s.uuid, s.name, s.entry)}
    unknown = sorted(k for k in given if k not in known)
    _refuse(unknown, lambda key: f"{where} names {key}, which no sample of the release has")
    _refuse([s.name for s in samples if s.uuid not in splits], lambda name: f"{where} has no split for sample {name}")
    _refuse_straddling(splits, groups, where=where)
    if earlier is not None:
        pinned = pinned_groups(groups, earlier)
        moved = [s for s in samples if pinned.get(groups[s.uuid], splits[s.uuid]) != splits[s.uuid]]
        _refuse(
            [f"{s.name}: {pinned[groups[s.uuid]]} -> {splits[s.uuid]}" for s in moved],
            lambda move: f"{where} moves samples between the splits of the earlier dataset: {move}",
            hint="a moved sample spoils every comparison with earlier rounds; leave out --previous to start anew",
        )
    return splits


def _mapping(data: Any, *, where: str) -> dict[str, str]:
    """Either form -> key -> split."""
    if not isinstance(data, dict) or not data:
        raise OptionError(f"{where} is not a JSON object with content", hint=_FORMS)
    if all(isinstance(v, str) for v in data.values()):
        pairs = [(k, v) for k, v in data.items()]
    elif all(isinstance(v, list) and all(isinstance(k, str) for k in v) for v in data.values()):
        pairs = [(k, split) for split, keys in data.items() for k in keys]
        for split in data:
            _require_split(split, where=where)
    else:
        raise OptionError(f"{where} mixes forms", hint=_FORMS)
    given: dict[str, str] = {}
    for key, split in pairs:
        _require_split(split, where=where)
        if given.setdefault(key, split) != split:
            raise OptionError(f"{where} puts {key!r} into {given[key]} and {split}", hint="one split per sample")
    return given


def near_split(name: str) -> str:
    """The split that somebody means by another name, "" if none."""
    plain = name.strip().lower()
    near = {"val": "validation", "valid": "validation", "dev": "validation", "eval": "validation"}
    near |= {"training": "train", "testing": "test"} | {split: split for split in SPLITS}
    return near.get(plain, "") if name not in SPLITS else ""


def _require_split(name: str, *, where: str) -> None:
    if name not in SPLITS:
        near = near_split(name)
        hint = f"write {near!r}" if near else f"splits are {', '.join(SPLITS)}"
        raise OptionError(f"{where}: there is no split {name!r}", hint=hint)


def _refuse(names: list[str], sentence: Callable[[str], str], *, hint: str = "mend the file") -> None:
    if names:
        more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        raise DatasetError(sentence(repr(names[0])) + more, hint=hint, details=names if len(names) > 1 else ())


def _refuse_straddling(splits: Mapping[str, str], groups: Mapping[str, str], *, where: str) -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for uuid, split in splits.items():
        found[groups[uuid]].add(split)
    _refuse(
        sorted(f"{g} ({', '.join(sorted(s))})" for g, s in found.items() if len(s) > 1),
        lambda group: f"{where} tears the group {group} apart",
        hint="put the whole group into one split, or leave out --group-by",
    )
