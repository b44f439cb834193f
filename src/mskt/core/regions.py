"""Where along the body each axial slice lies, and which structures can occur there.

A network says for each slice how probable each *level* is; levels are heights in a standard person
(mm above the hip joint). Neighbouring slices then settle it together: going up by one slice spacing,
the level rises by about as much (a hidden Markov model along z, solved by forward and backward
passes). From the result follow the names of regions and, for each structure, the slices where it
may occur. Whatever is not certain is allowed: a check must never cut what is there.

The *body coordinate* is 0 at the knee joint, 1 at the hip joint, 2 at the iliac crest, and goes on
beyond with the unit of its neighbour: −1 lies a thigh's length below the knee, 3 as far above the
crest as the crest is above the hip.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LabelSet, Structure, atoms

KNEE_MM, CREST_MM = -440.0, 145.0
"""Knee joint and iliac crest of the standard person, mm above the hip joint."""
LEVEL_STEP_MM = 20.0
LEVELS_MM: NDArray[np.float64] = np.arange(-940.0, 821.0, LEVEL_STEP_MM)
"""Centres of the levels that the network tells apart, from the sole to the vertex."""
MARGIN_MM = 60.0
"""Added to either end of the measured extent of a structure (standard person)."""
INNER_MM = 20.0
"""Taken off either end of the measured extent, a quarter of it at most: within what is left every
person has the structure (standard person)."""
CERTAIN = 0.02
"""A structure is kept from a slice only if the probability that it may be there is below this."""
_INDEPENDENT_MM = 40.0
"""Neighbouring slices see nearly the same and err alike: this far apart they are two witnesses."""
_FLOOR = 0.005
"""Share of slices about which the network may be plainly wrong (metal, motion, padding)."""
_LEAP = 1e-3
"""Share of steps with any rise at all: slices may be missing."""
_FINE = 4
"""Positions a level in the smoothing."""
_SLOPES = (0.6, 1.45)
"""Rise of the level by mm of height: 1 divided by the size of the person, and posture."""


@dataclass(frozen=True, slots=True)
class BodyRegion:
    """A stretch of the body coordinate; ``low`` belongs to it, ``high`` to the next."""

    name: str
    low: float
    high: float


REGIONS: tuple[BodyRegion, ...] = (
    BodyRegion("foot", -np.inf, -0.87),
    BodyRegion("shin", -0.87, 0.0),
    BodyRegion("thigh", 0.0, 0.85),
    BodyRegion("pelvis-lower", 0.85, 1.1),
    BodyRegion("pelvis-centre", 1.1, 1.5),
    BodyRegion("pelvis-upper", 1.5, 2.0),
    BodyRegion("abdomen-lower", 2.0, 2.75),
    BodyRegion("abdomen-upper", 2.75, 3.6),
    BodyRegion("chest", 3.6, 4.7),
    BodyRegion("head-neck", 4.7, 5.69),
    BodyRegion("brain", 5.69, np.inf),
)
NO_REGION = "none"
"""A slice without body."""
IN_VIEW = ("thigh", "pelvis-lower", "pelvis-centre", "pelvis-upper")
"""Regions of hip and thigh."""


def coordinate(
    height_mm: NDArray[np.floating] | float,
    knee_mm: float = KNEE_MM,
    crest_mm: float = CREST_MM,
) -> NDArray[np.float64]:
    """Body coordinate of heights above the hip joint (mm) in a person with that knee and crest."""
    z = np.asarray(height_mm, np.float64)
    return np.where(z < 0, 1 - z / knee_mm, 1 + z / crest_mm)


def standard_mm(body_coordinate: NDArray[np.floating] | float) -> NDArray[np.float64]:
    """Height above the hip joint in the standard person: the inverse of :func:`coordinate`."""
    u = np.asarray(body_coordinate, np.float64)
    return np.where(u < 1, (1 - u) * KNEE_MM, (u - 1) * CREST_MM)


@dataclass(frozen=True)
class SliceLevels:
    """At which level each slice lies, as far as that is known.

    Attributes:
        probability: ``(slices, levels)``, rows sum to 1; rows of slices without body are zero.
    """

    probability: NDArray[np.float64]

    @property
    def body(self) -> NDArray[np.bool_]:
        """Slices with body."""
        return np.asarray(self.probability.sum(axis=1) > 0)

    @property
    def coordinate(self) -> NDArray[np.float64]:
        """Expected body coordinate of each slice; NaN without body."""
        mean = self.probability @ LEVELS_MM
        return np.where(self.body, coordinate(mean), np.nan)

    def within(self, low_mm: float, high_mm: float) -> NDArray[np.float64]:
        """Probability that each slice lies between two heights of the standard person."""
        half = LEVEL_STEP_MM / 2
        share = np.clip(
            (np.minimum(high_mm, LEVELS_MM + half) - np.maximum(low_mm, LEVELS_MM - half))
            / LEVEL_STEP_MM,
            0,
            1,
        )
        share[0] = max(share[0], float(low_mm <= LEVELS_MM[0]))
        share[-1] = max(share[-1], float(high_mm >= LEVELS_MM[-1]))
        return np.asarray(self.probability @ share, np.float64)

    def region_probabilities(self) -> NDArray[np.float64]:
        """``(slices, 1 + regions)``: none, then :data:`REGIONS`; rows sum to 1."""
        bounds = standard_mm(np.array([r.low for r in REGIONS[1:]]))
        of_level = np.searchsorted(bounds, LEVELS_MM, side="right")
        member = np.eye(len(REGIONS))[of_level]
        return np.hstack([1 - self.body[:, None].astype(float), self.probability @ member])

    def regions(self) -> list[str]:
        """The most probable region of each slice."""
        names = (NO_REGION, *(r.name for r in REGIONS))
        return [names[i] for i in self.region_probabilities().argmax(axis=1)]


def smooth(probability: NDArray[np.floating], step_mm: float) -> SliceLevels:
    """Let the slices of a stack settle together at which level each lies.

    Args:
        probability: ``(slices, levels)`` by slice, in the order from feet to head; zero rows mark
            slices without body, which tell nothing.
        step_mm: distance of neighbouring slices.

    Returns:
        Posterior probabilities. A stack that the network understands nowhere keeps wide ones.
    """
    raw = np.asarray(probability, np.float64)
    body = raw.sum(axis=1) > 0
    if not body.any():
        return SliceLevels(np.zeros_like(raw))
    stride = max(1, round(0.8 * LEVEL_STEP_MM / 2 / step_mm))
    groups = np.arange(len(raw)) // stride
    witnessed = _evidence(raw, body, groups, step_mm)
    fine = _forward_backward(witnessed, _transition(stride * step_mm, witnessed.shape[1]))
    level = fine.reshape(len(fine), len(LEVELS_MM), _FINE).sum(axis=2)
    return SliceLevels(np.where(body[:, None], level[groups], 0.0))


def _evidence(
    raw: NDArray[np.float64], body: NDArray[np.bool_], groups: NDArray[np.int_], step_mm: float
) -> NDArray[np.float64]:
    """Log-likelihood ``(groups, fine positions)``: what the slices of each group say together."""
    share = raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-12)
    log = np.log((1 - _FLOOR) * share + _FLOOR / raw.shape[1])
    weight = body * max(min(1.0, step_mm / _INDEPENDENT_MM), 1 / body.sum())
    total = np.zeros((groups[-1] + 1, raw.shape[1]))
    np.add.at(total, groups, weight[:, None] * log)
    return np.repeat(total, _FINE, axis=1)


def _transition(step_mm: float, size: int) -> NDArray[np.float64]:
    """Probability ``(from, to)`` of each fine position one step higher.

    Beyond the highest level (arms above the head) and below the lowest one can stay where one is.
    """
    fine = LEVEL_STEP_MM / _FINE
    rise = np.subtract.outer(np.arange(size), np.arange(size)).T
    low, high = np.floor(_SLOPES[0] * step_mm / fine), np.ceil(_SLOPES[1] * step_mm / fine)
    spread = 0.25 * step_mm / fine + 0.5
    steps = np.arange(low, high + 1)
    kernel = np.exp(-0.5 * ((steps - step_mm / fine) / spread) ** 2)
    weight = np.zeros((size, size))
    for step, share in zip(steps.astype(int), kernel / kernel.sum(), strict=True):
        to = np.minimum(np.arange(size) + step, size - 1)
        weight[np.arange(size), to] += share
    weight[0, 0] += 1.0
    weight += _LEAP / size * (rise >= 0)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True), np.float64)


def _forward_backward(
    log_likelihood: NDArray[np.float64], transition: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Posterior of each position; rows sum to 1."""
    like = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    forward, backward = np.empty_like(like), np.ones_like(like)
    forward[0] = like[0] / like[0].sum()
    for k in range(1, len(like)):
        now = (forward[k - 1] @ transition) * like[k]
        forward[k] = now / now.sum()
    for k in range(len(like) - 2, -1, -1):
        now = transition @ (backward[k + 1] * like[k + 1])
        backward[k] = now / now.max()
    posterior = forward * backward
    return np.asarray(posterior / posterior.sum(axis=1, keepdims=True), np.float64)


