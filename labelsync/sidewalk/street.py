"""The street of a drawn scene: sky, ground strips, facades and hedges, one ray per pixel.

Everything here is a function of where a ray meets the ground or an upright plane, so perspective, paving, windows and
the shadows of houses come out right from any angle. What stands in the street is in `things`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labelsync.sidewalk.canvas import NEAR, Camera, Floats, Rgb
from labelsync.sidewalk.preset import CATEGORIES

ID = {c.name: c.id for c in CATEGORIES}
ROAD, SIDEWALK, CROSSWALK, CURB = (ID[f"flat-{n}"] for n in ("road", "sidewalk", "crosswalk", "curb"))
BUILDING, VEGETATION = ID["construction-building"], ID["nature-vegetation"]
TERRAIN, SKY = ID["nature-terrain"], ID["sky"]

_FLOOR = 3.0  # metres from one storey to the next
_GLASS, _FRAME, _DOOR = (46, 54, 66), (205, 203, 196), (96, 62, 44)
_WHITE_PAINT = (226, 226, 220)


@dataclass(frozen=True)
class Light:
    """Time of day and weather.

    Attributes:
        sun: metres of shadow along (x, z) per metre of height.
        shade: brightness inside a shadow, 1 = no shadows.
        tint: factor per colour channel over the whole picture.
        zenith, haze: colours of the sky above and at the horizon.
        clouds: 0 = clear, 1 = closed.
        visibility: metres after which distance has taken two thirds of a colour.
    """

    weather: str
    sun: tuple[float, float]
    shade: float
    tint: Rgb
    zenith: Rgb
    haze: Rgb
    clouds: float
    visibility: float


@dataclass(frozen=True)
class Wall:
    """Houses or hedges in a row: the plane x = `at` with pieces along z, or z = `at` with pieces along x (`across`).

    `edges` (n + 1,) are the borders of the pieces in metres, `heights` (n,) metres, 0 = a gap; `colors` (n, 3) 0..255;
    `pitch` (n,) metres from window to window; `roofs` (n,) metres of tiles on top.
    """

    at: float
    edges: Floats
    heights: Floats
    colors: Floats
    pitch: Floats
    roofs: Floats
    kind: int
    across: bool = False

    def piece(self, along: Floats) -> npt.NDArray[np.int64]:
        """Index of the piece at each position, clipped to the ends."""
        return (np.searchsorted(self.edges, along, side="right") - 1).clip(0, len(self.heights) - 1)

    def height(self, along: Floats) -> Floats:
        """Metres of wall at each position, 0 outside."""
        inside = (along >= self.edges[0]) & (along < self.edges[-1])
        return np.where(inside, self.heights[self.piece(along)], np.float32(0))


@dataclass(frozen=True)
class Street:
    """Strips of ground by x, a crosswalk, and the walls along them.

    `borders` (n - 1,) are the x where strip i ends and i + 1 begins, `kinds` (n,) the strips' categories. `crosswalk`
    is the (near, far) z of the zebra on the road, or None. `slab` is a paving stone's (x, z) size. `noise` is the
    scene's table of random numbers for `cells`, of a length that is a power of two.
    """

    borders: Floats
    kinds: npt.NDArray[np.int64]
    crosswalk: tuple[float, float] | None
    slab: tuple[float, float]
    colors: dict[int, Rgb]
    walls: tuple[Wall, ...]
    noise: Floats

    def strip(self, kind: int, *, nth: int = 0) -> tuple[float, float]:
        """(x0, x1) of the nth strip of a category from the near houses to the far ones."""
        at = [i for i in range(1, len(self.kinds) - 1) if self.kinds[i] == kind][nth]
        return float(self.borders[at - 1]), float(self.borders[at])


@dataclass(frozen=True)
class View:
    """Who looks at what in which light."""

    camera: Camera
    street: Street
    light: Light

    def lit(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """1 in the sun, `Light.shade` where a house stands between a point and the sun; all arguments (N,)."""
        dark = np.zeros(x.shape, bool)
        sx, sz = (np.float32(s) for s in self.light.sun)
        for wall in self.street.walls:
            if wall.across or wall.kind != BUILDING:
                continue
            rise = (x - np.float32(wall.at)) / sx  # metres the ray to the sun climbs before this wall
            dark |= (rise > 1e-3) & (wall.height(z - rise * sz) > y + rise)
        return np.where(dark, np.float32(self.light.shade), np.float32(1))

    def sharp(self, depth: Floats, size: float) -> Floats:
        """1 where `size` metres span two pixels or more, falling to 0 far away: no glitter at the horizon."""
        sharp: Floats = np.clip(np.float32(size * self.camera.focal / 2) / depth, 0, 1)
        return sharp


def cells(noise: Floats, a: Floats, b: Floats, size: float) -> Floats:
    """A fixed random number in [-1, 1] for every square of `size` metres."""
    column, row = np.floor(a / np.float32(size)).astype(np.int32), np.floor(b / np.float32(size)).astype(np.int32)
    picked: Floats = noise[(column * 7919 + row * 104729) & (len(noise) - 1)]
    return picked


def clumps(noise: Floats, a: Floats, b: Floats, size: float) -> Floats:
    """The same with smooth transitions: bilinear between the corners of the squares."""
    u, v = a / np.float32(size), b / np.float32(size)
    column, row = np.floor(u), np.floor(v)
    fu, fv = u - column, v - row
    key = column.astype(np.int32) * 7919 + row.astype(np.int32) * 104729
    last = len(noise) - 1
    low = noise[key & last] * (1 - fv) + noise[(key + 104729) & last] * fv
    high = noise[(key + 7919) & last] * (1 - fv) + noise[(key + 7919 + 104729) & last] * fv
    blended: Floats = low * (1 - fu) + high * fu
    return blended


def paint_street(view: View, shadows: Floats) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """(H, W, 3) colours before the light's tint, and (H, W) category ids.

    `shadows` (H, W) is the brightness that things in the street leave on the ground.
    """
    camera, haze = view.camera, np.array(view.light.haze, np.float32)
    dx, dy, dz = camera.rays()
    color = _sky(view)
    kind = np.full(camera.size_hw, SKY, np.int32)
    depth = np.full(camera.size_hw, np.inf, np.float32)
    first = int(np.argmax(dy[:, 0] < -1e-3))  # rows from here on look down
    t = np.broadcast_to(camera.height / -dy[first:], depth[first:].shape).astype(np.float32)
    x, z = (t * dx).ravel(), (t * dz).ravel()
    kinds, colors = _ground(view, x, z, t.ravel())
    depth[first:], kind[first:] = t, kinds.reshape(t.shape)
    color[first:] = colors.reshape(*t.shape, 3) * shadows[first:, :, None]
    for wall in view.street.walls:
        _raise_wall(view, wall, color=color, kind=kind, depth=depth)
    fade = np.exp(-depth / np.float32(view.light.visibility))[..., None]
    color = np.where((kind == SKY)[..., None], color, haze + (color - haze) * fade)
    return color.clip(0, 255).astype(np.uint8), kind


def _sky(view: View) -> Floats:
    """A gradient from haze to zenith, with clouds on a high plane."""
    dx, dy, dz = view.camera.rays()
    noise, light = view.street.noise, view.light
    haze, zenith = np.array(light.haze, np.float32), np.array(light.zenith, np.float32)
    up = np.clip(dy * 1.6, 0, 1)[..., None]
    color = np.broadcast_to(haze + (zenith - haze) * up, (len(dy), dx.shape[1], 3)).copy()
    above = int(np.argmax(dy[:, 0] < 0))
    t = 1 / np.maximum(dy[:above], 0.03)
    x, z = dx * t, dz * t
    drift = (clumps(noise, x, z, 0.5) * 0.5 + clumps(noise, x, z, 1.0) + clumps(noise, x, z, 2.0) * 2) / 3.5
    white = np.clip(drift + 1.4 * light.clouds - 0.5, 0, 1) * np.clip(dy[:above] * 6, 0, 1) * 0.7
    color[:above] += (np.array((236, 238, 242), np.float32) - color[:above]) * white[..., None]
    return color


def _ground(view: View, x: Floats, z: Floats, depth: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """Category (N,) and colour (N, 3) of ground points."""
    street, noise = view.street, view.street.noise
    kind = street.kinds[np.searchsorted(street.borders, x, side="right")]
    if street.crosswalk:
        near, far = street.crosswalk
        kind[(kind == ROAD) & (z > near) & (z < far)] = CROSSWALK
    table = np.zeros((len(CATEGORIES), 3), np.float32)
    for category, rgb in street.colors.items():
        table[category] = rgb
    color = table[kind]
    tone = 1 + 0.1 * clumps(noise, x, z, 1.7) + 0.1 * cells(noise, x, z, 0.03) * view.sharp(depth, 0.03)
    paved = kind == SIDEWALK
    tone[paved] *= _paving(view, x[paved], z[paved], depth[paved])
    stone = kind == CURB
    tone[stone] *= 1 - 0.35 * (z[stone] % 1 < 0.04) * view.sharp(depth[stone], 0.04)
    green = kind == TERRAIN
    gx, gz = x[green], z[green]
    tone[green] *= 1 + 0.28 * clumps(noise, gx, gz, 0.25) + 0.2 * cells(noise, gx, gz, 0.07)
    road = (kind == ROAD) | (kind == CROSSWALK)
    paint = _road_paint(street, kind[road] == CROSSWALK, x[road], z[road])[:, None]
    color[road] += (np.array(_WHITE_PAINT, np.float32) - color[road]) * paint
    return kind, color * (tone * view.lit(x, np.zeros_like(x), z))[:, None]


def _paving(view: View, x: Floats, z: Floats, depth: Floats) -> Floats:
    """Brightness of slabs in running bond: each its own tone, dark joints."""
    wide, long = view.street.slab
    row = np.floor(z / long)
    shifted = x + (row % 2) * wide / 2
    joint = (shifted % wide < 0.018 + 0.02 * wide) | (z % long < 0.018 + 0.02 * long)
    tone = 0.09 * cells(view.street.noise, np.floor(shifted / wide), row, 1.0)
    brightness: Floats = (1 + tone) * (1 - 0.3 * joint * view.sharp(depth, 0.05))
    return brightness


def _road_paint(street: Street, zebra: npt.NDArray[np.bool_], x: Floats, z: Floats) -> Floats:
    """How much white paint lies on the road, 0..1: zebra bars and a dashed middle line, worn in places."""
    left, right = street.strip(ROAD)
    bar = zebra & ((x - left) % 1 < 0.55)
    dash = ~zebra & (np.abs(x - (left + right) / 2) < 0.07) & (z % 6 < 3)
    paint: Floats = (bar | dash) * (0.76 + 0.14 * clumps(street.noise, x, z, 0.3))
    return paint


def _raise_wall(view: View, wall: Wall, *, color: Floats, kind: npt.NDArray[np.int32], depth: Floats) -> None:
    """Paint one wall wherever it is nearer than what is there, in place."""
    noise = view.street.noise
    dx, dy, dz = view.camera.rays()
    toward, sideways = (dz, dx) if wall.across else (dx, dz)
    t = np.where(wall.at * toward > 1e-4, wall.at / np.where(toward == 0, 1, toward), np.inf).astype(np.float32)
    t[t < NEAR] = np.inf
    seen = np.isfinite(t)
    if not seen.any():
        return
    along = np.where(seen, np.where(seen, t, 0) * sideways, np.float32(wall.edges[-1]))
    top = wall.height(along)
    if wall.kind == VEGETATION:
        zero = np.zeros_like(along)
        top = top * (1 + 0.14 * clumps(noise, along, zero, 0.9) + 0.09 * clumps(noise, along, zero, 0.14))
    y = np.where(seen, np.float32(view.camera.height) + np.where(seen, t, 0) * dy, np.float32(-1))
    hit = (y >= 0) & (y < top) & (t < depth)
    rows, columns = np.nonzero(hit)
    if not len(rows):
        return
    s, up, d = along[0, columns], y[rows, columns], t[0, columns]
    painted = _foliage(view, wall, s, up) if wall.kind == VEGETATION else _facade(view, wall, s, up, d)
    color[rows, columns] = painted * _wall_light(view, wall, s, up)[:, None]
    kind[rows, columns], depth[rows, columns] = wall.kind, d


def _wall_light(view: View, wall: Wall, s: Floats, y: Floats) -> Floats:
    """Brightness of points on a wall: its own side turned away from the sun is in the shade."""
    at = np.full_like(s, wall.at)
    if view.light.sun[1 if wall.across else 0] * wall.at <= 0:
        return np.full_like(s, view.light.shade)
    return view.lit(s, y, at) if wall.across else view.lit(at, y, s)


def _foliage(view: View, wall: Wall, s: Floats, y: Floats) -> Floats:
    """Leaves: clumps of three sizes, darker towards the ground."""
    tone: Floats = 0.75 + 0.12 * np.minimum(y, 2)
    for weight, size in ((0.2, 1.1), (0.25, 0.35), (0.2, 0.12)):
        tone = tone + np.float32(weight) * clumps(view.street.noise, s, y, size)
    painted: Floats = wall.colors[wall.piece(s)] * np.clip(tone, 0.25, 1.5)[:, None]
    return painted


def _facade(view: View, wall: Wall, s: Floats, y: Floats, d: Floats) -> Floats:
    """Courses of brick, windows with frames on every storey, doors below, a base, and a roof of tiles."""
    noise, piece = view.street.noise, wall.piece(s)
    pitch, eaves = wall.pitch[piece], wall.heights[piece] - wall.roofs[piece]
    tone = 1 + 0.06 * clumps(noise, s, y, 2.1) + 0.05 * cells(noise, s * 0.35, y, 0.08)
    tone -= 0.14 * (y % 0.3 < 0.05) * view.sharp(d, 0.06)
    color = wall.colors[piece] * tone[:, None]
    color[(y > eaves - 0.3) | (y < 0.5)] *= 0.78
    at = s - wall.edges[piece]
    column, storey = np.floor(at / pitch), np.floor((y - 0.2) / _FLOOR)
    u, v = np.abs(at / pitch - column - 0.5), (y - 0.2) / _FLOOR - storey
    whole = (column + 1) * pitch <= wall.edges[piece + 1] - wall.edges[piece]
    whole &= (storey + 1) * _FLOOR + 0.3 <= eaves
    lot = cells(noise, column + 31 * piece, storey, 1.0)
    door = whole & (storey == 0) & (cells(noise, column, piece.astype(np.float32), 1.0) > 0.25)
    frame = whole & ~door & (u < 0.29) & (np.abs(v - 0.55) < 0.31)
    glass = frame & (u < 0.25) & (np.abs(v - 0.55) < 0.27) & (u > 0.02)
    color[frame] = _FRAME
    mirror = (0.12 + 0.2 * (lot[glass] + 1) * v[glass])[:, None]
    color[glass] = np.array(_GLASS, np.float32) * (1 - mirror) + np.array(view.light.haze, np.float32) * mirror
    leaf = door & (u < 0.24) & (v < 0.72)
    color[leaf] = np.array(_DOOR, np.float32) * (1 + 0.35 * lot[leaf])[:, None]
    color[leaf & (u > 0.2)] *= 0.6
    tiles = y > eaves
    shade = 0.9 + 0.2 * cells(noise, s, y, 0.3) - 0.25 * (y % 0.25 < 0.06) * view.sharp(d, 0.06)
    color[tiles] = np.array((92, 70, 64), np.float32) * (shade + 0.25 * (piece % 3))[tiles][:, None]
    return color
