"""The quick codecs say what Pillow says: same pixels, same refusals; and what is written is the same everywhere."""

import hashlib
import io
import random
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np
from PIL import Image, PngImagePlugin

from labelsync.errors import BitmapError
from labelsync.pixels.image import encode_png, require_whole
from labelsync.pixels.instance import decode_instance_bitmap, ids_of_image
from labelsync.pixels.jpeg import outline_of
from labelsync.pixels.opening import opened
from labelsync.pixels.png import decode_png, encode_grey
from labelsync.pixels.semantic import _true_at, count_pixels, decode_semantic, encode_semantic, to_semantic


def saved(image: Image.Image, fmt: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, fmt, **options)
    return out.getvalue()


def quick(data: bytes):
    with opened(data) as image:
        return decode_png(data, image)


def pillow(data: bytes):
    return np.asarray(Image.open(io.BytesIO(data)))


# ---------------------------------------------------------------- decoding

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
CHANNELS = {"L": (), "RGB": (3,), "RGBA": (4,), "LA": (2,)}


@st.composite
def drawn(draw):
    """A PIL image of any mode that PNG has."""
    mode = draw(st.sampled_from(["1", "L", "P", "LA", "RGB", "RGBA", "I;16"]))
    size = draw(SIZES)
    if mode == "1":
        return Image.fromarray(draw(st_np.arrays(bool, size)))
    if mode == "I;16":
        return Image.fromarray(draw(st_np.arrays(np.uint16, size)))
    if mode == "P":
        return Image.fromarray(draw(st_np.arrays(np.uint8, (*size, 3)))).convert("P", palette=Image.Palette.ADAPTIVE)
    return Image.fromarray(draw(st_np.arrays(np.uint8, size + CHANNELS[mode])))


@given(drawn(), st.integers(0, 9), st.booleans())
def test_what_the_quick_decoder_answers_is_what_pillow_answers(image, level, transparent):
    info = {"transparency": 0} if transparent and image.mode in ("L", "P") else {}
    if transparent and image.mode == "RGB":
        info = {"transparency": (0, 0, 0)}
    data = saved(image, compress_level=level, **info)
    pixels = quick(data)
    assert (pixels is not None) or image.mode not in ("L", "RGB", "RGBA")
    if pixels is not None:
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, pillow(data))


@given(drawn())
def test_ids_are_the_same_by_either_decoder(image):
    data = saved(image)
    try:
        expected = ids_of_image(Image.open(io.BytesIO(data)))
    except BitmapError as e:
        with pytest.raises(BitmapError, match=str(e)):
            decode_instance_bitmap(data)
        return
    ids = decode_instance_bitmap(data)
    assert np.array_equal(ids, expected)
    assert ids.flags.writeable


def interlaced(array: np.ndarray) -> bytes:
    """(H, W) uint8 as an Adam7 PNG, which Pillow reads and does not write."""
    raw = b""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    for top, left, down, right in passes:
        part = array[top::down, left::right]
        raw += b"".join(b"\0" + line.tobytes() for line in part if part.size)
    whole = encode_png(array)
    head = whole[16:28] + b"\1"

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return whole[:8] + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def test_an_interlaced_file_has_the_same_pixels():
    array = np.random.default_rng(0).integers(0, 256, (13, 11), np.uint8)
    data = interlaced(array)
    assert np.array_equal(pillow(data), array)
    assert np.array_equal(quick(data), array)


def test_side_information_changes_no_pixel():
    info = PngImagePlugin.PngInfo()
    info.add_text("made by", "somebody")
    exif = Image.Exif()
    exif[0x0112] = 6
    array = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    data = saved(Image.fromarray(array), pnginfo=info, exif=exif, dpi=(72, 72), gamma=0.45)
    assert np.array_equal(quick(data), array)


def test_an_animation_is_left_to_pillow():
    first, second = (Image.fromarray(np.full((4, 4), v, np.uint8)) for v in (1, 2))
    assert quick(saved(first, save_all=True, append_images=[second])) is None


WHOLE = saved(Image.fromarray(np.random.default_rng(0).integers(0, 9, (12, 12, 4), np.uint8)))


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_a_damaged_file_is_refused_or_has_the_pixels_that_pillow_sees(at, byte):
    broken = WHOLE[:at] + bytes([byte]) + WHOLE[at + 1 :]
    try:
        expected = ids_of_image(Image.open(io.BytesIO(broken)))
    except Exception:  # noqa: BLE001 - Pillow's own errors have many types
        with pytest.raises(BitmapError):
            decode_instance_bitmap(broken)
        return
    assert np.array_equal(decode_instance_bitmap(broken), expected)


def test_a_wrong_checksum_gives_no_pixels():
    at = WHOLE.index(b"IDAT") + 40
    assert quick(WHOLE[:at] + bytes([WHOLE[at] ^ 1]) + WHOLE[at + 1 :]) is None


# ---------------------------------------------------------------- encoding

bitmaps = st.sampled_from([np.uint8, np.uint16]).flatmap(lambda t: st_np.arrays(t, SIZES))


@given(bitmaps)
def test_what_is_written_is_what_pillow_reads(bitmap):
    data = encode_grey(bitmap)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == ("L" if bitmap.dtype == np.uint8 else "I;16")
        assert np.array_equal(np.asarray(image), bitmap)
    assert np.array_equal(decode_semantic(data), bitmap)


