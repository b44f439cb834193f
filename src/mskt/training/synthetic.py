"""A stream of synthetic patients: from label maps of people and from parametric persons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LabelSet, label_set
from mskt.core.seeding import generator
from mskt.synthesis import shape_table
from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.engine import synthesise
from mskt.synthesis.labelmap import LabelMap
from mskt.synthesis.mixing import Correspondence, correspond
from mskt.synthesis.parametric import canonical_labels
from mskt.synthesis.source import PreparedSource, prepare
from mskt.training.cases import CaseStream, TrainingCase
from mskt.training.targets import translate

PERSONS_FROM = 50_000
"""Seed of the first parametric person of training; validation takes others."""
MIXED_SHARE = (-0.3, 1.3)
"""How far one map's person is led to another's: 0 is the one, 1 the other."""


@dataclass(frozen=True)
class SyntheticStream(CaseStream):
    """Cases made on the fly; nothing is ever stored.

    Attributes:
        maps: label maps of people, each drawn with equal chance.
        table: names of their values; empty: each map has its own beside it.
        persons: how many parametric persons to draw from beside them.
        p_parametric: chance of a parametric person.
        excluded_persons: numbers of the measured persons who have no share in the parametric ones.
        persons_from: seed of the first parametric person.
        p_mixed: chance of a mixture of two maps, where there are two; then come the others.
        mixtures: how many of them; each is registered once a worker (some 15 s on one core).
        p_clinical: chance of a clean clinical scan instead of wide randomisation.
        overrides: settings of the synthesis that differ from its presets.
        spacing_mm, shape: of each case.
        label_set: of the targets; a map that tells a structure only in part leaves it unknown.
    """

    maps: tuple[str, ...] = ()
    table: str = ""
    persons: int = 8
    p_parametric: float = 0.5
    excluded_persons: tuple[int, ...] = ()
    persons_from: int = PERSONS_FROM
    p_mixed: float = 0.0
    mixtures: int = 6
    p_clinical: float = 0.25
    overrides: tuple[tuple[str, Any], ...] = ()
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 3.0)
    shape: tuple[int, int, int] = (192, 144, 96)
    seed: int = 0
    label_set: LabelSet = field(default_factory=lambda: label_set("msk22"))

    def case(self, number: int) -> TrainingCase:
        """Synthesise case ``number``."""
        rng = generator(self.seed, "case", number)
        person = self._person(rng)
        config = SynthesisConfig.training()
        if rng.random() < self.p_clinical:
            config = clinical(config)
        config = replace(config, **dict(self.overrides))
        made = synthesise(
            person.source,
            seed=int(rng.integers(2**62)),
            spacing_mm=self.spacing_mm,
            shape=self.shape,
            config=config,
        )
        image = np.clip(np.rint(made.image), -1024, 3071).astype(np.int16)
        target = person.table[made.labels]
        return TrainingCase(image, target, made.body, person.known, f"synthetic-{number}")

    def _person(self, rng: np.random.Generator) -> _Person:
        """A map's person, a mixture of two, or a parametric one."""
        if self.p_mixed and len(self.maps) > 1 and rng.random() < self.p_mixed:
            number = int(rng.integers(self.mixtures))
            return _mixture(self.label_set, self.maps, self.table, self.seed, number)
        if not self.maps or rng.random() < self.p_parametric:
            number = int(rng.integers(self.persons))
            seed = self.persons_from + number
            return _parametric(self.label_set, seed, self._weights(number))
        return _mapped(self.label_set, self.maps[int(rng.integers(len(self.maps)))], self.table)

    def _weights(self, number: int) -> tuple[float, ...] | None:
        """Shares of the measured persons in a parametric one; None: as its seed draws them."""
        if not self.excluded_persons:
            return None
        everybody = len(shape_table.packaged().persons)
        kept = [i for i in range(everybody) if i not in self.excluded_persons]
        rng = generator(self.seed, "person", number)
        weights = np.zeros(everybody)
        # A little outside the range between them, as it is without exclusion.
        weights[kept] = rng.dirichlet(np.ones(len(kept))) * (1 + 0.1 * len(kept)) - 0.1
        return tuple(weights.tolist())

    def describe(self) -> Mapping[str, Any]:
        """Every setting; maps and table by file name."""
        plain = {k: v for k, v in asdict(self).items() if k not in ("label_set", "maps", "table")}
        return {
            "kind": "synthesis",
            "maps": [Path(m).name for m in self.maps],
            "table": Path(self.table).name,
            "label_set": self.label_set.name,
            **plain,
            "overrides": dict(self.overrides),
        }


@dataclass(frozen=True, eq=False)
class _Person:
    """Whom to synthesise, and what the ids of the engine's labels are in the target."""

    source: PreparedSource
    table: NDArray[np.uint8]
    known: tuple[str, ...] | None


def clinical(config: SynthesisConfig) -> SynthesisConfig:
    """A clean clinical scan at any level, with the windows of ``config``."""
    return replace(
        SynthesisConfig.phantom(),
        view_level=config.view_level,
        view_shift_mm=15.0,
        p_mirror=0.5,
        flexion=(-6.0, 14.0),
        deform_wide_mm=(1.0, 5.0),
        scale=(0.88, 1.12),
        head_hu=config.head_hu,
        joint_space_mm=config.joint_space_mm,
    )


@lru_cache(maxsize=16)
def _parametric(target: LabelSet, seed: int, weights: tuple[float, ...] | None) -> _Person:
    """A person mixed from the shape table; every structure is known."""
    source = prepare(canonical_labels(seed, weights=weights))
    return _Person(source, target.from_atoms(np.arange(256, dtype=np.uint8)), None)


@lru_cache(maxsize=16)
def _mapped(target: LabelSet, mask: str, table: str) -> _Person:
    """The person of a label map."""
    return _told(target, LabelMap.from_file(mask, table or None))


@lru_cache(maxsize=16)
def _mixture(
    target: LabelSet, maps: tuple[str, ...], table: str, seed: int, number: int
) -> _Person:
    """One map's person on the way to another's, before the one or beyond the other."""
    rng = generator(seed, "mixture", number)
    base, other = rng.choice(len(maps), 2, replace=False)
    share = float(rng.uniform(*MIXED_SHARE))
    return _told(target, _correspondence(maps[base], maps[other], table).mixed(share))


@lru_cache(maxsize=8)
def _correspondence(base: str, other: str, table: str) -> Correspondence:
    persons = [LabelMap.from_file(mask, table or None) for mask in (base, other)]
    return correspond(persons[0], persons[1])


def _told(target: LabelSet, person: LabelMap) -> _Person:
    """A person of a map; what its table tells in part, or has no voxel, is not known."""
    assert person.meaning is not None
    translation = translate(person.meaning, target)
    present = set(np.unique(translation.table[person.labels]).tolist())
    known = tuple(name for name in translation.known if target[name].index in present)
    whole = known == target.names
    return _Person(prepare(person), translation.table, None if whole else known)
