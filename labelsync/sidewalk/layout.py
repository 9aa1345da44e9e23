"""What a drawn scene is made of, by chance: the light, the street, and the things in it."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from labelsync.sidewalk.canvas import Camera, Floats, Pixel, Rgb
from labelsync.sidewalk.street import (
    BUILDING,
    CROSSWALK,
    CURB,
    ROAD,
    SIDEWALK,
    TERRAIN,
    VEGETATION,
    Light,
    Street,
    Wall,
)
from labelsync.sidewalk.things import BICYCLE, CAR, PERSON, POLE, TREE, Flat, Kind, Rng, Thing

_FACADES: tuple[Rgb, ...] = (
    (168, 92, 70), (186, 160, 122), (150, 70, 58), (205, 196, 180),
    (140, 132, 126), (196, 140, 96), (120, 96, 84), (214, 206, 160),
)  # fmt: skip
_PAVINGS: tuple[Rgb, ...] = ((168, 164, 158), (186, 174, 152), (150, 146, 142), (176, 150, 136))
_GRASSES: tuple[Rgb, ...] = ((104, 134, 62), (122, 132, 70), (90, 124, 60))
_NOISE = 4096


def draw_light(rng: Rng) -> Light:
    """A sunny day (every second), an overcast one, or an evening."""
    weather = ("sunny", "sunny", "overcast", "evening")[int(rng.integers(4))]
    angle = float(rng.uniform(0, 2 * math.pi))
    reach = float(rng.uniform(1.2, 2.4) if weather == "evening" else rng.uniform(0.4, 1.2))
    sun = (reach * math.cos(angle), reach * math.sin(angle))
    if weather == "sunny":
        shade, clouds = float(rng.uniform(0.6, 0.75)), float(rng.uniform(0, 0.4))
        return Light(weather, sun, shade, (1.04, 1.01, 0.95), (70, 120, 195), (190, 212, 232), clouds, 120.0)
    if weather == "overcast":
        grey, clouds = float(rng.uniform(0.85, 0.98)), float(rng.uniform(0.6, 1.0))
        tint = (grey * 0.97, grey, grey * 1.03)
        return Light(weather, sun, 1.0, tint, (150, 158, 168), (205, 210, 214), clouds, 70.0)
    shade, clouds = float(rng.uniform(0.65, 0.78)), float(rng.uniform(0.1, 0.5))
    return Light(weather, sun, shade, (1.06, 0.92, 0.78), (92, 112, 165), (240, 196, 150), clouds, 90.0)


def draw_camera(rng: Rng, size_hw: tuple[int, int], *, crossing: bool) -> Camera:
    """The robot's camera, along the street or (`crossing`) about to cross it."""
    rows, columns = size_hw
    yaw = rng.uniform(0.7, 1.3) if crossing else rng.uniform(-0.2, 0.55)
    focal, horizon = columns * rng.uniform(0.62, 0.85), rows * rng.uniform(0.36, 0.46)
    return Camera(size_hw, float(focal), float(horizon), float(rng.uniform(1.0, 1.4)), float(yaw))


# -------------------------------------------------------------------- the street


def draw_street(rng: Rng, *, crossing: bool) -> Street:
    """A street with the road to the right: houses, sidewalk, curb, road, curb, sidewalk, houses, some gardens."""
    inside = float(rng.uniform(1.0, 2.2))
    garden = float(rng.uniform(1.2, 3.0)) if rng.random() < 0.55 else 0.0
    outside = float(rng.uniform(1.6, 2.8) if crossing else rng.uniform(1.0, 2.2))
    verge = float(rng.uniform(0.8, 1.6)) if rng.random() < 0.35 and not crossing else 0.0
    curb, road = float(rng.uniform(0.28, 0.38)), float(rng.uniform(5.5, 8.0))
    beyond, lawn = float(rng.uniform(1.8, 3.0)), float(rng.uniform(1.5, 3.0)) if rng.random() < 0.5 else 0.0
    strips = [
        (TERRAIN, garden), (SIDEWALK, inside + outside), (TERRAIN, verge), (CURB, curb), (ROAD, road), (CURB, curb),
        (SIDEWALK, beyond), (TERRAIN, lawn),
    ]  # fmt: skip
    strips = [(kind, width) for kind, width in strips if width]
    borders = -inside - garden + np.cumsum([0.0, *(width for _, width in strips)])
    zebra = None
    if crossing or rng.random() < 0.45:
        near = float(rng.uniform(-2.5, -0.5) if crossing else rng.uniform(3, 14))
        zebra = (near, near + float(rng.uniform(3, 4)))
    grey = float(rng.uniform(70, 105))
    asphalt, curbstone = (grey, grey, grey + 3), (205, 203, 196)
    colors: dict[int, Rgb] = {ROAD: asphalt, CROSSWALK: asphalt, CURB: curbstone}
    colors |= {SIDEWALK: _PAVINGS[int(rng.integers(4))], TERRAIN: _GRASSES[int(rng.integers(3))]}
    return Street(
        borders.astype(np.float32),
        np.array([TERRAIN, *(kind for kind, _ in strips), TERRAIN]),
        zebra,
        (float(rng.uniform(0.35, 0.8)), float(rng.uniform(0.35, 0.6))),
        colors,
        _draw_walls(rng, float(borders[0]), float(borders[-1]), garden=garden, lawn=lawn),
        rng.uniform(-1, 1, _NOISE).astype(np.float32),
    )


