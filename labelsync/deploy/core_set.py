"""Images that stand for all others: a greedy cover of points by a few of them. Arithmetic only.

The core-set choice of Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach"
(ICLR 2018), algorithm 1: always the point that is farthest from all that were chosen before. The farthest point then
lies at most twice as far from its centre as for the best choice there is (Gonzalez 1985). With weights it is the greedy
rule of Dyer and Frieze, "A simple heuristic for the p-centre problem" (Operations Research Letters 3, 1985): the
heaviest point first, then always the one whose distance times weight is the largest.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def k_center(
    points: npt.NDArray[np.floating], *, count: int, weights: Sequence[float] | npt.NDArray[np.floating] | None = None
) -> list[int]:
    """Numbers of `count` points, or of all if there are fewer, in the order they are chosen.

    Without weights the first is the one nearest to the mean of all. Of points alike in that, the heaviest is chosen, of
    those the first; so the order is the same each time. Takes count passes over the points and the memory of one more
    value per point.

    Args:
        points: (N, D), finite.
        weights: (N,), 0 or more; None = all alike.
    """
    number = len(points)
    if not number:
        return []
    spots = np.asarray(points, np.float64)
    heavy = np.ones(number) if weights is None else np.asarray(weights, np.float64)
    start = -_distances(spots, spots.mean(0)) if weights is None else heavy
    left = np.ones(number, bool)
    far = np.full(number, np.inf)
    chosen: list[int] = []
    for _ in range(min(count, number)):
        gain = start if not chosen else far * heavy
        best = np.flatnonzero(left & (gain == gain[left].max()))
        index = int(best[heavy[best].argmax()])
        chosen.append(index)
        left[index] = False
        far = np.minimum(far, _distances(spots, spots[index]))
    return chosen


def _distances(points: npt.NDArray[np.float64], point: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N,): Euclidean."""
    found: npt.NDArray[np.float64] = np.sqrt(np.square(points - point).sum(1))
    return found
