"""Rare classes: the weights of classes and the repetition of images, both from counted label pixels."""

import difflib
import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from labelsync.errors import OptionError
from labelsync.labels import LabelMap
from labelsync.records.release import Row
from labelsync.training.data import decode_label
from labelsync.training.knobs import ClassWeights, Recipe
from labelsync.training.process import rank

Counts = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


def are_counted(recipe: Recipe) -> bool:
    """Whether a recipe asks for what is in the labels, which means reading all of them before the first step."""
    return bool(recipe.repeat_rare) or recipe.loss.class_weights in ("balanced", "log")


def pixel_counts(rows: Sequence[Row], labels: LabelMap) -> Counts:
    """(N, K) labelled pixels of each class in each row.

    Raises:
        DatasetError: a label that cannot be used; the sample is named.
    """
    counts = np.zeros((len(rows), labels.num_labels), np.int64)
    hidden = True if rank() else None  # of several processes one speaks
    numbers = range(len(rows))
    for i in tqdm(numbers, desc="count labels", unit="label", disable=hidden, file=sys.stderr, dynamic_ncols=True):
        counts[i] = np.bincount(decode_label(rows[i], labels).reshape(-1), minlength=labels.num_labels + 1)[1:]
    return counts


def require_known_classes(weights: ClassWeights, labels: LabelMap) -> None:
    """Raises OptionError for a weight of a class that the dataset does not have."""
    unknown = sorted(set(weights) - set(labels.names)) if isinstance(weights, dict) else []
    if unknown:
        close = difflib.get_close_matches(unknown[0], labels.names, n=1)
        raise OptionError(
            f"class_weights has {unknown[0]!r}, and the dataset has no such class",
            hint=f"did you mean {close[0]}?" if close else f"there are: {', '.join(labels.names[:20])}",
        )


def class_weights(asked: ClassWeights, labels: LabelMap, counts: Counts | None) -> Numbers | None:
    """(K,) weights in the loss; None = all alike.

    "balanced": n / (k n_c), n_c of n labelled pixels being of class c and k the number of classes that occur (the
    formula of scikit-learn's class_weight="balanced", after King and Zeng 2001). A class with a thousandth of the
    pixels counts a thousand times, which can be too much of it.
    "log": 1 / log(1.02 + n_c / n) (Paszke et al. 2016, "ENet", section 5.2), between 1.4 and 50, then divided by the
    mean weight of a labelled pixel, so that the learning rate means what it did.
    A class that does not occur weighs 1.
    """
    if isinstance(asked, dict):
        return np.array([float(asked.get(name, 1.0)) for name in labels.names])
    if asked == "none" or counts is None:
        return None
    total = counts.sum(0)
    there = total > 0
    shares = total / max(1, total.sum())
    weights = np.ones(len(total))
    if asked == "balanced":
        weights[there] = 1 / (there.sum() * shares[there])
        return weights
    weights[there] = 1 / np.log(1.02 + shares[there])
    weights[there] /= (weights * shares).sum()
    return weights


def repetitions(counts: Counts, *, below: float) -> Numbers:
    """(N,) how often each image comes in an epoch on average, relative to the others.

    The repeat factor of Gupta, Dollar and Girshick 2019 ("LVIS", appendix B): of a class that f of the images have,
    max(1, sqrt(below / f)); of an image, the highest of its classes.
    """
    has = counts > 0
    share = has.mean(0)
    of_class = np.maximum(1.0, np.sqrt(below / np.where(share > 0, share, 1.0)))
    factors: Numbers = np.where(has, of_class, 1.0).max(1, initial=1.0)
    return factors
