"""One slice as a picture: CT, orientation letters and scale bar, with labels or uncertainty over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LabelSet
from mskt.report.slices import Slice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WINDOW_HU = (-150.0, 350.0)
GREY, QUIET, WARN = "#e8e8e8", "#9a9a9a", "#ffb000"
_FINE_MM = 0.8
_FILL, _LINE = 0.30, 0.95
_MARKS = {2: ("R", "L", "A", "P"), 1: ("R", "L", "S", "I"), 0: ("A", "P", "S", "I")}
"""Letters at the left, right, upper and lower edge of a picture by the axis that it cuts."""
_COLOURS = "inferno"


def _refine(plane: NDArray[Any], mm: tuple[float, float]) -> NDArray[Any]:
    """Repeat pixels until they are fine enough for outlines thinner than the voxels."""
    rows, cols = (max(1, round(s / _FINE_MM)) for s in mm)
    return plane.repeat(rows, axis=0).repeat(cols, axis=1)


def _outline(plane: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels of a label that touch another label or background."""
    edge = np.zeros(plane.shape, bool)
    edge[1:] |= plane[1:] != plane[:-1]
    edge[:-1] |= plane[1:] != plane[:-1]
    edge[:, 1:] |= plane[:, 1:] != plane[:, :-1]
    edge[:, :-1] |= plane[:, 1:] != plane[:, :-1]
    return edge & (plane > 0)


def _base(axes: Axes, cut: Slice) -> tuple[float, float, float, float]:
    """CT in its window, orientation letters, scale bar; returns the extent in mm."""
    extent = (0.0, cut.hu.shape[1] * cut.mm[1], 0.0, cut.hu.shape[0] * cut.mm[0])
    axes.set_facecolor("black")
    axes.imshow(
        cut.hu,
        cmap="gray",
        vmin=WINDOW_HU[0],
        vmax=WINDOW_HU[1],
        extent=extent,
        aspect="equal",
        interpolation="bilinear",
    )
    axes.set_anchor("N")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    left, right, top, bottom = _MARKS[cut.view.axis]
    for x, y, letter in (
        (0.015, 0.5, left),
        (0.985, 0.5, right),
        (0.5, 0.975, top),
        (0.5, 0.025, bottom),
    ):
        axes.text(
            x,
            y,
            letter,
            transform=axes.transAxes,
            color=WARN,
            fontsize=11,
            weight="bold",
            ha="left" if x < 0.1 else "right" if x > 0.9 else "center",
            va="top" if y > 0.9 else "bottom" if y < 0.1 else "center",
        )
    for level in cut.levels:
        axes.axhline((1 - level) * extent[3], color=GREY, linewidth=0.6, alpha=0.45, dashes=(6, 5))
    _scale_bar(axes, extent)
    return extent


def _scale_bar(axes: Axes, extent: tuple[float, float, float, float]) -> None:
    width, height = extent[1], extent[3]
    length = 50.0 if width > 120 else 10.0
    x, y = width * 0.975 - length, height * 0.035
    axes.plot([x, x + length], [y, y], color=GREY, linewidth=2, solid_capstyle="butt")
    axes.text(
        x + length / 2,
        y + height * 0.012,
        f"{length / 10:.0f} cm",
        color=GREY,
        fontsize=7.5,
        ha="center",
        va="bottom",
    )


def draw_labels(axes: Axes, cut: Slice, label_set: LabelSet) -> None:
    """Structures in their colours over the CT: faint inside, strong at the outline."""
    extent = _base(axes, cut)
    plane = _refine(cut.labels, cut.mm)
    table = np.zeros((256, 3), np.float32)
    for structure in label_set.structures:
        table[structure.index] = np.asarray(structure.rgb, np.float32) / 255
    alpha = np.where(_outline(plane), _LINE, np.where(plane > 0, _FILL, 0.0)).astype(np.float32)
    axes.imshow(
        np.dstack([table[plane], alpha]), extent=extent, aspect="equal", interpolation="antialiased"
    )


def draw_title(axes: Axes, cut: Slice) -> None:
    """What the slice shows, and its number in the input, above the picture."""
    axes.annotate(
        cut.view.title,
        (0, 1),
        (1, 13),
        "axes fraction",
        "offset points",
        color="white",
        fontsize=9.5,
    )
    axes.annotate(
        cut.place, (0, 1), (1, 3), "axes fraction", "offset points", color=QUIET, fontsize=7.5
    )


def draw_uncertainty(axes: Axes, cut: Slice, top: float) -> Any:
    """The uncertainty map over the CT, ``top`` at the upper end of the scale; returns the image."""
    extent = _base(axes, cut)
    plane = cut.uncertainty
    # Certain voxels show the CT; from a quarter of the scale on, the colour alone speaks.
    alpha = np.clip(plane / (0.25 * top), 0, 1) * 0.9
    shown = axes.imshow(
        plane,
        cmap=_COLOURS,
        vmin=0,
        vmax=top,
        alpha=alpha,
        extent=extent,
        aspect="equal",
        interpolation="nearest",
    )
    fine = _refine(cut.labels, cut.mm)
    line = np.zeros((*fine.shape, 4), np.float32)
    line[_outline(fine)] = (1, 1, 1, 0.28)
    axes.imshow(line, extent=extent, aspect="equal", interpolation="antialiased")
    return shown
