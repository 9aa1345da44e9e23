"""People and bad networks between the look, the write and the look after it."""

import io
from typing import Any

import pytest

import labelsync
from labelsync.errors import OptionError
from labelsync.pixels.instance import encode_instance_bitmap
from labelsync.records.prelabels import PrelabelLedger
from labelsync.records.text import from_json
from tests.loopback.segments_people import DRAWN
from tests.prelabel.conftest import FREE, World
from tests.releases import sample_uuid

ONE = sample_uuid(1)


@pytest.mark.parametrize("status", ["LABELING_IN_PROGRESS", "LABELED", "SKIPPED", "PRELABELED", "REJECTED"])
@pytest.mark.parametrize("attributes", [DRAWN, None], ids=["drawn", "just opened"])
def test_what_somebody_touched_after_the_list_was_made_is_left_alone(
    world: World, status: str, attributes: Any
) -> None:
    world.jane.comes("GET", ONE, status=status, attributes=attributes)
    record = world.record()
    assert record.outcomes == {"prelabeled": 3, "labeled": 2, "touched": 1}
    assert world.ledger()[ONE].reason == "jane came first"
    label = world.label(1)
    assert label is not None and (label["label_status"], label["attributes"]) == (status, attributes)
    assert len(world.server.log.find("PUT", f"/labels/{ONE}/")) == 0


def test_somebody_who_saves_right_after_our_write_wins_and_it_is_said(world: World) -> None:
    world.jane.comes("GET", ONE, skip=1, status="LABELED")
    done = world.run()
    assert "lost race: 'frame_0001.jpg': jane wrote in the same moment, and that stands" in done.stdout
    assert world.outcomes(FREE) == ["lost", "prelabeled", "prelabeled", "prelabeled"]
    assert world.label(1) == world.label(1) | {"label_status": "LABELED", "attributes": DRAWN}  # type: ignore[operator]
    assert len(world.server.log.find("PUT", f"/labels/{ONE}/")) == 1
    world.undo()
    assert world.statuses() == ["LABELED", "LABELED", "", "LABELED", "", ""]


def test_a_prelabel_that_is_accepted_at_once_is_somebodys(world: World) -> None:
    """The same bitmap, but its status is LABELED now."""
    world.jane.comes("GET", ONE, skip=1, status="LABELED", attributes=None)
    assert [row.uuid for row in world.record().races] == [ONE]
    world.undo()
    assert world.statuses()[1] == "LABELED"


def test_a_label_overwritten_in_the_window_the_api_leaves_open_is_an_error_that_names_its_owner(world: World) -> None:
    world.jane.comes("PUT", ONE, status="LABELING_IN_PROGRESS")
    said = world.run(code=1).stderr
    assert "'frame_0001.jpg': a label that jane began in the same moment was overwritten: ask jane to look" in said
    assert "1 of 6 samples failed; 3 others are prelabeled" in said
    assert world.outcomes(FREE) == ["failed", "prelabeled", "prelabeled", "prelabeled"]
    assert world.undone().outcomes == {"undone": 4}


def test_a_run_after_a_lost_race_says_that_somebody_came_to_the_sample(world: World) -> None:
    world.jane.comes("GET", ONE, skip=1, status="LABELED")
    world.run()
    assert world.record().outcomes == {"there": 3, "labeled": 2, "touched": 1}
    assert world.ledger()[ONE].reason == "somebody wrote in the same moment as an earlier run"
    assert world.puts() == 4


def test_a_run_after_a_label_was_overwritten_knows_that_the_prelabel_is_its_own(world: World) -> None:
    world.jane.comes("PUT", ONE, status="LABELING_IN_PROGRESS")
    world.run(code=1)
    assert world.record().outcomes == {"there": 4, "labeled": 2}
    assert world.ledger()[ONE].reason == "by an earlier run, over a label that somebody had begun"


def test_nothing_but_the_two_requests_lies_between_the_look_and_the_write(world: World) -> None:
    """Where something stands that is to be put back, it is in the journal before the last look."""
    earlier = {"format_version": "0.1", "annotations": [], "segmentation_bitmap": {"url": ""}}
    world.jane.touch(ONE, status="UNLABELED", attributes=earlier)
    world.jane.comes("GET", ONE, skip=1, status="LABELING_IN_PROGRESS")  # once the journal has what was there
    assert world.record("--limit", 1).outcomes == {"touched": 1, "labeled": 2, "left": 3}
    assert world.puts() == 0 and world.events().count("earlier") == 1
    two = sample_uuid(2)
    world.record("--limit", 1)
    asked = [r.method for r in world.server.log if r.path.startswith(f"/labels/{two}/")]
    assert asked == ["GET", "PUT", "GET"]


