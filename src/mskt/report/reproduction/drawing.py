"""Box plots, heat maps, scatter plots and ROC curves, in colours that the colour-blind tell apart."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from mskt.analysis.reproduction.findings import Boxes, Cloud, HeatMap, Plot, Points, Roc, Scatter
from mskt.core.anatomy import known_structures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's palette."""
_MARKERS = "os^Dv<>"
_GREY = "#d9d9d9"
_DPI = 110
_LINES: dict[str, Literal["-", "--"]] = {"inaccurate": "-", "failed": "--"}
_MOST_COLUMNS = 4
_MOST_NUMBERS = 700
"""Cells up to which a heat map has its numbers written in."""
_JOINED = 40
"""Patients up to which paired values are joined by lines."""


def draw(plot: Plot, formats: Sequence[str]) -> dict[str, bytes]:
    """Draw one figure.

    Args:
        plot: its data.
        formats: ``png``, ``svg``, ``pdf``.

    Returns:
        The file by format; the same data give the same bytes on the same machine.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure as Sheet

    with mpl.rc_context({"svg.hashsalt": plot.name, "font.size": 9, "svg.fonttype": "none"}):
        sheet = Sheet(layout="constrained", dpi=_DPI)
        if isinstance(plot, Boxes):
            _boxes(sheet, plot)
        elif isinstance(plot, HeatMap):
            _heat_map(sheet, plot)
        elif isinstance(plot, Scatter):
            _scatter(sheet, plot)
        else:
            _roc(sheet, plot)
        few = not isinstance(plot, HeatMap)
        return {name: _bytes(sheet, name, few) for name in formats}


def _bytes(sheet: Figure, name: str, few_colours: bool) -> bytes:
    """The file; a PNG of few colours with a palette, which makes it three times smaller."""
    held = io.BytesIO()
    dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(name, {})
    sheet.savefig(held, format=name, metadata=dated)
    if name == "png" and few_colours:
        from PIL import Image

        with Image.open(held) as full:
            small = full.convert("RGB").quantize(96)
        held = io.BytesIO()
        small.save(held, format="png", optimize=True)
    return held.getvalue()


def short(name: str) -> str:
    """The papers' abbreviation of a structure; any other name, such as a patient's, as it is."""
    known = known_structures().get(name)
    return known.abbreviation if known is not None and known.abbreviation else name


def _series(names: Sequence[str]) -> dict[str, str]:
    """A colour for each series, in order of appearance."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(dict.fromkeys(names))}


# --- box plots ---------------------------------------------------------------------------------


def _boxes(sheet: Figure, plot: Boxes) -> None:
    categories = list(dict.fromkeys(one.category for one in plot.points))
    colours = _series([one.series for one in plot.points])
    sheet.set_size_inches(max(4.5, 1.6 + len(categories) * (0.22 + 0.2 * len(colours))), 4.0)
    axes = sheet.subplots()
    width = 0.8 / len(colours)
    places: dict[tuple[str, str], float] = {}
    for one in plot.points:
        place = list(colours).index(one.series)
        x = categories.index(one.category) + (place - (len(colours) - 1) / 2) * width
        places[one.category, one.series] = x
        _box(axes, one, x, 0.8 * width, colours[one.series], 0.0 if plot.paired else 0.25)
    if plot.paired:
        _join(axes, plot, places)
    _mark(axes, plot, categories)
    axes.set_xticks(range(len(categories)), [short(name) for name in categories])
    if max(len(short(name)) for name in categories) * len(categories) > 40:
        axes.tick_params(axis="x", rotation=90)
    axes.set(xlim=(-0.6, len(categories) - 0.4), ylabel=plot.axis, title=plot.title)
    axes.grid(axis="y", alpha=0.3)
    axes.margins(y=0.08)
    if len(colours) > 1:
        _legend(sheet, colours)


def _box(axes: Axes, one: Points, x: float, width: float, colour: str, jitter: float) -> None:
    """A box for 5 values or more; every value as a point; the mean as a diamond."""
    if len(one.values) >= 5:
        axes.boxplot(
            [list(one.values)],
            positions=[x],
            widths=width,
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": colour, "alpha": 0.35, "edgecolor": colour},
            medianprops={"color": "black"},
            whiskerprops={"color": colour},
            capprops={"color": colour},
            manage_ticks=False,
        )
    if not one.values:
        return
    spread = np.random.default_rng(0).uniform(-jitter, jitter, len(one.values)) * width
    axes.scatter(x + spread, one.values, s=7, color=colour, alpha=0.7, linewidths=0, zorder=3)
    axes.scatter(
        [x], [float(np.mean(one.values))], s=18, marker="D", color="white", edgecolors="black",
        linewidths=0.7, zorder=4,
    )  # fmt: skip


