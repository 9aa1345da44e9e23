"""Which split a sample is in: by a stable hash of its group, decided once and pinned.

The first round ranks the groups by hash and fills the fractions in that order. In a later round every known group
stays where it is and every new one goes by its hash alone, so growth and reordering move nothing. What is pinned
travels as splits.json.
"""

import hashlib
import itertools
import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from labelsync.errors import DatasetError, OptionError
from labelsync.records.release import Sample

SPLITS = ("train", "validation", "test")
FRACTIONS = (0.8, 0.1, 0.1)
GROUP_BY = "uuid"

_SALT = "labelsync split 1"
_REGEX = r"close its brackets, and put a \ before those that are part of the name; for example 'name:^[^_]+'"
_FEW = 8  # groups; up to here all 3^8 ways to deal them out are compared


@dataclass(frozen=True)
class Assignment:
    """splits.json: what is pinned.

    Attributes:
        group_by: the rule that made the groups.
        fractions: of train, validation, test; None where a file said which sample goes where.
        split_by: "metadata.KEY" if that says which sample goes where, else "".
        shards: split -> number of its Parquet shards.
        samples: uuid -> split, for every sample that was ever assigned.
        groups: group -> split; of group_by "uuid" only the sequences, as any other sample is its own group.
    """

    group_by: str
    fractions: tuple[float, float, float] | None
    samples: dict[str, str]
    groups: dict[str, str] = field(default_factory=dict)
    shards: dict[str, int] = field(default_factory=dict)
    format: int = 1
    split_by: str = ""


# -------------------------------------------------------------------- options


def check_fractions(values: Sequence[float]) -> tuple[float, float, float]:
    """(80, 10, 10) or (0.8, 0.1, 0.1) -> (0.8, 0.1, 0.1). Raises OptionError for anything but three shares of one."""
    total = sum(values)
    shown = ",".join(f"{v:g}" for v in values)
    if len(values) != len(SPLITS) or any(not v >= 0 for v in values):  # `not >=` refuses NaN too
        raise OptionError(
            f"fractions {shown!r}: three shares are needed, of train, validation and test",
            hint="write 80,10,10; a 0 leaves that split out",
        )
    whole = min((1.0, 100.0), key=lambda w: abs(total - w))
    if not abs(total - whole) <= whole * 1e-3:
        raise OptionError(f"fractions {shown!r} add up to {total:g}", hint="they are shares of 1 or of 100")
    train, validation, test = (v / total for v in values)
    return train, validation, test


def groups_of(samples: Iterable[Sample], group_by: str) -> dict[str, str]:
    """uuid -> group of every sample.

    Raises:
        OptionError: `group_by` is no rule.
        DatasetError: the rule finds no group for some sample. They are never put together silently.
    """
    rule = _rule(group_by)
    found = {s.uuid: (s, rule(s)) for s in samples}
    without = [s for s, group in found.values() if group is None]
    if without:
        raise DatasetError(
            f"--group-by {group_by} finds no group for {without[0].name!r}"
            + (f" and {len(without) - 1} more samples" if len(without) > 1 else ""),
            hint="give those samples one on Segments.ai, use another rule, or say where each goes with --splits FILE",
            details=[f"{s.name!r} ({s.uuid})" for s in without],
        )
    return {uuid: group for uuid, (_, group) in found.items() if group is not None}


def _rule(group_by: str) -> Callable[[Sample], str | None]:
    kind, colon, pattern = group_by.partition(":")
    if group_by == "uuid":
        return lambda s: s.entry
    if group_by == "name":
        return lambda s: s.name
    if group_by.startswith("metadata.") and len(group_by) > len("metadata."):
        key = group_by.removeprefix("metadata.")
        return lambda s: plain(s.metadata.get(key))
    if kind == "name" and colon:
        try:
            expression = re.compile(pattern)
        except re.error as e:
            raise OptionError(
                f"--group-by {group_by!r}: {pattern!r} is no regular expression ({e})", hint=_REGEX
            ) from None
        return lambda s: _matched(expression, s.name)
    raise OptionError(
        f"--group-by {group_by!r} is no rule",
        hint="it is uuid, name, metadata.KEY, or name:REGEX (its first group, else the whole match)",
    )


def plain(value: object) -> str | None:
    """A metadata value as a group: text as it is, other values as JSON; null, "", {} and [] are none."""
    if value is None or value in ("", {}, []):
        return None
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _matched(expression: re.Pattern[str], name: str) -> str | None:
    found = expression.search(name)
    return (found[1] if expression.groups else found[0]) if found else None


# -------------------------------------------------------------------- assigning


