"""What stands in a drawn street: people, cars, bicycles, poles, trees.

Every painter takes a brush (canvas, place, instance id, light) and a random generator and paints one thing, from
proportions in metres, at that place.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from labelsync.sidewalk.canvas import Canvas, Pixel, Point, Rgb

Rng = np.random.Generator
Flat = tuple[float, float]

_COATS: tuple[Rgb, ...] = (
    (178, 34, 40), (32, 66, 140), (228, 190, 60), (40, 40, 46),
    (226, 226, 220), (34, 110, 92), (212, 110, 44), (120, 60, 130),
)  # fmt: skip
_TROUSERS: tuple[Rgb, ...] = ((38, 42, 62), (24, 24, 28), (92, 82, 70), (70, 90, 130))
_SKINS: tuple[Rgb, ...] = ((238, 196, 164), (206, 152, 116), (150, 100, 70), (96, 62, 46))
_HAIRS: tuple[Rgb, ...] = ((34, 26, 22), (92, 60, 34), (188, 152, 90), (150, 150, 150))
_CAR_PAINTS: tuple[Rgb, ...] = (
    (196, 30, 34), (28, 72, 150), (225, 226, 228), (36, 38, 42),
    (150, 156, 162), (232, 200, 70), (40, 104, 74), (120, 170, 200),
)  # fmt: skip
_BICYCLES: tuple[Rgb, ...] = ((20, 22, 26), (180, 24, 30), (24, 84, 160), (230, 230, 226), (24, 130, 90))
_LAMPS: tuple[Rgb, ...] = ((64, 70, 72), (120, 124, 126), (44, 62, 52))
_LEAVES: tuple[Rgb, ...] = ((66, 104, 42), (88, 120, 46), (52, 92, 58), (132, 120, 40))
_BLACK: Rgb = (24, 24, 26)


@dataclass(frozen=True)
class Brush:
    """Paints one instance at the place (x, z), at its depth and in its light (1 = sun)."""

    canvas: Canvas
    x: float
    z: float
    instance: int
    lit: float

    def color(self, color: Rgb, tone: float = 1.0) -> tuple[int, int, int]:
        """A colour in the light and haze of the place, `tone` times as bright."""
        light = tone * self.lit
        depth = self.canvas.camera.depth(self.x, self.z)
        return self.canvas.faded((color[0] * light, color[1] * light, color[2] * light), depth)

    @property
    def scale(self) -> float:
        """Pixels per metre at the place."""
        return self.canvas.camera.scale(self.x, self.z)

    def upright(self, points: Sequence[Flat]) -> list[Pixel]:
        """(metres right, metres up) in the plane that faces the camera -> pixels."""
        (column, row), scale = self.canvas.camera.project([(self.x, 0.0, self.z)])[0], self.scale
        return [(column + right * scale, row - up * scale) for right, up in points]

    def patch(self, points: Sequence[Flat], color: Rgb, tone: float = 1.0) -> None:
        """A polygon in the upright plane."""
        self.canvas.polygon(self.upright(points), self.color(color, tone), self.instance)

    def disc(self, center: Flat, radii: Flat, color: Rgb, tone: float = 1.0) -> None:
        """An ellipse in the upright plane, sizes in metres."""
        pixels = (radii[0] * self.scale, radii[1] * self.scale)
        self.canvas.ellipse(self.upright([center])[0], pixels, self.color(color, tone), self.instance)

    def face(self, points: Sequence[Point], color: Rgb, tone: float = 1.0) -> None:
        """A polygon of world points."""
        self.canvas.polygon(self.canvas.camera.project(points), self.color(color, tone), self.instance)


def choose(rng: Rng, colors: Sequence[Rgb]) -> Rgb:
    """One of the colours, a little brighter or darker."""
    (r, g, b), tone = colors[int(rng.integers(len(colors)))], float(rng.uniform(0.85, 1.1))
    return r * tone, g * tone, b * tone


def ring(center: Flat, radius: float, corners: int = 20) -> list[Flat]:
    """Corners of a circle."""
    turns = np.linspace(0, 2 * math.pi, corners + 1)
    return [(center[0] + radius * math.cos(t), center[1] + radius * math.sin(t)) for t in turns]


# -------------------------------------------------------------------- people


def paint_person(brush: Brush, rng: Rng) -> None:
    """A walking or standing person of 1.5 to 1.9 m, some with a bag or a long coat."""
    size = float(rng.uniform(1.5, 1.9)) / 1.75
    stride, lean = float(rng.uniform(0.0, 0.24)), float(rng.uniform(-0.06, 0.06))
    coat, legs, skin = choose(rng, _COATS), choose(rng, _TROUSERS), choose(rng, _SKINS)
    hem = float(rng.choice([0.78, 0.84, 0.55]))

    def shape(points: Sequence[Flat], color: Rgb, tone: float = 1.0) -> None:
        brush.patch([(x * size, y * size) for x, y in points], color, tone)

    for side in (-1, 1):
        foot, hip = side * (0.09 + stride), side * 0.09
        shape([(hip - 0.1, 0.9), (hip + 0.1, 0.9), (foot + 0.08, 0.04), (foot - 0.08, 0.04)], legs, 0.9 + 0.1 * side)
        shape([(foot - 0.09, 0.09), (foot + 0.14, 0.07), (foot + 0.14, 0.0), (foot - 0.09, 0.0)], _BLACK)
    if rng.random() < 0.35:
        shape([(-0.34, 1.4), (-0.12, 1.44), (-0.12, 0.92), (-0.33, 0.95)], choose(rng, _COATS), 0.9)
    sides = [(0.22, 1.42), (0.2, 1.05), (0.22, hem)]
    shape([(-0.1, 1.5), (0.1, 1.5), *sides, *((-x, y) for x, y in reversed(sides))], coat)
    shape([(0.07, 1.5), *sides, (0.09, hem)], coat, 0.8)
    for side in (-1, 1):
        hand = side * (0.27 + stride * 0.6)
        arm = [(x * size, y * size) for x, y in ((side * 0.2, 1.4), (side * 0.26, 1.12), (hand, 0.84))]
        brush.canvas.line(brush.upright(arm), brush.color(coat, 0.7), 0.1 * size * brush.scale, brush.instance)
        brush.disc((hand * size, 0.82 * size), (0.05, 0.06), skin)
    brush.disc((lean * size, 1.63 * size), (0.115 * size, 0.15 * size), choose(rng, _HAIRS))
    face = lean + float(rng.uniform(-0.04, 0.04))
    brush.disc((face * size, 1.6 * size), (0.085 * size, 0.115 * size), skin)


# -------------------------------------------------------------------- poles and trees


def paint_pole(brush: Brush, rng: Rng) -> None:
    """A street lamp of 4 to 6 m: base, shaft, and an arm with the lamp."""
    height, half = float(rng.uniform(4.0, 6.0)), float(rng.uniform(0.11, 0.16))
    paint, reach = choose(rng, _LAMPS), float(rng.uniform(0.5, 1.1)) * (1 if rng.random() < 0.5 else -1)
    slim = 0.75 * half
    brush.patch([(-half, 0), (half, 0), (slim, height), (-slim, height)], paint)
    brush.patch([(-half, 0), (-0.3 * half, 0), (-0.3 * half, height), (-slim, height)], paint, 1.35)
    brush.patch([(-1.6 * half, 0), (1.6 * half, 0), (1.4 * half, 0.5), (-1.4 * half, 0.5)], paint, 0.8)
    arm = brush.upright([(0, height), (reach, height + 0.25)])
    brush.canvas.line(arm, brush.color(paint), 0.12 * brush.scale, brush.instance)
    brush.disc((reach, height + 0.22), (0.34, 0.11), (190, 190, 180))


def paint_tree(brush: Brush, rng: Rng) -> None:
    """A street tree: trunk and a crown of leaf clumps, light above and dark below."""
    stem, wide, high = float(rng.uniform(2.0, 2.8)), float(rng.uniform(1.3, 2.2)), float(rng.uniform(1.2, 2.0))
    bark, green = choose(rng, ((86, 66, 50),)), choose(rng, _LEAVES)
    brush.patch([(-0.2, 0), (0.2, 0), (0.13, stem), (-0.13, stem)], bark)
    brush.patch([(0.05, 0), (0.2, 0), (0.13, stem), (0.03, stem)], bark, 0.7)
    clumps = 80
    for i in range(clumps):
        angle, reach = float(rng.uniform(0, 2 * math.pi)), math.sqrt(float(rng.random()))
        up = high * (0.8 + reach * math.sin(angle))
        tone = 0.5 + 0.3 * up / high * (0.5 + i / clumps / 2) + float(rng.uniform(-0.08, 0.14))
        radius = float(rng.uniform(0.22, 0.5)) * (1.15 - i / clumps / 2)
        brush.disc((wide * reach * math.cos(angle), stem + up), (radius, radius * 0.85), green, tone)


# -------------------------------------------------------------------- cars

# Side views as (metres from the rear, metres up): rear bumper, boot, roof, bonnet, front bumper.
_CARS: tuple[tuple[Flat, ...], ...] = (
    ((0.0, 0.3), (0.0, 0.75), (0.15, 0.95), (0.75, 1.42), (2.3, 1.45), (3.1, 0.95), (4.1, 0.8), (4.2, 0.3)),
    ((0.0, 0.3), (0.0, 0.9), (0.1, 1.0), (0.35, 1.5), (2.5, 1.52), (3.2, 1.0), (4.0, 0.85), (4.1, 0.3)),
    ((0.0, 0.3), (0.0, 1.0), (0.05, 1.1), (0.2, 1.85), (3.0, 1.88), (3.8, 1.1), (4.5, 0.95), (4.6, 0.3)),
)
_HALF_WIDTH = 0.88
_GLASS: Rgb = (42, 52, 62)


def paint_car(brush: Brush, rng: Rng) -> None:
    """A car parallel to the street, right of the camera, pointing away or back."""
    profile = _CARS[int(rng.integers(len(_CARS)))]
    paint, ahead = choose(rng, _CAR_PAINTS), 1 if rng.random() < 0.5 else -1
    middle = profile[-1][0] / 2

    def spot(across: float, point: Flat) -> Point:
        return brush.x + across * _HALF_WIDTH, point[1], brush.z + ahead * (point[0] - middle)

    for hub in _hubs(profile):  # the wheels of the other side, seen under the body
        brush.face([spot(0.85, p) for p in ring((hub, 0.33), 0.33)], _BLACK, 0.6)
    # The body is the side view pushed through its width: its faces from far to near, then the side towards the camera.
    faces = sorted(
        itertools.pairwise(profile),
        key=lambda ab: -abs(spot(0, ab[0])[2] + spot(0, ab[1])[2]),
    )
    for a, b in faces:
        steep, pane = abs(b[1] - a[1]) > 3 * abs(b[0] - a[0]), abs(b[1] - a[1]) > 0.25 and min(a[1], b[1]) > 0.9
        brush.face([spot(-1, a), spot(1, a), spot(1, b), spot(-1, b)], paint, 0.75 if steep else 0.9 if pane else 1.15)
        if pane:
            low, high = _between(a, b, 0.1), _between(a, b, 0.9)
            brush.face([spot(-0.86, low), spot(0.86, low), spot(0.86, high), spot(-0.86, high)], _GLASS)
        if steep and not pane:
            _paint_car_end(brush, spot, a[0], rear=a[0] < middle)
    _paint_car_side(brush, spot, profile, paint)


def _paint_car_end(brush: Brush, spot: Callable[[float, Flat], Point], at: float, *, rear: bool) -> None:
    """Lamps and number plate."""
    lamp: Rgb = (206, 30, 30) if rear else (246, 240, 206)
    for left, right, low, high, color in (
        (-0.95, -0.62, 0.58, 0.74, lamp), (0.62, 0.95, 0.58, 0.74, lamp), (-0.3, 0.3, 0.42, 0.54, (226, 220, 190)),
    ):  # fmt: skip
        brush.face([spot(x, (at, y)) for x, y in ((left, low), (right, low), (right, high), (left, high))], color)


def _paint_car_side(brush: Brush, spot: Callable[[float, Flat], Point], profile: Sequence[Flat], paint: Rgb) -> None:
    """The side towards the camera: body, windows, sill and wheels."""

    def side(points: Sequence[Flat], color: Rgb, tone: float = 1.0) -> None:
        brush.face([spot(-1, p) for p in points], color, tone)

    side(profile, paint, 0.95)
    back, front, roof, belt = profile[3][0], profile[4][0], profile[3][1] - 0.1, profile[5][1] + 0.05
    post = (back + front) / 2
    side([(back - 0.25, belt), (back + 0.08, roof), (post - 0.05, roof), (post - 0.05, belt)], _GLASS)
    side([(post + 0.05, belt), (post + 0.05, roof), (front - 0.05, roof), (front + 0.5, belt)], _GLASS)
    length = profile[-1][0]
    side([(0.0, 0.3), (length, 0.3), (length, 0.42), (0.0, 0.42)], paint, 0.55)
    for hub in _hubs(profile):
        for radius, color in ((0.36, _BLACK), (0.2, (140, 142, 146)), (0.07, (60, 60, 64))):
            side(ring((hub, 0.33), radius), color)


def _hubs(profile: Sequence[Flat]) -> Flat:
    return 0.78, profile[-1][0] - 0.85


def _between(a: Flat, b: Flat, t: float) -> Flat:
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t


# -------------------------------------------------------------------- bicycles


def paint_bicycle(brush: Brush, rng: Rng) -> None:
    """A parked bicycle seen more or less from the side; the inside of its wheels belongs to it."""
    canvas, paint = brush.canvas, choose(rng, _BICYCLES)
    turn = float(rng.uniform(-0.6, 0.6)) + canvas.camera.yaw
    ahead = 1 if rng.random() < 0.5 else -1

    def at(points: Sequence[Flat]) -> list[Pixel]:
        right, away = ahead * math.cos(turn), -ahead * math.sin(turn)
        return canvas.camera.project([(brush.x + u * right, v, brush.z + u * away) for u, v in points])

    def tube(points: Sequence[Flat], color: Rgb, thick: float) -> None:
        canvas.line(at(points), brush.color(color), thick * brush.scale, brush.instance)

    rear, front, crank, seat, head = (-0.53, 0.35), (0.55, 0.35), (-0.08, 0.3), (-0.22, 0.86), (0.4, 0.84)
    canvas.claim(at([rear, seat, head, front, crank]), brush.instance)
    for hub in (rear, front):
        rim = ring(hub, 0.34, 24)
        canvas.claim(at(rim), brush.instance)
        for end in rim[::2]:
            tube([hub, end], (150, 150, 152), 0.008)
        tube(rim, _BLACK, 0.055)
    for a, b in ((rear, crank), (rear, seat), (crank, seat), (crank, head), (seat, head), (head, front)):
        tube([a, b], paint, 0.05)
    tube([seat, (-0.25, 0.98)], _BLACK, 0.04)
    tube([(-0.38, 0.99), (-0.12, 0.99)], _BLACK, 0.08)
    tube([head, (0.36, 1.04), (0.26, 1.06)], _BLACK, 0.05)
    tube([crank, (-0.02, 0.14)], _BLACK, 0.04)


# -------------------------------------------------------------------- the kinds


@dataclass(frozen=True)
class Kind:
    """A kind of thing: its category, its painter, and its shadow's height and half widths along (x, z) in metres."""

    category: str
    paint: Callable[[Brush, Rng], None]
    height: float
    half: Flat


PERSON = Kind("human-person", paint_person, 1.6, (0.22, 0.22))
CAR = Kind("vehicle-car", paint_car, 1.2, (0.9, 2.1))
BICYCLE = Kind("vehicle-bicycle", paint_bicycle, 0.8, (0.4, 0.15))
POLE = Kind("object-pole", paint_pole, 4.5, (0.1, 0.1))
TREE = Kind("nature-vegetation", paint_tree, 2.2, (0.16, 0.16))


@dataclass(frozen=True)
class Thing:
    """One thing at (x, z)."""

    kind: Kind
    x: float
    z: float
