"""The record of prelabel: every line is whole and on the disk, whatever moment a run ends in."""

import errno
import json
import os
from pathlib import Path

import pytest

from labelsync.deploy.journal import RECORD, Entry, Past, opened, read
from labelsync.errors import LabelsyncError
from labelsync.release.labeling import LabelState, NewLabel

LABEL = NewLabel("http://a/1.png", ((1, 300), (2, 0)))
HEAD = {"dataset": "acme/walk", "digest": "d"}
WRITING = {"uuid": "u", "name": "n.jpg", "bitmap": LABEL.bitmap_url, "annotations": [[1, 300], [2, 0]]}


def test_what_is_added_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "p" / RECORD
    earlier = LabelState("UNLABELED", {"annotations": []}, "t0", "jane")
    with opened(path) as journal:
        journal.add("run", **HEAD)
        journal.add("writing", **WRITING)
        assert journal.past.entries[LABEL.bitmap_url] == Entry("u", "n.jpg", LABEL, run=1)
        journal.add("earlier", bitmap=LABEL.bitmap_url, label=vars(earlier))
        journal.add("wrote", bitmap=LABEL.bitmap_url, updated_at="t1")
    past = read(path)
    assert past == journal.past
    assert (past.head, past.runs, past.is_open) == (HEAD, 1, True)
    assert past.entries == {
        LABEL.bitmap_url: Entry("u", "n.jpg", LABEL, "wrote", earlier=earlier, updated_at="t1", run=1)
    }


def test_a_full_disk_leaves_no_half_a_line_for_the_next_to_go_on_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = tmp_path / RECORD, os.write
    room = [40]

    def filling(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room[0] -= (written := write(fd, data[: room[0]]))
        return written

    with opened(path) as journal:
        journal.add("run", **HEAD)
        with monkeypatch.context() as patch:
            patch.setattr("labelsync.deploy.journal.os.write", filling)
            with pytest.raises(OSError, match="No space left"):
                journal.add("writing", **WRITING)
        journal.add("writing", **WRITING)  # somebody has made room, or another thread has less to say
        journal.add("wrote", bitmap=LABEL.bitmap_url, updated_at="t1")
    assert read(path) == journal.past and len(path.read_text().splitlines()) == 3


def test_every_line_is_flushed_before_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    path = tmp_path / RECORD
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.read_bytes()))
    with opened(path) as journal:
        assert len(synced) == 1  # the folder, which holds the new name
        journal.add("run", **HEAD)
        journal.add("writing", **WRITING)
    assert [len(content.splitlines()) for content in synced] == [0, 1, 2]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_line_that_was_cut_short_never_counts_and_is_taken_away(tmp_path: Path, cut: int) -> None:
    path = tmp_path / RECORD
    with opened(path) as journal:
        journal.add("run", **HEAD)
        whole = path.read_bytes()
        journal.add("writing", **WRITING)
    path.write_bytes(path.read_bytes()[:-cut])
    assert read(path).entries == {}
    with opened(path) as journal:
        assert journal.past.entries == {} and path.read_bytes() == whole
        journal.add("end")
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["run", "end"]


def test_what_interrupted_runs_wrote_counts_until_one_comes_to_its_end() -> None:
    past = Past()

    def run(*urls: str, end: bool = False) -> int:
        past.take({"event": "run", **HEAD})
        for url in urls:
            past.take({"event": "writing", **WRITING, "bitmap": url})
            past.take({"event": "wrote", "bitmap": url, "updated_at": "t"})
        if end:
            past.take({"event": "end"})
        return past.written_since_end()

    assert [run("a", "b"), run("c"), run("d", end=True), run("e")] == [2, 3, 0, 1]


@pytest.mark.parametrize("line", ["{}", "no json", '{"event": "wrote", "bitmap": "never written"}', '{"event": "x"}'])
def test_another_file_is_refused_with_the_line(tmp_path: Path, line: str) -> None:
    (tmp_path / RECORD).write_text(json.dumps({"event": "run", **HEAD}) + f"\n{line}\n")
    with pytest.raises(LabelsyncError, match="line 2, is not what prelabel writes"):
        read(tmp_path / RECORD)
    with pytest.raises(LabelsyncError, match="there is no record"):
        read(tmp_path / "none")


def test_a_label_is_ours_by_its_bitmap_annotations_and_status() -> None:
    def there(url: str = LABEL.bitmap_url, pairs: tuple[tuple[int, int], ...] = LABEL.annotations) -> LabelState:
        return LabelState("PRELABELED", NewLabel(url, pairs).attributes(), "t", "me")

    assert LABEL.is_in(there())
    assert LABEL.is_in(there(LABEL.bitmap_url + "?X-Amz-Signature=1", LABEL.annotations[::-1]))
    assert not LABEL.is_in(there("http://a/2.png"))
    assert not LABEL.is_in(there(pairs=((1, 300), (2, 7))))
    assert not LABEL.is_in(LabelState("LABELED", LABEL.attributes(), "t", "me"))
    for attributes in (None, [], {}, {"annotations": None, "segmentation_bitmap": None}):
        assert not LABEL.is_in(LabelState("PRELABELED", attributes, "t", "me"))
