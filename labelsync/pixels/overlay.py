"""Overlays: class colours over an image, with a legend, beside the label or the plain image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

RGB = npt.NDArray[np.uint8]

_PAD = 6
_LEGEND_STEP = 34  # colour box and gaps of a legend entry, beside its name
_BACK = (24, 24, 24)
_INK = (235, 235, 235)


def colorize(bitmap: npt.NDArray[Any], colors: RGB) -> RGB:
    """(H, W) disk ids and (K + 1, 3) colours -> (H, W, 3) uint8; ids past the table are black."""
    table = np.concatenate([colors, np.zeros((1, 3), np.uint8)])
    painted: RGB = table[np.minimum(bitmap, len(colors))]
    return painted


def overlay(image: RGB, bitmap: npt.NDArray[Any], colors: RGB, *, alpha: float = 0.55) -> RGB:
    """(H, W, 3) image under (H, W) classes: labelled pixels are `alpha` colour, unlabeled ones stay as they are.

    Class borders are drawn at full colour, so that neighbours of like hue stay apart.
    """
    paint = colorize(bitmap, colors).astype(np.float32)
    weight = np.where(bitmap > 0, alpha, 0.0).astype(np.float32)
    weight[borders(bitmap)] = 1.0
    mixed = image * (1 - weight[..., None]) + paint * weight[..., None]
    return mixed.round().astype(np.uint8)


def panel(
    pictures: Sequence[tuple[str, RGB]], classes: Sequence[tuple[str, tuple[int, int, int]]], *, height: int = 360
) -> RGB:
    """Titled pictures side by side at one height, and a legend of (name, colour) under them.

    Titles are cut to their picture; without any title there is no line for them. The picture is at least as wide as
    the longest entry of the legend.
    """
    font: Any = ImageFont.load_default(14)
    scaled = [
        (title, Image.fromarray(p).resize((max(1, round(p.shape[1] * height / p.shape[0])), height)))
        for title, p in pictures
    ]
    steps = [_LEGEND_STEP + round(font.getlength(name)) for name, _ in classes]
    width = max(sum(p.width for _, p in scaled) + _PAD * (len(scaled) + 1), _PAD + max(steps, default=0))
    rows = _legend_rows(classes, steps, width)
    top = 26 if any(title for title, _ in scaled) else _PAD
    canvas = Image.new("RGB", (width, top + height + 22 * len(rows) + 2 * _PAD), _BACK)
    draw = ImageDraw.Draw(canvas)
    x = _PAD
    for title, picture in scaled:
        draw.text((x, 5), _cut(title, font, picture.width), fill=_INK, font=font)
        canvas.paste(picture, (x, top))
        x += picture.width + _PAD
    for i, row in enumerate(rows):
        x, y = _PAD, top + height + _PAD + 22 * i
        for name, color, step in row:
            draw.rectangle((x, y + 2, x + 14, y + 16), fill=color, outline=_INK)
            draw.text((x + 20, y), name, fill=_INK, font=font)
            x += step
    return np.asarray(canvas)


def borders(bitmap: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True where a labelled pixel differs from the one right of it or below it."""
    edge = np.zeros(bitmap.shape, bool)
    edge[:, :-1] |= bitmap[:, :-1] != bitmap[:, 1:]
    edge[:-1] |= bitmap[:-1] != bitmap[1:]
    return edge & (bitmap > 0)


def _cut(text: str, font: Any, width: int) -> str:
    """`text` as it fits into `width` pixels, with an ellipsis if anything is left out."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…" if text else ""


def _legend_rows(
    classes: Sequence[tuple[str, tuple[int, int, int]]], steps: Sequence[int], width: int
) -> list[list[tuple[str, tuple[int, int, int], int]]]:
    """(name, colour, step to the next entry) in rows that fit into `width`."""
    rows: list[list[tuple[str, tuple[int, int, int], int]]] = [[]]
    x = _PAD
    for (name, color), step in zip(classes, steps, strict=True):
        if x + step > width and rows[-1]:
            rows.append([])
            x = _PAD
        rows[-1].append((name, color, step))
        x += step
    return [row for row in rows if row]
