"""Hounsfield units: from a material map to a noiseless, infinitely sharp CT."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from mskt.synthesis import materials as m
from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.lattice import Axes, FloatArray, NoiseField, child_rng
from mskt.synthesis.source import COCCYX, FEMUR, FIBULA, HIP, LEFT, LUMBAR, PATELLA, SACRUM, TIBIA

BONES = (HIP, FEMUR, PATELLA, SACRUM, COCCYX, LUMBAR, TIBIA, FIBULA)
FAT_PER_MM = 0.06
"""Share of a muscle that fat takes for each mm of rim that it lost."""
_MARROW_HU = -30.0


def mean_hu_table() -> dict[int, tuple[float, float]]:
    """Mean HU (affected, unaffected side) per atom: Soufi et al. 2024, Table 6, or assumed."""
    text = resources.files("mskt.synthesis").joinpath("data/tissue_hu.csv").read_text("utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {int(r["atom"]): (float(r["affected_hu"]), float(r["unaffected_hu"])) for r in rows}


@dataclass(frozen=True)
class Densities:
    """Mean densities of one patient, by sided id of the source.

    Attributes:
        mean_hu: of every atom.
        lost_to_fat: share of a muscle that fat has replaced, 0 to 1; 0 where not given.
    """

    mean_hu: Mapping[int, float]
    lost_to_fat: Mapping[int, float]

    @classmethod
    def average(cls) -> Densities:
        """Both sides as the unaffected one of the table."""
        table = mean_hu_table()
        return cls({atom + side: hu for side in (0, LEFT) for atom, (_, hu) in table.items()}, {})

    def weakened(self, atrophy_mm: Mapping[int, float]) -> dict[int, float]:
        """Rim lost per sided id, to which the fat inside a muscle is added as its equal in mm."""
        weak = dict(atrophy_mm)
        for code, share in self.lost_to_fat.items():
            weak[code] = weak.get(code, 0.0) + share / FAT_PER_MM
        return weak


@dataclass(frozen=True)
class Tissue:
    """The drawn densities of one person.

    Attributes:
        mean: HU per material code, (256,).
        infiltration: expected fraction of fat inside a muscle, per code, (256,).
        within: spread of smooth variation inside a material, per code, (256,).
        cortex_mm, cortex_hu, trabecular_hu: per code, (256,).
        seam_mm: fat between neighbouring muscles, half width.
    """

    mean: FloatArray
    infiltration: FloatArray
    within: FloatArray
    cortex_mm: FloatArray
    cortex_hu: FloatArray
    trabecular_hu: FloatArray
    fat_hu: float
    seam_mm: float


def draw_tissue(seed: int, config: SynthesisConfig, weak: dict[int, float]) -> Tissue:
    """Draw densities; ``weak`` (mm of atrophy per sided id) raises fatty infiltration."""
    rng = child_rng(seed, "tissue")
    mean = np.zeros(256, np.float32)
    within = np.full(256, rng.uniform(*config.within_sd), np.float32)
    fatty = np.zeros(256, np.float32)
    fat_hu = float(rng.uniform(*config.fat_hu))
    person = config.muscle_mean_sd * rng.standard_normal()
    # densities of Table 6 are of elderly patients: the young have more, so half the cases rise
    person += config.muscle_mean_sd * abs(rng.standard_normal())
    level = (
        rng.uniform(*config.infiltration) * rng.random() ** 1.2
        if config.muscle_mean_sd
        else (rng.uniform(*config.infiltration))
    )
    for atom, (_, hu) in mean_hu_table().items():
        common = hu + person + config.structure_sd * rng.standard_normal()
        spread = rng.gamma(2.0, 0.5)
        for side in (0, LEFT):
            code = atom + side
            mean[code] = common + 0.4 * config.structure_sd * rng.standard_normal()
            fatty[code] = np.clip(level * spread + FAT_PER_MM * weak.get(code, 0.0), 0, 0.85)
    fatty[list(BONES) + [b + LEFT for b in BONES]] = 0
    context = child_rng(seed, "context hu")
    for code, (hu, sd) in m.CONTEXT_HU.items():
        mean[code] = hu + sd * context.standard_normal()
    mean[m.FAT] = fat_hu
    mean[m.WALL] += person
    mean[m.PARASPINAL] += person
    fatty[[m.WALL, m.PARASPINAL, m.CALF]] = np.clip(level * context.gamma(2.0, 0.5, 3), 0, 0.7)
    _enhance(mean, context, config)
    within[m.STOOL] = 60.0
    within[m.FAT] = 4.0
    within[[m.AIR, m.GAS, m.FLUID, m.BLADDER, m.METAL, m.LINER, m.CERAMIC]] = 1.0
    within[[m.VERTEBRA, m.RIB, m.SHIN, m.CANCELLOUS, m.CORTEX]] = 40.0
    cortex_mm, cortex_hu, trabecular = _draw_bones(rng, config)
    trabecular -= _marrow_loss(child_rng(seed, "marrow"), config)
    return Tissue(
        mean,
        fatty,
        within,
        cortex_mm,
        cortex_hu,
        trabecular,
        fat_hu,
        float(rng.uniform(*config.seam_mm)),
    )


def _enhance(mean: FloatArray, rng: np.random.Generator, config: SynthesisConfig) -> None:
    """Iodine in vessels and organs; oral contrast is drawn by the lesion code's density."""
    phase = rng.uniform(0, 1)
    dose = rng.uniform(0.3, 1.0)
    contrast = rng.random() < config.p_contrast
    oral = float(rng.uniform(120, 420))
    if contrast:
        mean[m.ARTERY] += dose * (320 - 200 * phase)
        mean[m.VEIN] += dose * (20 + 110 * phase)
        mean[m.KIDNEY] += dose * 150
        mean[[m.LIVER, m.SPLEEN, m.HEART]] += dose * (30 + 40 * phase)
        mean[[m.BOWEL, m.SOFT_ORGAN]] += dose * 30
        if phase > 0.8:
            mean[m.BLADDER] += dose * rng.uniform(0, 300)
    mean[m.ORAL] = oral


