"""How much the classes of a video flicker, and its overlay video: a second pass over frames that are segmented."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from labelsync.deploy.output import picture
from labelsync.errors import BitmapError
from labelsync.labels import LabelMap
from labelsync.pixels.semantic import decode_semantic
from labelsync.pixels.video import Frame, read_frames, write_frames
from labelsync.records.results import VideoScores

STILL = 8  # of 255: noise and compression change a pixel that shows the same thing by about as much


class Flicker:
    """Counts, frame after frame, the pixels whose class changes.

    `changed` is the share of pixels whose class is another one than in the frame before. That holds what moves, too, so
    `flicker` counts only the pixels that look as they did: no channel differs by more than `STILL`. There, nothing in
    the image accounts for another class. Temporal consistency as Varghese et al. 2020 ("Unsupervised Temporal
    Consistency Metric for Video Segmentation in Highly-Automated Driving") define it warps the earlier frame by optical
    flow; this is the same comparison with the still pixels in place of the flow, as a share of pixels in place of IoU.
    """

    def __init__(self) -> None:
        self._frames = 0
        self._pixels = self._changed = self._still = self._flickered = 0
        self._before: tuple[npt.NDArray[np.uint8], npt.NDArray[Any]] | None = None

    def add(self, image: npt.NDArray[np.uint8], bitmap: npt.NDArray[Any]) -> None:
        """The next frame, (H, W, 3) RGB, and its (H, W) classes. After a change of size, counting starts anew."""
        self._frames += 1
        if self._before is not None and self._before[1].shape == bitmap.shape:
            seen, said = self._before
            still = (np.maximum(image, seen) - np.minimum(image, seen)).max(2) <= STILL
            other = bitmap != said
            self._pixels += other.size
            self._changed += int(other.sum())
            self._still += int(still.sum())
            self._flickered += int((other & still).sum())
        self._before = image, bitmap

    def scores(self) -> VideoScores:
        """The shares; None where there was nothing to compare."""
        return VideoScores(
            frames=self._frames,
            flicker=round(self._flickered / self._still, 6) if self._still else None,
            changed=round(self._changed / self._pixels, 6) if self._pixels else None,
        )


def watch(video: Path, bitmaps: Sequence[Path], *, labels: LabelMap, film: Path | None) -> VideoScores:
    """The flicker of a video whose frames are segmented, in one more pass over it.

    Args:
        video: the video.
        bitmaps: the PNGs of its frames, in order, as far as it could be read.
        film: where to leave the video under its classes, above one legend for all frames; None = nowhere.
    """
    flicker = Flicker()

    def frames() -> Iterator[tuple[Frame, npt.NDArray[Any]]]:
        for frame, path in zip(_readable(video), bitmaps, strict=False):
            bitmap = decode_semantic(path.read_bytes())
            flicker.add(frame.pixels, bitmap)
            yield frame, bitmap

    with tqdm(frames(), total=len(bitmaps), desc=f"overlay {video.name}", unit="frame", disable=None) as seen:
        if film is None or not bitmaps:
            for _ in seen:
                pass
        else:
            ids = sorted({int(i) for path in bitmaps for i in np.unique(decode_semantic(path.read_bytes()))})
            film.parent.mkdir(parents=True, exist_ok=True)
            write_frames(film, _painted(seen, labels, ids))
    return flicker.scores()


def film_path(name: str) -> str:
    """Where in the output folder the overlay video of a video called `name` is."""
    return f"videos/{name if Path(name).suffix.lower() == '.mp4' else f'{name}.mp4'}"


def _readable(video: Path) -> Iterator[Frame]:
    """The frames up to where the file breaks off, which was told when they were segmented."""
    with suppress(BitmapError):
        yield from read_frames(video)


def _painted(frames: Iterable[tuple[Frame, npt.NDArray[Any]]], labels: LabelMap, ids: list[int]) -> Iterator[Frame]:
    """Frames under their classes, all of the size of the first: a film has one."""
    size: tuple[int, int] | None = None
    for frame, bitmap in frames:
        painted = Image.fromarray(picture(frame.pixels, bitmap, labels, classes=ids))
        size = size or painted.size
        if painted.size != size:
            painted = painted.resize(size)
        yield Frame(frame.index, frame.seconds, np.asarray(painted))
