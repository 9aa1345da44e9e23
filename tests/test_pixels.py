"""Pixels: 4x4 bitmaps one can check by eye, and round trips."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np
from PIL import Image

from labelsync.errors import BitmapError
from labelsync.pixels.image import decode_image, encode_png, image_size
from labelsync.pixels.instance import decode_instance_bitmap, encode_instance_bitmap
from labelsync.pixels.overlay import colorize, overlay, panel
from labelsync.pixels.semantic import decode_semantic, encode_semantic, instance_classes, to_semantic
from tests.pngs import raw_png

A = 0x00_00_01  # red 1
B = 0x00_01_00  # green 1
C = 0x01_00_00  # blue 1

INSTANCES = np.array(
    [
        [0, 0, A, A],
        [0, B, B, A],
        [C, B, B, 0],
        [C, C, 0, 0],
    ],
    np.uint32,
)
SMALL = np.searchsorted([0, A, B, C], INSTANCES).astype(np.uint32)  # the same with ids 1, 2, 3
SEMANTIC = [
    [0, 0, 2, 2],
    [0, 1, 1, 2],
    [2, 1, 1, 0],
    [2, 2, 0, 0],
]
CLASSES = {A: 2, B: 1, C: 2}


GREYS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (4, 8)]


def file(array, fmt="PNG", mode=None, **options) -> bytes:
    image = Image.fromarray(np.asarray(array))
    out = io.BytesIO()
    (image.convert(mode, palette=Image.Palette.ADAPTIVE) if mode else image).save(out, fmt, **options)
    return out.getvalue()


# ---------------------------------------------------------------- instance bitmaps


def test_an_id_is_red_plus_256_green_plus_65536_blue_and_alpha_is_255():
    rgba = np.asarray(Image.open(io.BytesIO(encode_instance_bitmap(np.array([[0, 0x030201]], np.uint32)))))
    assert rgba.tolist() == [[[0, 0, 0, 255], [1, 2, 3, 255]]]


id_bitmaps = st_np.arrays(
    np.uint32, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(0, 2**24 - 1)
)


@given(id_bitmaps)
def test_instance_ids_survive_the_way_to_a_png_and_back(ids):
    back = decode_instance_bitmap(encode_instance_bitmap(ids))
    assert back.dtype == np.uint32
    assert (back == ids).all()


@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_what_an_optimiser_makes_of_a_bitmap_has_the_same_ids(mode):
    rgb = np.asarray(Image.open(io.BytesIO(encode_instance_bitmap(INSTANCES))).convert("RGB"))
    assert (decode_instance_bitmap(file(rgb, mode=mode)) == INSTANCES).all()


@pytest.mark.parametrize(("kind", "bits"), GREYS, ids=str)
def test_one_channel_of_any_depth_holds_the_ids_themselves(kind, bits):
    """Pillow alone makes 255 of the 15 of a 4-bit file."""
    top = 2**bits - 1
    rows = [[0, 1], [top - 1, top]]
    data = raw_png([[v for n in row for v in (n, 9)] for row in rows] if kind == 4 else rows, kind=kind, bits=bits)
    assert decode_instance_bitmap(data).tolist() == rows
    if kind == 0:
        assert decode_semantic(data).tolist() == rows


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparency", [b"", b"\0", b"\0\xff\x09"], ids=["opaque", "one", "several"])
def test_a_palette_of_any_depth_holds_colours_and_transparency_means_nothing(bits, transparency):
    colors = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)][: 2**bits]
    ids = [r + 256 * g + 65536 * b for r, g, b in colors]
    data = raw_png([range(len(ids))], kind=3, bits=bits, palette=colors, transparency=transparency[: len(ids)])
    assert decode_instance_bitmap(data).tolist() == [ids]
    assert decode_semantic(data).tolist() == [list(range(len(ids)))]
    assert decode_image(data).tolist() == [[list(c) for c in colors]]  # a photo may be such a file too


@pytest.mark.parametrize(
    ("kind", "bits", "row", "transparency"),
    [(0, 8, [0, 1], b"\0\0"), (0, 16, [0, 1], b"\0\0"), (0, 1, [0, 1], b"\0\0"), (2, 8, [0, 0, 0, 1, 0, 0], bytes(6))],
)
def test_a_transparent_colour_means_nothing(kind, bits, row, transparency):
    assert decode_instance_bitmap(raw_png([row], kind=kind, bits=bits, transparency=transparency)).tolist() == [[0, 1]]


def test_a_palette_shorter_than_its_indices_is_no_traceback():
    data = raw_png([[0, 1, 200]], kind=3, bits=8, palette=[(0, 0, 0), (7, 0, 0)])
    assert decode_instance_bitmap(data).tolist() == [[0, 7, 0]]


def test_alpha_means_nothing():
    rgba = np.zeros((1, 2, 4), np.uint8)
    rgba[0, :, 0] = 7  # one pixel is transparent
    rgba[0, 1, 3] = 255
    assert decode_instance_bitmap(file(rgba)).tolist() == [[7, 7]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_single_channel_holds_the_ids_themselves(dtype):
    ids = np.array([[0, 1], [2, np.iinfo(dtype).max]], dtype)
    assert decode_instance_bitmap(file(ids)).tolist() == ids.tolist()


@pytest.mark.parametrize("ids", [[[-1, 0]], [[0, 1 << 24]]])
def test_an_id_past_24_bits_is_refused(ids):
    with pytest.raises(BitmapError, match="instance ids are 0 to 16777215"):
        encode_instance_bitmap(np.array(ids, np.int64))


WHOLE = encode_instance_bitmap(np.arange(400, dtype=np.uint32).reshape(20, 20))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "HTML or XML page"),
        (b'  \n<?xml version="1.0"?><Error>', "HTML or XML page"),
        (b"no image", "not an image"),
        (WHOLE[:-40], "cut short"),
        (WHOLE[:20], "not an image"),
        (WHOLE[:60] + bytes(40) + WHOLE[100:], "cut short"),
        (file(np.zeros((2, 2, 3), np.uint8), "JPEG"), "a bitmap is a PNG, this is JPEG"),
        (raw_png([[0, 0, 0, 256, 0, 0]], kind=2, bits=16), "8 bits in each, this one has 16"),
        (raw_png([[0, 0, 0, 1, 256, 0, 0, 1]], kind=6, bits=16), "8 bits in each, this one has 16"),
        (raw_png([[0, 1, 256, 1]], kind=4, bits=16), "8 bits in each, this one has 16"),
    ],
)
def test_what_is_no_bitmap_is_refused_in_words(data, says):
    with pytest.raises(BitmapError, match=says):
        decode_instance_bitmap(data)


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_a_broken_bitmap_is_never_another_error(at, byte):
    broken = WHOLE[:at] + bytes([byte]) + WHOLE[at + 1 :]
    try:
        assert decode_instance_bitmap(broken).dtype == np.uint32
    except BitmapError as e:
        assert str(e)


# ---------------------------------------------------------------- instance ids -> classes


def test_instances_become_classes():
    semantic = to_semantic(INSTANCES, CLASSES)
    assert semantic.tolist() == SEMANTIC
    assert semantic.dtype == np.uint8


def test_unlabeled_pixels_may_be_a_class():
    assert (to_semantic(INSTANCES, CLASSES, unlabeled=3) == np.where(INSTANCES == 0, 3, SEMANTIC)).all()


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ({9: 1}, "an id without pixels"),
        ({2**24 - 1: 1}, "a large one"),
        ({-1: 1}, "an id that no pixel can have"),
        ({0: 1}, "0 is unlabeled"),
    ],
)
def test_other_annotations_change_nothing(extra, why):
    assert to_semantic(INSTANCES, CLASSES | extra).tolist() == SEMANTIC, why
    assert to_semantic(SMALL, {1: 2, 2: 1, 3: 2} | extra).tolist() == SEMANTIC, why


@pytest.mark.parametrize("large", [7, 0xFFFF, 0x10000, 2**24 - 1])
def test_an_id_without_annotation_is_refused_whatever_its_size(large):
    instances = np.zeros((4, 4), np.uint32)
    instances[0, :2] = 5
    instances[3, 3] = large
    with pytest.raises(BitmapError, match=r"instance id 5 is drawn on 2 pixels and has no annotation$"):
        to_semantic(instances, {large: 1})


def test_an_annotation_below_0_stands_for_no_pixel():
    with pytest.raises(BitmapError, match="instance id 3 is drawn"):
        to_semantic(SMALL, {1: 2, 2: 1, -1: 2})


def test_several_ids_without_annotation_are_counted():
    with pytest.raises(BitmapError, match=r"instance id 1 is drawn on 3 pixels .* \(3 such ids\)"):
        to_semantic(INSTANCES, {})


def test_classes_past_255_need_16_bits():
    wide = to_semantic(INSTANCES, {A: 300, B: 65535, C: 1}, dtype=np.uint16)
    assert wide.dtype == np.uint16
    assert sorted(np.unique(wide).tolist()) == [0, 1, 300, 65535]
    with pytest.raises(BitmapError, match="class 300 does not fit into uint8"):
        to_semantic(INSTANCES, {A: 300, B: 1, C: 1})


@given(id_bitmaps, st.data())
def test_the_lookup_equals_pixel_by_pixel(ids, data):
    classes = {int(i): data.draw(st.integers(1, 254)) for i in np.unique(ids) if i}
    expected = [[classes.get(int(i), 0) for i in row] for row in ids]
    assert to_semantic(ids, classes).tolist() == expected


def test_an_annotation_is_drawn_as_its_category():
    assert instance_classes([(1, 10), (2, 0), (1, 10)], {10: 1, 0: 2}) == {1: 1, 2: 2}


@pytest.mark.parametrize(
    ("annotations", "says"),
    [([(1, 11)], "annotation 1 has category 11, which the taxonomy does not have"), ([(1, 10), (1, 0)], "twice")],
)
def test_an_annotation_that_means_no_one_class_is_refused(annotations, says):
    with pytest.raises(BitmapError, match=says):
        instance_classes(annotations, {10: 1, 0: 2})


# ---------------------------------------------------------------- semantic bitmaps


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@given(st.data())
def test_disk_ids_survive_the_way_to_a_png_and_back(dtype, data):
    bitmap = data.draw(st_np.arrays(dtype, st.tuples(st.integers(1, 5), st.integers(1, 5))))
    encoded = encode_semantic(bitmap)
    back = decode_semantic(encoded)
    assert back.dtype == dtype
    assert (back == bitmap).all()
    assert encode_semantic(bitmap) == encoded


def test_a_palette_file_gives_its_indices():
    image = Image.fromarray(np.array(SEMANTIC, np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    out = io.BytesIO()
    image.save(out, "PNG")
    assert decode_semantic(out.getvalue()).tolist() == SEMANTIC


def test_a_black_and_white_file_is_0_and_1():
    assert decode_semantic(file(np.array([[False, True]]))).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("bitmap", "says"),
    [
        (np.zeros((2, 2), np.int64), "int64"),
        (np.zeros((2, 2, 3), np.uint8), r"\(2, 2, 3\)"),
    ],
)
def test_only_bitmaps_are_written(bitmap, says):
    with pytest.raises(BitmapError, match=says):
        encode_semantic(bitmap)


def test_a_colour_image_is_no_semantic_bitmap():
    with pytest.raises(BitmapError, match="one channel"):
        decode_semantic(file(np.zeros((2, 2, 3), np.uint8)))


# ---------------------------------------------------------------- images

ORIENTED = [  # a 2x3 image, upright, as each EXIF orientation stores it
    lambda a: a,
    lambda a: a[:, ::-1],
    lambda a: a[::-1, ::-1],
    lambda a: a[::-1],
    lambda a: a.transpose(1, 0, 2),
    np.rot90,
    lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    lambda a: np.rot90(a, -1),
]


@pytest.mark.parametrize("fmt", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_read_in_the_frame_people_drew_in(orientation, fmt):
    upright = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 10
    stored = np.ascontiguousarray(ORIENTED[orientation - 1](upright))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file(stored, fmt, exif=exif)
    assert decode_image(data).tolist() == upright.tolist()
    assert image_size(data) == (2, 3)


@pytest.mark.parametrize(
    ("array", "mode", "rgb"),
    [
        ([[7]], None, [7, 7, 7]),
        ([[[1, 2, 3, 0]]], None, [1, 2, 3]),  # transparent pixels keep their colour
        ([[[1, 2]]], None, [1, 1, 1]),
        ([[[1, 2, 3]]], "P", [1, 2, 3]),
        ([[True]], None, [255, 255, 255]),
    ],
)
def test_every_kind_of_image_becomes_rgb(array, mode, rgb):
    dtype = bool if array == [[True]] else np.uint8
    assert decode_image(file(np.array(array, dtype), mode=mode)).tolist() == [[rgb]]


@pytest.mark.parametrize(("value", "shown"), [(65535, 255), (256, 1), (200, 200)])
def test_16_bit_grey_is_scaled_unless_it_needs_no_more_than_8(value, shown):
    assert decode_image(file(np.array([[0, value]], np.uint16))).tolist() == [[[0] * 3, [shown] * 3]]


def test_cmyk_becomes_rgb():
    data = file(np.full((8, 8, 3), 255, np.uint8), "JPEG", mode="CMYK")
    assert decode_image(data).min() > 250


JPEG = file(np.arange(768, dtype=np.uint8).reshape(16, 16, 3), "JPEG")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (JPEG[:-10], "cut short"),
        (JPEG[:10], "not an image"),
        (b"<html>403</html>", "HTML"),
        (file(np.zeros((2, 2, 3), np.uint8), exif=b"Exif\0\0garbage"), "not an image"),
    ],
)
def test_a_damaged_image_is_refused_in_words(data, says):
    with pytest.raises(BitmapError, match=says):
        decode_image(data)


@pytest.mark.parametrize("fmt", ["JPEG", "PNG"])
def test_wherever_a_file_is_cut_no_pixel_is_made_up(fmt):
    whole = file(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8), fmt)
    pixels, refused = decode_image(whole), 0
    for length in range(len(whole)):
        try:
            assert (decode_image(whole[:length]) == pixels).all()
        except BitmapError:
            refused += 1
    assert refused > len(whole) - 32  # a PNG may lack its end, which holds no pixel


def test_large_images_are_read_without_a_warning_and_bombs_are_refused():
    script = """
