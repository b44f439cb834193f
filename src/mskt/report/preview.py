"""One picture a case: CT with labels above, uncertainty below, as a radiologist expects to see it.

Radiological convention: the patient's right is on the left of axial and coronal pictures; sagittal
ones look from the patient's left, with the front on the left. True proportions from the spacing.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LabelSet, Structure
from mskt.core.volume import Grid, Labels, Volume, to_canonical
from mskt.report import views
from mskt.report.flagged import Remark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOW_HU = (-150.0, 350.0)
_DPI = 140
_WIDTH_IN, _TALLEST, _WIDEST = 15.0, 4.6, 4.2
"""Inches: width of the page; no picture is taller or wider than this. A thin slab of a scan would
otherwise give its flat coronal picture all the room."""
_SIDE, _GAP, _BAR, _HEAD = 0.15, 0.06, 0.95, 1.08
"""Inches: margin, space between pictures, room for the colour bar, height of the heading."""
_REMARKS, _REMARK = 0.74, 0.21
"""Inches: upper edge of the first remark, height of each."""
_LARGEST_BYTES = 2_000_000
_AROUND_MM = 40.0
_FINE_MM = 0.8
_FILL, _LINE = 0.30, 0.95
_MARKS = {2: ("R", "L", "A", "P"), 1: ("R", "L", "S", "I"), 0: ("A", "P", "S", "I")}
"""Letters at the left, right, upper and lower edge of a picture by the axis that it cuts."""
_GREY, _QUIET, _WARN, _BAD = "#e8e8e8", "#9a9a9a", "#ffb000", "#ff5548"
_TONES = {
    "failed": _BAD,
    "inaccurate": _WARN,
    "unknown": _GREY,
    "plain": _GREY,
    "warning": _WARN,
    "quiet": _QUIET,
}
_COLOURS = "inferno"


@dataclass(frozen=True)
class Caption:
    """What the picture says about itself.

    Attributes:
        method: segmenter, estimator and draws, as the reader should cite them.
        measure, unit: of the uncertainty.
        synthetic: true for a phantom: the picture then says so in large letters.
        remarks: of a calibration; the heading grows by them.
    """

    case_id: str
    method: str
    measure: str
    unit: str
    synthetic: bool = False
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True)
class _Slice:
    """One slice turned for display: rows from top to bottom, columns from left to right.

    Attributes:
        mm: distance of rows and of columns.
        place: number of the slice in the input.
        levels: where the axial slices cross this one, 0 at the upper edge, 1 at the lower.
    """

    view: views.View
    hu: NDArray[np.float32]
    labels: NDArray[np.uint8]
    uncertainty: NDArray[np.float32]
    mm: tuple[float, float]
    place: str
    levels: tuple[float, ...]


def render(
    image: Volume,
    labels: Labels,
    sides: NDArray[np.uint8],
    uncertainty: NDArray[np.float32],
    caption: Caption,
) -> bytes:
    """The picture as PNG.

    Args:
        image: the CT.
        labels: on its grid.
        sides: 0 unsided, 1 right, 2 left, as in ``CaseResult``.
        uncertainty: one value a voxel.
        caption: what the picture says about itself.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    slices = _cut(image, labels, sides, uncertainty)
    present = _present(labels)
    top = _largest_shown(uncertainty)
    page = _Page.of(slices, len(present), len(caption.remarks))
    figure = Figure(figsize=(_WIDTH_IN, page.height), dpi=_DPI, facecolor="black")
    FigureCanvasAgg(figure)
    left = page.first_left
    for cut, width in zip(slices, page.widths, strict=True):
        upper = figure.add_axes(page.box(left, 0, width))
        _draw_labels(upper, cut, labels.label_set)
        _draw_title(upper, cut)
        shown = _draw_uncertainty(figure.add_axes(page.box(left, 1, width)), cut, top)
        left += width + _GAP
    _colour_bar(figure, figure.add_axes(page.box(left + 0.05, 1, 0.15)), shown, caption)
    _head(figure, page.height, caption)
    _remark_lines(figure, page.height, caption)
    _foot(figure, page.height, present)
    out = io.BytesIO()
    figure.savefig(
        out,
        format="png",
        facecolor="black",
        metadata={"Software": None},
        pil_kwargs={"compress_level": 4},
    )
    return _small(out.getvalue())


