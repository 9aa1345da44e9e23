"""`--split-by metadata.KEY`: a value of the samples says their split, or their group."""

from collections.abc import Sequence
from dataclasses import replace

from labelsync.dataset.metadata import require_key, text_of
from labelsync.dataset.rules import Rules
from labelsync.dataset.split import SPLITS
from labelsync.dataset.split_file import near_split
from labelsync.errors import DatasetError, OptionError
from labelsync.records.release import Sample

PREFIX = "metadata."


def with_split_by(rules: Rules, samples: Sequence[Sample]) -> Rules:
    """The rules after a look at the samples that are to be converted.

    If every value is the name of a split, it says the sample's split. If none is, the key makes groups that are never
    torn apart, as --group-by does.

    Raises:
        OptionError: no sample has the key, or it contradicts --group-by, --fractions or what is pinned.
        DatasetError: some values are splits and others not, or a sample has none.
    """
    if not rules.split_by or not samples:
        return rules
    flag, key = f"--split-by {rules.split_by}", rules.split_by.removeprefix(PREFIX)
    require_key(key, samples, flag=flag)
    values = {s.uuid: _value(s, key) for s in samples}
    if set(values.values()) <= set(SPLITS):
        if rules.asked_fractions:
            hint = "leave --fractions out, or leave --split-by out and say --fractions"
            raise OptionError(f"--fractions has no say beside {flag}, whose values are splits", hint=hint)
        return replace(rules, given=values, where=flag, fractions=None)
    _require_one_kind(samples, values, flag=flag, key=key)
    return _grouped(rules, flag)


def _value(sample: Sample, key: str) -> str:
    """The value as text; "" if there is none."""
    value = sample.metadata.get(key)
    return "" if value in (None, "", [], {}) else text_of(value)


def _require_one_kind(samples: Sequence[Sample], values: dict[str, str], *, flag: str, key: str) -> None:
    """Raises DatasetError for values that are neither all splits nor all groups."""
    without = [s for s in samples if not values[s.uuid]]
    splits = [s for s in samples if values[s.uuid] in SPLITS]
    near = [s for s in samples if near_split(values[s.uuid])]
    others = [s for s in samples if values[s.uuid] and values[s.uuid] not in SPLITS]
    if near:
        value = values[near[0].uuid]
        hint = f"write {near_split(value)!r} in its metadata on Segments.ai; for groups, use --group-by {PREFIX}{key}"
        raise _refusal(f"sample {near[0].name!r} has metadata {key}={value}, which is no split", near, hint)
    if without:
        hint = "give it one on Segments.ai, choose samples with --metadata, or say where each goes with --splits FILE"
        raise _refusal(f"{flag}: sample {without[0].name!r} has no {key}", without, hint)
    if splits:
        a, b = splits[0], others[0]
        what = f"{flag}: {a.name!r} has the split {values[a.uuid]!r}, but {b.name!r} has {values[b.uuid]!r}"
        raise _refusal(what, others, f"splits are {', '.join(SPLITS)}; write one of them in every sample, or in none")


def _refusal(what: str, samples: Sequence[Sample], hint: str) -> DatasetError:
    more = f" (and {len(samples) - 1} more)" if len(samples) > 1 else ""
    details = [f"{s.name!r} ({s.uuid})" for s in samples]
    return DatasetError(what + more, hint=hint, details=details if more else ())


def _grouped(rules: Rules, flag: str) -> Rules:
    if rules.asked_group_by and rules.asked_group_by != rules.split_by:
        hint = "leave one of them out"
        raise OptionError(f"{flag} makes groups, and so does --group-by {rules.asked_group_by}", hint=hint)
    if rules.earlier is not None and rules.earlier.group_by != rules.split_by:
        raise OptionError(
            f"{flag} makes groups, and the earlier round grouped by {rules.earlier.group_by!r}",
            hint="leave --split-by out, or leave out what pins it and start anew",
        )
    return replace(rules, group_by=rules.split_by, split_by="")