import io, warnings
from PIL import Image
from labelsync.errors import BitmapError
from labelsync.pixels.image import image_size
def drawn(side):
    out = io.BytesIO()
    Image.new("1", (side, side)).save(out, "PNG")
    return out.getvalue()
print(image_size(drawn(10_000)))
try:
    image_size(drawn(14_000))
except BitmapError as e:
    print(e)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    size, refusal = done.stdout.splitlines()
    assert size == "(10000, 10000)"
    assert "exceeds limit" in refusal


def test_images_decode_alike_from_many_threads():
    with ThreadPoolExecutor(8) as pool:
        arrays = list(pool.map(decode_image, [JPEG] * 64))
    assert all((a == arrays[0]).all() for a in arrays)


def test_equal_arrays_are_equal_files():
    array = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert encode_png(array) == encode_png(array[::-1][::-1])


# ---------------------------------------------------------------- overlays

COLORS = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], np.uint8)


def test_classes_get_their_colours_and_unknown_ids_are_black():
    painted = colorize(np.array([[0, 1, 2, 9]], np.uint8), COLORS)
    assert painted.tolist() == [[[0, 0, 0], [200, 0, 0], [0, 0, 200], [0, 0, 0]]]


def test_an_overlay_mixes_classes_draws_borders_full_and_leaves_unlabeled_pixels():
    image = np.full((3, 3, 3), 100, np.uint8)
    bitmap = np.array([[0, 0, 0], [1, 1, 1], [1, 1, 2]], np.uint8)
    drawn = overlay(image, bitmap, COLORS, alpha=0.5)
    assert drawn[0].tolist() == [[100] * 3] * 3
    assert drawn[1, 0].tolist() == [150, 50, 50]
    assert drawn[2, 1].tolist() == [200, 0, 0]  # class 2 is right of it
    assert drawn[1, 2].tolist() == [200, 0, 0]  # class 2 is below it


def test_a_panel_shows_every_picture_and_every_name():
    picture = np.full((40, 60, 3), 255, np.uint8)
    classes = [(f"a long class name {i}", (i, 200, 0)) for i in range(8)]
    one = panel([("image", picture)], classes[:1], height=80)
    two = panel([("image", picture), ("label", picture)], classes, height=80)
    assert (one == 255).all(axis=2).sum() >= 80 * 120
    assert (two == 255).all(axis=2).sum() >= 2 * 80 * 120
    assert all((two == color).all(axis=2).any() for _, color in classes)