def assign(
    groups: Mapping[str, str], *, fractions: tuple[float, float, float] | None, earlier: Assignment | None = None
) -> dict[str, str]:
    """uuid -> split, for `groups` (uuid -> group), in sorted order.

    Args:
        fractions: None only with an `earlier` whose splits came from a file; then there may be no new group.

    Raises:
        DatasetError: fewer groups than splits in a first round, `earlier` says two things about one group, or nothing
            says where a new group goes.
    """
    every = set(groups.values())
    known = {} if earlier is None else pinned_groups(groups, earlier)
    new = sorted(every - known.keys())
    if new and fractions is None:
        raise DatasetError(
            f"the earlier splits came from a file, and nothing says where {new[0]!r} goes"
            + (f" ({len(new)} new groups)" if len(new) > 1 else ""),
            hint="give --splits FILE with them, or --fractions to let their hash decide",
        )
    if earlier is None and fractions is not None:
        known = _fill(Counter(groups.values()), fractions)
    elif fractions is not None:
        known |= {g: _by_threshold(g, fractions) for g in new}
    return {uuid: known[groups[uuid]] for uuid in sorted(groups)}


def pinned_groups(groups: Mapping[str, str], earlier: Assignment) -> dict[str, str]:
    """group -> split as `earlier` pins it, by the group itself or by a sample that is in it now.

    Raises:
        DatasetError: a group would straddle, because a sample's group was changed since.
    """
    pinned = dict(earlier.groups)
    for uuid, group in sorted(groups.items()):
        split = earlier.samples.get(uuid)
        if split is not None and pinned.setdefault(group, split) != split:
            raise DatasetError(
                f"sample {uuid} is pinned in {split}, but its group {group!r} is in {pinned[group]}",
                hint="undo the change of its group, or leave out --previous and start with new splits",
            )
    return pinned


def merged(
    samples: Mapping[str, str], groups: Mapping[str, str], *, group_by: str, earlier: Assignment | None
) -> tuple[dict[str, str], dict[str, str]]:
    """(uuid -> split, group -> split) to pin after this round: what was pinned stays, also of samples now gone."""
    every = (earlier.samples if earlier else {}) | dict(samples)
    shared = {groups[u]: s for u, s in samples.items() if group_by != "uuid" or groups[u] != u}
    of_group = (earlier.groups if earlier else {}) | shared
    return dict(sorted(every.items())), dict(sorted(of_group.items()))


def rank(group: str) -> float:
    """A group's place in [0, 1): the first 7 bytes of the SHA-256 of salt and group."""
    digest = hashlib.sha256(f"{_SALT}\0{group}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / (1 << 56)  # 56 bits: a double below 1 for every digest


def _by_threshold(group: str, fractions: tuple[float, float, float]) -> str:
    """The split whose share of [0, 1) holds the group's rank; never one of share 0."""
    ends = itertools.accumulate(fractions)
    inside = [s for s, end in zip(SPLITS, ends, strict=True) if rank(group) < end]
    return inside[0] if inside else [s for s, f in zip(SPLITS, fractions, strict=True) if f > 0][-1]


def _fill(sizes: Mapping[str, int], fractions: tuple[float, float, float]) -> dict[str, str]:
    """group -> split, so that the splits get their fractions of the samples and none stays empty.

    Args:
        sizes: group -> number of its samples.
    """
    wanted = [(s, f) for s, f in zip(SPLITS, fractions, strict=True) if f > 0]
    ranked = sorted(sizes, key=lambda g: (rank(g), g))
    if len(ranked) < len(wanted):
        raise DatasetError(
            f"{len(ranked)} group{'s' * (len(ranked) != 1)} of samples cannot fill {len(wanted)} splits",
            hint="label more, leave a split out (--fractions 80,20,0), group finer (--group-by), or give --splits FILE",
        )
    counts = [sizes[g] for g in ranked]
    targets = [f * sum(counts) for _, f in wanted]
    dealt = _deal_few(counts, targets) if len(ranked) <= _FEW else _deal_in_order(counts, targets)
    return {g: wanted[k][0] for g, k in zip(ranked, dealt, strict=True)}


def _deal_few(counts: list[int], targets: list[float]) -> tuple[int, ...]:
    """The split of each group that comes closest to the targets; of equally close ways the first in order of rank."""

    def miss(dealt: tuple[int, ...]) -> float:
        got = [0] * len(targets)
        for k, n in zip(dealt, counts, strict=True):
            got[k] += n
        return round(sum(abs(a - b) for a, b in zip(got, targets, strict=True)), 6)

    ways = itertools.product(range(len(targets)), repeat=len(counts))
    return min((w for w in ways if len(set(w)) == len(targets)), key=miss)


def _deal_in_order(counts: list[int], targets: list[float]) -> tuple[int, ...]:
    """Groups in order of rank, cut where the targets end; a group belongs where its middle sample falls."""
    middles = [end - n / 2 for end, n in zip(itertools.accumulate(counts), counts, strict=True)]
    cuts = [bisect_left(middles, end) for end in itertools.accumulate(targets)]
    splits, total = len(targets), len(counts)
    cuts[-1] = total
    for k in range(splits):  # at least one group each, and as many left as splits come after
        least = cuts[k - 1] + 1 if k else 1
        cuts[k] = min(max(cuts[k], least), total - (splits - 1 - k))
    return tuple(bisect_left(cuts, i + 1) for i in range(total))