def drawn_classes() -> np.ndarray:
    """(270, 480) classes with oblique borders, as labels have them; arithmetic alone, so the same everywhere."""
    y, x = np.mgrid[:270, :480]
    return ((x // 37 + (x + 2 * y) // 91 + (y * y // 4000)) % 35).astype(np.uint8)


@pytest.mark.parametrize(
    ("dtype", "size", "digest"),
    [
        (np.uint8, 3033, "0cb5d0637a0ff3455a31acfa4af098cf2bb7512243feb8ff05ab5c88153224f7"),
        (np.uint16, 7109, "8246c629d80d236820956702fc6e267e76c1a77b5a86a0842d603690078278fb"),
    ],
)
def test_a_label_has_the_same_bytes_on_every_machine(dtype, size, digest):
    data = encode_semantic(drawn_classes().astype(dtype))
    assert (len(data), hashlib.sha256(data).hexdigest()) == (size, digest)


def test_a_view_is_written_as_its_copy():
    bitmap = drawn_classes()
    for view in (bitmap.T, bitmap[::2, ::3], bitmap.astype(np.uint16)[::-1]):
        assert encode_png(view) == encode_png(view.copy())


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_a_label_without_pixels_is_refused(shape):
    with pytest.raises(BitmapError, match="a semantic bitmap is"):
        encode_semantic(np.zeros(shape, np.uint8))


# ---------------------------------------------------------------- lookup and counts


@given(
    st_np.arrays(np.uint32, SIZES, elements=st.sampled_from([0, 1, 2, 255, 256, 65535, 65536, 2**24 - 1])),
    st.sampled_from([np.uint8, np.uint16]),
)
def test_the_lookup_is_the_same_for_ids_of_every_size(ids, dtype):
    top = int(np.iinfo(dtype).max)
    classes = {1: 1, 2: top, 255: 3, 256: 4, 65535: top - 1, 65536: 6, 2**24 - 1: top}
    expected = [[classes.get(int(i), 0) for i in line] for line in ids]
    assert to_semantic(ids, classes, dtype=dtype).tolist() == expected


@pytest.mark.parametrize("large", [0, 300, 70_000])
def test_a_turned_bitmap_has_its_classes_where_they_are(large):
    ids = np.array([[0, 1, 2], [2, 1, large]], np.uint32)
    classes = {1: 5, 2: 6, 300: 7, 70_000: 8}
    expected = to_semantic(ids, classes)
    assert np.array_equal(to_semantic(ids.T, classes), expected.T)
    assert np.array_equal(to_semantic(ids[::-1, ::-1], classes), expected[::-1, ::-1])


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 64, 203])
@pytest.mark.parametrize("share", [0, 0.05, 0.5, 1])
def test_true_flags_are_found_where_they_are(size, share):
    """Also where the last ones fill no group of eight, and where the flags begin in the middle of a word."""
    flags = np.random.default_rng(size).random(size + 1) < share
    for part in (flags[:size], flags[1:]):
        assert _true_at(part).tolist() == np.flatnonzero(part).tolist()


@given(bitmaps)
def test_pixels_are_counted_per_class(bitmap):
    bitmap = bitmap % 200
    assert count_pixels(bitmap, 254).tolist() == np.bincount(bitmap.ravel(), minlength=255).tolist()


# ---------------------------------------------------------------- whole images

NOISE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
JPEGS = {
    "baseline": saved(Image.fromarray(NOISE), "JPEG"),
    "progressive": saved(Image.fromarray(NOISE), "JPEG", progressive=True),
    "grey": saved(Image.fromarray(NOISE[..., 0]), "JPEG"),
    "cmyk": saved(Image.fromarray(NOISE).convert("CMYK"), "JPEG"),
    "restarts": saved(Image.fromarray(NOISE), "JPEG", restart_marker_blocks=2, subsampling=0),
    "comment": saved(Image.fromarray(NOISE), "JPEG", comment=b"\xff\xd9", exif=Image.Exif()),
}


def accepted(check, data: bytes) -> bool:
    try:
        check(data)
    except BitmapError:
        return False
    return True


def decode(data: bytes) -> None:
    with opened(data) as image:
        image.load()


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_is_whole_exactly_where_pillow_decodes_it(kind):
    data, rng = JPEGS[kind], random.Random(0)
    assert outline_of(data) is not None  # the quick way is the one that is tried here
    assert require_whole(data) == (24, 40)
    start = data.index(b"\xff\xda")
    broken = [data[:n] for n in range(0, len(data), 5)]
    broken += [data[:n] + b"\xff\xd9" for n in range(4, len(data), 31)]
    for limit in (start, len(data)):
        for _ in range(150):
            at = rng.randrange(limit)
            broken.append(data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :])
            broken.append(data[:at] + data[at + rng.randrange(40) :])
    disagree = [i for i, b in enumerate(broken) if accepted(require_whole, b) != accepted(decode, b)]
    assert not disagree
    assert sum(not accepted(decode, b) for b in broken) > 50


@pytest.mark.parametrize("head", [b"\xff\xc3", b"\xff\xc9"], ids=["lossless", "arithmetic"])
def test_a_kind_of_jpeg_that_is_not_known_is_left_to_pillow(head):
    data = JPEGS["baseline"].replace(b"\xff\xc0", head, 1)
    assert outline_of(data) is None
    assert accepted(require_whole, data) == accepted(decode, data)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_a_png_image_is_whole_exactly_where_pillow_decodes_it(mode):
    data = saved(Image.fromarray(NOISE).convert(mode))
    assert require_whole(data) == (24, 40)
    for n in range(0, len(data), 97):
        assert accepted(require_whole, data[:n]) == accepted(decode, data[:n])
