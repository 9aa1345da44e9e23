"""Small drawn videos."""

import struct
from pathlib import Path

import av
import numpy as np


def draw_video(path: Path, frames: int) -> Path:
    """A video of 64 x 32 whose frame i is of grey 10 i; the left half is black."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for i in range(frames):
            pixels = np.full((32, 64, 3), 10 * i, np.uint8)
            pixels[:, :32] = 0
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def turn(path: Path) -> None:
    """Say in the track header that players turn the video clockwise by 90 degrees, as a phone does."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # behind version, times, track, duration, layer and volume
    one = 1 << 16  # 16.16 fixed point; the third column is 2.30
    data[at : at + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
