import numpy as np
import pytest

from labelsync.evaluation.bootstrap import intervals, paired_intervals, resampled, resamplings
from labelsync.evaluation.figures import Figures
from labelsync.evaluation.scores import scores_of_areas
from labelsync.evaluation.tally import Tally
from tests.test_figures import drawn_tally, names


def figures(**kwargs):
    return Figures(drawn_tally(**kwargs), names(4))


def test_a_group_is_drawn_whole_and_as_many_groups_as_there_are():
    groups = ["b", "a", "b", "c", "c", "c"]
    weights = np.concatenate(list(resamplings(groups, resamples=200)))
    assert weights.shape == (200, 6)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 3] == weights[:, 4]).all()
    assert set((weights[:, 0] + weights[:, 1] + weights[:, 3]).tolist()) == {3.0}
    assert abs(weights.mean() - 1) < 0.1


def test_the_same_seed_gives_the_same_draws_and_another_others():
    whole = np.concatenate(list(resamplings(list("abcd"), resamples=300)))
    assert np.array_equal(whole, np.concatenate(list(resamplings(list("abcd"), resamples=300))))
    assert not np.array_equal(whole[:256], whole[-256:])
    assert not np.array_equal(whole, np.concatenate(list(resamplings(list("abcd"), resamples=300, seed=1))))


def test_a_weighted_figure_is_that_of_the_images_repeated():
    tally = drawn_tally()
    found = Figures(tally, names(4))
    weights = np.array([[1, 0, 3, 0, 2, 0], [0, 0, 0, 0, 0, 1]], float)
    for row, repeated in zip(weights, ([0, 2, 2, 2, 4, 4], [5]), strict=True):
        expected = scores_of_areas(tally.areas[repeated].sum(0))
        values = found.of(row[None])
        assert values["mean_iou"][0] == pytest.approx(expected.mean_iou, abs=1e-12)
        assert values["iou.c2"][0] == pytest.approx(expected.per_category_iou[1], abs=1e-12)
        again = found.select(repeated).whole()
        assert again["expected_calibration_error"] == pytest.approx(values["expected_calibration_error"][0], abs=1e-12)


def test_an_interval_holds_the_middle_of_what_drawing_gives():
    found = figures(number=12)
    low, high = intervals(found, [str(i) for i in range(12)], resamples=400)["mean_iou"]
    drawn = np.concatenate(list(resamplings(map_of(12), resamples=400)))
    values = np.sort([found.of(w[None])["mean_iou"][0] for w in drawn])
    assert (values < low).mean() == pytest.approx(0.025, abs=0.004)
    assert (values > high).mean() == pytest.approx(0.025, abs=0.004)
    assert low < found.whole()["mean_iou"] < high


def map_of(number):
    return [str(i) for i in range(number)]


def test_groups_widen_the_interval_of_images_that_are_alike():
    """Twelve copies of three images are not thirty-six images."""
    found = figures(number=3)
    copies = found.select([0, 1, 2] * 12)
    alone = intervals(copies, map_of(36), resamples=300)["mean_iou"]
    grouped = intervals(copies, ["a", "b", "c"] * 12, resamples=300)["mean_iou"]
    assert grouped[1] - grouped[0] > 2 * (alone[1] - alone[0])


def test_a_difference_of_two_is_narrower_when_both_are_drawn_together():
    """Equal models differ by nothing, whatever is drawn."""
    found = figures(number=8)
    assert paired_intervals(found, found, map_of(8), resamples=100)["mean_iou"] == (0.0, 0.0)
    other = figures(number=8, seed=1)
    low, high = paired_intervals(other, found, map_of(8), resamples=300)["mean_iou"]
    assert low <= other.whole()["mean_iou"] - found.whole()["mean_iou"] <= high


def test_one_group_gives_no_interval():
    found = figures(number=4)
    assert intervals(found, ["a"] * 4, resamples=10) == {}
    assert intervals(found, map_of(4), resamples=0) == {}
    assert resampled(["a"] * 4, "group", resamples=10) == "no intervals: 1 group, 10 resamples"
    assert resampled(map_of(4), "image", resamples=10) == "10 resamples of 4 images"


def test_a_class_that_no_draw_holds_has_no_interval():
    tally = drawn_tally(number=4)
    wider = Tally(
        tally.images, 5, tally.arrays | {"boundary": np.pad(tally.arrays["boundary"], ((0, 0), (0, 0), (0, 1)))}
    )
    found = intervals(Figures(wider, names(5)), map_of(4), resamples=20)
    assert {"iou.c4", "boundary_iou.c4"} <= found.keys()
    assert not {"iou.c5", "boundary_iou.c5", "dice.c5"} & found.keys()
