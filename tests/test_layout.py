"""Rows keep their places from round to round, so that a Hub with content-defined chunks receives what is new."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import labelsync
from labelsync.dataset import shards
from labelsync.dataset.layout import RowGroups, in_place
from labelsync.dataset.reuse import ROWS, ShardRows
from labelsync.dataset.sample import File, LabelledSample
from labelsync.store.files import sha256
from tests.benchmarks.second_round import chunks_of
from tests.releases import draw_release, edit_release, sample_uuid
from tests.test_convert import digests
from tests.test_reuse import redraw

LIMIT, LEAST = 40, 25


def sample(uuid: str) -> LabelledSample:
    return LabelledSample(uuid, f"{uuid}.jpg", "LABELED", uuid, File("i", "1", 1), None, ())


def rows_of(uuids: list[str], groups: list[int]) -> ShardRows:
    return ShardRows("", 0, tuple((uuid, uuid, {}) for uuid in uuids), tuple(groups), {}, {})


def grouped(rows: list[tuple[str, int]], old: ShardRows | None) -> list[int]:
    """The row groups that a writer makes of (uuid, bytes)."""
    groups = RowGroups(old, limit=LIMIT, least=LEAST)
    for uuid, size in rows:
        if groups.ends_before(uuid):
            groups.end()
        if groups.add(uuid, size):
            groups.end()
    groups.end()
    return groups.counts


# -------------------------------------------------------------------- which order, which groups


def test_known_rows_stay_and_new_ones_come_behind_them() -> None:
    old = rows_of(["d", "b", "gone", "c"], [4])
    assert [s.uuid for s in in_place([sample(u) for u in "abcde"], old)] == ["d", "b", "c", "a", "e"]
    assert [s.uuid for s in in_place([sample(u) for u in "ab"], None)] == ["a", "b"]


@pytest.mark.parametrize(
    ("old", "rows", "counts"),
    [
        ("", "aaaabbbb", [4, 4]),  # new rows: a group ends when it is full
        ("", "aaaab", [4, 1]),
        ("aaaa bbb", "aaaabbbc", [4, 3, 1]),  # what was a group stays one
        ("aaaaa bbb", "aaaaabbb", [5, 3]),  # and is not torn apart, however large its rows have become
        ("aaaa b", "aaaabcc", [4, 3]),  # the last one was small: the new rows join it
        ("aaaa bbb c", "aaaabcd", [4, 3]),  # one has become small: the next ones join it
        ("aaaa bbbb", "abbbb", [5]),
        ("aaaa bb", "bb", [2]),
        ("aaaa bb", "", []),
        ("aaaa bb", "cc", [2]),  # nothing of them is left
    ],
)
def test_a_group_ends_where_it_ended(old: str, rows: str, counts: list[int]) -> None:
    """A letter is a row of 10 bytes, a word a group of the earlier round; 25 bytes are enough, 40 make it full."""
    assert grouped([(uuid, 10) for uuid in named(rows)], rows_of(named(old), [len(w) for w in old.split()])) == counts


def named(text: str) -> list[str]:
    """ "aa b" -> a0, a1, b0."""
    letters = text.replace(" ", "")
    return [f"{letter}{letters[:i].count(letter)}" for i, letter in enumerate(letters)]


@given(st.lists(st.lists(st.integers(1, 30), max_size=12), max_size=6), st.randoms(use_true_random=False))
def test_groups_settle_and_stay_large(rounds: list[list[int]], random: Any) -> None:
    """Whatever comes and goes: the same rows again are the same groups, and all but the last are large enough."""
    rows: list[tuple[str, int]] = []
    old = None
    for number, sizes in enumerate(rounds):
        rows = [(uuid, random.choice([size, size, size + 3])) for uuid, size in rows if random.random() < 0.8]
        rows += [(f"{number}-{i}", size) for i, size in enumerate(sizes)]
        counts = grouped(rows, old)
        assert sum(counts) == len(rows)
        old = rows_of([uuid for uuid, _ in rows], counts)
        assert grouped(rows, old) == counts
        left = iter(rows)
        large = [sum(next(left)[1] for _ in range(count)) >= LEAST for count in counts]
        assert all(large[:-1])


# -------------------------------------------------------------------- shards

Change = Callable[[dict[str, Any]], None]


def keep(count: int) -> Change:
    """The first samples only."""

    def change(document: dict[str, Any]) -> None:
        document["dataset"]["samples"] = document["dataset"]["samples"][:count]

    return change


class Rounds:
    """Rounds of one dataset, of which the document always holds every sample that was drawn."""

    def __init__(self, folder: Path, *, samples: int, **draw: Any) -> None:
        self.folder = folder
        self.drawn = draw_release(folder / "drawn", samples=samples, **draw)
        self.document = self.drawn.read_text()
        self.made: list[Path] = []

    def convert(self, *changes: Change, out: str = "", previous: Path | None = None) -> Path:
        """The next round: the drawn document with some changes; with `out`, one beside it, after `previous` or none."""
        self.drawn.write_text(self.document)
        name = out or f"v{len(self.made) + 1}"
        for change in (*changes, lambda d: d.update(name=name)):
            edit_release(self.drawn, change)
        release = labelsync.pull(self.drawn, out=self.folder / f"release-{name}").path
        made = self.folder / name
        after = previous if out else self.made[-1] if self.made else None
        labelsync.convert(release, out=made, previous=after, fractions=(100, 0, 0), workers=1)
        if not out:
            self.made.append(made)
        return made


def uuids_of(dataset: Path) -> list[str]:
    return [row.uuid for row in labelsync.load(dataset).splits["train"]]


@pytest.fixture
def rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rounds:
    monkeypatch.setattr(shards, "SHARD_ROWS", 100)
    monkeypatch.setattr(shards, "LEAST_GROUP_BYTES", 6000)  # two or three rows
    return Rounds(tmp_path, samples=30)


def test_a_shard_begins_with_the_bytes_it_had(rounds: Rounds) -> None:
    """New samples between, before and behind the known ones by name: all that was in the file stays at its place."""
    first = rounds.convert(lambda d: d["dataset"].update(samples=d["dataset"]["samples"][1::3]))
    second = rounds.convert()
    (path,) = first.glob("data/*")
    metadata = pq.ParquetFile(path).metadata
    last = metadata.row_group(metadata.num_row_groups - 1)
    columns = [last.column(c) for c in range(last.num_columns)]
    end = max(c.data_page_offset + c.total_compressed_size for c in columns)
    assert end > 10_000
    assert (second / "data" / path.name).read_bytes()[:end] == path.read_bytes()[:end]
    assert uuids_of(second)[:10] == uuids_of(first)
    names = [row.name for row in labelsync.load(second).splits["train"]][10:]
    assert names == sorted(names) and len(names) == 20


def test_relabelled_rows_stay_and_the_others_close_up(rounds: Rounds) -> None:
    first = rounds.convert(keep(12))

    def drop(document: dict[str, Any]) -> None:
        del document["dataset"]["samples"][4]

    second = rounds.convert(keep(12), redraw(rounds.drawn.parent, 2, 7), drop)
    assert uuids_of(second) == [u for u in uuids_of(first) if u != sample_uuid(4)]
    third = rounds.convert(keep(13))  # the sample comes back, and the labels too
    assert uuids_of(third) == [*uuids_of(second), sample_uuid(4), sample_uuid(12)]


def test_the_same_round_after_itself_is_the_same(rounds: Rounds) -> None:
    """As when a published round is converted again on another machine, after what is published."""
    rounds.convert(lambda d: d["dataset"].update(samples=d["dataset"]["samples"][1::3]))
    second = rounds.convert()
    again = rounds.convert(previous=second, out="again")
    assert digests(again) == digests(second)
    assert (again / ROWS).read_bytes() == (second / ROWS).read_bytes()


def test_many_small_rounds_share_row_groups(rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "LEAST_GROUP_BYTES", 12_000)  # four or five rows
    for count in range(10, 31, 2):
        made = rounds.convert(keep(count))
    (path,) = made.glob("data/*")
    metadata = pq.ParquetFile(path).metadata
    sizes = [metadata.row_group(g).total_byte_size for g in range(metadata.num_row_groups)]
    assert min(sizes[:-1]) >= 12_000 and 3 <= len(sizes) <= 6
    assert sorted(uuids_of(made)) == sorted(sample_uuid(i) for i in range(30))


def test_a_rows_file_of_an_earlier_kind_is_no_help_and_no_harm(rounds: Rounds) -> None:
    first = rounds.convert()
    document = json.loads((first / ROWS).read_text())
    for shard in document["shards"].values():
        shard["rows"] = [[key, pixels] for _, key, pixels in shard["rows"]]
        del shard["groups"]
    text = json.dumps(document | {"format": 1})
    (first / ROWS).write_text(text)
    manifest = json.loads((first / "manifest.json").read_text())

    manifest["files"][ROWS] = {"sha256": sha256(text.encode()), "size": len(text)}
    (first / "manifest.json").write_text(json.dumps(manifest))
    second = rounds.convert()
    assert digests(second) == digests(first)


# -------------------------------------------------------------------- what a Hub with chunks receives

CHUNK = 4096  # of the size of a drawn image, as a Hub's are of a photo's


def received(old: Path, new: Path) -> int:
    """Bytes of the content-defined chunks that the earlier round has not."""
    known = {digest for p in old.glob("data/*") for digest, _ in chunks_of(p, CHUNK)}
    return sum(dict(c for p in new.glob("data/*") for c in chunks_of(p, CHUNK) if c[0] not in known).values())


def test_a_hub_with_chunks_receives_little_more_than_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second sample is new, which leaves no piece of a file in order of names as it was."""
    monkeypatch.setattr(shards, "SHARD_ROWS", 1000)
    rounds = Rounds(tmp_path, samples=120, size=(120, 160))
    first = rounds.convert(lambda d: d["dataset"].update(samples=d["dataset"]["samples"][::2]))
    second = rounds.convert()
    known = set(uuids_of(first))
    new = [r for r in labelsync.load(second).splits["train"] if r.uuid not in known]
    change = sum(len(r.image) + len(r.label) for r in new)
    assert change < received(first, second) < 1.3 * change
    fresh = rounds.convert(out="fresh")
    assert received(first, fresh) > 1.45 * change, "this test can fail"
