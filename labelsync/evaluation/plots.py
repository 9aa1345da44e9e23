"""The charts of a report, by matplotlib: static SVG, one for light and one for dark, of the same bytes each time.

They go into the page as images, so a name in one is text whatever it holds, and no chart has a script or an id of its
own. The page's tables say the same in numbers.
"""

import base64
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

MOST = 40
"""Rows of a chart; of more the first and the last, half of them each. The tables have every class."""

_WIDTH = 10.2  # inches
_SMALL = (5.0, 3.5)
_NUMBERED = 14  # classes up to which the cells of a confusion matrix carry numbers

NOTHING = 0.0005  # a change that three digits do not show

Color = tuple[int, int, int]
T = TypeVar("T")


@dataclass(frozen=True)
class Theme:
    """Colours of a chart; text on the page's background has a contrast of 4.5 and more."""

    ink: str
    muted: str
    grid: str
    paper: str
    first: str
    second: str
    good: str
    bad: str


LIGHT = Theme("#1b2330", "#566072", "#dde2ea", "#ffffff", "#2457c5", "#b4540a", "#15703f", "#c0272d")
DARK = Theme("#e8ebf1", "#a3adbd", "#394252", "#171c26", "#7fb0ff", "#ffb366", "#5fd49a", "#ff8a84")


@dataclass(frozen=True)
class Chart:
    """A chart as two images (data URLs), what it shows in words, its size in CSS pixels, and a line below it."""

    light: str
    dark: str
    alt: str
    width: int
    height: int
    note: str = ""


@dataclass(frozen=True)
class Bar:
    """A value with its 95 % interval, the same of the baseline, and the colour it is known by; None = not known."""

    name: str
    value: float | None
    interval: tuple[float, float] | None = None
    before: float | None = None
    color: Color | None = None


Paint = Callable[[Figure, Theme], None]


def bars(rows: Sequence[Bar], *, axis: str, alt: str, note: str = "") -> Chart:
    """Horizontal bars from 0 to 1 in the colours of the classes, with intervals; a diamond is the baseline."""
    parted, rows = len(rows) > MOST, ends(rows)

    def paint(figure: Figure, theme: Theme) -> None:
        axes = _rows_axes(figure, [row.name for row in rows], parted=parted)
        at = np.arange(len(rows))
        colors = [_hex(row.color) if row.color else theme.first for row in rows]
        axes.barh(
            at, [row.value or 0.0 for row in rows], color=colors, edgecolor=theme.muted, linewidth=0.6, height=0.7
        )
        _intervals(axes, [(i, row.value, row.interval) for i, row in enumerate(rows)], theme.ink, around=theme.paper)
        before = [(row.before, i) for i, row in enumerate(rows) if row.before is not None]
        if before:
            style: dict[str, Any] = {"color": theme.paper, "markeredgecolor": theme.ink, "markersize": 5}
            axes.plot(*zip(*before, strict=True), "D", label="baseline", clip_on=False, **style)
            _legend(axes)
        axes.set_xlim(0, 1)
        axes.set_xlabel(axis)

    return _chart(paint, (_WIDTH, _tall(len(rows))), alt, note)


def differences(rows: Sequence[Bar], *, axis: str, alt: str, note: str = "") -> Chart:
    """Changes beside a line at 0: filled where the interval leaves 0 out."""
    parted, rows = len(rows) > MOST, ends(rows)

    def paint(figure: Figure, theme: Theme) -> None:
        axes = _rows_axes(figure, [row.name for row in rows], parted=parted)
        axes.axvline(0, color=theme.muted, linewidth=1)
        for i, row in enumerate(rows):
            if row.value is None:
                continue
            color = theme.muted if abs(row.value) < NOTHING else theme.good if row.value > 0 else theme.bad
            clear = row.interval is not None and (row.interval[0] > 0 or row.interval[1] < 0)
            _intervals(axes, [(i, row.value, row.interval)], color, around=theme.paper)
            axes.plot(row.value, i, "o", color=color if clear else theme.paper, markeredgecolor=color, markersize=6)
        axes.set_xlabel(axis)

    return _chart(paint, (_WIDTH, _tall(len(rows))), alt, note)


