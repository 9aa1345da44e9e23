"""How probable a model usually finds a label, so that what is unusual stands out.

A thing is a component of one class in a label. Its probability is the geometric mean of the model's probabilities of
that class over its pixels, the exponential of their mean logarithm: a model's self-confidence in a label, as confident
learning calls it (Northcutt, Jiang, Chuang: "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 2021).
It differs from class to class, whatever the label is worth: a model is surer of sky than of a pole, and of what is
large than of what is small. Confident learning answers that with a threshold for each class, its mean self-confidence.
Here it is a line for each class, fitted by least squares to all its things,

    log usual(class, pixels) = a[class] + b log(pixels)

with one slope b for all classes. A few sums for each class are all that is kept of any number of things.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FLOOR = 1e-4
"""Least probability of a pixel: of softmax values below it a model knows the order of magnitude hardly."""

LEAST_USUAL = 0.01
"""Least probability of a thing in the sums. What a few wrong labels weigh in them is bounded by it; and a class all of
whose labels are wrong does not become one that is usually impossible."""

_PRIOR = 5  # things of all classes' mean that each class is given besides its own: of two things nothing is usual yet


class Usual:
    """What is usual for things of K classes.

    Args:
        num_labels: K.
    """

    def __init__(self, num_labels: int) -> None:
        self._sums = np.zeros((5, num_labels + 1))  # of 1, x, y, x x and x y; x = log pixels, y = log probability

    def add(self, classes: Ints, pixels: Ints, log_likely: Floats) -> None:
        """Take the things of an image: (m,) disk ids, sizes, and mean logarithms of the probability."""
        x, y = np.log(pixels), np.maximum(log_likely, np.log(LEAST_USUAL))
        number = self._sums.shape[1]
        self._sums += [np.bincount(classes, w, number) for w in (np.ones(len(x)), x, y, x * x, x * y)]

    def log_usual(self, classes: Any, pixels: Any) -> Floats:
        """(m,) logarithm of the probability that things of these disk ids and sizes usually have, at most 0."""
        number, x, y, xx, xy = self._sums
        there = np.maximum(number, 1)
        within, both = (xx - x * x / there).sum(), (xy - x * y / there).sum()
        slope = max(0.0, both / (within + _PRIOR))  # never: the larger, the less probable
        rest = y - slope * x
        mean = rest.sum() / max(number.sum(), 1.0)
        own = (rest + _PRIOR * mean) / (number + _PRIOR)
        found: Floats = np.minimum(0.0, own[classes] + slope * np.log(pixels))
        return found
