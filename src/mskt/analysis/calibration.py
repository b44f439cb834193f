"""What a calibration holds: what a doubt means, for structures without a reference.

:mod:`mskt.analysis.fitting` makes it, :mod:`mskt.analysis.flags` judges by it. Soufi 2024:
a regression of the Dice on the doubt over cases with references, per structure (here a curve with an
exponent that all share: :mod:`mskt.analysis.curves`) and over all of them; a structure stands out
below median + 1.4826·k·MAD of the Dice (k = −2 inaccurate, −3 failed), and the curve inverted there
gives the doubt above which it is flagged. The lower bound is conformal
(:func:`mskt.analysis.conformal.lower_bound`, which says what it promises and what not).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mskt.analysis import strict_json
from mskt.analysis.curves import Curve, LeftOut
from mskt.analysis.failure import FAILED, INACCURATE, dice_threshold
from mskt.analysis.pairs import DOUBT
from mskt.core.errors import UsageError

SCHEMA = 2
MIN_CASES = 10
MIN_PAIRS = 10
"""Below it a structure takes the curve and thresholds of all structures together."""
ALL = "all structures"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Median of the Dice, and the Dice below which it is inaccurate (k = −2) or failed (k = −3)."""

    median: float
    inaccurate: float
    failed: float

    @classmethod
    def of(cls, dice: Sequence[float] | np.ndarray) -> Thresholds | None:
        """Thresholds of some Dice, shape (n,); None without any or where more than half are equal.

        With a MAD of 0 all that differs from the median would count as failed.
        """
        values = np.asarray(dice, np.float64)
        if not values.size or not np.median(np.abs(values - np.median(values))) > 0:
            return None
        return cls(
            float(np.median(values)),
            dice_threshold(values, INACCURATE),
            dice_threshold(values, FAILED),
        )


@dataclass(frozen=True, slots=True)
class Fit:
    """What the calibration cases say of one structure, or of all (:data:`ALL`).

    Attributes:
        pairs, patients: with Dice and doubt; left and right of a patient are two pairs.
        missed: structures that the method did not find though the reference has them (Dice 0).
        inaccurate, failed: pairs and misses below the Dice thresholds; failed ones are both.
        dice: thresholds, missed structures included; None where more than half of the Dice are equal.
        curve: None where there are too few pairs or the doubt never varies.
        doubt_inaccurate, doubt_failed: the curve inverted at the thresholds; None where it cannot be.
        doubt_range: smallest and largest doubt seen.
        left_out: for the lower bound; empty where there are too few patients for an own one.
        notes: what is missing and why, in words.
    """

    structure: str
    pairs: int
    patients: int
    missed: int
    inaccurate: int
    failed: int
    dice: Thresholds | None
    curve: Curve | None
    doubt_inaccurate: float | None
    doubt_failed: float | None
    doubt_range: tuple[float, float] | None
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a curve of which nobody knows where it was seen to hold."""
        if self.curve is not None and self.doubt_range is None:
            raise ValueError("has a curve but no doubt_range")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which data and which method a calibration is of.

    Attributes:
        weights, weights_sha256: names and checksums; several for the folds of a cross-validation,
            none for a method without weights.
        aggregation: how the doubts of voxels become one of the structure.
        draws: samples a voxel.
        cases, patients, pairs: with a Dice; ``pairs`` without missed structures.
        synthetic_cases: how many of the cases are phantoms and no patients.
        rows_sha256: checksum of the rows used.
        date: ISO 8601.
        mskt: version that made the calibration.
    """

    segmenter: str
    weights: tuple[str, ...]
    weights_sha256: tuple[str, ...]
    estimator: str
    measure: str
    aggregation: str
    draws: int
    label_set: str
    cases: int
    patients: int
    pairs: int
    synthetic_cases: int
    rows_sha256: str
    date: str
    mskt: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """From the doubt of a structure to predicted Dice, lower bound and flag.

    Attributes:
        schema: of the file.
        metric: which row of the results is the doubt.
        coverage: of the lower bound, in (0, 1).
        structures: one entry for each structure with a Dice in the calibration cases.
        pooled: over all of them; for structures with too few pairs, and unknown ones.
        case_means: thresholds of the mean Dice of a case.
    """

    schema: int
    metric: str
    coverage: float
    structures: tuple[Fit, ...]
    pooled: Fit
    case_means: Thresholds | None
    provenance: Provenance

    def __post_init__(self) -> None:
        """Refuse another schema and a coverage that is none."""
        if self.schema != SCHEMA:
            raise ValueError(f"has schema {self.schema}, this mskt reads {SCHEMA}")
        if not 0.0 < self.coverage < 1.0:
            raise ValueError(f"coverage {self.coverage} is not between 0 and 1")

    def to_json(self) -> str:
        """Write it as indented JSON that :meth:`from_json` reads back to the last bit."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, file: str = "calibration.json") -> Calibration:
        """Read what :meth:`to_json` wrote.

        Args:
            text: the document.
            file: its name, for errors.

        Raises:
            InputError: no JSON, another schema, or a field missing, unknown or of the wrong type.
        """
        return strict_json.read(cls, text, file, SCHEMA)

    def fit_of(self, structure: str) -> Fit | None:
        """Look a structure up; None if no calibration case had a reference of it."""
        return next((fit for fit in self.structures if fit.structure == structure), None)

    def check_fits(
        self,
        segmenter: str,
        weights_sha256: str | Sequence[str],
        estimator: str,
        measure: str,
        label_set: str,
        *,
        aggregation: str | None = None,
        draws: int | None = None,
        force: bool = False,
    ) -> str:
        """Refuse a method other than the one calibrated: its doubts mean something else.

        Args:
            segmenter: name, as the user gives it.
            weights_sha256: of the weights in use, several for an ensemble; empty if there are none.
            estimator: name of the uncertainty, as the user gives it.
            measure: what it computes, as ``run.json`` names it.
            label_set: name.
            aggregation: how voxels become the ``uncertainty`` of a structure; None leaves it
                unchecked, as does a calibration of another metric, which names its own.
            draws: samples a voxel; None leaves them unchecked.
            force: go on all the same.

        Returns:
            Empty if all agrees; with ``force`` a sentence to be shown with the results.

        Raises:
            UsageError: something differs and ``force`` is false.
        """
        known = self.provenance
        used = {weights_sha256} if isinstance(weights_sha256, str) else {*weights_sha256}
        strange = sorted(map(_short, used - {"", *known.weights_sha256}))
        asked = {
            "segmenter": (known.segmenter, segmenter),
            "uncertainty": (known.estimator, estimator),
            "measure": (known.measure, measure),
            "label set": (known.label_set, label_set),
            "draws": (known.draws, known.draws if draws is None else draws),
        }
        if aggregation is not None and self.metric == DOUBT:
            asked["aggregation"] = (known.aggregation, aggregation)
        different = [f"{name} {a}, here {b}" for name, (a, b) in asked.items() if a != b]
        if strange or (known.weights_sha256 and not used - {""}):
            of = ", ".join(map(_short, known.weights_sha256)) or "none"
            different.append(f"weights {of}, here {', '.join(strange) or 'none'}")
        if not different:
            return ""
        told = "; ".join(different)
        if force:
            return (
                f"The calibration was made for another method ({told}): its figures may be wrong."
            )
        raise UsageError(
            "calibration",
            f"was made for another method: {told}.",
            "Calibrate with results of this method, or run with the method that was calibrated.",
        )


def _short(checksum: str) -> str:
    """The first digits of a checksum; of an ensemble those of each member."""
    return "+".join(part[:12] for part in checksum.split("+"))
