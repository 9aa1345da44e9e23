"""What a check computes: likeness of images, counts of labels. Against literals one can see through."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from labelsync.labels import from_categories
from labelsync.quality import likeness
from labelsync.quality.labelled import Bounds, count_instances, count_semantic, count_shapes
from labelsync.quality.likeness import differing_bits, nearest, perceptual_hash
from labelsync.quality.look import image_facts, look
from labelsync.quality.subject import Content, Subject
from labelsync.records.release import Annotation
from labelsync.taxonomy import Category

LABELS = from_categories([Category(0, "road"), Category(7, "tree"), Category(9, "unlabeled")])
BOUNDS = Bounds(labelled=0.01, instance=2)


def blocks(seed: int) -> Image.Image:
    """6 x 8 coloured blocks of 20 pixels."""
    colors = (np.random.default_rng(seed).random((6, 8, 3)) * 255).astype(np.uint8)
    return Image.fromarray(colors).resize((160, 120), Image.Resampling.NEAREST)


# ---------------------------------------------------------------- likeness


@pytest.mark.parametrize(
    ("seed", "known"),
    [
        (0, "ac6540fe025fc70e2e4576c8c9538937d1ba38f1fd20bf013aea407e02dfc78e"),
        (1, "fec06e44b9b1431ed52aa0fd1cb85f822a55bc61464e11bbc6fd6e44b9b1431e"),
    ],
)
def test_a_hash_is_that_of_imagehash(seed, known):
    """`imagehash.phash(image, hash_size=16, highfreq_factor=2)` of ImageHash 4.3.2."""
    assert "".join(f"{int(word):016x}" for word in perceptual_hash(blocks(seed))) == known


def test_copies_are_near_and_other_pictures_are_far():
    image = blocks(0)
    poor = io.BytesIO()
    image.save(poor, "JPEG", quality=25)
    copies = [Image.open(poor), image.resize((80, 60), Image.Resampling.BOX), image.point(lambda v: v * 0.8)]
    others = [blocks(seed) for seed in range(1, 20)]
    bits = differing_bits(perceptual_hash(image)[None], np.array([perceptual_hash(i) for i in (*copies, *others)]))[0]
    assert bits[:3].max() <= 32
    assert bits[3:].min() > 64


words = st.integers(0, 2**64 - 1)
hashes = st.lists(st.tuples(words, words, words, words), max_size=6)


@given(hashes, hashes, st.integers(0, 256))
def test_the_nearest_is_that_of_brute_force(asked, candidates, within):
    a, b = (np.array(x, np.uint64).reshape(-1, 4) for x in (asked, candidates))
    found = nearest(a, b, within=within)
    for i, one in enumerate(asked):
        bits = [sum((x ^ y).bit_count() for x, y in zip(one, other, strict=True)) for other in candidates]
        near = [d for d in bits if d <= within]
        assert found.count[i] == len(near)
        assert found.index[i] == (bits.index(min(bits)) if near else -1)
        assert not near or found.distance[i] == min(bits)


def test_more_hashes_than_a_block_are_all_compared(monkeypatch):
    monkeypatch.setattr(likeness, "_PAIRS", 1000)
    many = np.random.default_rng(0).integers(0, 2**64, (600, 4), dtype=np.uint64)
    found = nearest(many, many[::-1], within=0)
    assert found.index.tolist() == list(range(599, -1, -1))
    assert set(found.count) == {1}


# ---------------------------------------------------------------- images


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (encoded(blocks(0)), "RGB"),
        (encoded(blocks(0), "JPEG"), "RGB"),
        (encoded(blocks(0).convert("L")), "grey"),
        (encoded(blocks(0).convert("L"), "JPEG"), "grey"),
        (encoded(blocks(0).convert("CMYK"), "JPEG"), "CMYK"),
        (encoded(blocks(0).convert("P")), "palette"),
        (encoded(blocks(0).convert("RGBA")), "RGB with alpha"),
        (encoded(blocks(0).convert("LA")), "grey with alpha"),
        (encoded(Image.fromarray(np.asarray(blocks(0).convert("L")).astype(np.uint16) * 257)), "16-bit grey"),
    ],
)
def test_every_kind_of_pixels_is_told_and_hashed(data, kind):
    facts = image_facts(data)
    assert (facts.format, facts.size_hw, facts.orientation) == (kind, (120, 160), 1)
    plain = perceptual_hash(blocks(0))
    assert differing_bits(facts.bits[None], plain[None])[0, 0] <= 32


def test_a_turned_image_is_hashed_as_it_is_shown():
    turned = blocks(0).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    facts = image_facts(encoded(turned, "JPEG", exif=exif, quality=95))
    assert (facts.size_hw, facts.orientation) == ((120, 160), 6)
    assert differing_bits(facts.bits[None], perceptual_hash(blocks(0))[None])[0, 0] <= 32


# ---------------------------------------------------------------- labels


def told(counts) -> list[tuple[str, str]]:
    return [(f.kind, f.message) for f in counts.findings]


def test_pixels_are_counted_per_class():
    ids = np.array([[0, 1, 1, 2], [3, 3, 3, 3]], np.uint32)
    counts = count_instances(ids, [Annotation(1, 0), Annotation(2, 7), Annotation(3, 7)], LABELS, Bounds(0.01, 1))
    assert counts.pixels.tolist() == [1, 2, 5]
    assert counts.present == {1, 2}
    assert told(counts) == []


def test_what_is_drawn_as_unlabeled_is_neither_labelled_nor_unknown():
    ids = np.array([[4, 4], [1, 1]], np.uint32)
    counts = count_instances(ids, [Annotation(1, 0), Annotation(4, 9)], LABELS, BOUNDS)
    assert counts.pixels.tolist() == [2, 2, 0]
    assert told(counts) == []


@pytest.mark.parametrize("large", [9, 70_000, (1 << 24) - 1])
def test_ids_and_annotations_are_held_against_each_other(large):
    ids = np.array([[1, 1, 1, large], [0, 2, large, large]], np.uint32)
    annotations = [Annotation(1, 0), Annotation(2, 7), Annotation(5, 7), Annotation(6, 0)]
    assert told(count_instances(ids, annotations, LABELS, BOUNDS)) == [
        ("unknown-id", f"1 drawn id without annotation: {large} (3 pixels)"),
        ("undrawn-annotation", "2 of 4 annotations touch no pixel: 5 (tree), 6 (road)"),
        ("tiny-instance", "1 instance of fewer than 2 pixels: 2 (tree, 1 pixel)"),
    ]


def test_annotations_outside_the_taxonomy_or_with_two_categories():
    ids = np.array([[1, 1, 2, 2]], np.uint32)
    annotations = [Annotation(1, 0), Annotation(1, 7), Annotation(2, 50)]
    counts = count_instances(ids, annotations, LABELS, BOUNDS)
    assert told(counts) == [
        ("bad-annotation", "1 annotation of a category outside the taxonomy: 2 (category 50)"),
        ("bad-annotation", "1 annotation id with two categories: 1 (categories 0 and 7)"),
    ]
    assert counts.pixels.tolist() == [2, 2, 0]


def test_many_ids_are_told_by_the_worst():
    ids = np.repeat(np.arange(1, 13, dtype=np.uint32), range(1, 13))[None]
    (finding,) = count_instances(ids, [], LABELS, BOUNDS).findings
    assert finding.message == (
        "12 drawn ids without annotation: 12 (12 pixels), 11 (11 pixels), 10 (10 pixels) and 9 more"
    )
    assert finding.instances == (12, 11, 10, 9, 8, 7, 6, 5)
    assert finding.score == 78


@pytest.mark.parametrize(
    ("labelled", "annotations", "kind"),
    [
        (0, [], "empty-label"),
        (0, [Annotation(1, 0)], "empty-label"),
        (1, [Annotation(1, 0)], "tiny-label"),
        (2, [], ""),
    ],
)
def test_a_label_is_empty_or_tiny(labelled, annotations, kind):
    ids = np.zeros((10, 20), np.uint32)
    ids.flat[:labelled] = 1
    instances = count_instances(ids, annotations or [Annotation(1, 0)] * bool(labelled), LABELS, Bounds(0.01, 0))
    semantic = count_semantic(ids.astype(np.uint8), LABELS, Bounds(0.01, 0))
    assert [f.kind for f in instances.findings] == [f.kind for f in semantic.findings] == [kind] * bool(kind)


def test_where_unlabeled_is_a_class_no_label_is_empty():
    labels = from_categories([Category(1, "pole")], unlabeled="class")
    assert told(count_semantic(np.full((10, 20), 2, np.uint8), labels, BOUNDS)) == []


def test_a_class_id_past_the_map_is_an_error():
    counts = count_semantic(np.array([[1, 2, 3, 40]], np.uint8), LABELS, BOUNDS)
    assert told(counts) == [("broken-bitmap", "2 pixels have a class id up to 40, and the map ends at 2")]
    assert counts.pixels.tolist() == [0, 1, 1]


def test_shapes_have_classes_and_no_pixels():
    counts = count_shapes([Annotation(1, 7), Annotation(2, 50)], LABELS)
    assert (counts.present, counts.pixels.tolist()) == ({2}, [0, 0, 0])
    assert [f.kind for f in counts.findings] == ["bad-annotation"]
    assert [f.kind for f in count_shapes([], LABELS).findings] == ["empty-label"]


@pytest.mark.parametrize("has_bitmaps", [True, False])
def test_annotations_without_bitmap_are_shapes_only_where_there_are_none(has_bitmaps):
    content = Content("all", "a.jpg", "u", encoded(blocks(0)), None, (Annotation(1, 7),))
    subject = Subject(
        "release", "pull", "", "", LABELS, {"all": 1}, {}, (), read=lambda _: content, has_bitmaps=has_bitmaps
    )
    seen, counts = look(subject, 0, BOUNDS)
    assert seen.has_shapes is not has_bitmaps
    if has_bitmaps:
        assert counts is None
        assert [f.message for f in seen.findings] == ["its bitmap is not there, and its label has 1 annotations"]
    else:
        assert counts is not None
        assert counts.present == {2}
        assert seen.findings == ()
