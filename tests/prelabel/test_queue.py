"""`prelabel --strategy`: the labeling queue is ordered by what the model is unsure of; nobody's own order is lost."""

import json
from pathlib import Path

import numpy as np
import pytest

from labelsync.deploy.strategy import UNCERTAINTIES, disagreement, judge, read_strategy
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.image import decode_image
from tests.prelabel.conftest import DATASET, FREE, World
from tests.prelabel.test_kill import killed
from tests.releases import sample_uuid

LABELED = (0, 3)


def images(world: World) -> list[np.ndarray]:
    return [decode_image((world.folder / f"drawn/images/frame_{i:04d}.jpg").read_bytes()) for i in range(6)]


def expected(world: World, measure: str) -> list[float]:
    """The uncertainty of every image, worked out from all probabilities."""
    segmenter = Segmenter(world.model, device="cpu")
    found = []
    for image in images(world):
        ((said, maps, _),) = segmenter.segment_with_probabilities([image])
        turned = segmenter.segment(np.ascontiguousarray(image[:, ::-1]))[:, ::-1]
        values = {
            "entropy": float(maps.entropy.mean()),
            "margin": 1 - float(maps.margin.mean()),
            "low-confidence": float((maps.confidence < 0.5).mean()),
            "flip": float((said != turned).mean()),
        }
        found.append(values[measure])
    return found


def set_priority(world: World, index: int, value: float) -> None:
    world.server.platform.sample(sample_uuid(index))[1].priority = value


@pytest.mark.parametrize("measure", UNCERTAINTIES)
def test_priorities_are_how_unsure_the_model_is(world: World, measure: str) -> None:
    record = world.record("--strategy", measure)
    wanted = expected(world, measure)
    assert [world.priorities()[i] for i in FREE] == pytest.approx([wanted[i] for i in FREE], abs=2e-6)
    assert len({round(wanted[i], 4) for i in FREE}) > 1 or measure == "low-confidence"  # which this model always has
    assert [world.priorities()[i] for i in LABELED] == [0, 0]
    assert (record.strategy, record.ordered, record.theirs) == (measure, 4, 0)
    assert world.statuses().count("PRELABELED") == 4
    assert {i: r.priority for i in FREE for r in [world.ledger()[sample_uuid(i)]]} == {
        i: world.priorities()[i] for i in FREE
    }


def test_what_the_queue_is_ordered_by_unless_said_otherwise(world: World) -> None:
    argv = (world.model, DATASET, "--out", world.folder / "p", "--device", "cpu")
    shown = world.cli("prelabel", *argv, env=world.server.env).stdout
    assert "4 samples put into the labeling queue by margin" in shown
    assert [world.priorities()[i] for i in FREE] == pytest.approx(
        [expected(world, "margin")[i] for i in FREE], abs=2e-6
    )


@pytest.mark.parametrize("strategy", ["diverse", "entropy+diverse"])
def test_a_diverse_order_has_each_place_once(world: World, strategy: str) -> None:
    world.record("--strategy", strategy)
    assert sorted(world.priorities()) == [0, 0, 0.25, 0.5, 0.75, 1]
    first = int(np.argmax(world.priorities()))
    if strategy == "entropy+diverse":
        assert expected(world, "entropy")[first] == max(expected(world, "entropy")[i] for i in FREE)
    world.record("--strategy", strategy)  # and again, with nothing left to do
    assert len(world.server.log.find("PATCH", "/samples/")) == 4


def test_a_priority_that_somebody_has_set_is_left_alone(world: World) -> None:
    set_priority(world, 2, 5)
    shown = world.run("--strategy", "entropy").stdout
    assert world.priorities()[2] == 5 and world.statuses()[2] == "PRELABELED"
    assert "1 sample with a priority that somebody has set, left alone" in shown
    assert world.ledger()[sample_uuid(2)].theirs == 5
    world.undo()
    assert world.priorities() == [0, 0, 5, 0, 0, 0]


def test_a_priority_that_comes_while_the_image_is_predicted_is_left_alone(world: World) -> None:
    def meanwhile(method: str, path: str) -> None:
        if method == "PUT" and sample_uuid(4) in path:
            set_priority(world, 4, 3)

    world.server.platform.before.append(meanwhile)
    assert world.record("--strategy", "entropy").theirs == 1
    assert world.priorities()[4] == 3


def test_the_queue_alone_is_ordered_without_labels(world: World) -> None:
    world.run("--limit", 1)  # a prelabel waits for a labeler too
    before = world.statuses()
    shown = world.run("--strategy", "margin", "--no-labels", "--out", world.folder / "p").stdout
    assert "4 samples put into the labeling queue by margin" in shown and "prelabeled with" not in shown
    assert world.statuses() == before and before.count("PRELABELED") == 1
    wanted = expected(world, "margin")
    assert [world.priorities()[i] for i in FREE] == pytest.approx([wanted[i] for i in FREE], abs=2e-6)
    assert world.outcomes() == ["labeled", "ordered", "ordered", "labeled", "ordered", "ordered"]
    world.undo()
    assert world.priorities() == [0] * 6 and world.statuses().count("PRELABELED") == 0


