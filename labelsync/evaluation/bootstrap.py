"""Intervals by the bootstrap: how far a figure would move with other images of the same kind.

Efron: "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 1979. Groups of images (frames of one
drive, say, which are not independent) are drawn with replacement, as many as there are, and every figure is computed of
what was drawn; the interval holds the middle 95 % of that. No pixel is counted again: drawing is a weight per image.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from labelsync.errors import OptionError
from labelsync.evaluation.figures import Figures

Floats = npt.NDArray[np.float64]
Intervals = dict[str, tuple[float, float]]

LEVEL = 0.95
SEED = 0

MOST = 100_000  # resamples; their figures are held until the quantiles are taken

_ROWS, _CELLS = 256, 1 << 21  # of one chunk of weights: at most 16 MB


def resamplings(groups: Sequence[str], *, resamples: int, seed: int = SEED) -> Iterator[Floats]:
    """(r, N) weights of N images, together `resamples` rows: how often each image's group was drawn.

    Args:
        groups: group of each image.
    """
    _, unit = np.unique(np.array(groups, dtype=object), return_inverse=True)
    number = int(unit.max(initial=-1)) + 1
    rng = np.random.default_rng(seed)
    rows = max(1, min(_ROWS, _CELLS // max(len(groups), 1)))
    for start in range(0, resamples, rows):
        r = min(rows, resamples - start)
        drawn = rng.integers(number, size=(r, number)) + np.arange(r)[:, None] * number
        counts = np.bincount(drawn.ravel(), minlength=r * number).reshape(r, number)
        yield counts[:, unit].astype(np.float64)


def intervals(figures: Figures, groups: Sequence[str], *, resamples: int) -> Intervals:
    """name -> (low, high) of every figure; nothing where a single group leaves nothing to draw from.

    A resample in which a figure is undefined (its class was not drawn) has no part in that figure's interval.
    """
    if not _can_be_drawn(groups, resamples):
        return {}
    return _middle(figures.of(weights) for weights in resamplings(groups, resamples=resamples))


def paired_intervals(new: Figures, old: Figures, groups: Sequence[str], *, resamples: int) -> Intervals:
    """As `intervals`, of new - old: both are computed of the same draws, which takes out what the images have in
    common. Figures that only one side has are left out."""
    if not _can_be_drawn(groups, resamples):
        return {}

    def differences(weights: Floats) -> dict[str, Floats]:
        before = old.of(weights)
        return {name: values - before[name] for name, values in new.of(weights).items() if name in before}

    return _middle(differences(weights) for weights in resamplings(groups, resamples=resamples))


def require_resamples(resamples: int) -> None:
    """Raises OptionError for a number of draws that makes no sense."""
    if not 0 <= resamples <= MOST:
        raise OptionError(f"--resamples is {resamples}", hint=f"give 1000, or 0 for no intervals; at most {MOST}")


def resampled(groups: Sequence[str], unit: str, *, resamples: int) -> str:
    """What intervals are drawn from, in words; `unit` is "image", "group" or "group by RULE"."""
    number = len(set(groups))
    drawn = f"{number} {unit if number == 1 else unit.replace('image', 'images').replace('group', 'groups', 1)}"
    if not _can_be_drawn(groups, resamples):
        return f"no intervals: {drawn}, {resamples} resamples"
    return f"{resamples} resamples of {drawn}"


def _can_be_drawn(groups: Sequence[str], resamples: int) -> bool:
    return len(set(groups)) > 1 and resamples > 0


def _middle(chunks: Iterator[Mapping[str, Floats]]) -> Intervals:
    """The middle `LEVEL` of each name's values that are not NaN."""
    parts = list(chunks)
    found: Intervals = {}
    for name in parts[0]:
        values = np.concatenate([part[name] for part in parts])
        known = values[~np.isnan(values)]
        if known.size:
            low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            found[name] = (float(low), float(high))
    return found
