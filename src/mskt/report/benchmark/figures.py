"""Figures of a benchmark as SVG: Dice of every patient, and accuracy against time."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mskt.report.benchmark.tables import ordered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which colour-blind people tell apart; one a segmenter."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""One an uncertainty."""
_LEAST_FOR_A_BOX = 5


def figures(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Caption and SVG of each figure; none where no cell has a Dice."""
    cells = [cell for cell in ordered(content["cells"]) if cell["dice"] is not None]
    if not cells:
        return []
    found = [
        (
            "Dice of each patient (points), best cell on top; boxes: quartiles and median, from "
            f"{_LEAST_FOR_A_BOX} patients on. Hollow points: not ranked, own cases only.",
            _boxes(cells),
        )
    ]
    timed = [cell for cell in cells if cell["seconds_per_case"]]
    if timed:
        found.append(
            (
                "Dice (bars: 95 % interval) against seconds a case without reading it. The best place "
                "is at the upper left.",
                _against_time(timed),
            )
        )
    return found


def _boxes(cells: Sequence[Mapping[str, Any]]) -> str:
    figure, axes = _new(1.3 + 0.42 * len(cells))
    style = _Style(cells)
    for row, cell in enumerate(cells):
        values = list(cell["dice"]["by_patient"].values())
        colour = style.colour(cell)
        if len(values) >= _LEAST_FOR_A_BOX:
            axes.boxplot(
                values, positions=[row], orientation="horizontal", widths=0.55, showfliers=False,
                medianprops={"color": colour, "linewidth": 2}, boxprops={"color": "#555555"},
                whiskerprops={"color": "#555555"}, capprops={"color": "#555555"},
            )  # fmt: skip
        axes.scatter(
            values,
            [row + _spread(n, len(values)) for n in range(len(values))],
            s=16, marker=style.marker(cell), alpha=0.8, linewidths=0.9,
            facecolors=colour if cell["rank"] else "none", edgecolors=colour,
        )  # fmt: skip
    axes.set_yticks(range(len(cells)), [style.label(cell) for cell in cells])
    axes.set_ylim(len(cells) - 0.5, -0.5)
    axes.set_xlabel("Dice")
    axes.grid(axis="x", alpha=0.3)
    return _svg(figure, "boxes")


def _spread(n: int, count: int) -> float:
    """Points of a row lie a little apart, in an order of their own, so that none hides another."""
    return 0.0 if count == 1 else 0.3 * ((n * 7919 % count) / (count - 1) - 0.5)


def _against_time(cells: Sequence[Mapping[str, Any]]) -> str:
    figure, axes = _new(3.6)
    style = _Style(cells)
    for cell in cells:
        dice, colour = cell["dice"], style.colour(cell)
        x, y = cell["seconds_per_case"], dice["mean"]
        if dice["low"] is not None:
            axes.plot([x, x], [dice["low"], dice["high"]], color=colour, linewidth=1)
        axes.scatter(
            [x], [y], s=46, marker=style.marker(cell), edgecolors=colour, label=style.label(cell),
            facecolors=colour if cell["rank"] else "none", zorder=3,
        )  # fmt: skip
    axes.set_xscale("log")
    _seconds_axis(axes, [cell["seconds_per_case"] for cell in cells])
    axes.set(xlabel="seconds a case", ylabel="Dice")
    axes.margins(x=0.12, y=0.2)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
    return _svg(figure, "time")


def _seconds_axis(axes: Axes, seconds: Sequence[float]) -> None:
    """Plain numbers, 1–2–5, also where all times lie within one decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xlim(min(seconds) / 1.8, max(seconds) * 1.8)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


class _Style:
    """Colour by segmenter, marker by uncertainty; the device is named where there are several."""

    def __init__(self, cells: Sequence[Mapping[str, Any]]) -> None:
        self._names = sorted({cell["segmenter"] for cell in cells})
        self._doubts = sorted({cell["uncertainty"] for cell in cells})
        devices = {cell["device"] for cell in cells if cell["device"] != "outside"}
        self._several = len(devices) > 1

    def colour(self, cell: Mapping[str, Any]) -> str:
        return COLOURS[self._names.index(cell["segmenter"]) % len(COLOURS)]

    def marker(self, cell: Mapping[str, Any]) -> str:
        return MARKERS[self._doubts.index(cell["uncertainty"]) % len(MARKERS)]

    def label(self, cell: Mapping[str, Any]) -> str:
        text = f"{cell['segmenter']} + {cell['uncertainty']}"
        return f"{text} ({cell['device']})" if self._several else text


def _new(height: float) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _svg(figure: Figure, salt: str) -> str:
    """The element alone: no document type, no date, ids of its own, text as text."""
    from matplotlib import rc_context

    held = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif"}):
        figure.savefig(held, format="svg", metadata={"Date": None})
    text = held.getvalue()
    return (
        text[text.index("<svg") :]
        .replace('id="', f'id="{salt}-')
        .replace('href="#', f'href="#{salt}-')
        .replace("url(#", f"url(#{salt}-")
    )