@cache
def extents() -> Mapping[str, tuple[float, float]]:
    """Measured extent of each atom, in body coordinates; infinite where the sources end first."""
    text = resources.files("mskt.core").joinpath("data", "extents.tsv").read_text("utf-8")
    rows = csv.DictReader((t for t in text.splitlines() if t[:1] != "#"), delimiter="\t")
    return {row["atom"]: (float(row["low"] or "-inf"), float(row["high"] or "inf")) for row in rows}


def extent_mm(structure: Structure) -> tuple[float, float]:
    """Heights of the standard person between which a structure was seen.

    One with an atom whose extent nobody measured may be everywhere.
    """
    names = {name for name, _ in structure.elements}
    known = extents()
    if not names or not names <= set(known) or not names <= set(atoms()):
        return -np.inf, np.inf
    low = min(known[name][0] for name in names)
    high = max(known[name][1] for name in names)
    return float(standard_mm(low)), float(standard_mm(high))


def reach_mm(structure: Structure) -> tuple[float, float]:
    """Heights of the standard person between which a structure may occur, margin included."""
    low, high = extent_mm(structure)
    return low - MARGIN_MM, high + MARGIN_MM


def permitted(levels: SliceLevels, labels: LabelSet) -> NDArray[np.bool_]:
    """Which classes may occur in each slice, ``(slices, 1 + structures)``; background always.

    A class is refused only where it is certain that it cannot be there.
    """
    allowed = np.zeros((len(levels.probability), 1 + len(labels.structures)), bool)
    allowed[:, 0] = True
    for channel, structure in enumerate(labels.structures, start=1):
        allowed[:, channel] = levels.body & (levels.within(*reach_mm(structure)) > CERTAIN)
    return allowed