def _draw_bones(
    rng: np.random.Generator, config: SynthesisConfig
) -> tuple[FloatArray, FloatArray, FloatArray]:
    density = float(rng.uniform(*config.bone_density))
    mm, hu, inner = (np.zeros(256, np.float32) for _ in range(3))
    typical = {
        HIP: (0.9, 160),
        FEMUR: (0.9, 215),
        PATELLA: (1.2, 260),
        SACRUM: (0.4, 130),
        COCCYX: (0.4, 130),
        LUMBAR: (0.5, 160),
        TIBIA: (0.9, 190),
        FIBULA: (1.4, 150),
    }
    for atom, (thick, core) in typical.items():
        for code in (atom, atom + LEFT):
            mm[code] = thick * (0.55 + 0.45 * density) * np.exp(0.1 * rng.standard_normal())
            hu[code] = rng.uniform(700, 1150) * (0.7 + 0.3 * density)
            if atom in (SACRUM, COCCYX, LUMBAR):
                hu[code] *= 0.75
            inner[code] = core * density * np.exp(0.12 * rng.standard_normal())
    return mm, hu, inner


def _marrow_loss(rng: np.random.Generator, config: SynthesisConfig) -> FloatArray:
    """HU that trabecular bone lost to fatty marrow, per code; most in the sacral wings."""
    lost = np.zeros(256, np.float32)
    if rng.random() < config.p_marrow_loss:
        amount = rng.uniform(*config.marrow_loss_hu)
        for atom in BONES:
            part = amount * rng.uniform(0.5, 1.0) * (1.2 if atom == SACRUM else 1.0)
            lost[[atom, atom + LEFT]] = part
    return lost


