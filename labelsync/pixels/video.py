"""Frames of a video file, turned the way a player shows them, and back. PyAV is an extra: `labelsync[video]`."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

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
            for index, frame in enumerate(_decoded(container, stream)):
                if wanted(index):
                    upright = np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90))
                    yield Frame(index, float(frame.time or 0.0), np.ascontiguousarray(upright))
    except av.error.FFmpegError as e:
        raise BitmapError(f"it is no video that FFmpeg can read to its end ({e.strerror})") from None


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Every frame; a BitmapError behind the last one of an MP4 that was cut, which FFmpeg takes for its end."""
    read = 0
    for packet in container.demux(stream):
        read += packet.size > 0
        yield from packet.decode()
    if "mp4" in container.format.name and read < stream.frames:
        raise BitmapError(f"it breaks off after {read} of {stream.frames} frames")


def count_frames(path: Path) -> int:
    """How many frames the container says there are; 0 if it does not, or is no video."""
    try:
        import av

        with av.open(str(path)) as container:
            return int(container.streams.video[0].frames) if container.streams.video else 0
    except Exception:  # noqa: BLE001 - a number for a progress bar; whoever reads the frames tells what is wrong
        return 0


_TICKS = 90_000  # a second of a written video; the rate of MPEG, which all usual frame rates divide
_STEP = _TICKS // 30  # between frames of a video that has no times


def write_frames(path: Path, frames: Iterable[Frame]) -> None:
    """An MP4 of `frames`, all of one size, shown at their times: H.264, or MPEG-4 where this FFmpeg has no x264.

    An odd last row or column is left out, which the format has no place for. The same frames give the same bytes.
    """
    import av

    name = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    options = {"crf": "20", "preset": "veryfast"} if name == "libx264" else {"qscale": "4"}
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream(name, rate=30, options=options)  # typed as sound or pictures
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, _TICKS)
        stream.codec_context.time_base = stream.time_base
        stream.thread_count = 1  # the bytes would depend on the number of cores
        last = -_STEP
        for frame in frames:
            height, width = (side // 2 * 2 for side in frame.pixels.shape[:2])
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.pixels[:height, :width]), format="rgb24")
            if last < 0:
                stream.height, stream.width = height, width
            at = round(frame.seconds * _TICKS)
            last = at if at > last else last + _STEP
            picture.pts, picture.time_base = last, stream.time_base
            container.mux(stream.encode(picture))
        if last >= 0:
            container.mux(stream.encode())
