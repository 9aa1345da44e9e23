"""Small videos for tests, drawn and encoded by PyAV itself."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from tests.pictures import RGB, picture


def moving(frames: int, size_hw: tuple[int, int] = (64, 96)) -> list[RGB]:
    """A picture that slides by two pixels a frame, and a frame of another picture in the middle."""
    wide = picture(0, (size_hw[0], size_hw[1] + 2 * frames))
    shown = [wide[:, 2 * i : 2 * i + size_hw[1]] for i in range(frames)]
    shown[frames // 2] = picture(1, size_hw)
    return shown


def write_clip(path: Path, frames: Sequence[RGB], *, fps: int = 10, codec: str = "mpeg4", **options: str) -> Path:
    """Encode frames; the suffix of `path` says the container."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=fps)
        if frames:
            stream.height, stream.width = frames[0].shape[:2]
        else:
            stream.height, stream.width = 64, 96
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        container.start_encoding()
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return path


def read_clip(path: Path) -> tuple[list[RGB], list[float]]:
    """All frames and their times."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [f.to_ndarray(format="rgb24") for f in frames], [float(f.time) for f in frames]
