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

from mskt.core.anatomy import Structure
from mskt.core.components import Runs
from mskt.core.volume import Labels, Volume
from mskt.report.flagged import Remark
from mskt.report.pictures import (
    GREY,
    QUIET,
    WARN,
    WINDOW_HU,
    draw_labels,
    draw_title,
    draw_uncertainty,
)
from mskt.report.slices import Slice, cut_slices

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 140
_WIDTH_IN, _TALLEST, _WIDEST = 15.0, 4.6, 4.2
"""Inches: width of the page; no picture is taller or wider than this. A thin slab of a scan would
otherwise give its flat coronal picture all the room."""
_SIDE, _GAP, _BAR, _HEAD = 0.15, 0.06, 0.95, 1.08
"""Inches: margin, space between pictures, room for the colour bar, height of the heading."""
_REMARKS, _REMARK = 0.74, 0.21
"""Inches: upper edge of the first remark, height of each."""
_LARGEST_BYTES = 2_000_000
_BAD = "#ff5548"
_TONES = {
    "failed": _BAD,
    "inaccurate": WARN,
    "unknown": GREY,
    "plain": GREY,
    "warning": WARN,
    "quiet": QUIET,
}


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

    slices = cut_slices(image, labels, sides, uncertainty)
    present = _present(labels)
    top = _largest_shown(uncertainty)
    page = _Page.of(slices, len(present), len(caption.remarks))
    figure = Figure(figsize=(_WIDTH_IN, page.height), dpi=_DPI, facecolor="black")
    FigureCanvasAgg(figure)
    left = page.first_left
    for cut, width in zip(slices, page.widths, strict=True):
        upper = figure.add_axes(page.box(left, 0, width))
        draw_labels(upper, cut, labels.label_set)
        draw_title(upper, cut)
        shown = draw_uncertainty(figure.add_axes(page.box(left, 1, width)), cut, top)
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
    def of(cls, slices: list[Slice], structures: int, remarks: int = 0) -> _Page:
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


def _present(labels: Labels) -> list[Structure]:
    """Structures of which every second voxel along each axis shows one: what an eye could find."""
    step = 2 if labels.data.size > 2e7 else 1
    seen = set(
        np.unique(Runs.of(labels.data[::step, ::step, ::step].copy(order="K")).value).tolist()
    )
    return [s for s in labels.label_set.structures if s.index in seen]


def _largest_shown(uncertainty: NDArray[np.float32]) -> float:
    """Upper end of the colour scale: 99.5th percentile of what is not 0, at two digits."""
    step = max(1, round((uncertainty.size / 2e6) ** (1 / 3)))
    sample = uncertainty[::step, ::step, ::step]
    positive = sample[sample > 0]
    return float(f"{np.percentile(positive, 99.5):.1e}") if positive.size else 1.0


def _colour_bar(figure: Figure, axes: Axes, shown: Any, caption: Caption) -> None:
    from matplotlib.cm import ScalarMappable

    # A bar of its own: that of the picture would show the transparency of the first voxel.
    bar = figure.colorbar(ScalarMappable(norm=shown.norm, cmap=shown.cmap), cax=axes, extend="max")
    unit = "no unit" if caption.unit == "1" else caption.unit
    bar.set_label(
        f"uncertainty ({unit})\n{caption.measure.replace('_', ' ')}", color=GREY, fontsize=8
    )
    axes.tick_params(colors=GREY, labelsize=8)
    axes.yaxis.get_offset_text().set_color(GREY)
    axes.yaxis.get_offset_text().set_fontsize(8)
    bar.outline.set_edgecolor(GREY)  # type: ignore[operator]


def _head(figure: Figure, height: float, caption: Caption) -> None:
    name = caption.case_id if len(caption.case_id) <= 60 else caption.case_id[:57] + "…"
    figure.text(0.012, 1 - 0.13 / height, name, color="white", fontsize=15, weight="bold", va="top")
    figure.text(0.012, 1 - 0.47 / height, caption.method, color=GREY, fontsize=9.5, va="top")
    if caption.synthetic:
        figure.text(
            0.5,
            1 - 0.13 / height,
            "SYNTHETIC PHANTOM, NO PATIENT",
            color=WARN,
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
        color=WARN,
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
        color=GREY,
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
            0.5, 0.3 / height, "nothing was segmented", color=WARN, fontsize=12, ha="center"
        )
        return
    handles = [Patch(facecolor=s.color, edgecolor="none", label=_words(s)) for s in present]
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=6,
        frameon=False,
        fontsize=8,
        labelcolor=GREY,
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