def expected(levels: SliceLevels, labels: LabelSet) -> NDArray[np.bool_]:
    """Which classes the scan should show, ``(1 + structures,)``; background always.

    More likely than not it shows some of what lies between the inner ends of the structure's extent.
    Not to find another one is no failure: it may lie above or below the scan.
    """
    found = np.zeros(1 + len(labels.structures), bool)
    found[0] = True
    body = np.flatnonzero(levels.body)
    if not len(body):
        return found
    ends = SliceLevels(levels.probability[body[[0, -1]]])
    for channel, structure in enumerate(labels.structures, start=1):
        low, high = extent_mm(structure)
        inner = min(INNER_MM, (high - low) / 4)
        lowest, highest = ends.within(-np.inf, high - inner)[0], ends.within(low + inner, np.inf)[1]
        found[channel] = min(lowest, highest) >= 0.5
    return found


def in_view(levels: SliceLevels) -> bool:
    """False if it is certain that no slice shows hip or thigh."""
    if not levels.body.any():
        return False
    wanted = [1 + i for i, r in enumerate(REGIONS) if r.name in IN_VIEW]
    return bool((levels.region_probabilities()[:, wanted].sum(axis=1) > CERTAIN).any())


def summary(names: Sequence[str]) -> str:
    """What a stack shows, from below: ``thigh to abdomen-lower``."""
    there = [r.name for r in REGIONS if r.name in names]
    if not there:
        return "no body"
    return there[0] if len(there) == 1 else f"{there[0]} to {there[-1]}"
