"""Samples chosen by their metadata: `--metadata key=value`."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from labelsync.errors import OptionError
from labelsync.records.release import Sample
from labelsync.release.labels_file import did_you_mean

_FORM = "write key=value, for example --metadata weather=rain"
_SHOWN = 10


def read_metadata(values: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """("weather=rain", "weather=snow", "night=true") -> {"night": ("true",), "weather": ("rain", "snow")}.

    Raises:
        OptionError: a text that is no key=value.
    """
    if isinstance(values, str):  # a sequence of texts too, of one letter each
        values = (values,)
    wanted: dict[str, set[str]] = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise OptionError(f"--metadata {text!r} is no key=value", hint=_FORM)
        wanted.setdefault(key, set()).add(value)
    return {key: tuple(sorted(found)) for key, found in sorted(wanted.items())}


def text_of(value: Any) -> str:
    """A metadata value as text: a string as it is, anything else as JSON (true, 3, null, ["a"])."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def why_not(sample: Sample, wanted: Mapping[str, Collection[str]]) -> str:
    """Why a sample is not among the wanted ones, in words for its ledger row; "" if it is."""
    for key, values in wanted.items():
        if key not in sample.metadata:
            return f"it has no metadata {key}"
        text = text_of(sample.metadata[key])
        if text not in values:
            return f"metadata {key} is {text}"
    return ""


def require_known(samples: Collection[Sample], wanted: Mapping[str, Collection[str]]) -> None:
    """Raises OptionError for a key that no sample has, or has none of its wanted values."""
    for key, values in wanted.items():
        there = Counter(text_of(s.metadata[key]) for s in samples if key in s.metadata)
        if not there:
            require_key(key, samples, flag="--metadata")
        if not there.keys() & set(values):
            listed = ", ".join(f"{v} ({n})" for v, n in sorted(there.items(), key=lambda x: (-x[1], x[0]))[:_SHOWN])
            more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
            what = " or ".join(f"{key}={value}" for value in values)
            raise OptionError(f"--metadata: no sample has {what}", hint=f"its values are: {listed}{more}")


def require_key(key: str, samples: Collection[Sample], *, flag: str) -> None:
    """Raises OptionError if no sample has a metadata key; it lists those there are."""
    keys = sorted({k for s in samples for k in s.metadata})
    if key not in keys:
        hint = f"there are: {', '.join(keys)}" if keys else "the release has no metadata at all"
        raise OptionError(f"{flag}: no sample has metadata {key!r}", hint=hint + did_you_mean(key, keys))
