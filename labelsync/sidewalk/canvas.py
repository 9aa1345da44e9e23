"""The camera of a drawn scene, and the canvas that keeps every pixel's colour and instance id in step.

World coordinates are metres: x to the right of the street's direction, y up, z along the street. The camera stands at
(0, height, 0).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Floats = npt.NDArray[np.floating[Any]]
Rgb = tuple[float, float, float]
Pixel = tuple[float, float]
Point = tuple[float, float, float]

NEAR = 0.4  # metres; what is nearer to the camera plane is not drawn


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with a level horizon.

    Attributes:
        size_hw: picture size in pixels.
        focal: focal length in pixels.
        horizon: row of the horizon (a shifted lens, so that verticals stay vertical).
        height: metres above the ground.
        yaw: radians, positive = turned towards +x.
    """

    size_hw: tuple[int, int]
    focal: float
    horizon: float
    height: float
    yaw: float

    def rays(self) -> tuple[Floats, Floats, Floats]:
        """World direction of every pixel, of depth 1 along the view axis: x (1, W), y (H, 1), z (1, W)."""
        rows, columns = self.size_hw
        across = ((np.arange(columns, dtype=np.float32) + 0.5 - columns / 2) / self.focal)[None, :]
        up = (-(np.arange(rows, dtype=np.float32) + 0.5 - self.horizon) / self.focal)[:, None]
        sine, cosine = np.float32(np.sin(self.yaw)), np.float32(np.cos(self.yaw))
        return cosine * across + sine, up, cosine - sine * across

    def depth(self, x: float, z: float) -> float:
        """Metres of (x, z) before the camera plane; negative = behind it."""
        return float(np.sin(self.yaw) * x + np.cos(self.yaw) * z)

    def scale(self, x: float, z: float) -> float:
        """Pixels per metre at (x, z)."""
        return self.focal / max(self.depth(x, z), NEAR)

    def project(self, points: Sequence[Point]) -> list[Pixel]:
        """World points -> (column, row); empty if one of them is behind the camera."""
        seen = []
        for x, y, z in points:
            depth = self.depth(x, z)
            if depth < NEAR:
                return []
            across = float(np.cos(self.yaw) * x - np.sin(self.yaw) * z)
            column = self.size_hw[1] / 2 + self.focal * across / depth
            seen.append((column, self.horizon + self.focal * (self.height - y) / depth))
        return seen


@dataclass
class Canvas:
    """A picture (mode RGB) and its instance ids (mode I), painted in step; what is painted later hides the earlier.

    `haze` is the colour that distance fades to, `visibility` the metres after which two thirds are gone.
    """

    camera: Camera
    picture: Image.Image
    ids: Image.Image
    haze: Rgb
    visibility: float
    _on_picture: ImageDraw.ImageDraw = field(init=False)
    _on_ids: ImageDraw.ImageDraw = field(init=False)

    def __post_init__(self) -> None:
        self._on_picture, self._on_ids = ImageDraw.Draw(self.picture), ImageDraw.Draw(self.ids)

    def faded(self, color: Rgb, depth: float) -> tuple[int, int, int]:
        """A colour after `depth` metres of haze, as Pillow takes it."""
        left = float(np.exp(-depth / self.visibility))
        r, g, b = (
            round(max(0.0, min(255.0, c * left + h * (1 - left)))) for c, h in zip(color, self.haze, strict=True)
        )
        return r, g, b

    def polygon(self, pixels: Sequence[Pixel], color: tuple[int, int, int], instance: int) -> None:
        """A filled polygon; nothing for fewer than three corners (behind the camera)."""
        if len(pixels) > 2:
            self._on_picture.polygon(pixels, fill=color)
            self._on_ids.polygon(pixels, fill=instance)

    def ellipse(self, center: Pixel, radii: Pixel, color: tuple[int, int, int], instance: int) -> None:
        """A filled, upright ellipse; `radii` are along the columns and along the rows."""
        (x, y), (a, b) = center, radii
        box = (x - a, y - b, x + a, y + b)
        self._on_picture.ellipse(box, fill=color)
        self._on_ids.ellipse(box, fill=instance)

    def line(self, pixels: Sequence[Pixel], color: tuple[int, int, int], width: float, instance: int) -> None:
        """A line of `width` pixels, at least one."""
        if len(pixels) > 1:
            wide = max(1, round(width))
            self._on_picture.line(pixels, fill=color, width=wide, joint="curve")
            self._on_ids.line(pixels, fill=instance, width=wide, joint="curve")

    def claim(self, pixels: Sequence[Pixel], instance: int) -> None:
        """Give a polygon to an instance without painting it: labelers count what one sees through as the object."""
        if len(pixels) > 2:
            self._on_ids.polygon(pixels, fill=instance)