def test_a_label_deleted_right_after_our_write_is_said(world: World) -> None:
    world.jane.comes("GET", ONE, skip=1, then=world.jane.delete)
    (row,) = world.record().races
    assert (row.uuid, row.reason) == (ONE, "the label was deleted in the moment it was written")


def test_a_prelabel_that_somebody_deleted_is_not_made_again(world: World) -> None:
    world.run()
    world.jane.delete(ONE)
    world.jane.touch(sample_uuid(2), status="REVIEWED")
    assert world.record().outcomes == {"labeled": 2, "there": 2, "touched": 2}
    assert {world.ledger()[sample_uuid(i)].reason for i in (1, 2)} == {
        "its prelabel was deleted",
        "its prelabel was worked on",
    }
    assert world.label(1) is None


# -------------------------------------------------------------------- bad networks


@pytest.mark.parametrize("times", [1, 2])
def test_a_write_whose_answer_is_lost_is_done_once(world: World, times: int) -> None:
    lost = world.server.faults.drop_response(method="PUT", path=f"/labels/{ONE}/", times=times)
    assert world.record().outcomes == {"prelabeled": 4, "labeled": 2}
    assert lost.hits == 1  # it was there when it was looked for, so it was not written again
    assert world.puts() == 4


@pytest.mark.parametrize("fault", ["status", "drop"])
def test_a_write_that_was_not_done_is_tried_again(world: World, fault: str) -> None:
    failed = world.server.faults.add(fault, method="PUT", path=f"/labels/{ONE}/", times=2)
    assert world.record().outcomes == {"prelabeled": 4, "labeled": 2}
    assert failed.hits == 2


def test_somebody_who_comes_while_a_write_is_tried_again_is_left_alone(world: World) -> None:
    world.server.faults.status(500, method="PUT", path=f"/labels/{ONE}/", times=1)
    world.jane.comes("GET", ONE, skip=1, status="LABELING_IN_PROGRESS")
    assert [row.uuid for row in world.record().races] == [ONE]
    assert world.label(1) == world.label(1) | {"attributes": DRAWN}  # type: ignore[operator]


def test_a_label_that_the_server_never_takes_fails_alone(world: World) -> None:
    world.server.faults.status(500, method="PUT", path=f"/labels/{ONE}/", times=None)
    said = world.run(code=1).stderr
    assert f"'frame_0001.jpg': {world.server.url} answers 500" in said
    assert world.outcomes(FREE) == ["failed", "prelabeled", "prelabeled", "prelabeled"]
    world.server.faults.clear()
    assert world.record().outcomes == {"prelabeled": 1, "there": 3, "labeled": 2}
    assert world.events().count("withdrawn") == 1