@dataclass(frozen=True)
class _Page:
    """Where things are, in inches: one height for all pictures but flat ones, widths follow.

    Attributes:
        widths: of the four columns.
        row: height of a picture.
        head: height of the heading.
        height: of the page.
        first_left: left edge of the first column; the columns are centred.
    """

    widths: tuple[float, ...]
    row: float
    head: float
    height: float
    first_left: float

    @classmethod
    def of(cls, slices: list[_Slice], structures: int, remarks: int = 0) -> _Page:
        ratios = [c.hu.shape[1] * c.mm[1] / (c.hu.shape[0] * c.mm[0]) for c in slices]
        room = _WIDTH_IN - 2 * _SIDE - _BAR - len(slices) * _GAP
        row = _TALLEST
        while sum(widths := tuple(min(row * ratio, _WIDEST) for ratio in ratios)) > room:
            row *= 0.98
        legend = 0.25 + 0.2 * max(1, -(-structures // 6))
        spare = max(0.0, room - sum(widths))
        head = _HEAD + _REMARK * remarks
        return cls(widths, row, head, head + 2 * row + _GAP + legend, _SIDE + spare / 2)

    def box(self, left: float, line: int, width: float) -> tuple[float, float, float, float]:
        """Left, bottom, width, height as parts of the page; ``line`` 0 is the upper row."""
        bottom = self.height - self.head - (line + 1) * self.row - line * _GAP
        return (left / _WIDTH_IN, bottom / self.height, width / _WIDTH_IN, self.row / self.height)


def _cut(
    image: Volume, labels: Labels, sides: NDArray[np.uint8], uncertainty: NDArray[np.float32]
) -> list[_Slice]:
    """The chosen slices of canonical views: nothing large is copied."""
    grid = image.grid
    target = grid.canonical()
    hu, lab, side, unc = (
        to_canonical(a, grid) for a in (image.data, labels.data, sides, uncertainty)
    )
    cuts = []
    chosen = views.choose(lab, side, target, labels.label_set)
    window = _window(lab, target)
    for view in chosen:
        index = min(view.index, target.shape[view.axis] - 1)
        first, second = (axis for axis in range(3) if axis != view.axis)
        mm = (target.spacing_mm[second], target.spacing_mm[first])
        crop = (window[first], window[second])
        shown = [_turn(_plane(a, view.axis, index)[crop]) for a in (hu, lab, unc)]
        levels = tuple(
            (window[2].stop - 0.5 - other.index) / (window[2].stop - window[2].start)
            for other in chosen
            if other.axis == 2 and view.axis != 2
        )
        cuts.append(
            _Slice(view, shown[0], shown[1], shown[2], mm, _place(grid, view.axis, index), levels)
        )
    return cuts


def _window(labels: NDArray[np.uint8], grid: Grid) -> tuple[slice, slice, slice]:
    """The box around the labels and a margin: air and table need no room on the page."""
    found = []
    step = max(1, round((labels.size / 4e6) ** (1 / 3)))
    filled = labels[::step, ::step, ::step] > 0
    for axis in range(3):
        some = np.flatnonzero(filled.any(axis=tuple(a for a in range(3) if a != axis))) * step
        more = round(_AROUND_MM / grid.spacing_mm[axis])
        size = grid.shape[axis]
        found.append(
            slice(max(0, int(some[0]) - more), min(size, int(some[-1]) + step + more))
            if some.size
            else slice(0, size)
        )
    return (found[0], found[1], found[2])


def _plane(array: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    """A view of one slice. (``numpy.take`` would first copy a volume in Fortran order.)"""
    place: list[Any] = [slice(None)] * 3
    place[axis] = index
    plane: NDArray[Any] = array[tuple(place)]
    return plane


def _turn(plane: NDArray[Any]) -> NDArray[Any]:
    """Canonical ``(first, second)`` to display ``(row, column)``: second up, first to the left."""
    return np.ascontiguousarray(plane.T[::-1, ::-1])


def _place(grid: Grid, world: int, index: int) -> str:
    """Number of the slice as a viewer of the input file counts it, from 1."""
    axis = grid.axis_order[world]
    if grid.affine[world, axis] < 0:
        index = grid.shape[axis] - 1 - index
    return f"slice {index + 1} of {grid.shape[axis]}"


def _present(labels: Labels) -> list[Structure]:
    """Structures of which every second voxel along each axis shows one: what an eye could find."""
    step = 2 if labels.data.size > 2e7 else 1
    counts = np.bincount(labels.data[::step, ::step, ::step].ravel(order="K"), minlength=256)
    return [s for s in labels.label_set.structures if counts[s.index]]


def _largest_shown(uncertainty: NDArray[np.float32]) -> float:
    """Upper end of the colour scale: 99.5th percentile of what is not 0, at two digits."""
    step = max(1, round((uncertainty.size / 2e6) ** (1 / 3)))
    sample = uncertainty[::step, ::step, ::step]
    positive = sample[sample > 0]
    return float(f"{np.percentile(positive, 99.5):.1e}") if positive.size else 1.0


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


def _base(axes: Axes, cut: _Slice) -> tuple[float, float, float, float]:
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
            color=_WARN,
            fontsize=11,
            weight="bold",
            ha="left" if x < 0.1 else "right" if x > 0.9 else "center",
            va="top" if y > 0.9 else "bottom" if y < 0.1 else "center",
        )
    for level in cut.levels:
        axes.axhline((1 - level) * extent[3], color=_GREY, linewidth=0.6, alpha=0.45, dashes=(6, 5))
    _scale_bar(axes, extent)
    return extent


def _scale_bar(axes: Axes, extent: tuple[float, float, float, float]) -> None:
    width, height = extent[1], extent[3]
    length = 50.0 if width > 120 else 10.0
    x, y = width * 0.975 - length, height * 0.035
    axes.plot([x, x + length], [y, y], color=_GREY, linewidth=2, solid_capstyle="butt")
    axes.text(
        x + length / 2,
        y + height * 0.012,
        f"{length / 10:.0f} cm",
        color=_GREY,
        fontsize=7.5,
        ha="center",
        va="bottom",
    )


def _draw_labels(axes: Axes, cut: _Slice, label_set: LabelSet) -> None:
    extent = _base(axes, cut)
    plane = _refine(cut.labels, cut.mm)
    table = np.zeros((256, 3), np.float32)
    for structure in label_set.structures:
        table[structure.index] = np.asarray(structure.rgb, np.float32) / 255
    alpha = np.where(_outline(plane), _LINE, np.where(plane > 0, _FILL, 0.0)).astype(np.float32)
    axes.imshow(
        np.dstack([table[plane], alpha]), extent=extent, aspect="equal", interpolation="antialiased"
    )


def _draw_title(axes: Axes, cut: _Slice) -> None:
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
        cut.place, (0, 1), (1, 3), "axes fraction", "offset points", color=_QUIET, fontsize=7.5
    )


def _draw_uncertainty(axes: Axes, cut: _Slice, top: float) -> Any:
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


def _colour_bar(figure: Figure, axes: Axes, shown: Any, caption: Caption) -> None:
    from matplotlib.cm import ScalarMappable

    # A bar of its own: that of the picture would show the transparency of the first voxel.
    bar = figure.colorbar(ScalarMappable(norm=shown.norm, cmap=shown.cmap), cax=axes, extend="max")
    unit = "no unit" if caption.unit == "1" else caption.unit
    bar.set_label(
        f"uncertainty ({unit})\n{caption.measure.replace('_', ' ')}", color=_GREY, fontsize=8
    )
    axes.tick_params(colors=_GREY, labelsize=8)
    axes.yaxis.get_offset_text().set_color(_GREY)
    axes.yaxis.get_offset_text().set_fontsize(8)
    bar.outline.set_edgecolor(_GREY)  # type: ignore[operator]


def _head(figure: Figure, height: float, caption: Caption) -> None:
    name = caption.case_id if len(caption.case_id) <= 60 else caption.case_id[:57] + "…"
    figure.text(0.012, 1 - 0.13 / height, name, color="white", fontsize=15, weight="bold", va="top")
    figure.text(0.012, 1 - 0.47 / height, caption.method, color=_GREY, fontsize=9.5, va="top")
    if caption.synthetic:
        figure.text(
            0.5,
            1 - 0.13 / height,
            "SYNTHETIC PHANTOM, NO PATIENT",
            color=_WARN,
            fontsize=15,
            weight="bold",
            ha="center",
            va="top",
        )
    low, high = WINDOW_HU
    figure.text(
        0.988,
        1 - 0.16 / height,
        "Research use, not a diagnosis",
        color=_WARN,
        fontsize=11,
        weight="bold",
        ha="right",
        va="top",
    )
    figure.text(
        0.988,
        1 - 0.47 / height,
        f"window {low:.0f} … {high:.0f} HU · the patient's right is on the left of axial and "
        "coronal images".replace("-", "\u2212"),
        color=_GREY,
        fontsize=9.5,
        ha="right",
        va="top",
    )


def _remark_lines(figure: Figure, height: float, caption: Caption) -> None:
    """What a calibration says, below the heading, over the whole width."""
    for line, remark in enumerate(caption.remarks):
        y = 1 - (_REMARKS + line * _REMARK) / height
        loud = remark.tone in ("failed", "inaccurate")
        figure.text(
            0.012,
            y,
            remark.text,
            color=_TONES[remark.tone],
            fontsize=9.5,
            weight="bold" if loud else "normal",
            va="top",
            parse_math=False,  # a file name may have dollar signs
        )


def _foot(figure: Figure, height: float, present: list[Structure]) -> None:
    """The structures that were found, by colour, abbreviation and name."""
    from matplotlib.patches import Patch

    if not present:
        figure.text(
            0.5, 0.3 / height, "nothing was segmented", color=_WARN, fontsize=12, ha="center"
        )
        return
    handles = [Patch(facecolor=s.color, edgecolor="none", label=_words(s)) for s in present]
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=6,
        frameon=False,
        fontsize=8,
        labelcolor=_GREY,
        bbox_to_anchor=(0.5, 0.06 / height),
        handlelength=1.1,
        handleheight=0.9,
        columnspacing=1.6,
        labelspacing=0.35,
        borderpad=0.2,
    )


def _words(structure: Structure) -> str:
    name, short = structure.name.replace("_", " "), structure.abbreviation
    return f"{short} · {name}" if short and short.lower() != name else name


def _small(png: bytes) -> bytes:
    """256 colours where the picture would be large otherwise (noise of fine CT packs badly)."""
    if len(png) <= _LARGEST_BYTES:
        return png
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        fewer = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    out = io.BytesIO()
    fewer.save(out, format="png")
    return out.getvalue()