def render(
    material: NDArray[np.uint8],
    depth_mm: FloatArray,
    shaft: FloatArray,
    axes: Axes,
    tissue: Tissue,
    seed: int,
) -> FloatArray:
    """HU of every voxel before the scanner.

    Args:
        material: (x, y, z) sided ids and context codes.
        depth_mm: distance to the nearest label border, (x, y, z); large where unused.
        shaft: 0…1 on the voxels of long bones (flat list, order of ``material``): 1 is mid-shaft.
        axes: world mm of the grid, for texture.
        tissue: the person's densities.
        seed: of the case.
    """
    rng = child_rng(seed, "texture")
    hu = tissue.mean[material]
    smooth = NoiseField.draw(rng, 13.0).at(axes)
    hu += tissue.within[material] * smooth
    _septa(hu, material, smooth)
    _infiltrate(hu, material, axes, tissue, rng)
    ids = material < 200
    seams = ids & (material > 0) & (depth_mm < tissue.seam_mm + 1.4)
    _seams(hu, material, depth_mm, seams, tissue)
    _bones(hu, material, depth_mm, shaft, smooth, axes, tissue, rng)
    return hu


def _septa(hu: FloatArray, material: NDArray[np.uint8], smooth: FloatArray) -> None:
    """Fibrous septa in fat: thin sheets where a smooth field crosses zero, in place."""
    at = np.flatnonzero((material == m.FAT).ravel())
    n = smooth.ravel()[at]
    hu.ravel()[at] += 32 * np.exp(-np.square(n / 0.09))


def _infiltrate(
    hu: FloatArray,
    material: NDArray[np.uint8],
    axes: Axes,
    tissue: Tissue,
    rng: np.random.Generator,
) -> None:
    """Fat streaks along the fibres (roughly z) and patches, in proportion to the muscle's share."""
    streak = NoiseField.draw(rng, (2.4, 2.4, 20.0), max_nodes=64).at(axes)
    patch = NoiseField.draw(rng, (20.0, 20.0, 50.0)).at(axes)
    share = tissue.infiltration[material]
    where = np.flatnonzero(share.ravel() > 0.004)
    f = share.ravel()[where]
    s = (0.8 * streak.ravel()[where] + 0.6 * patch.ravel()[where]).astype(np.float32)
    # threshold of a unit normal that leaves a share f above it (logistic approximation)
    cut = np.log((1 - f) / f) / 1.702
    fat = 0.8 / (1 + np.exp(-np.clip((s - cut) * 3, -30, 30)))
    flat = hu.ravel()
    flat[where] += fat * (tissue.fat_hu + 15 - flat[where])


def _seams(
    hu: FloatArray,
    material: NDArray[np.uint8],
    depth: FloatArray,
    where: NDArray[np.bool_],
    t: Tissue,
) -> None:
    at = np.flatnonzero(where.ravel())
    code = material.ravel()[at]
    muscle = ~np.isin(code % LEFT, BONES)
    at = at[muscle]
    part = np.clip((t.seam_mm + 1.0 - depth.ravel()[at]) / 1.2, 0, 1) * min(1.0, t.seam_mm)
    flat = hu.ravel()
    flat[at] += part * (t.fat_hu - flat[at])


def _bones(
    hu: FloatArray,
    material: NDArray[np.uint8],
    depth: FloatArray,
    shaft: FloatArray,
    smooth: FloatArray,
    axes: Axes,
    t: Tissue,
    rng: np.random.Generator,
) -> None:
    flat = material.ravel()
    bony = np.zeros(256, bool)
    bony[[*BONES, *(b + LEFT for b in BONES)]] = True
    at = np.flatnonzero(bony[flat])
    if len(at) == 0:
        return
    code = flat[at]
    grain = NoiseField.draw(rng, 7.0, max_nodes=48).at(axes).ravel()[at]
    long = shaft.ravel()[at]
    thick = t.cortex_mm[code] * (1 + 3.6 * long) * np.exp(0.18 * smooth.ravel()[at])
    inner = t.trabecular_hu[code] * (1 + 0.22 * smooth.ravel()[at]) + 35 * grain
    inner = inner * (1 - long) + _MARROW_HU * long
    shell = 1 / (1 + np.exp(np.clip((depth.ravel()[at] - 1.0 - thick) * 3, -30, 30)))
    hu.ravel()[at] = inner + shell * (t.cortex_hu[code] * (1 + 0.4 * long) - inner)
