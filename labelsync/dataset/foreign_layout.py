"""Which files of a foreign dataset belong to which configuration and split: by its README, else by their paths.

The rules are those of `datasets.load_dataset`, so that both read the same rows under the same split names:
https://huggingface.co/docs/datasets/repository_structure
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from labelsync.errors import DatasetError

Splits = dict[str, tuple[str, ...]]  # split as the dataset calls it -> its data files

DEFAULT = "default"

_KEYWORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
_SHARD = re.compile(r"(?:^|/)(?P<split>\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*$")
_CONVERTED = re.compile(r"(?P<config>[^/]+)/(?P<split>[^/]+)/\d{4}\.parquet")
_PARTIAL = "partial-"  # what the Hub puts before the name of a split of which it converted the first gigabytes only


def normal_name(split: str) -> str:
    """train, validation or test for the words that people use for them; any other name as it is."""
    return _KEYWORDS.get(split.removeprefix(_PARTIAL).lower(), split)


def is_partial(split: str) -> bool:
    """Whether the Hub holds only the beginning of a split as Parquet."""
    return split.startswith(_PARTIAL)


def configurations(files: Sequence[str], card: Mapping[str, Any]) -> dict[str, Splits]:
    """Configuration -> its splits and their files.

    Args:
        files: paths of the data files.
        card: what stands at the head of README.md.

    Raises:
        DatasetError: README.md names files that are not there.
    """
    described = [c for c in card.get("configs") or () if isinstance(c, Mapping)]
    if described:
        return {str(c.get("config_name", DEFAULT)): _described(files, c) for c in described}
    converted = [match for f in files if (match := _CONVERTED.fullmatch(f))]
    if files and len(converted) == len(files):
        found: dict[str, dict[str, list[str]]] = {}
        for match in converted:
            found.setdefault(match["config"], {}).setdefault(match["split"], []).append(match[0])
        return {config: {s: tuple(f) for s, f in splits.items()} for config, splits in found.items()}
    return {DEFAULT: by_path(files)} if files else {}


def choose(found: Mapping[str, Splits], wanted: str | None, card: Mapping[str, Any], *, name: str) -> str:
    """The configuration that was asked for, or the only one, or the one that the dataset calls its default.

    Raises:
        DatasetError: there is none of that name, or several and no default.
    """
    names = ", ".join(found)
    if wanted is not None:
        if wanted not in found:
            raise DatasetError(f"{name} has no configuration {wanted!r}", hint=f"there are: {names}")
        return wanted
    marked = [str(c.get("config_name")) for c in card.get("configs") or () if c.get("default")]
    preferred = [c for c in (*marked, DEFAULT) if c in found] or list(found)
    if len(found) > 1 and preferred == list(found):
        raise DatasetError(f"{name} has {len(found)} configurations: {names}", hint="choose one with --config")
    return preferred[0]


def by_path(files: Iterable[str]) -> Splits:
    """Split -> files, by words like train and val in their names or folders; all are "train" where no word occurs."""
    found: dict[str, list[str]] = {}
    others = []
    for file in sorted(files):
        split = split_of(file)
        found.setdefault(split, []).append(file) if split else others.append(file)
    return {s: tuple(f) for s, f in found.items()} if found else ({"train": tuple(others)} if others else {})


def split_of(file: str) -> str:
    """The split that a path speaks of, as it is called there; "" where it speaks of none. The file's own name counts
    first, then its folders from the inside out."""
    if match := _SHARD.search(file):
        return match["split"]
    path = PurePosixPath(file)
    for part in (path.stem, *reversed(path.parts[:-1])):
        for word in re.split(r"[/_.\- 0-9]+", part):
            if word.lower() in _KEYWORDS:
                return word
    return ""


def _described(files: Sequence[str], config: Mapping[str, Any]) -> Splits:
    """The splits of one entry of `configs`."""
    folder = str(config.get("data_dir") or "").strip("/")
    inside = [f for f in files if not folder or f.startswith(f"{folder}/")]
    patterns = config.get("data_files")
    if patterns is None:
        return by_path(inside)
    entries = patterns if isinstance(patterns, list) else [patterns]
    found: dict[str, list[str]] = {}
    for entry in entries:
        split, paths = (str(entry["split"]), entry["path"]) if isinstance(entry, Mapping) else ("train", entry)
        for pattern in paths if isinstance(paths, list) else [paths]:
            whole = f"{folder}/{pattern}" if folder else str(pattern)
            found.setdefault(split, []).extend(f for f in files if _matches(whole, f))
    missing = [s for s, f in found.items() if not f]
    if missing and not any(found.values()):
        return {}
    if missing:
        raise DatasetError(
            f"README.md speaks of files of split {missing[0]!r} that are not there", hint="fetch the dataset again"
        )
    return {s: tuple(dict.fromkeys(f)) for s, f in found.items()}


def _matches(pattern: str, file: str) -> bool:
    """A glob as `datasets` reads it: ** crosses folders, * does not, [..] is a choice, {a,b} is not supported."""
    parts = re.split(r"(\*\*/?|\*|\?|\[[^\]]+\])", pattern.removeprefix("./"))
    table = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    expression = "".join(table.get(p) or (p if p.startswith("[") and p.endswith("]") else re.escape(p)) for p in parts)
    return re.fullmatch(expression, file) is not None
