"""Whether a JPEG is whole, by its structure: a decode would read the same bytes and take ten times as long."""

import re
from collections.abc import Iterator

_SOF = frozenset((0xC0, 0xC1, 0xC2))  # Huffman-coded: baseline, extended, progressive. What cameras and tools write
_DHT, _EOI, _SOS, _DQT = 0xC4, 0xD9, 0xDA, 0xDB
_ADOBE = 0xEE  # says how the colours are coded
_TEXTS = frozenset((0xFE, *range(0xE0, 0xF0))) - {_ADOBE}  # comment, EXIF, profiles
_TABLES = frozenset((_DHT, _DQT, 0xDD, _ADOBE))

# In coded data 0xFF is followed by 0 (a coded 0xFF), by a restart marker or by more 0xFF; by anything else it ends.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def outline_of(data: bytes) -> bytes | None:
    """The JPEG's frame, tables and scan headers without coded data: a tiny JPEG of 16x16 pixels.

    None unless the file is an 8-bit Huffman-coded JPEG whose scans run up to its end marker; None also for the rare
    kinds that this does not know (arithmetic, lossless, 12 bits, tables left out). A decoder that takes the outline
    would take the file, whose coded data cannot fail: where bits are wrong it draws something else.
    Structure as in ITU-T T.81, annex B.
    """
    seen: set[int] = set()
    outline = [b"\xff\xd8"]
    for code, body in _segments(data):
        if code == _EOI:
            return b"".join((*outline, b"\xff\xd9")) if _SOS in seen else None
        kept = body
        if code in _SOF and not seen & _SOF and len(body) > 5 and body[0] == 8:
            kept = body[:1] + b"\0\x10\0\x10" + body[5:]
        elif code == _SOS:
            if not (seen & _SOF and {_DHT, _DQT} <= seen):
                return None
        elif code not in _TABLES | _TEXTS:
            return None
        seen.add(code)
        if code not in _TEXTS:
            outline.append(b"\xff%c%b%b" % (code, (len(kept) + 2).to_bytes(2, "big"), kept))
    return None


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker code, its segment without the length) in file order, until the end marker or where the file breaks off.

    A scan is passed over with its coded data, and only if it has any.
    """
    at = 2 if data[:2] == b"\xff\xd8" else len(data)
    while data[at : at + 1] == b"\xff":
        while data[at : at + 1] == b"\xff":  # it may be repeated before a marker
            at += 1
        code = data[at] if at < len(data) else 0
        if code == _EOI:
            yield code, b""
            return
        length = int.from_bytes(data[at + 1 : at + 3], "big")
        body, at = data[at + 3 : at + 1 + length], at + 1 + length
        if length < 2 or at > len(data):
            return
        if code == _SOS:
            end = _END_OF_SCAN.search(data, at)
            if end is None or end.start() == at:
                return
            at = end.start()
        yield code, body