def test_another_strategy_takes_the_place_of_the_first(world: World) -> None:
    world.run("--strategy", "entropy")
    first = world.priorities()
    record = world.record("--strategy", "flip")
    assert record.outcomes == {"there": 4, "labeled": 2} and record.ordered == 4
    assert world.priorities() != first
    assert [world.priorities()[i] for i in FREE] == pytest.approx([expected(world, "flip")[i] for i in FREE], abs=2e-6)
    assert world.puts() == 4
    world.undo()
    assert world.priorities() == [0] * 6


def test_undo_leaves_priorities_that_were_changed_since(world: World) -> None:
    world.run("--strategy", "entropy")
    set_priority(world, 1, 9)
    set_priority(world, 2, 0)
    record = world.undone()
    assert world.priorities() == [0, 9, 0, 0, 0, 0]
    assert (record.outcomes, record.ordered, record.theirs) == ({"undone": 4}, 2, 1)
    assert world.undone().outcomes == {}


def test_a_dry_run_tells_the_order_and_writes_nothing(world: World) -> None:
    set_priority(world, 1, 5)
    record = world.record("--strategy", "entropy+diverse", "--dry-run")
    assert (record.ordered, record.theirs) == (3, 1)
    assert world.priorities() == [0, 5, 0, 0, 0, 0]
    assert not world.server.log.find("PATCH") and not world.puts()
    world.run("--strategy", "entropy")
    world.undo("--dry-run")
    assert 0 not in [world.priorities()[i] for i in FREE]


def test_a_limit_orders_so_many_and_the_next_run_the_others(world: World) -> None:
    for ordered in (3, 4):
        world.run("--no-labels", "--strategy", "entropy", "--limit", 3)
        assert sum(p > 0 for p in world.priorities()) == ordered


@pytest.mark.parametrize("strategy", ["entropy", "diverse"])
def test_a_run_that_was_killed_while_it_ordered_goes_on(world: World, strategy: str) -> None:
    argv = [world.model, DATASET, "--min-size", 8, "--out", world.folder / "p", "--device", "cpu"]
    killed(world, [*argv, "--strategy", strategy], "late", "PATCH", f"/samples/{sample_uuid(4)}/", 0)
    assert world.priorities()[4] > 0
    assert world.record("--strategy", strategy, "--limit", 4).theirs == 0
    if strategy == "diverse":
        assert sorted(world.priorities()) == [0, 0, 0.25, 0.5, 0.75, 1]
    else:
        assert 0 not in [world.priorities()[i] for i in FREE]
    labels = [r.path for r in world.server.log.find("PUT", "/labels/") if r.status == 200]
    assert len(labels) == len(set(labels)) == 4
    world.undo()
    assert world.priorities() == [0] * 6


def test_a_priority_that_the_server_does_not_take_is_told_and_tried_again(world: World) -> None:
    fault = world.server.faults.status(500, method="PATCH", path=f"/samples/{sample_uuid(2)}/", times=99)
    shown = world.run("--strategy", "entropy", code=1)
    assert fault.hits >= 3
    assert "frame_0002.jpg" in shown.stderr and "its priority was not written" in shown.stderr
    assert world.statuses()[2] == "PRELABELED" and world.priorities()[2] == 0
    world.server.faults.clear()
    assert world.record("--strategy", "entropy").outcomes == {"there": 4, "labeled": 2}
    assert world.priorities()[2] > 0 and world.puts() == 4


def test_a_strategy_that_does_not_exist_is_refused_before_anything_else(world: World) -> None:
    shown = world.run("--strategy", "guess", code=2)
    assert "no strategy is called 'guess'" in shown.stderr and "entropy+diverse" in shown.stderr
    assert "nothing to do" in world.run("--no-labels", code=2).stderr
    assert not world.server.log.find("GET")


def test_the_record_says_what_was_written_and_why(world: World) -> None:
    world.run("--strategy", "entropy", "--limit", 1)
    lines = [json.loads(line) for line in Path(world.folder / "p/record.jsonl").read_text().splitlines()]
    (line,) = [x for x in lines if x["event"] == "ordering"]
    assert line["priority"] == world.priorities()[1] and line["strategy"] == "entropy"


def test_disagreement_is_the_share_of_pixels_that_differ() -> None:
    assert disagreement(np.array([[1, 2], [3, 3]]), np.array([[1, 2], [0, 3]])) == 0.25


def test_a_batch_is_judged_as_each_image_alone(world: World) -> None:
    segmenter = Segmenter(world.model, device="cpu")
    for name in ("flip+diverse", "entropy"):
        strategy, pictures = read_strategy(name), images(world)
        together = judge(segmenter, pictures, strategy)
        for one, picture in zip(together, pictures, strict=True):
            (alone,) = judge(segmenter, [picture], strategy)
            assert one.uncertainty == pytest.approx(alone.uncertainty, abs=1e-6)
            assert np.allclose(one.embedding, alone.embedding, atol=1e-5)
