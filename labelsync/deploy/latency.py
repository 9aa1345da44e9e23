"""How long a model takes on this machine: one image at a time, and in batches."""

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from labelsync.records.exports import Latency

Run = Callable[[torch.Tensor], object]

_WARM_UP = 3


def latencies(ways: Mapping[str, Run], image: torch.Tensor, *, runs: int, batch_size: int) -> dict[str, Latency]:
    """Wall-clock times of each way to run the same model, from an input in memory to its output.

    Args:
        ways: name -> takes a batch, and has finished when it returns.
        image: a batch of one.
        runs: calls of each way with one image, in turn, so that a busy moment of the machine hits all of them; and a
            tenth as many (at least 2) with a batch. 0 = nothing is measured.
        batch_size: images in that batch.
    """
    if not runs:
        return {}
    single = _times(ways, image, runs)
    batch = image.expand(batch_size, *image.shape[1:]).contiguous()
    whole = _times(ways, batch, max(2, runs // 10)) if batch_size > 1 else single
    return {
        name: Latency(
            p50_ms=_ms(single[name], 50),
            p95_ms=_ms(single[name], 95),
            images_per_second=round(batch_size / float(np.median(whole[name])), 3),
        )
        for name in ways
    }


def _times(ways: Mapping[str, Run], batch: torch.Tensor, runs: int) -> dict[str, list[float]]:
    """Seconds of every call, after a few that are not counted."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(min(_WARM_UP, runs) + runs):
        for name, run in ways.items():
            start = time.perf_counter()
            run(batch)
            if number >= min(_WARM_UP, runs):
                times[name].append(time.perf_counter() - start)
    return times


def _ms(seconds: list[float], percentile: float) -> float:
    return round(1000 * float(np.percentile(seconds, percentile)), 3)
