"""PNG files of every kind and depth, written bit by bit: what Pillow does not write, and other programs do."""

import struct
import zlib
from collections.abc import Iterable, Sequence

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def raw_png(
    rows: Iterable[Sequence[int]],
    *,
    kind: int,
    bits: int = 8,
    palette: Iterable[tuple[int, int, int]] = (),
    transparency: bytes = b"",
) -> bytes:
    """A PNG of these numbers.

    Args:
        rows: the numbers of each row, channel by channel.
        kind: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGBA.
        bits: of one number: 1, 2, 4, 8 or 16.
        transparency: of a tRNS chunk.
    """
    listed = [list(row) for row in rows]
    size = len(listed[0]) // _CHANNELS[kind], len(listed)
    lines = []
    for row in listed:
        text = "".join(format(v, f"0{bits}b") for v in row)
        text += "0" * (-len(text) % 8)
        lines.append(b"\0" + bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8)))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", *size, bits, kind, 0, 0, 0))]
    chunks += [(b"PLTE", bytes(v for color in palette for v in color))] if palette else []
    chunks += [(b"tRNS", transparency)] if transparency else []
    chunks += [(b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
