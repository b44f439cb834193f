"""A soft-tissue mass (sarcoma-like) that grows in a muscle: no structure's voxels, a muscle's density.

The mass takes the place of muscle and fat; bone keeps its own. Its voxels are background: a reader
who outlines the muscle leaves the tumour out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.labelmap import ATOM_IDS
from mskt.synthesis.lattice import Axes, FloatArray, NoiseField, child_rng, smoothstep
from mskt.synthesis.shape import Points
from mskt.synthesis.source import LEFT, PreparedSource
from mskt.synthesis.tissue import BONES

RADII_MM = (16.0, 48.0)
RIM_HU, CORE_HU = (20.0, 60.0), (5.0, 35.0)
"""Unenhanced soft-tissue sarcomas are about as dense as muscle, necrotic parts like fluid."""


@dataclass(frozen=True)
class Mass:
    """An uneven ellipsoid in the source's space.

    Attributes:
        centre, radii: mm.
        rim_hu, core_hu: density outside and in the middle.
    """

    centre: FloatArray
    radii: FloatArray
    rim_hu: float
    core_hu: float


def draw_mass(seed: int, src: PreparedSource, config: SynthesisConfig) -> Mass | None:
    """Draw a mass around a place in some muscle; None as often as the configuration says."""
    rng = child_rng(seed, "mass")
    if rng.random() >= config.p_lesion:
        return None
    muscles = [n for n in ATOM_IDS.values() if n not in BONES]
    inside = np.flatnonzero(np.isin(src.labels % LEFT, muscles) & (src.labels > 0))
    index = np.unravel_index(int(rng.choice(inside)), src.labels.shape)
    centre = np.asarray(src.origin_mm) + np.asarray(src.step_mm) * np.asarray(index)
    return Mass(
        centre=centre.astype(np.float32),
        radii=rng.uniform(*RADII_MM, 3).astype(np.float32),
        rim_hu=float(rng.uniform(*RIM_HU)),
        core_hu=float(rng.uniform(*CORE_HU)),
    )


def paint_mass(
    mass: Mass,
    hu: FloatArray,
    labels: NDArray[np.uint8],
    body: NDArray[np.bool_],
    full: Points,
    axes: Axes,
    seed: int,
) -> None:
    """Write the mass into HU and labels, in place.

    Args:
        mass: what to paint.
        hu: before the scanner.
        labels: sided atom ids; those of the mass become 0.
        body: True inside the skin.
        full: source coordinates of every voxel, mm.
        axes: of the output grid.
        seed: of the case.
    """
    rng = child_rng(seed, "mass texture")
    square = sum(((v - c) / r) ** 2 for v, c, r in zip(full, mass.centre, mass.radii, strict=True))
    distance = np.sqrt(np.asarray(square, np.float32))
    near = distance < 1.4
    if not near.any():
        return
    uneven = distance + np.float32(0.12) * NoiseField.draw(rng, 14.0).at(axes)
    inside = near & (uneven < 1) & body & ~np.isin(labels % LEFT, list(BONES))
    core = 1 - smoothstep(uneven, 0.3, 0.8)
    texture = 6 * NoiseField.draw(rng, 5.0).at(axes)
    density = mass.rim_hu + (mass.core_hu - mass.rim_hu) * core + texture
    hu[inside] = density[inside]
    labels[inside] = 0