def _draw_walls(rng: Rng, near: float, far: float, *, garden: float, lawn: float) -> tuple[Wall, ...]:
    """Houses at x = near and x = far, hedges before their gardens, trees behind them, an end to the street."""
    end = float(rng.uniform(28, 70))
    walls = [
        _row(rng, near, (-14, end), BUILDING, gaps=0.12, heights=(5, 12)),
        _row(rng, far, (-25, end), BUILDING, gaps=0.12, heights=(5, 12)),
        _row(rng, near - 9, (-30, end + 8), VEGETATION, heights=(3, 6)),
        _row(rng, far + 9, (-40, end + 8), VEGETATION, heights=(3, 6)),
    ]
    kind = VEGETATION if rng.random() < 0.6 else BUILDING
    walls.append(_row(rng, end + float(rng.uniform(1, 8)), (-40, 60), kind, heights=(4, 8), across=True))
    if garden:
        walls.append(_row(rng, near + garden - 0.25, (-6, end), VEGETATION, gaps=0.3, heights=(0.7, 1.3), long=(3, 8)))
    if lawn:
        walls.append(_row(rng, far - lawn + 0.3, (-20, end), VEGETATION, gaps=0.4, heights=(0.7, 1.5), long=(3, 8)))
    return tuple(walls)


def _row(
    rng: Rng,
    at: float,
    reach: tuple[float, float],
    kind: int,
    *,
    heights: Flat,
    gaps: float = 0.0,
    long: Flat = (6, 13),
    across: bool = False,
) -> Wall:
    """Pieces of a wall from reach[0] to past reach[1]."""
    edges = [reach[0]]
    while edges[-1] < reach[1]:
        edges.append(edges[-1] + float(rng.uniform(*long)))
    n = len(edges) - 1
    if kind == BUILDING:
        colors = np.array(_FACADES)[rng.integers(len(_FACADES), size=n)]
    else:
        colors = np.array([(62, 100, 44)] * n)
    return Wall(
        at,
        np.array(edges, np.float32),
        (rng.uniform(*heights, n) * (rng.random(n) >= gaps)).astype(np.float32),
        (colors * rng.uniform(0.82, 1.12, (n, 1))).astype(np.float32),
        rng.uniform(1.9, 2.8, n).astype(np.float32),
        (rng.uniform(0.9, 1.8, n) * (rng.random(n) < 0.55)).astype(np.float32),
        kind,
        across,
    )


# -------------------------------------------------------------------- the things