def confusion(shares: npt.NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], *, alt: str) -> Chart:
    """A heat map of (K, C) shares of each labelled class, NaN = not labelled."""
    side = min(14.0, max(4.6, 0.42 * len(rows) + 2.2))

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.add_subplot()
        strong = LIGHT.first if theme is LIGHT else DARK.first
        colors = LinearSegmentedColormap.from_list("share", [theme.paper, strong])
        image = axes.imshow(shares, cmap=colors, vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        small = 9.0 if len(rows) <= MOST else 5.0
        axes.set_xticks(range(len(columns)), columns, rotation=55, ha="right", rotation_mode="anchor", fontsize=small)
        axes.set_yticks(range(len(rows)), rows, fontsize=small)
        axes.set_xlabel("predicted")
        axes.set_ylabel("labelled")
        axes.spines[:].set_visible(True)
        if len(rows) <= _NUMBERED:
            for (y, x), share in np.ndenumerate(shares):
                if share >= 0.005:
                    ink = theme.paper if share > 0.55 else theme.ink
                    axes.text(x, y, f"{share * 100:.0f}", ha="center", va="center", fontsize=8, color=ink)
        bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.02)
        bar.set_label("share of the labelled pixels of the class")
        bar.outline.set_edgecolor(theme.muted)  # type: ignore[operator,unused-ignore]

    return _chart(paint, (side + 1.2, side), alt)


def shares(names: Sequence[str], series: Mapping[str, Sequence[float]], *, alt: str, note: str = "") -> Chart:
    """Shares of the pixels per class on a logarithmic axis, a marker per series."""
    parted, names = len(names) > MOST, ends(names)

    def paint(figure: Figure, theme: Theme) -> None:
        axes = _rows_axes(figure, names, parted=parted)
        styles = (("o", theme.first), ("s", theme.second))
        for (name, values), (marker, color) in zip(series.items(), styles, strict=False):
            known = [(value * 100, i) for i, value in enumerate(ends(values)) if value > 0]
            if known:
                axes.plot(*zip(*known, strict=True), marker, color=color, markersize=7, label=name)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} %")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("share of the labelled pixels (logarithmic)")
        _legend(axes)

    return _chart(paint, (_WIDTH, _tall(len(names)) + 0.3), alt, note)


def curves(panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], *, best: float | None, alt: str) -> Chart:
    """Lines over the steps of a run: axis -> line -> points; a dashed line at the kept step."""

    def paint(figure: Figure, theme: Theme) -> None:
        found = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, lines) in zip(found, panels.items(), strict=True):
            for (line, points), color in zip(lines.items(), (theme.first, theme.second, theme.good), strict=False):
                style = ".-" if len(points) < 60 else "-"
                axes.plot(*zip(*points, strict=True), style, color=color, linewidth=1.8, label=line)
            if best is not None:
                axes.axvline(best, color=theme.muted, linestyle="--", linewidth=1, label="kept")
            axes.set_ylabel(name)
            axes.grid(visible=True)
            _legend(axes)
        found[-1].set_xlabel("step")

    return _chart(paint, (_WIDTH, 2.2 * len(panels) + 0.4), alt)


def histogram(values: Sequence[float], before: Sequence[float], *, axis: str, alt: str) -> Chart:
    """How many images have a score in each twentieth from 0 to 1; the baseline's as a line."""

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.add_subplot()
        bins = np.linspace(0, 1, 21)
        axes.hist(values, bins, color=theme.first, edgecolor=theme.paper, linewidth=0.6, label="this evaluation")  # type: ignore[arg-type]
        if before:
            axes.hist(before, bins, histtype="step", color=theme.second, linewidth=1.8, label="baseline")  # type: ignore[arg-type]
            _legend(axes)
        axes.set_xlim(0, 1)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(axis)
        axes.set_ylabel("images")
        axes.grid(visible=True, axis="y")

    return _chart(paint, _SMALL, alt)


