"""Which sample goes into which split and shard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labelsync.dataset.rules import Rules
from labelsync.dataset.sample import LabelledSample
from labelsync.dataset.select import Selection
from labelsync.dataset.shards import MAX_SHARDS, shard_counts, size_of
from labelsync.dataset.split import SPLITS, Assignment, assign, groups_of, merged
from labelsync.dataset.split_file import given_splits
from labelsync.errors import DatasetError, SamplesFailed
from labelsync.records.release import Ledger, LedgerRow, Release, Sample


@dataclass(frozen=True)
class Plan:
    """`splits` = split -> its samples, in the order train, validation, test; `assignment` = what is pinned now."""

    splits: dict[str, tuple[LabelledSample, ...]]
    shards: dict[str, int]
    assignment: Assignment


def make_plan(samples: Sequence[LabelledSample], every: Sequence[Sample], rules: Rules) -> Plan:
    """Splits and shards for `samples`; `every` = all samples of the release.

    Raises:
        DatasetError, OptionError: see `split.groups_of`, `split.assign`, `split_file.given_splits`.
    """
    wanted = {s.uuid for s in samples}
    chosen = [s for s in every if s.uuid in wanted]
    groups = groups_of(chosen, rules.group_by)
    if rules.given is not None:
        of = given_splits(rules.given, chosen, groups, every=every, where=rules.where, earlier=rules.earlier)
    else:
        of = assign(groups, fractions=rules.fractions, earlier=rules.earlier)
    splits = {split: tuple(s for s in samples if of[s.uuid] == split) for split in SPLITS if split in of.values()}
    shards = _shards(splits, rules)
    pinned_samples, pinned_groups = merged(of, groups, group_by=rules.group_by, earlier=rules.earlier)
    return Plan(
        splits,
        shards,
        Assignment(
            group_by=rules.group_by,
            split_by=rules.split_by,
            fractions=rules.fractions,
            samples=pinned_samples,
            groups=pinned_groups,
            shards=shards if rules.format == "parquet" else {},
        ),
    )


def require_rows(plan: Plan, rows: Mapping[str, int], rules: Rules) -> None:
    """Raises DatasetError if a split that should have images has none."""
    for split in required_splits(rules):
        if not rows.get(split):
            n = len(plan.splits.get(split, ()))
            why = f"none of its {n} samples could be converted" if n else "no sample falls into it"
            raise DatasetError(
                f"the split {split!r} is empty: {why}",
                hint="label more, or say where samples go with --splits FILE, or leave it out with a 0 in --fractions",
            )


def required_splits(rules: Rules) -> tuple[str, ...]:
    """The splits that are asked for, or that an earlier round had."""
    named = set(rules.given.values()) if rules.given is not None else set()
    if rules.fractions is not None:
        named |= {split for split, f in zip(SPLITS, rules.fractions, strict=True) if f > 0}
    if rules.earlier is not None:
        named |= set(rules.earlier.samples.values())
    return tuple(split for split in SPLITS if split in named)


def require_samples(selection: Selection, release: Release) -> None:
    """Raises DatasetError if there is nothing to convert."""
    if selection.samples:
        return
    ledger = Ledger(tuple(selection.ledger.values()))
    what = ", ".join(f"{n} {outcome}" for outcome, n in ledger.totals.items() if n) or "none at all"
    left_out = ledger.statuses_left_out
    told = f" (by status: {', '.join(f'{n} {status}' for status, n in left_out.items())})" if left_out else ""
    raise DatasetError(
        f"release {release.name!r} has no sample to convert: {what}{told}",
        hint=f"take those with --status {','.join(left_out)}" if left_out else "label some",
    )


def refuse_losses(lost: Sequence[LedgerRow], allowed: int, *, total: int) -> None:
    """Raises SamplesFailed if more than `allowed` samples are lost; `total` = all samples of the release."""
    if len(lost) <= allowed:
        return
    more = f"; {len(lost) - 1} more of {total} samples failed" if len(lost) > 1 else ""
    raise SamplesFailed(
        f"sample {lost[0].name!r} failed: {lost[0].reason}{more}",
        hint=f"mend the labels on Segments.ai and pull again, or pass --allow-failed {len(lost)}",
        details=[f"{row.name!r} ({row.uuid}): {row.reason}" for row in lost] if more else (),
    )


def _shards(splits: Mapping[str, Sequence[LabelledSample]], rules: Rules) -> dict[str, int]:
    sizes = {k: sum(map(size_of, v)) for k, v in splits.items()}
    counts = shard_counts({k: len(v) for k, v in splits.items()}, sizes)
    pinned = rules.earlier.shards if rules.earlier else {}
    new = [split for split in counts if split not in pinned]
    room = max(1, (MAX_SHARDS - sum(pinned.values())) // max(1, len(new)))  # a split that is new beside pinned ones
    return {split: pinned[split] if split in pinned else min(n, room if pinned else n) for split, n in counts.items()}