def _join(axes: Axes, plot: Boxes, places: dict[tuple[str, str], float]) -> None:
    """Thin lines between the values of one patient in neighbouring series of a category."""
    for category in dict.fromkeys(one.category for one in plot.points):
        own = [one for one in plot.points if one.category == category]
        for first, second in pairwise(own):
            ys = dict(zip(second.who, second.values, strict=True))
            common = [
                (a, ys[who]) for who, a in zip(first.who, first.values, strict=True) if who in ys
            ]
            if len(common) > _JOINED:
                continue
            xs = (places[category, first.series], places[category, second.series])
            for pair in common:
                axes.plot(xs, pair, color="#888888", linewidth=0.4, alpha=0.6, zorder=2)


def _mark(axes: Axes, plot: Boxes, categories: Sequence[str]) -> None:
    for place, name in enumerate(categories):
        values = [v for one in plot.points if one.category == name for v in one.values]
        if plot.marks.get(name) and values:
            axes.annotate(
                plot.marks[name],
                (place, max(values)),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=11,
            )


def _legend(sheet: Figure, colours: dict[str, str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=c, alpha=0.6, label=name) for name, c in colours.items()]
    sheet.legend(
        handles=handles, loc="outside lower center", ncols=min(4, len(handles)), frameon=False
    )


# --- heat maps ---------------------------------------------------------------------------------


def _heat_map(sheet: Figure, plot: HeatMap) -> None:
    import matplotlib as mpl

    values = np.array(
        [[np.nan if v is None else v for v in line] for line in plot.values], np.float64
    ).reshape(len(plot.lines), len(plot.columns))
    names = [short(name) for name in plot.columns]
    left = 0.075 * max((len(short(line)) for line in plot.lines), default=1)
    sheet.set_size_inches(
        max(4.5, left + 1.6 + 0.42 * len(plot.columns)),
        min(12.0, 1.4 + 0.065 * max(map(len, names), default=1) + 0.26 * len(plot.lines)),
    )
    axes = sheet.subplots()
    low, high = plot.span or _span(values)
    colours = mpl.colormaps["RdBu_r" if plot.diverging else "viridis"].with_extremes(bad=_GREY)
    shown = axes.imshow(values, cmap=colours, vmin=low, vmax=high, aspect="auto")
    axes.set_xticks(range(len(names)), names, rotation=90)
    every = max(1, math.ceil(len(plot.lines) / 60))
    ticks = range(0, len(plot.lines), every)
    axes.set_yticks(ticks, [short(plot.lines[k]) for k in ticks])
    axes.set_title(plot.title)
    if values.size <= _MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                dark = sum(colours((value - low) / ((high - low) or 1.0))[:3]) < 1.4
                text = f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"
                axes.text(
                    column, row, text, ha="center", va="center", fontsize=6.5,
                    color="white" if dark else "black",
                )  # fmt: skip
    bar = sheet.colorbar(shown, ax=axes, extend="max" if plot.span is None else "neither")
    bar.set_label(plot.colour)


def _span(values: np.ndarray) -> tuple[float, float]:
    """Ends of the scale: 0 and the 95th percentile, so that one failure does not hide the rest."""
    there = values[np.isfinite(values)]
    top = float(np.quantile(there, 0.95)) if there.size else 1.0
    return min(0.0, float(there.min())) if there.size else 0.0, top or 1.0


# --- scatter plots -----------------------------------------------------------------------------


def _grid(sheet: Figure, n: int, size: float, legend: bool) -> list[Axes]:
    """Small plots side by side, those left over taken away."""
    columns = min(_MOST_COLUMNS, n) if n != 5 else 3
    rows = math.ceil(n / columns)
    wide = size if n > 1 else 1.7 * size
    sheet.set_size_inches(max(4.5, wide * columns), 0.85 * wide * rows + 0.5 + 0.25 * legend)
    axes = list(np.atleast_1d(sheet.subplots(rows, columns)).ravel())
    for empty in axes[n:]:
        empty.remove()
    return axes[:n]


def _name_axes(axes: Sequence[Axes], x: str, y: str) -> None:
    """Titles of the axes, only at the left and at the lower edge."""
    columns = min(_MOST_COLUMNS, len(axes)) if len(axes) != 5 else 3
    for place, one in enumerate(axes):
        if place % columns == 0:
            one.set_ylabel(y, fontsize=8)
        if place + columns >= len(axes):
            one.set_xlabel(x, fontsize=8)


