"""Frames of a video file, turned the way a player shows them. PyAV is an extra: `pip install 'labelsync[video]'`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labelsync.errors import BitmapError, OptionError

SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame: its number in the video, counted from 0, its time in seconds, and (H, W, 3) uint8 RGB."""

    index: int
    seconds: float
    pixels: npt.NDArray[np.uint8]


def read_frames(path: Path, *, wanted: Callable[[int], bool] = lambda _: True) -> Iterator[Frame]:
    """The frames whose number is `wanted`, in the order they are shown.

    Raises:
        OptionError: PyAV is not installed.
        BitmapError: no video, or cut short; the frames before that have come.
    """
    try:
        import av
    except ImportError:
        hint = "pip install 'labelsync[video]'"
        raise OptionError(f"{path.name} is a video, and PyAV is not installed", hint=hint) from None
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BitmapError("it has no pictures, only sound")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for index, frame in enumerate(container.decode(stream)):
                if wanted(index):
                    upright = np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90))
                    yield Frame(index, float(frame.time or 0.0), np.ascontiguousarray(upright))
    except av.error.FFmpegError as e:
        raise BitmapError(f"it is no video that FFmpeg can read to its end ({e.strerror})") from None


def count_frames(path: Path) -> int:
    """How many frames the container says there are; 0 if it does not, or is no video."""
    try:
        import av

        with av.open(str(path)) as container:
            return int(container.streams.video[0].frames) if container.streams.video else 0
    except Exception:  # noqa: BLE001 - a number for a progress bar; whoever reads the frames tells what is wrong
        return 0
