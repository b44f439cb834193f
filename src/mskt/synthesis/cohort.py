"""Who the synthetic patients are: a cohort like DB#1 of Soufi et al. (2024).

Fifty patients with osteoarthritis of one hip. Their sexes and ages are the paper's (44 of 50 women,
61.4 ± 13.0 years, 30 to 86); volumes over squared height and densities of every structure vary about
the means of its Table 6, on the affected and on the other side. The rest is not in the paper and is
assumed: height and body-mass index as among Japanese of that age (the patients of Osaka), how much
individuals differ, and what sex, age and severity do to them. Effects are centred, so that they
spread the cohort without moving its means.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np

from mskt.core.anatomy import LEFT_OFFSET, label_set
from mskt.core.seeding import generator
from mskt.synthesis.calibre import Build
from mskt.synthesis.labelmap import ATOM_IDS, MIDLINE
from mskt.synthesis.tissue import BONES, Densities, mean_hu_table

Sex = Literal["F", "M"]
Side = Literal["right", "left"]

WOMEN = 44 / 50
AGE = (61.4, 13.0, 30.0, 86.0)  # mean, sd, least, greatest
HEIGHT_CM: Mapping[Sex, tuple[float, float]] = {"F": (153.5, 5.5), "M": (166.5, 6.0)}
BMI: Mapping[Sex, tuple[float, float]] = {"F": (22.9, 3.4), "M": (23.9, 3.2)}
FEMUR_CM: Mapping[Sex, tuple[float, float]] = {"F": (2.47, 54.10), "M": (2.38, 61.41)}
"""Height = slope x femur + constant (Trotter & Gleser 1952)."""

MEN_HAVE = {"muscle": 1.25, "bone": 1.08}  # volume over squared height, women = 1
PERSON_SD = {"muscle": 0.12, "bone": 0.05}  # of all volumes together, relative
STRUCTURE_SD = {"muscle": 0.06, "bone": 0.02}
LOSS_PER_YEAR = 0.006  # of muscle
SEVERITY = (0.4, 1.6)  # times the mean difference between affected and other side
PERSON_HU = {"muscle": 3.0, "bone": 20.0}
STRUCTURE_HU = {"muscle": 1.5, "bone": 8.0}
HU_PER_YEAR = {"muscle": -0.2, "bone": -1.0}
FAT_HU, LEAN_HU = -100.0, 55.0
# Small rotators without a row in the table shrink and grow as the others do.
FOLLOWERS = frozenset(
    ATOM_IDS[n] for n in ("gemellus_superior", "gemellus_inferior", "quadratus_femoris")
)


@dataclass(frozen=True)
class Patient:
    """One member of the cohort.

    Attributes:
        sex, age, height_m, weight_kg: age in years.
        affected: the side with osteoarthritis.
        severity: loss of muscle and density on that side relative to the cohort's mean loss.
        volumes_cm3: structure of ``msk22`` to its volumes (right, left); the sacrum's halves.
        densities: of every sided atom.
    """

    sex: Sex
    age: int
    height_m: float
    weight_kg: float
    affected: Side
    severity: float
    volumes_cm3: Mapping[str, tuple[float, float]]
    densities: Densities

    @property
    def fat_mm(self) -> float:
        """Typical subcutaneous fat over the hip: from the body-mass index, less in men."""
        bmi = self.weight_kg / self.height_m**2
        return float(np.clip((bmi - 17.0) / 0.28 * (0.75 if self.sex == "M" else 1.0), 6.0, 40.0))

    @property
    def build(self) -> Build:
        """The sizes that the anatomy must have in its upright pose."""
        slope, constant = FEMUR_CM[self.sex]
        volumes = {
            atoms_of(name): (right / posture()[name], left / posture()[name])
            for name, (right, left) in self.volumes_cm3.items()
        }
        return Build(10 * (100 * self.height_m - constant) / slope, volumes, FOLLOWERS)


def draw_patient(seed: int) -> Patient:
    """Draw one patient; the same seed is the same patient."""
    rng = generator(seed, "cohort", "person")
    sex: Sex = "F" if rng.random() < WOMEN else "M"
    mean, sd, least, greatest = AGE
    age = int(np.clip(round(rng.normal(mean, sd)), least, greatest))
    height_m = round(_normal(rng, HEIGHT_CM[sex]) / 100, 3)
    bmi = float(np.clip(_normal(rng, BMI[sex]), 16.5, 36.0))
    affected: Side = "right" if rng.random() < 0.5 else "left"
    severity = float(rng.uniform(*SEVERITY))
    mean_hu = _mean_hu(seed, age, affected, severity)
    return Patient(
        sex=sex,
        age=age,
        height_m=height_m,
        weight_kg=round(bmi * height_m**2, 1),
        affected=affected,
        severity=severity,
        volumes_cm3=_volumes(seed, sex, age, height_m, affected, severity),
        densities=Densities(mean_hu, _lost_to_fat(mean_hu)),
    )


@cache
def volume_table() -> Mapping[str, tuple[float, float]]:
    """cm³/m² (affected, unaffected side) per structure of ``msk22``: Soufi et al. 2024, Table 6."""
    return {
        r["structure"]: (float(r["affected_cm3_m2"]), float(r["unaffected_cm3_m2"]))
        for r in _table()
    }


@cache
def posture() -> Mapping[str, float]:
    """Volume of a structure in a phantom over that in its upright anatomy, on average."""
    return {r["structure"]: float(r["posture"]) for r in _table()}


@cache
def _table() -> tuple[dict[str, str], ...]:
    text = resources.files("mskt.synthesis").joinpath("data/cohort_volumes.csv").read_text("utf-8")
    return tuple(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def _volumes(
    seed: int, sex: Sex, age: int, height_m: float, affected: Side, severity: float
) -> dict[str, tuple[float, float]]:
    rng = generator(seed, "cohort", "volumes")
    tissues = {s.name: s.tissue for s in label_set("msk22").structures}
    person = {tissue: _spread(rng, sd) for tissue, sd in PERSON_SD.items()}
    person["muscle"] *= 1 - LOSS_PER_YEAR * (age - AGE[0])
    volumes = {}
    for name, (weak, sound) in volume_table().items():
        tissue = tissues[name]
        men = MEN_HAVE[tissue]
        factor = person[tissue] * _spread(rng, STRUCTURE_SD[tissue]) * height_m**2
        factor *= (men if sex == "M" else 1.0) / (WOMEN + (1 - WOMEN) * men)
        # What osteoarthritis adds to the bones is as certain as what it takes from muscles.
        own, other = factor * (sound + severity * (weak - sound)), factor * sound
        if ATOM_IDS.get(name) in MIDLINE:
            own = other = factor * sound / 2
        volumes[name] = (own, other) if affected == "right" else (other, own)
    return volumes


def _mean_hu(seed: int, age: int, affected: Side, severity: float) -> dict[int, float]:
    rng = generator(seed, "cohort", "densities")
    person = {
        tissue: rng.normal(0, sd) + HU_PER_YEAR[tissue] * (age - AGE[0])
        for tissue, sd in PERSON_HU.items()
    }
    mean_hu = {}
    for atom, (weak, sound) in mean_hu_table().items():
        tissue = "bone" if atom in BONES else "muscle"
        middle = sound + person[tissue] + rng.normal(0, STRUCTURE_HU[tissue])
        diseased = middle + severity * (weak - sound)
        pair = (diseased, middle) if affected == "right" else (middle, diseased)
        mean_hu[atom], mean_hu[atom + LEFT_OFFSET] = pair
    return mean_hu


def _lost_to_fat(mean_hu: Mapping[int, float]) -> dict[int, float]:
    """Share of fat that explains how much less dense a muscle is than the unaffected mean."""
    table = mean_hu_table()
    return {
        code: float(np.clip((table[code % LEFT_OFFSET][1] - hu) / (LEAN_HU - FAT_HU), 0, 0.6))
        for code, hu in mean_hu.items()
        if code % LEFT_OFFSET not in BONES
    }


@cache
def atoms_of(name: str) -> frozenset[int]:
    """Ids of the atoms that a structure of ``msk22`` is made of, as on the right side."""
    structure = next(s for s in label_set("msk22").structures if s.name == name)
    return frozenset(ATOM_IDS[element] for element, _ in structure.elements)


def _normal(rng: np.random.Generator, mean_sd: tuple[float, float]) -> float:
    """A normal draw within two and a half standard deviations."""
    mean, sd = mean_sd
    return float(mean + sd * np.clip(rng.standard_normal(), -2.5, 2.5))


def _spread(rng: np.random.Generator, sd: float) -> float:
    """A positive factor with mean 1 (log-normal)."""
    return float(np.exp(sd * rng.standard_normal() - sd**2 / 2))