def _scatter(sheet: Figure, plot: Scatter) -> None:
    names = [cloud.series for panel in plot.panels for cloud in panel.clouds]
    colours = _series(names)
    several = len(colours) > 1
    grid = _grid(sheet, len(plot.panels), 2.6, several)
    for axes, panel in zip(grid, plot.panels, strict=True):
        for cloud in panel.clouds:
            marker = _MARKERS[list(colours).index(cloud.series) % len(_MARKERS)]
            _cloud(axes, cloud, colours[cloud.series], marker, len(plot.panels) == 1)
        for k, (name, place) in enumerate(panel.upright):
            axes.axvline(place, color="black", linestyle=":" if k % 2 == 0 else "--", linewidth=0.9)
            axes.text(
                place, 0.98, f" {name}", rotation=90, va="top", ha="right", fontsize=7,
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip
        for k, (name, place) in enumerate(panel.level):
            axes.axhline(place, color="black", linestyle=":" if k % 2 == 0 else "--", linewidth=0.9)
            axes.text(
                0.99, place, name, va="bottom", ha="right", fontsize=7,
                transform=axes.get_yaxis_transform(),
            )  # fmt: skip
        axes.set_title(short(panel.title), fontsize=9)
        axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 4))
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        if plot.y == "Dice":  # an ellipse may leave what a Dice can be
            axes.set_xlim(left=max(axes.get_xlim()[0], -0.05 * axes.get_xlim()[1]))
            axes.set_ylim(max(axes.get_ylim()[0], -0.02), min(axes.get_ylim()[1], 1.02))
    _name_axes(grid, plot.x, plot.y)
    sheet.suptitle(plot.title, fontsize=10)
    if several:
        _legend(sheet, colours)


def _cloud(axes: Axes, cloud: Cloud, colour: str, marker: str, large: bool) -> None:
    axes.scatter(
        cloud.x, cloud.y, s=22 if large else 10, color=colour, marker=marker, alpha=0.65,
        linewidths=0, zorder=3,
    )  # fmt: skip
    if cloud.line is not None and cloud.x:
        ends = np.array([min(cloud.x), max(cloud.x)])
        axes.plot(ends, cloud.line[0] * ends + cloud.line[1], color=colour, linewidth=1.2)
    if cloud.ellipse is not None:
        axes.plot(*_outline(cloud.ellipse), color=colour, linewidth=0.8, alpha=0.8)
    if cloud.text:
        low = sum(text.get_text().startswith("r ") for text in axes.texts)
        axes.text(
            0.03, 0.04 + 0.1 * low, cloud.text, transform=axes.transAxes, fontsize=7.5, color=colour
        )


def _outline(ellipse: tuple[float, float, float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Points on {v: (v − c)ᵀ S⁻¹ (v − c) = 1}, by the Cholesky root of S."""
    x, y, xx, xy, yy = ellipse
    turn = np.linspace(0, 2 * np.pi, 100)
    a = math.sqrt(xx)
    b = xy / a
    c = math.sqrt(max(0.0, yy - b * b))
    return x + a * np.cos(turn), y + b * np.cos(turn) + c * np.sin(turn)


# --- ROC ---------------------------------------------------------------------------------------


def _roc(sheet: Figure, plot: Roc) -> None:
    colours = _series([curve.series for _, curves in plot.panels for curve in curves])
    grid = _grid(sheet, len(plot.panels), 2.2, True)
    for axes, (title, curves) in zip(grid, plot.panels, strict=True):
        axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8)
        for place, curve in enumerate(curves):
            axes.step(
                curve.false, curve.true, where="post", color=colours[curve.series],
                linestyle=_LINES[curve.level], linewidth=1.3,
            )  # fmt: skip
            axes.text(
                0.97, 0.04 + 0.1 * (len(curves) - 1 - place), curve.text, ha="right", fontsize=7,
                color=colours[curve.series], transform=axes.transAxes,
            )  # fmt: skip
        if not curves:
            axes.text(
                0.5, 0.5, plot.reasons.get(title, "no curve"), ha="center", va="center", fontsize=7,
                wrap=True, transform=axes.transAxes,
            )  # fmt: skip
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.set_title(short(title), fontsize=9)
        axes.tick_params(labelsize=7)
        axes.set_aspect("equal")
    _name_axes(grid, "good ones flagged", "bad ones flagged")
    sheet.suptitle(plot.title, fontsize=10)
    _roc_legend(sheet, colours)


def _roc_legend(sheet: Figure, colours: dict[str, str]) -> None:
    from matplotlib.lines import Line2D

    levels = [Line2D([], [], color="black", linestyle=s, label=n) for n, s in _LINES.items()]
    models = (
        [Line2D([], [], color=c, label=n) for n, c in colours.items()] if len(colours) > 1 else []
    )
    handles = [*levels, *models]
    sheet.legend(
        handles=handles, loc="outside lower center", ncols=min(4, len(handles)), frameon=False
    )