def furnish(rng: Rng, street: Street, camera: Camera) -> list[Thing]:
    """People, bicycles, poles, cars and trees where one finds them, in sight and not on top of each other."""
    things: list[Thing] = []
    walk, beyond, road = street.strip(SIDEWALK), street.strip(SIDEWALK, nth=1), street.strip(ROAD)
    verge = street.strip(CURB)[0] - walk[1]

    def put(kind: Kind, number: int, x: Flat, z: Flat, *, apart: float, within: Flat, zebra: bool = True) -> None:
        for _ in range(60):
            if number <= 0:
                return
            one = Thing(kind, float(rng.uniform(*x)), float(rng.uniform(*z)))
            if _fits(one, things, camera, apart=apart, within=within) and (zebra or not _on_zebra(one, street)):
                things.append(one)
                number -= 1

    put(BICYCLE, int(rng.integers(1, 3)), (walk[0] + 0.4, walk[1] - 0.3), (-6, 12), apart=1.3, within=(3.0, 8))
    put(PERSON, int(rng.integers(1, 4)), (walk[0] + 0.3, walk[1] - 0.2), (-6, 20), apart=0.9, within=(2.2, 10))
    put(PERSON, int(rng.integers(0, 3)), (beyond[0] + 0.2, beyond[1] - 0.2), (-6, 20), apart=0.9, within=(3, 16))
    if street.crosswalk and rng.random() < 0.7:
        put(
            PERSON,
            int(rng.integers(1, 3)),
            (road[0] + 0.5, road[1] - 0.5),
            street.crosswalk,
            apart=0.9,
            within=(2.5, 14),
        )
    put(POLE, int(rng.integers(1, 4)), (walk[1] - 0.35, walk[1] - 0.15), (-6, 22), apart=3, within=(3.2, 13))
    put(POLE, int(rng.integers(1, 4)), (beyond[0] + 0.15, beyond[0] + 0.4), (-6, 22), apart=3, within=(3, 16))
    for lane, number in (((road[0] + 1.05, road[0] + 1.25), 3), ((road[1] - 1.25, road[1] - 1.05), 4)):
        put(
            CAR,
            int(rng.integers(0 if number == 3 else 1, number)),
            lane,
            (-8, 30),
            apart=5.4,
            within=(4.4, 30),
            zebra=False,
        )
    if rng.random() < 0.7:
        edge = (walk[1] + 0.2, walk[1] + verge - 0.2) if verge > 0.5 else (walk[1] - 0.25, walk[1] - 0.1)
        put(TREE, int(rng.integers(1, 3)), edge, (3, 30), apart=3, within=(5, 30))
    return sorted(things, key=lambda t: -camera.depth(t.x, t.z))


def _fits(one: Thing, things: Sequence[Thing], camera: Camera, *, apart: float, within: Flat) -> bool:
    """In the picture, at a depth of `within` metres, `apart` from others: cars from cars, all else from all else."""
    seen = camera.project([(one.x, 0.0, one.z)])
    if not within[0] < camera.depth(one.x, one.z) < within[1] or not seen:
        return False
    if not -0.08 < seen[0][0] / camera.size_hw[1] < 1.08:
        return False
    others = [t for t in things if (t.kind is CAR) == (one.kind is CAR)]
    return all(math.hypot(one.x - t.x, one.z - t.z) > apart for t in others)


def _on_zebra(one: Thing, street: Street) -> bool:
    reach = one.kind.half[1] + 0.8
    return street.crosswalk is not None and street.crosswalk[0] - reach < one.z < street.crosswalk[1] + reach


# -------------------------------------------------------------------- shadows


def cast_shadows(camera: Camera, light: Light, things: Sequence[Thing]) -> Floats:
    """(H, W) brightness that the things leave on the ground: long shadows in the sun, soft ones under clouds."""
    rows, columns = camera.size_hw
    picture = Image.new("L", (columns, rows), 255)
    draw = ImageDraw.Draw(picture)
    sunny = light.shade < 1
    for thing in things:
        for ground in _sun_shadow(thing, light) if sunny else [_round(thing.x, thing.z, thing.kind.half, 1.3)]:
            seen: list[Pixel] = camera.project([(x, 0.0, z) for x, z in ground])
            if seen:
                draw.polygon(seen, fill=round(255 * light.shade) if sunny else 190)
    soft = picture.filter(ImageFilter.GaussianBlur(columns / (500 if sunny else 160)))
    return np.asarray(soft, np.float32) / 255


def _sun_shadow(thing: Thing, light: Light) -> list[list[Flat]]:
    """The things' outlines on the ground, pushed away from the sun by their height."""
    (sx, sz), kind = light.sun, thing.kind
    dx, dz = sx * kind.height, sz * kind.height
    if kind is CAR:
        a, b = kind.half
        base = [(thing.x + i * a, thing.z + j * b) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        return [[(x + f * dx, z + f * dz) for x, z in base] for f in (0.0, 0.35, 0.7, 1.0)]
    length = math.hypot(sx, sz)
    nx, nz = -sz / length * kind.half[0], sx / length * kind.half[0]
    x, z = thing.x, thing.z
    stem = [(x + nx, z + nz), (x - nx, z - nz), (x - nx + dx, z - nz + dz), (x + nx + dx, z + nz + dz)]
    return [stem, _round(x + 1.4 * dx, z + 1.4 * dz, (1.6, 1.6), 1.0)] if kind is TREE else [stem]


def _round(x: float, z: float, half: Flat, wider: float) -> list[Flat]:
    turns = np.linspace(0, 2 * math.pi, 21)
    return [(x + wider * half[0] * math.cos(t), z + wider * half[1] * math.sin(t)) for t in turns]
