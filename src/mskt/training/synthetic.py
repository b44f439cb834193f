"""A stream of synthetic patients: from label maps of people and from parametric persons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mskt.core.anatomy import LabelSet, label_set
from mskt.core.seeding import generator
from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.engine import synthesise
from mskt.synthesis.labelmap import LabelMap
from mskt.synthesis.parametric import canonical_labels
from mskt.synthesis.source import PreparedSource, prepare
from mskt.training.cases import CaseStream, TrainingCase


@dataclass(frozen=True)
class SyntheticStream(CaseStream):
    """Cases made on the fly; nothing is ever stored.

    Attributes:
        maps: label maps of real people (with their label table), each drawn with equal chance.
        table: JSON table of the maps.
        persons: how many parametric persons to draw from beside them.
        p_parametric: chance of a parametric person.
        excluded_person: number of a measured person who has no share in the parametric ones.
        p_clinical: chance of a clean clinical scan instead of wide randomisation.
        overrides: settings of the synthesis that differ from its presets.
        spacing_mm, shape: of each case.
    """

    maps: tuple[str, ...] = ()
    table: str = ""
    persons: int = 8
    p_parametric: float = 0.5
    excluded_person: int | None = None
    p_clinical: float = 0.25
    overrides: tuple[tuple[str, float], ...] = ()
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 3.0)
    shape: tuple[int, int, int] = (192, 144, 96)
    seed: int = 0
    label_set: LabelSet = field(default_factory=lambda: label_set("msk22"))

    def case(self, number: int) -> TrainingCase:
        """Synthesise case ``number``."""
        rng = generator(self.seed, "case", number)
        if not self.maps or rng.random() < self.p_parametric:
            source = len(self.maps) + int(rng.integers(self.persons))
        else:
            source = int(rng.integers(len(self.maps)))
        config = SynthesisConfig.training()
        if rng.random() < self.p_clinical:
            config = _clinical(config)
        config = replace(config, **dict(self.overrides))  # type: ignore[arg-type]
        made = synthesise(
            _source(self.maps, self.table, self.excluded_person, self.seed, source),
            seed=int(rng.integers(2**62)),
            spacing_mm=self.spacing_mm,
            shape=self.shape,
            config=config,
        )
        image = np.clip(np.rint(made.image), -1024, 3071).astype(np.int16)
        target = self.label_set.from_atoms(made.labels)
        return TrainingCase(image, target, made.body, patient=f"synthetic-{number}")

    def describe(self) -> Mapping[str, Any]:
        """Every setting; maps by file name."""
        plain = {k: v for k, v in asdict(self).items() if k not in ("label_set", "maps", "table")}
        return {
            "kind": "synthesis",
            "maps": [Path(m).name for m in self.maps],
            "label_set": self.label_set.name,
            **plain,
        }


def _clinical(config: SynthesisConfig) -> SynthesisConfig:
    return replace(
        SynthesisConfig.phantom(),
        view_level=config.view_level,
        view_shift_mm=15.0,
        p_mirror=0.5,
        flexion=(-6.0, 14.0),
        deform_wide_mm=(1.0, 5.0),
        scale=(0.88, 1.12),
    )


@lru_cache(maxsize=16)
def _source(
    maps: tuple[str, ...], table: str, excluded: int | None, seed: int, number: int
) -> PreparedSource:
    """A map (number < len(maps)) or a parametric person."""
    if number < len(maps):
        return prepare(LabelMap.from_shared(Path(maps[number]), Path(table)))
    person = number - len(maps)
    weights = None
    if excluded is not None:
        rng = generator(seed, "person", person)
        shares = rng.dirichlet(np.ones(2)) * 1.2 - 0.1
        weights = list(np.insert(shares, excluded, 0.0))
    return prepare(canonical_labels(50_000 + person, weights=weights))
