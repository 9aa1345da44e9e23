"""Greedy k-center beside a search over all subsets, and the orders that strategies make."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelsync.deploy.core_set import k_center
from labelsync.deploy.strategy import STRATEGIES, priorities, ranking, read_strategy
from labelsync.errors import OptionError

LINE = np.array([[0.0], [1.0], [2.0], [9.0], [10.0]])


def radius(points: np.ndarray, centres: tuple[int, ...] | list[int]) -> float:
    """How far the farthest point is from its nearest centre."""
    return max(min(float(np.linalg.norm(p - points[c])) for c in centres) for p in points)


def slowly(points: np.ndarray, count: int, weights: np.ndarray | None) -> list[int]:
    """The greedy rule, one distance at a time."""
    chosen: list[int] = []
    weight = [1.0] * len(points) if weights is None else list(weights)
    while len(chosen) < min(count, len(points)):
        best, index = (-np.inf, -np.inf), -1
        for i in set(range(len(points))) - set(chosen):
            if chosen:
                gain = min(np.sqrt(np.square(points[i] - points[c]).sum()) for c in chosen) * weight[i]
            else:
                gain = -np.sqrt(np.square(points[i] - points.mean(0)).sum()) if weights is None else weight[i]
            if (gain, weight[i], -i) > (*best, -index):
                best, index = (gain, weight[i]), i
        chosen.append(index)
    return chosen


def test_the_order_on_a_line() -> None:
    assert k_center(LINE, count=3) == [2, 4, 0]
    assert k_center(LINE, count=3, weights=[0, 5, 0, 1, 0.8]) == [1, 3, 4]
    assert sorted(k_center(LINE, count=99)) == [0, 1, 2, 3, 4]
    assert k_center(np.zeros((0, 3)), count=2) == []


def test_of_points_alike_the_heaviest_comes_first_then_the_first() -> None:
    assert k_center(np.ones((4, 2)), count=4, weights=[0.1, 0.9, 0.2, 0.9]) == [1, 3, 2, 0]
    assert k_center(np.ones((3, 2)), count=3) == [0, 1, 2]
    assert sorted(k_center(LINE, count=5, weights=np.zeros(5))) == [0, 1, 2, 3, 4]


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 9), st.booleans())
def test_it_is_the_greedy_rule_and_within_twice_the_best_cover(seed: int, count: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 6, (8, 2)).astype(np.float32)  # many ties
    weights = rng.integers(0, 4, 8) / 4 if weighted else None
    found = k_center(points, count=count, weights=weights)
    assert found == slowly(points.astype(float), count, weights)
    assert len(found) == len(set(found)) == min(count, 8)
    if not weighted:
        best = min(radius(points, subset) for subset in combinations(range(8), min(count, 8)))
        assert radius(points, found) <= 2 * best + 1e-6


UNSURE = [0.2, 0.9, 0.5, 0.9000000001]
FEATURES = [np.array([v], np.float32) for v in (0, 10, 4, 10)]


def test_without_diversity_the_least_sure_come_first() -> None:
    entropy = read_strategy("entropy")
    assert ranking(UNSURE, [], entropy, count=3) == [1, 3, 2]  # a difference in the tenth digit is none
    assert priorities(UNSURE, [], entropy) == [0.2, 0.9, 0.5, 0.9]
    assert ranking([], [], entropy, count=3) == priorities([], [], entropy) == []


def test_a_diverse_order_has_each_place_once_and_leaves_likenesses_to_the_end() -> None:
    both = read_strategy("entropy+diverse")
    assert ranking(UNSURE, FEATURES, both, count=4) == [1, 2, 0, 3]
    assert priorities(UNSURE, FEATURES, both) == [0.5, 1.0, 0.75, 0.25]
    assert ranking(UNSURE, FEATURES, read_strategy("diverse"), count=2) == [2, 1]
    assert ranking([], [], both, count=3) == priorities([], [], both) == []


def test_every_strategy_reads_as_its_name() -> None:
    assert [read_strategy(name).name for name in STRATEGIES] == list(STRATEGIES)
    assert len(STRATEGIES) == 9
    for wrong in ("", "diverse+entropy", "entropy+diverse+diverse", "none"):
        with pytest.raises(OptionError, match="no strategy is called"):
            read_strategy(wrong)


def test_behind_those_that_are_kept_apart_the_others_follow_by_uncertainty(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    points, unsure = list(rng.normal(size=(30, 4)).astype(np.float32)), rng.random(30).tolist()
    for name in ("diverse", "entropy+diverse"):
        strategy = read_strategy(name)
        every = priorities(unsure, points, strategy)
        with monkeypatch.context() as patch:
            patch.setattr("labelsync.deploy.strategy.SPREAD", 5)
            found = priorities(unsure, points, strategy)
        order = np.argsort([-p for p in found]).tolist()
        assert order[:5] == np.argsort([-p for p in every]).tolist()[:5] == ranking(unsure, points, strategy, count=5)
        assert [unsure[i] for i in order[5:]] == sorted((unsure[i] for i in order[5:]), reverse=True)
        assert sorted(found) == sorted(every)
