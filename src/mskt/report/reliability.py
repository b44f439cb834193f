"""The picture of a calibration: does the predicted Dice come true, and does doubt sort out the bad?"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mskt.analysis.trial import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#0072b2", "#d55e00")


def picture(trials: Mapping[str, Trial]) -> bytes:
    """A reliability diagram and a risk–coverage curve as PNG.

    Left: mean Dice against mean predicted Dice in ten bins; the area of a point grows with the number
    of structures in it. On the line predictions come true, below it they are too good. Right: mean of
    1 − Dice of the structures that are kept, against the part that is kept when the most doubtful are
    taken out first (Geifman & El-Yaniv 2018).

    Args:
        trials: by the name that the legend gives them; one or two.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for colour, (name, trial) in zip(_COLOURS, trials.items(), strict=False):
        _reliability(left, trial, name, colour)
        if trial.risk_coverage:
            right.plot(*zip(*trial.risk_coverage, strict=True), color=colour, label=name)
    left.plot([0, 1], [0, 1], color="#888888", linewidth=0.8)
    lowest = min(
        (min(one.predicted, one.observed) for t in trials.values() for one in t.reliability),
        default=0.0,
    )
    span = (max(0.0, lowest - 0.05), 1.0)
    left.set(xlabel="predicted Dice", ylabel="mean Dice", xlim=span, ylim=span)
    right.set(
        xlabel="part of the structures that is kept", ylabel="mean 1 − Dice of these", xlim=(0, 1)
    )
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="upper left")
    held = io.BytesIO()
    FigureCanvasAgg(figure).print_png(held)
    return held.getvalue()


def _reliability(axes: Axes, trial: Trial, name: str, colour: str) -> None:
    bins = trial.reliability
    if not bins:
        return
    total = sum(one.n for one in bins)
    axes.scatter(
        [one.predicted for one in bins],
        [one.observed for one in bins],
        s=[20 + 400 * one.n / total for one in bins],
        color=colour,
        alpha=0.7,
        label=name,
    )