def test_a_server_that_takes_nothing_is_not_asked_for_everything(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelsync.deploy.drafting.GIVE_UP_AFTER", 2)
    monkeypatch.setattr("labelsync.deploy.drafting.WRITERS", 1)
    world.server.faults.status(500, method="PUT", times=None)
    said = world.run(code=1).stderr
    assert said.count("not tried, the server did not take 2 labels in a row") == 2
    assert world.puts() == 2 * 3


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_too_many_requests_are_waited_for(world: World, method: str) -> None:
    path = "/labels/" if method == "PUT" else "/assets/"
    busy = world.server.faults.status(429, method=method, path=path, times=3, headers={"Retry-After": "0"})
    assert world.record().outcomes == {"prelabeled": 4, "labeled": 2}
    assert busy.hits == 3 and world.events().count("writing") == 4


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_storage_or_a_look_that_fails_once_costs_nothing(world: World, method: str) -> None:
    where = {"method": "POST", "server": "storage"} if method == "POST" else {"method": "GET", "path": "/labels/"}
    world.server.faults.status(503, **where)
    assert world.record().outcomes == {"prelabeled": 4, "labeled": 2}


def test_a_bitmap_that_cannot_be_uploaded_is_no_label(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelsync.deploy.drafting.WRITERS", 1)  # so that the first fails
    world.server.faults.status(403, method="POST", server="storage", times=1)
    said = world.run(code=1).stderr
    assert "'frame_0001.jpg': its bitmap was not uploaded: the storage 127.0.0.1" in said
    assert world.statuses()[1] == "" and world.outcomes(FREE).count("prelabeled") == 3


def test_a_key_that_may_not_write_ends_the_run_and_the_next_one_finds_what_is_there(world: World) -> None:
    world.server.faults.status(403, method="PUT", skip=1, message="You do not have permission")
    assert "403" in world.run(code=1).stderr
    assert "end" not in world.events()
    rows = world.ledger()
    assert {rows[sample_uuid(i)].outcome for i in FREE} == {"prelabeled", "failed"}
    assert all("403" in r.reason for r in rows.values() if r.outcome == "failed")
    written = [s for i, s in enumerate(world.statuses()) if i in FREE and s == "PRELABELED"]
    assert world.outcomes().count("prelabeled") == len(written)
    assert world.events().count("writing") == world.events().count("wrote") + 1
    there = world.statuses().count("PRELABELED")
    assert there >= 1
    assert world.record().outcomes == {"prelabeled": 4 - there, "there": there, "labeled": 2}
    assert world.puts() == 5


# -------------------------------------------------------------------- taking back


def test_undo_takes_back_what_was_written_and_nothing_else(world: World) -> None:
    world.run("--limit", 3)
    assert world.undone("--dry-run").outcomes == {"undone": 3}
    assert world.statuses().count("PRELABELED") == 3
    record = world.undone()
    assert record.outcomes == {"undone": 3} and record.undo
    assert world.statuses() == ["LABELED", "", "", "LABELED", "", ""]
    assert len(world.server.log.find("DELETE")) == 3
    assert world.undone().outcomes == {}
    assert len(world.server.log.find("DELETE")) == 3
    assert world.record().outcomes == {"prelabeled": 4, "labeled": 2}  # what was taken back may be made again


@pytest.mark.parametrize("file", ["p", "p/record.jsonl"])
def test_undo_takes_a_folder_or_its_file_and_needs_no_model(world: World, file: str) -> None:
    world.run("--limit", 1)
    done = world.cli("prelabel", "--undo", world.folder / file, env=world.server.env)
    assert done.stdout == "1 sample of acme/sidewalk taken back\n"


def test_undo_leaves_what_somebody_touched(world: World) -> None:
    world.run()
    one, two, four = (sample_uuid(i) for i in (1, 2, 4))
    world.jane.touch(one, status="LABELED")
    world.jane.touch(two, status="PRELABELED", attributes=None)  # opened and saved as it was: a new updated_at
    world.jane.delete(four)
    record = world.undone()
    assert record.outcomes == {"touched": 2, "undone": 1, "gone": 1}
    assert world.statuses() == ["LABELED", "LABELED", "PRELABELED", "LABELED", "", ""]


def test_undo_looks_right_before_each_delete_and_right_after(world: World) -> None:
    world.run("--limit", 1)
    world.server.log.clear()
    world.undo()
    asked = [r.method for r in world.server.log.find(path=f"/labels/{ONE}/")]
    assert asked == ["GET", "DELETE", "GET"]


def test_somebody_who_saves_right_after_the_delete_wins(world: World) -> None:
    world.run("--limit", 1)
    world.jane.comes("GET", ONE, skip=1, status="LABELED")
    assert [row.reason for row in world.undone().races] == ["jane wrote in the same moment, and that stands"]
    assert world.statuses()[1] == "LABELED"


@pytest.mark.parametrize("fault", ["drop", "drop_response", "status"])
def test_a_delete_that_was_lost_or_refused_is_done_in_the_end(world: World, fault: str) -> None:
    world.run("--limit", 2)
    world.server.faults.add(fault, method="DELETE", times=1)
    assert world.undone().outcomes == {"undone": 2}
    assert world.statuses() == ["LABELED", "", "", "LABELED", "", ""]


def test_a_delete_that_is_always_refused_is_said_and_the_others_are_done(world: World) -> None:
    world.run("--limit", 2)
    world.server.faults.status(500, method="DELETE", path=ONE, times=None)
    assert "1 of 2 samples could not be made what they were" in world.undo(code=1).stderr
    assert world.statuses() == ["LABELED", "PRELABELED", "", "LABELED", "", ""]
    world.server.faults.clear()
    assert world.undone().outcomes == {"undone": 1}


def test_a_label_that_was_unlabeled_again_is_put_back_as_it_was(world: World) -> None:
    """The sample counts as unlabeled, but there is a label with keys that the SDK does not know."""
    earlier = {"format_version": "0.1", "annotations": [], "segmentation_bitmap": {"url": ""}, "links": []}
    world.jane.touch(ONE, status="UNLABELED", attributes=earlier)
    world.run("--limit", 1)
    assert world.statuses()[1] == "PRELABELED" and world.events().count("earlier") == 1
    assert world.undone().outcomes == {"undone": 1}
    label = world.label(1)
    assert label is not None and (label["label_status"], label["attributes"]) == ("UNLABELED", earlier)


def test_an_unlabeled_label_in_which_somebody_drew_is_left_alone(world: World) -> None:
    world.jane.touch(ONE, status="UNLABELED", attributes=DRAWN)
    assert world.record().outcomes == {"prelabeled": 3, "labeled": 2, "touched": 1}


def test_an_undo_leaves_its_ledger_too(world: World) -> None:
    world.run("--limit", 3)
    world.jane.touch(ONE, status="REVIEWED")
    world.server.faults.status(500, method="DELETE", path=sample_uuid(2), times=None)
    world.undo(code=1)
    rows = from_json(PrelabelLedger, (world.folder / "p/ledger.json").read_bytes()).rows
    found = {r.name: (r.outcome, r.reason.partition(" answers")[2] or r.reason) for r in rows}
    assert found["frame_0001.jpg"] == ("touched", "jane has worked on it")
    assert found["frame_0002.jpg"] == ("failed", " 500 Internal Server Error") and found["frame_0004.jpg"] == (
        "undone",
        "",
    )
    world.server.faults.clear()
    world.server.faults.status(403, method="DELETE", times=None, message="You do not have permission")
    assert "403" in world.undo(code=1).stderr
    rows = from_json(PrelabelLedger, (world.folder / "p/ledger.json").read_bytes()).rows
    said = {r.name: r.reason for r in rows if r.outcome == "failed"}
    assert "frame_0002.jpg" in said and all(r.startswith("not tried: ") and "403" in r for r in said.values())


def test_undo_refuses_other_records(world: World) -> None:
    assert "there is no record" in world.undo(code=1).stderr
    world.run("--limit", 1)
    assert "is of dataset acme/sidewalk, not acme/other" in world.undo(world.model, "acme/other", code=2).stderr
    (world.folder / "q").mkdir()
    text = (world.folder / "p/record.jsonl").read_text()
    (world.folder / "q/record.jsonl").write_text(text.replace(world.server.url, "http://127.0.0.1:9"))
    done = world.cli("prelabel", "--undo", world.folder / "q", code=2, env=world.server.env)
    assert "is of http://127.0.0.1:9, not" in done.stderr
    with pytest.raises(OptionError, match="--undo is empty"):
        labelsync.prelabel(undo="")
    assert world.statuses()[1] == "PRELABELED"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--limit", 1), "--limit says nothing to --undo"),
        (("--out", "elsewhere"), "--out says nothing to --undo"),
        (("--no-labels",), "--no-labels says nothing to --undo"),
        (("--strategy", "none"), "--strategy says nothing to --undo"),
        (("--labelset", "model"), "is of labelset ground-truth, not model"),
    ],
)
def test_undo_takes_nothing_back_where_less_than_all_is_asked_for(
    world: World, more: tuple[object, ...], says: str
) -> None:
    world.run("--limit", 2)
    assert says in world.undo(*more, code=2).stderr
    assert world.statuses().count("PRELABELED") == 2


def test_the_sdk_reads_what_was_uploaded_as_its_own_bitmap(world: World) -> None:
    """`bitmap2file`, the SDK's encoder, writes the same pixels."""
    import numpy as np
    from PIL import Image
    from segments.utils import bitmap2file

    world.run("--limit", 1)
    ids = world.bitmap(1)
    theirs = Image.open(bitmap2file(ids, is_segmentation_bitmap=True))
    ours = Image.open(io.BytesIO(encode_instance_bitmap(ids)))
    assert theirs.mode == ours.mode and np.array_equal(np.asarray(theirs), np.asarray(ours))
