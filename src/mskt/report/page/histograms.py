"""HU histograms of the structures, both sides in one small picture, as SVG that needs no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mskt.analysis.assessment import FAT_BELOW_HU, LEAN_ABOVE_HU
from mskt.core.anatomy import Structure
from mskt.core.foreground import slabs

_LOWEST_HU, _HIGHEST_HU, _BIN_HU = -250, 1500, 5
_BINS = (_HIGHEST_HU - _LOWEST_HU) // _BIN_HU
_SHOWN_HU = {"bone": (-200, 1400)}
_MUSCLE_HU = (-180, 180)
_WIDTH, _HEIGHT, _FLOOR = 200, 84, 66
_LINES = (("right", 1, "#0072b2", ""), ("left", 2, "#d55e00", "4 2"), ("both", 0, "#222222", ""))
"""Side, its code, colour and dashes: told apart without colours, too."""


@dataclass(frozen=True)
class Histogram:
    """One structure.

    Attributes:
        title: name in words.
        svg: the picture.
        sides: that it shows.
    """

    title: str
    svg: str
    sides: tuple[str, ...]


def count(
    hu: NDArray[np.float32], labels: NDArray[np.uint8], sides: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """Voxels by label, side and HU: ``(256, 3, bins)``; what is outside the range is in the end bins.

    Args:
        hu: the CT as it was given.
        labels: on its grid.
        sides: 1 right, 2 left, 0 neither.
    """
    counts = np.zeros(256 * 3 * _BINS, np.int64)
    order = np.argsort([-abs(stride) for stride in labels.strides], kind="stable")
    labels, hu, sides = labels.transpose(order), hu.transpose(order), sides.transpose(order)
    for part in slabs(labels):
        here = labels[part] != 0
        place = np.floor((hu[part][here] - _LOWEST_HU) / _BIN_HU).astype(np.int64)
        code = labels[part][here].astype(np.int64) * 3 + sides[part][here]
        code = code * _BINS + np.clip(place, 0, _BINS - 1)
        counts += np.bincount(code, minlength=counts.size)
    return counts.reshape(256, 3, _BINS)


def pictures(
    counts: NDArray[np.int64], structures: Sequence[Structure], tissues: Mapping[str, str]
) -> list[Histogram]:
    """One picture for each structure that is there, in the order of the label set.

    Args:
        counts: of :func:`count`.
        structures: of the label set.
        tissues: of each structure by name: ``muscle``, ``bone`` or nothing.
    """
    found = []
    for structure in structures:
        mine = counts[structure.index]
        shown = [
            (side, mine[code], colour, dash)
            for side, code, colour, dash in _LINES
            if mine[code].any()
        ]
        if shown:
            title = structure.name.replace("_", " ")
            svg = _svg(title, shown, _SHOWN_HU.get(tissues.get(structure.name, ""), _MUSCLE_HU))
            found.append(Histogram(title, svg, tuple(side for side, *_ in shown)))
    return found


def _svg(
    title: str, shown: Sequence[tuple[str, NDArray[np.int64], str, str]], limits: tuple[int, int]
) -> str:
    """Lines of equal area, one a side, over the ranges of fat, mixed and lean tissue."""
    low, high = limits

    def x(hu: float) -> float:
        return round((hu - low) / (high - low) * _WIDTH, 1)

    first, last = (limits[0] - _LOWEST_HU) // _BIN_HU, (limits[1] - _LOWEST_HU) // _BIN_HU
    shares = [(s, c[first:last] / c.sum(), colour, dash) for s, c, colour, dash in shown]
    top = max(float(share.max()) for _, share, *_ in shares) or 1.0
    centres = _LOWEST_HU + (np.arange(first, last) + 0.5) * _BIN_HU
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="HU histogram of {title}">',
        f'<rect x="0" y="0" width="{x(FAT_BELOW_HU)}" height="{_FLOOR}" fill="#f0e442" opacity=".28"/>',
        f'<rect x="{x(FAT_BELOW_HU)}" y="0" width="{x(LEAN_ABOVE_HU) - x(FAT_BELOW_HU):.1f}" '
        f'height="{_FLOOR}" fill="#e69f00" opacity=".22"/>',
        f'<line x1="0" x2="{_WIDTH}" y1="{_FLOOR}" y2="{_FLOOR}" stroke="#888"/>',
    ]
    step = 100 if high - low < 600 else 400
    for hu in range(-(-low // step) * step, high + 1, step):
        anchor = "start" if hu == low else "end" if hu == high else "middle"
        parts.append(
            f'<line x1="{x(hu)}" x2="{x(hu)}" y1="{_FLOOR}" y2="{_FLOOR + 3}" stroke="#888"/>'
            f'<text x="{x(hu)}" y="{_FLOOR + 13}" text-anchor="{anchor}">{hu}</text>'
        )
    for _, share, colour, dash in shares:
        points = " ".join(
            f"{x(hu)},{_FLOOR - (_FLOOR - 4) * value / top:.1f}"
            for hu, value in zip(centres, share, strict=True)
        )
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.4"{dashes}/>'
        )
    return "".join([*parts, "</svg>"])
