"""Splits: stable, grouped, filled, pinned, or given by a file."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelsync.dataset.split import (
    SPLITS,
    Assignment,
    assign,
    check_fractions,
    groups_of,
    merged,
    rank,
)
from labelsync.dataset.split_file import given_splits, read_given
from labelsync.errors import DatasetError, OptionError
from labelsync.records.release import Sample
from labelsync.records.text import from_json, to_json

USUAL = (0.8, 0.1, 0.1)


def own_groups(count: int) -> dict[str, str]:
    """Samples that are each their own group."""
    return {f"uuid-{i}": f"uuid-{i}" for i in range(count)}


def pinned(groups: dict[str, str], splits: dict[str, str], *, group_by: str = "metadata.sequence") -> Assignment:
    samples, of_group = merged(splits, groups, group_by=group_by, earlier=None)
    return Assignment(group_by, USUAL, samples, of_group)


def sample(name: str, *, uuid: str = "", **metadata: object) -> Sample:
    return Sample(uuid or f"uuid of {name}", name, None, metadata=metadata)


# -------------------------------------------------------------------- hash and fractions


def test_the_hash_is_the_one_of_the_first_release_of_labelsync() -> None:
    assert [round(rank(g), 9) for g in ("a", "b", "seq-0")] == [0.778024059, 0.790630446, 0.498312707]


@pytest.mark.parametrize("count", [3, 10, 20, 468, 10_000])
def test_a_first_round_fills_the_fractions_to_the_sample(count: int) -> None:
    sizes = Counter(assign(own_groups(count), fractions=USUAL).values())
    least = max(1, round(count * 0.1))
    assert abs(sizes["test"] - least) <= 1 and abs(sizes["validation"] - least) <= 1
    assert sum(sizes.values()) == count


@pytest.mark.parametrize("count", [3, 20, 10_000])
@settings(max_examples=10, deadline=None)
@given(word=st.text(max_size=8), seed=st.integers(0, 99))
def test_uuids_of_any_kind_fill_the_fractions_in_any_order_and_stay(count: int, word: str, seed: int) -> None:
    uuids = [f"{word}{i}" for i in range(count)]
    splits = assign({u: u for u in uuids}, fractions=USUAL)
    random.Random(seed).shuffle(uuids)
    assert assign({u: u for u in uuids}, fractions=USUAL) == splits
    share = max(1, count // 10)
    assert Counter(splits.values()) == {"train": count - 2 * share, "validation": share, "test": share}
    more = {u: u for u in [*uuids, *(f"later {u}" for u in uuids)]}
    grown = assign(more, fractions=USUAL, earlier=pinned({u: u for u in uuids}, splits, group_by="uuid"))
    assert {u: grown[u] for u in uuids} == splits


def test_twenty_samples_are_sixteen_two_and_two() -> None:
    assert Counter(assign(own_groups(20), fractions=USUAL).values()) == {"train": 16, "validation": 2, "test": 2}


def test_a_fraction_of_zero_leaves_the_split_out() -> None:
    splits = assign(own_groups(50), fractions=(0.8, 0.0, 0.2))
    assert Counter(splits.values()) == {"train": 40, "test": 10}
    grown = assign(own_groups(500), fractions=(0.8, 0.0, 0.2), earlier=pinned(own_groups(50), splits))
    assert set(grown.values()) == {"train", "test"}
    assert set(assign(own_groups(5), fractions=(1.0, 0.0, 0.0)).values()) == {"train"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((80, 10, 10), (0.8, 0.1, 0.1)),
        ((0.8, 0.1, 0.1), (0.8, 0.1, 0.1)),
        ((70.0, 30.0, 0.0), (0.7, 0.3, 0.0)),
        ((1, 0, 0), (1.0, 0.0, 0.0)),
        ((33.3, 33.3, 33.4), (0.333, 0.333, 0.334)),
    ],
)
def test_fractions_are_shares_of_one_or_of_a_hundred(values: tuple[float, ...], expected: tuple[float, ...]) -> None:
    assert check_fractions(values) == pytest.approx(expected)


@pytest.mark.parametrize(
    "values", [(), (80, 20), (0.5, 0.2, 0.2), (80, 10, 20), (1.1, -0.1, 0), (0, 0, 0), (float("nan"), 0.5, 0.5)]
)
def test_other_fractions_are_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(OptionError, match="fractions"):
        check_fractions(values)


# -------------------------------------------------------------------- groups

GROUPED = st.dictionaries(st.integers(0, 500).map(str), st.integers(0, 40).map(str), min_size=1, max_size=120)


@given(GROUPED, st.randoms(use_true_random=False))
def test_order_means_nothing_and_groups_never_straddle(groups: dict[str, str], draw: random.Random) -> None:
    if len(set(groups.values())) < 3:
        return
    shuffled = list(groups.items())
    draw.shuffle(shuffled)
    splits = assign(groups, fractions=USUAL)
    assert splits == assign(dict(shuffled), fractions=USUAL)
    assert len({(groups[u], s) for u, s in splits.items()}) == len(set(groups.values()))


@given(GROUPED, st.sampled_from([USUAL, (0.98, 0.01, 0.01), (0.01, 0.01, 0.98), (0.5, 0.0, 0.5)]))
def test_no_split_is_empty_where_there_is_a_group_for_each(
    groups: dict[str, str], fractions: tuple[float, float, float]
) -> None:
    wanted = {s for s, f in zip(SPLITS, fractions, strict=True) if f}
    if len(set(groups.values())) >= len(wanted):
        assert set(assign(groups, fractions=fractions).values()) == wanted


@given(st.tuples(*[st.integers(1, 50)] * 3), st.randoms(use_true_random=False))
def test_three_groups_of_any_sizes_are_three_splits_and_later_frames_follow(
    sizes: tuple[int, int, int], draw: random.Random
) -> None:
    groups = {f"{g}{i}": g for g, n in zip("abc", sizes, strict=True) for i in range(n)}
    splits = assign(groups, fractions=USUAL)
    of = {groups[uuid]: split for uuid, split in splits.items()}
    assert set(of.values()) == set(SPLITS)
    assert splits == {uuid: of[g] for uuid, g in sorted(groups.items())}
    later = [*groups.items(), *((f"later {uuid}", g) for uuid, g in groups.items())]
    draw.shuffle(later)
    assert assign(dict(later), fractions=USUAL, earlier=pinned(groups, splits)) == {
        uuid: of[g] for uuid, g in sorted(later)
    }


def test_three_groups_go_where_they_come_closest_to_the_fractions() -> None:
    groups = {f"{g}{i}": g for g, n in (("a", 5), ("b", 70), ("c", 25)) for i in range(n)}
    splits = assign(groups, fractions=USUAL)
    assert splits["b0"] == "train"
    assert sorted(Counter(splits.values()).values()) == [5, 25, 70]


def test_a_group_belongs_where_its_middle_sample_falls() -> None:
    groups = {f"{g}/{i}": f"g{g}" for g in range(10) for i in range(10)}
    sizes = Counter(assign(groups, fractions=(0.54, 0.36, 0.1)).values())
    assert sizes == {"train": 50, "validation": 40, "test": 10}


def test_equal_groups_go_in_order_of_their_hash() -> None:
    for count in (5, 12):
        groups = own_groups(count)
        splits = assign(groups, fractions=(0.6, 0.2, 0.2))
        in_order = [splits[u] for u in sorted(groups, key=rank)]
        assert in_order == sorted(in_order, key=SPLITS.index)


@given(
    frames=st.dictionaries(st.integers(0, 40), st.integers(1, 6), min_size=3, max_size=30),
    more=st.dictionaries(st.integers(0, 60), st.integers(1, 6), max_size=30),
    kept=st.floats(0, 1),
)
def test_a_sequence_is_one_group_and_its_later_frames_go_where_it_is(
    frames: dict[int, int], more: dict[int, int], kept: float
) -> None:
    def samples(of: dict[int, int], start: int = 0) -> list[Sample]:
        every = [
            Sample(f"s{s}.{f}", f"{f}", None, sequence=f"s{s}") for s, n in of.items() for f in range(start, n + start)
        ]
        return [*every, *(Sample(f"alone-{s}", "x", None) for s in of)]

    first = samples(frames)
    groups = groups_of(first, "uuid")
    splits = assign(groups, fractions=USUAL)
    of_samples, of_groups = merged(splits, groups, group_by="uuid", earlier=None)
    assert set(of_groups) == {f"s{s}" for s in frames}  # an image that is its own group needs no pin but its own
    earlier = Assignment("uuid", USUAL, of_samples, of_groups)

    second = [*samples(more, start=10), *(s for s in first if rank(s.uuid) < kept)]
    groups = groups_of(second, "uuid")
    later = assign(groups, fractions=USUAL, earlier=earlier)
    _, still = merged(later, groups, group_by="uuid", earlier=earlier)
    of_sequence: dict[str, set[str]] = {}
    for s in [*first, *second]:
        if s.sequence:
            of_sequence.setdefault(s.sequence, set()).add((splits | later)[s.uuid])
    assert all(len(found) == 1 for found in of_sequence.values())
    assert {k: {v} for k, v in still.items()} == of_sequence


def test_fewer_groups_than_splits_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DatasetError, match="2 groups of samples cannot fill 3 splits") as e:
        assign({"a": "x", "b": "x", "c": "y"}, fractions=USUAL)
    assert "--fractions" in e.value.hint and "--splits" in e.value.hint


# -------------------------------------------------------------------- rounds


@given(GROUPED, GROUPED)
def test_growth_moves_nothing_and_tears_no_group(first: dict[str, str], more: dict[str, str]) -> None:
    if len(set(first.values())) < 3:
        return
    splits = assign(first, fractions=USUAL)
    later = {f"new-{u}": g for u, g in more.items()} | first
    grown = assign(later, fractions=USUAL, earlier=pinned(first, splits))
    assert {u: grown[u] for u in first} == splits
    assert len({(later[u], s) for u, s in grown.items()}) == len(set(later.values()))


def test_a_hundred_more_samples_move_none_of_five_hundred() -> None:
    first, later = own_groups(500), own_groups(600)
    splits = assign(first, fractions=USUAL)
    grown = assign(later, fractions=USUAL, earlier=pinned(first, splits, group_by="uuid"))
    assert sum(grown[u] != s for u, s in splits.items()) == 0
    assert Counter(grown.values())["test"] > Counter(splits.values())["test"]


def test_new_groups_come_near_the_fractions() -> None:
    first = own_groups(100)
    earlier = pinned(first, assign(first, fractions=USUAL), group_by="uuid")
    sizes = Counter(assign(own_groups(10_000), fractions=USUAL, earlier=earlier).values())
    assert sizes["validation"] == pytest.approx(1000, abs=90)
    assert sizes["test"] == pytest.approx(1000, abs=90)


def test_a_sample_that_was_gone_for_a_round_comes_back_to_its_split() -> None:
    first = own_groups(40)
    splits = assign(first, fractions=USUAL)
    left = {u: g for u, g in first.items() if splits[u] == "train"}
    second = assign(left, fractions=USUAL, earlier=pinned(first, splits, group_by="uuid"))
    kept, _ = merged(second, left, group_by="uuid", earlier=pinned(first, splits, group_by="uuid"))
    assert kept == splits


def test_a_group_that_was_gone_for_a_round_stays_pinned_for_its_new_samples() -> None:
    groups = {f"u{i}": f"g{i % 5}" for i in range(20)}
    splits = assign(groups, fractions=USUAL)
    gone = groups[next(u for u, s in splits.items() if s == "test")]
    left = {u: g for u, g in groups.items() if g != gone}
    earlier = pinned(groups, splits)
    samples, of_group = merged(assign(left, fractions=USUAL, earlier=earlier), left, group_by="x", earlier=earlier)
    third = Assignment("x", (1.0, 0.0, 0.0), samples, of_group)
    assert assign({"new": gone}, fractions=(1.0, 0.0, 0.0), earlier=third) == {"new": "test"}


def test_a_sample_whose_group_changed_is_refused_rather_than_moved() -> None:
    groups = {f"u{i}": f"g{i % 4}" for i in range(12)}
    splits = assign(groups, fractions=USUAL)
    train, test = (next(u for u, s in splits.items() if s == split) for split in ("train", "test"))
    moved = groups | {train: groups[test]}
    with pytest.raises(DatasetError, match=f"{train} is pinned in train, but its group"):
        assign(moved, fractions=USUAL, earlier=pinned(groups, splits))


def test_new_groups_need_a_word_where_a_file_made_the_splits() -> None:
    earlier = Assignment("uuid", None, {"a": "train", "b": "test"})
    assert assign({"a": "a", "b": "b"}, fractions=None, earlier=earlier) == {"a": "train", "b": "test"}
    with pytest.raises(DatasetError, match="nothing says where 'c' goes"):
        assign({"a": "a", "c": "c"}, fractions=None, earlier=earlier)


class _Rounds:
    """Rounds of one dataset, each with what the one before pinned."""

    def __init__(self, fractions: tuple[float, float, float]) -> None:
        self.fractions, self.earlier = fractions, None
        self.seen: dict[str, str] = {}

    def add(self, groups: dict[str, str]) -> dict[str, str]:
        splits = assign(groups, fractions=self.fractions, earlier=self.earlier)
        assert splits.keys() == groups.keys()
        assert {u: self.seen[u] for u in splits if u in self.seen} == {
            u: s for u, s in splits.items() if u in self.seen
        }
        assert len({(groups[u], s) for u, s in splits.items()}) == len(set(groups.values()))
        self.seen |= splits
        samples, of_group = merged(splits, groups, group_by="metadata.g", earlier=self.earlier)
        self.earlier = from_json(Assignment, to_json(Assignment("metadata.g", self.fractions, samples, of_group)))
        return splits


@given(
    st.lists(
        st.tuples(st.sets(st.integers(0, 120), min_size=1), st.randoms(use_true_random=False)), min_size=2, max_size=6
    ),
    st.sampled_from([3, 4, 9, 40, 121]),
    st.sampled_from([USUAL, (0.6, 0.2, 0.2), (0.5, 0.0, 0.5)]),
)
def test_through_any_rounds_nothing_moves_and_no_group_straddles(
    rounds: list[tuple[set[int], random.Random]], count: int, fractions: tuple[float, float, float]
) -> None:
    """Samples come, go and come back, in any order, and groups with them; what is pinned travels as JSON."""
    first = {f"u{i}": f"g{i}" for i in range(3)}  # a first round needs a group for each split
    through = _Rounds(fractions)
    through.add(first)
    for present, draw in rounds:
        listed = [(f"u{i}", f"g{i % count}") for i in present]
        draw.shuffle(listed)
        splits = through.add(dict(listed))
        assert splits == assign(dict(sorted(listed)), fractions=fractions, earlier=through.earlier)


@pytest.mark.parametrize("first", [3, 20, 10_000])
def test_a_dataset_that_doubles_keeps_every_sample_where_it_is(first: int) -> None:
    through = _Rounds(USUAL)
    before = through.add(own_groups(first))
    assert set(before.values()) == set(SPLITS)
    after = through.add(dict(reversed(own_groups(2 * first).items())))
    assert sum(after[u] != s for u, s in before.items()) == 0
    if first == 10_000:
        sizes = Counter(after.values())
        assert sizes["validation"] == pytest.approx(2000, abs=130)
        assert sizes["test"] == pytest.approx(2000, abs=130)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (90, 5, 5), (5, 90, 5), (1000, 1, 1)])
def test_three_groups_fill_three_splits_and_stay_as_they_grow(sizes: tuple[int, ...]) -> None:
    groups = {f"{g}/{i}": f"g{g}" for g, n in enumerate(sizes) for i in range(n)}
    through = _Rounds(USUAL)
    splits = through.add(groups)
    assert set(splits.values()) == set(SPLITS)
    largest = max(range(3), key=sizes.__getitem__)
    if sizes[largest] > 1:
        assert splits[f"{largest}/0"] == "train"
    grown = {f"{g}/{i}": f"g{g}" for g in range(4) for i in range(200)}
    after = through.add(grown)
    assert {after[f"{g}/{i}"] for g in range(3) for i in range(200)} == set(SPLITS)


def test_what_is_pinned_alone_decides_where_known_samples_go() -> None:
    """Neither other fractions nor another hash moves them: the file is read, nothing is computed again."""
    splits = {f"u{i}": SPLITS[i % 3] for i in range(30)}  # as no hash would have it
    earlier = Assignment("uuid", (0.8, 0.1, 0.1), splits)
    for fractions in (USUAL, (0.1, 0.1, 0.8), (1.0, 0.0, 0.0)):
        assert assign(own := {u: u for u in splits}, fractions=fractions, earlier=earlier) == dict(
            sorted(splits.items())
        )
        assert own.keys() == splits.keys()


def test_a_splits_json_written_before_there_was_split_by_still_loads(tmp_path: Path) -> None:
    old = {"group_by": "uuid", "fractions": [0.8, 0.1, 0.1], "samples": {"u": "test"}, "groups": {}, "shards": {}}
    read = read_given(written(tmp_path, old | {"format": 1}))
    assert read == Assignment("uuid", USUAL, {"u": "test"})
    assert isinstance(read, Assignment) and read.split_by == ""


# -------------------------------------------------------------------- what makes a group


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("uuid", ["uuid of seq1/a_01.jpg", "uuid of seq2/a_02.jpg"]),
        ("name", ["seq1/a_01.jpg", "seq2/a_02.jpg"]),
        ("metadata.site", ["north", "7"]),
        ("metadata.camera.id", ["left", "right"]),
        ("name:^[^/]+", ["seq1", "seq2"]),
        (r"name:(\w)_\d+\.jpg", ["a", "a"]),
    ],
)
def test_rules_for_groups(rule: str, expected: list[str]) -> None:
    one = sample("seq1/a_01.jpg", site="north", **{"camera.id": "left"})
    two = sample("seq2/a_02.jpg", site=7, **{"camera.id": "right"})
    assert list(groups_of([one, two], rule).values()) == expected


@pytest.mark.parametrize("rule", ["metadata.site", r"name:seq(\d+)"])
def test_a_sample_without_a_group_is_named(rule: str) -> None:
    samples = [sample("seq1", site="x"), sample("stray", site=None), sample("other", site="")]
    with pytest.raises(DatasetError, match="'stray' and 1 more sample") as e:
        groups_of(samples, rule)
    assert len(e.value.details) == 2


@pytest.mark.parametrize("rule", ["", "metadata.", "sequence", "name:(", "uuid:x", "metadata"])
def test_what_is_no_rule_is_refused(rule: str) -> None:
    with pytest.raises(OptionError, match="group-by"):
        groups_of([sample("a")], rule)


# -------------------------------------------------------------------- a file


def written(folder: Path, content: object) -> Path:
    path = folder / "splits.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    "content",
    [{"train": ["a.jpg", "b.jpg"], "test": ["c.jpg"]}, {"a.jpg": "train", "b.jpg": "train", "c.jpg": "test"}],
)
def test_both_forms_of_a_file_say_the_same(tmp_path: Path, content: object) -> None:
    assert read_given(written(tmp_path, content)) == {"a.jpg": "train", "b.jpg": "train", "c.jpg": "test"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ({}, "is not a JSON object"),
        ({"a.jpg": "val"}, "there is no split 'val'; write 'validation'"),
        ({"training": ["a.jpg"]}, "write 'train'"),
        ({"a.jpg": "train", "test": ["b.jpg"]}, "mixes forms"),
        ({"train": ["a.jpg"], "test": ["a.jpg"]}, "puts 'a.jpg' into train and test"),
        ({"train": [1]}, "mixes forms"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        read_given(written(tmp_path, content))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="No such file"):
        read_given(tmp_path / "none.json")


def dealt(given: dict[str, str], *, earlier: Assignment | None = None, every: int = 3) -> dict[str, str]:
    """Samples s0.jpg (u0, group g0), s1.jpg (u1, g0), s2.jpg (u2, g1) by a file; s3.jpg is not labelled."""
    samples = [sample(f"s{i}.jpg", uuid=f"u{i}") for i in range(4)]
    groups = {"u0": "g0", "u1": "g0", "u2": "g1"}
    return given_splits(given, samples[:3], groups, every=samples, where="--splits f", earlier=earlier)


def test_a_file_may_name_samples_uuids_or_groups() -> None:
    expected = {"u0": "train", "u1": "train", "u2": "test"}
    assert dealt({"s0.jpg": "train", "u1": "train", "g1": "test", "s3.jpg": "test"}) == expected
    assert dealt({"g0": "train", "g1": "test"}) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"g0": "train", "g1": "test", "s9.jpg": "test"}, "names 's9.jpg', which no sample of the release has"),
        ({"g0": "train"}, "has no split for sample 's2.jpg'"),
        ({"s0.jpg": "train", "s1.jpg": "test", "g1": "test"}, "tears the group .g0 .test, train.. apart"),
        ({"s0.jpg": "test", "g0": "train", "g1": "test"}, "puts sample 's0.jpg' into two splits"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        dealt(given)


def test_a_file_cannot_move_what_is_pinned() -> None:
    earlier = Assignment("metadata.sequence", USUAL, {"u0": "train"}, {"g0": "train"})
    assert dealt({"g0": "train", "g1": "test"}, earlier=earlier)["u2"] == "test"
    with pytest.raises(DatasetError, match=r"moves samples .* 's0.jpg: train -> test' \(and 1 more\)"):
        dealt({"g0": "test", "g1": "train"}, earlier=earlier)