def reliability(confidence: Sequence[float], right: Sequence[float], weight: Sequence[float], *, alt: str) -> Chart:
    """How often pixels are right over how sure the model was; the area of a point is the share of the pixels."""

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], "--", color=theme.muted, linewidth=1, label="as sure as right")
        axes.plot(confidence, right, "-", color=theme.first, linewidth=1.2)
        sizes = 12 + 260 * np.asarray(weight)
        axes.scatter(confidence, right, s=sizes, color=theme.first, edgecolors=theme.paper, zorder=3, label="pixels")
        axes.set_xlim(0, 1.03)
        axes.set_ylim(0, 1.05)
        axes.set_xlabel("confidence")
        axes.set_ylabel("share that is right")
        axes.grid(visible=True)
        _legend(axes)

    return _chart(paint, _SMALL, alt)


# -------------------------------------------------------------------- drawing


def ends(rows: Sequence[T]) -> Sequence[T]:
    """All, or the first and the last of too many: the best and the worst are what one looks for."""
    return rows if len(rows) <= MOST else [*rows[: MOST // 2], *rows[-(MOST // 2) :]]


def _rows_axes(figure: Figure, names: Sequence[str], *, parted: bool = False) -> Axes:
    """Axes with a named row each, the first on top; a line in the middle where those between are left out."""
    axes = figure.add_subplot()
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=True, axis="x")
    axes.tick_params(axis="y", length=0, pad=8)
    if parted:
        axes.axhline(len(names) / 2 - 0.5, color=mpl.rcParams["text.color"], linewidth=1, linestyle=":")
    return axes


def _tall(rows: int) -> float:
    return 0.9 + 0.3 * max(rows, 2)


def _legend(axes: Axes) -> None:
    """Above the axes, where it hides nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, borderaxespad=0.2)


def _intervals(
    axes: Axes, rows: Sequence[tuple[int, float | None, tuple[float, float] | None]], color: str, *, around: str
) -> None:
    """Lines from end to end; `around` sets them off from bars of any colour."""
    for i, value, interval in rows:
        if value is not None and interval is not None:
            (line,) = axes.plot(interval, (i, i), "-", color=color, linewidth=1.8, solid_capstyle="butt")
            line.set_path_effects([withStroke(linewidth=4, foreground=around)])


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _chart(paint: Paint, size: tuple[float, float], alt: str, note: str = "") -> Chart:
    light, dark = (_svg(paint, theme, size) for theme in (LIGHT, DARK))
    return Chart(light, dark, alt, round(size[0] * 96), round(size[1] * 96), note)


def _svg(paint: Paint, theme: Theme, size: tuple[float, float]) -> str:
    """A data URL. Nobody's matplotlibrc has a part in it, nor the clock."""
    settings: dict[str, Any] = {
        "svg.fonttype": "none",  # text stays text, in a font of the reader's
        "svg.hashsalt": "labelsync",  # else its ids are drawn at random
        "text.parse_math": False,  # a class may be called "$x$"
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "font.size": 9.5,
        "grid.linewidth": 0.7,
        "grid.color": theme.grid,
        "text.color": theme.ink,
        **dict.fromkeys(("axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), theme.ink),
        **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), theme.muted),
    }
    file = io.BytesIO()
    with mpl.rc_context(), warnings.catch_warnings():
        # the font that widths are measured with lacks the glyphs of some scripts; the reader's has them
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        mpl.rcdefaults()
        mpl.rcParams.update(settings)  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")
        paint(figure, theme)
        figure.savefig(file, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()
