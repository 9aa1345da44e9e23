"""Images as cameras write them, bitmaps as other programs rewrite them: what the commands make of them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import load_dataset
from PIL import Image

from labelsync.pixels.instance import encode_instance_bitmap
from labelsync.pixels.semantic import decode_semantic
from tests.commands import Commands
from tests.pngs import raw_png
from tests.releases import draw_release, edit_release, sample_uuid

INVERSE = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # orientation -> the PIL.Image.Transpose that undoes it


# -------------------------------------------------------------------- EXIF


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_image_and_label_agree_under_every_orientation_and_the_image_keeps_its_bytes(
    commands: Commands, tmp_path: Path, suffix: str
) -> None:
    """People draw on the image as a browser shows it: turned and mirrored as all eight orientations say."""
    path = draw_release(tmp_path / "drawn", samples=9)
    shown = {}
    for orientation in range(1, 10):  # the ninth has no EXIF at all
        file = tmp_path / f"drawn/images/frame_{orientation - 1:04d}.jpg"
        upright = Image.open(file).convert("RGB")
        exif = Image.Exif()
        if orientation < 9:
            exif[0x0112] = orientation
        turn = INVERSE.get(orientation)
        stored = upright if turn is None else upright.transpose(Image.Transpose(turn))
        stored.save(file.with_suffix(suffix), exif=exif, **({"quality": 95} if suffix == ".jpg" else {}))
        shown[sample_uuid(orientation - 1)] = (np.asarray(upright), file.with_suffix(suffix).read_bytes())
    edit_release(path, lambda d: [_rename(s, suffix) for s in d["dataset"]["samples"]])
    commands.pull(path)
    commands.convert("data", "--fractions", "100,0,0")

    rows = load_dataset(str(tmp_path / "data"), split="train")
    assert len(rows) == 9
    for row in rows:
        upright, _ = shown[row["uuid"]]
        image, label = np.asarray(row["pixel_values"]).astype(int), np.asarray(row["label"])
        assert image.shape == (*label.shape, 3)
        assert np.abs(image - upright).mean() < 4  # a second JPEG; any other frame is off by 60 and more
        rgba = np.asarray(Image.open(tmp_path / f"drawn/bitmaps/{row['uuid']}.png"))
        assert ((label > 0) == (rgba[..., :3].sum(-1) > 0)).all()
    for uuid, (_, row) in commands.rows().items():
        assert row.image == shown[uuid][1]


def _rename(sample: dict[str, Any], suffix: str) -> None:
    sample["name"] = Path(sample["name"]).with_suffix(suffix).name
    sample["attributes"]["image"]["url"] = f"images/{sample['name']}"


# -------------------------------------------------------------------- bitmaps

IDS = np.array([[0, 1, 1, 0, 0, 0], [0, 1, 2, 2, 0, 0], [3, 3, 2, 0, 0, 3], [0, 0, 0, 0, 1, 2]], np.uint32)
COLORS = [(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0)]
ANNOTATIONS = [{"id": i, "category_id": i, "attributes": {}} for i in (1, 2, 3)]


def saved(mode: str) -> bytes:
    out = io.BytesIO()
    image = Image.open(io.BytesIO(encode_instance_bitmap(IDS))).convert("RGB")
    image.convert(mode, palette=Image.Palette.ADAPTIVE).save(out, "PNG", optimize=True)
    return out.getvalue()


FORMS = {
    "RGBA": encode_instance_bitmap(IDS),
    "RGB": saved("RGB"),
    "palette": saved("P"),
    "palette of 2 bits": raw_png(IDS.tolist(), kind=3, bits=2, palette=COLORS),
    "transparent palette": raw_png(IDS.tolist(), kind=3, bits=8, palette=COLORS, transparency=bytes([0, 255, 9, 255])),
    "grey": raw_png(IDS.tolist(), kind=0, bits=8),
    "grey of 2 bits": raw_png(IDS.tolist(), kind=0, bits=2),
    "grey of 4 bits": raw_png(IDS.tolist(), kind=0, bits=4),
    "grey of 16 bits": raw_png(IDS.tolist(), kind=0, bits=16),
    "grey with alpha": raw_png([[v for n in row for v in (n, 255 * (n > 0))] for row in IDS.tolist()], kind=4, bits=8),
    "grey of 1 bit": raw_png((IDS == 1).astype(int).tolist(), kind=0, bits=1),
}


def test_every_form_of_a_bitmap_becomes_the_same_label(commands: Commands, tmp_path: Path) -> None:
    path = draw_release(tmp_path / "drawn", samples=len(FORMS), size=IDS.shape)
    for i, data in enumerate(FORMS.values()):
        (tmp_path / f"drawn/bitmaps/{sample_uuid(i)}.png").write_bytes(data)

    def relabel(document: dict[str, Any]) -> None:
        for sample in document["dataset"]["samples"]:
            sample["labels"]["ground-truth"]["attributes"]["annotations"] = ANNOTATIONS

    commands.pull(edit_release(path, relabel))
    made = commands.convert("data", "--fractions", "100,0,0")
    assert made.outcomes["converted"] == len(FORMS)
    rows = commands.rows()
    for i, form in enumerate(FORMS):
        label = decode_semantic(rows[sample_uuid(i)][1].label).tolist()
        assert label == ((IDS == 1).astype(int) if form == "grey of 1 bit" else IDS).tolist(), form


def test_half_of_a_16_bit_colour_is_never_dropped_in_silence(commands: Commands, tmp_path: Path) -> None:
    path = draw_release(tmp_path / "drawn", samples=3)
    wide = raw_png([[0, 0, 0, 257, 0, 0]], kind=2, bits=16)
    (tmp_path / f"drawn/bitmaps/{sample_uuid(1)}.png").write_bytes(wide)
    commands.pull(path)
    done = commands.cli("convert", tmp_path / "release", "--out", tmp_path / "data", code=1)
    assert "'frame_0001.jpg' failed: its bitmap: a bitmap of several channels has 8 bits in each" in done.stderr
