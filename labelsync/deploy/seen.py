"""What a model said of images that `select` has shown it, kept for the next run where one is interrupted.

Looking is what takes the time: hours for a day of video. The choice among what was seen is made anew each time, so a
run that asks for more images, or for another mix of the same strategy, goes on from the same place.
"""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labelsync.deploy.kept import Unfinished, beside
from labelsync.deploy.strategy import Strategy
from labelsync.store.files import digest_of


@dataclass(frozen=True, eq=False)
class Sight:
    """What a model says of an image: how unsure it is of it, 0..1, and its (D,) float32 embedding, perhaps empty."""

    unsure: float
    embedding: npt.NDArray[np.float32]


class Seen(Unfinished):
    """Name and content of an image -> what a model said of it."""

    def __init__(self, folder: Path, kind: str) -> None:
        super().__init__(folder, kind)
        pairs = (_pair(text) for text in self.lines)
        self._seen = dict(pair for pair in pairs if pair is not None)
        self.lines = []

    def find(self, name: str, identity: str) -> Sight | None:
        """What an earlier run has kept; `identity` = the digest of what the image is made of."""
        return self._seen.get((name, identity))

    def add(self, name: str, identity: str, sight: Sight) -> None:
        """Keep what was said of an image."""
        packed = base64.b64encode(sight.embedding.astype("<f4").tobytes()).decode()
        line = {"name": name, "of": identity, "unsure": sight.unsure, "embedding": packed}
        self.note(json.dumps(line, ensure_ascii=False) + "\n")


@contextmanager
def seeing(out: Path, model: str, order: Strategy) -> Iterator[Seen]:
    """What was seen for `out`, whose lock must be held.

    Args:
        model: digest of the model.
        order: of which the measure of uncertainty counts, and whether images get embeddings.
    """
    seen = Seen(beside(out), digest_of(["select", model, order.uncertainty, order.diverse]))
    try:
        yield seen
    finally:
        seen.close()


def _pair(text: str) -> tuple[tuple[str, str], Sight] | None:
    """A line of `Seen.add`; None for one that was cut short."""
    try:
        line = json.loads(text)
        embedding = np.frombuffer(base64.b64decode(line["embedding"], validate=True), "<f4").astype(np.float32)
        return (str(line["name"]), str(line["of"])), Sight(float(line["unsure"]), embedding)
    except (ValueError, KeyError, TypeError):
        return None
