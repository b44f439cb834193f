"""Training data by name: the user's own annotated cases, synthesis on the fly, phantoms, mixtures.

    open_data(["nnunet:Dataset100?share=0.7", "synthesis?clinical=0.25&share=0.3"], …)

Annotated cases and phantoms are prepared once, into a cache; synthesis makes its cases when they
are asked for. All of them belong to patients, and folds are made of patients.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mskt.core.anatomy import LabelSet, suggestion
from mskt.core.errors import UsageError
from mskt.training import dataspec
from mskt.training.cases import CaseStream, TrainingCase
from mskt.training.dataspec import DataSpec
from mskt.training.mixture import Mixture
from mskt.training.sources import Plan, Report, Source, files
from mskt.training.splits import Fold, check_leaks
from mskt.training.synthetic_sources import phantoms, synthesis


class _Lazy(Sequence[TrainingCase]):
    """Cases that are read, or made, when they are looked at."""

    def __init__(self, makers: Sequence[Callable[[], TrainingCase]]) -> None:
        self._makers = makers

    def __len__(self) -> int:
        return len(self._makers)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Lazy(self._makers[index])
        return self._makers[index]()


@dataclass(frozen=True)
class Dataset:
    """All cases that a training may see.

    Attributes:
        plan: of the run.
        sources: at least one.
    """

    plan: Plan
    sources: tuple[Source, ...]

    @property
    def patients(self) -> tuple[str, ...]:
        """Who can be left out, sorted. A name that two sources have is one patient."""
        return tuple(sorted({p for one in self._split_sources() for p in one.patients}))

    @property
    def on_the_fly(self) -> bool:
        """True if all cases are made when they are asked for: an epoch has no end then."""
        return not any(source.follows_folds for source in self.sources)

    @property
    def patient_of(self) -> Mapping[str, str]:
        """The patient of each case that has a name; people of synthesis alone stand for themselves."""
        people = {name: name for name in self.patients} if self.on_the_fly else {}
        named = [one for source in self.sources for one in source.identities()]
        return people | {one.name: one.patient for one in named}

    def stream(self, patients: Collection[str] | None = None) -> CaseStream:
        """Training cases of these patients (of all, without any).

        Sources that have none of them drop out and the others' shares grow.

        Raises:
            UsageError: a patient is not in the data, or none is named.
        """
        wanted = self._wanted(patients)
        members, shares = [], []
        for source in self.sources:
            splits = source.follows_folds or self.on_the_fly
            made = source.stream(wanted if splits else source.patients)
            if made is not None:
                members.append(made)
                shares.append(source.share if source.share is not None else self._rest())
        return members[0] if len(members) == 1 else Mixture.of(members, shares, self.plan.seed)

    def cases(self, patients: Collection[str] | None = None) -> Sequence[TrainingCase]:
        """Each case of these patients once, for validation; read when it is looked at.

        Annotated cases and phantoms are whole scans; synthesis alone gives a fixed set of cases
        that training never sees.

        Raises:
            UsageError: a patient is not in the data, or none is named.
        """
        wanted = self._wanted(patients)
        return _Lazy([maker for one in self._split_sources() for maker in one.cases(wanted)])

    def check(self, fold: Fold) -> None:
        """Refuse a fold that names strangers, or has one image on both sides.

        Raises:
            UsageError, LeakError: see above.
        """
        for side in (fold.train, fold.validation):
            self._wanted(side)
        check_leaks(fold, [one for source in self.sources for one in source.identities()])

    def describe(self) -> Mapping[str, Any]:
        """What the data are, JSON-ready: names, counts, checksums, no paths."""
        return {
            "label_set": self.plan.label_set.name,
            "spacing_mm": list(self.plan.spacing_mm),
            "shape": list(self.plan.shape),
            "seed": self.plan.seed,
            "patients": list(self.patients),
            "sources": [source.describe() for source in self.sources],
        }

    def _split_sources(self) -> tuple[Source, ...]:
        """Those whose patients make folds: where there are scans, synthesis trains in every fold."""
        return tuple(one for one in self.sources if one.follows_folds or self.on_the_fly)

    def _wanted(self, patients: Collection[str] | None) -> frozenset[str]:
        everybody = self.patients
        if patients is None:
            return frozenset(everybody)
        for name in sorted(patients):
            if name not in everybody:
                raise UsageError(
                    "", f"there is no patient {name!r} in the data.", suggestion(name, everybody)
                )
        if not patients:
            raise UsageError("", "no patient is named.", "Name at least one.")
        return frozenset(patients)

    def _rest(self) -> float:
        """Share of a source that names none: an equal part of what the others leave."""
        given = [one.share for one in self.sources if one.share is not None]
        return (1 - sum(given)) / (len(self.sources) - len(given))


def open_data(
    specs: Sequence[str],
    *,
    label_set: LabelSet,
    spacing_mm: tuple[float, float, float],
    shape: tuple[int, int, int],
    seed: int,
    cache: Path,
    report: Report = lambda _: None,
) -> Dataset:
    """Find, check and prepare training data.

    Args:
        specs: ``PATH`` or ``KIND:PATH?key=value`` each (docs/training-data.md); several are mixed.
        label_set: classes to learn.
        spacing_mm: of the cases.
        shape: voxels (x, y, z) of a case, at most.
        seed: of order, windows, synthesis and mixture.
        cache: folder for prepared cases; may be shared between runs.
        report: gets sentences about progress and findings.

    Raises:
        UsageError: a specification is wrong.
        InputError: data that cannot be used.
        OutputError: the cache cannot be written.
    """
    if not specs:
        raise UsageError("--data", "names no data.", "Give a path, or 'synthesis'.")
    plan = Plan(label_set, spacing_mm, shape, seed, cache, report)
    parsed = [dataspec.parse(text) for text in specs]
    _check_shares(parsed)
    return Dataset(plan, tuple(_open(spec, plan) for spec in parsed))


def _check_shares(specs: Sequence[DataSpec]) -> None:
    given = [s.number("share", 1.0, 1e-6, 1.0) for s in specs if "share" in s.options]
    full = sum(given) > 1 + 1e-6 or (len(given) < len(specs) and sum(given) > 1 - 1e-6)
    if full:
        raise UsageError(
            "--data",
            f"the shares {', '.join(f'{share:g}' for share in given)} leave nothing for the rest"
            if len(given) < len(specs)
            else f"the shares {', '.join(f'{share:g}' for share in given)} are more than 1.",
            "Shares are parts of 1; sources without one get equal parts of what is left.",
        )


def _open(spec: DataSpec, plan: Plan) -> Source:
    share = spec.number("share", 1.0, 1e-6, 1.0) if "share" in spec.options else None
    opened = {"synthesis": synthesis, "phantom": phantoms}
    return opened.get(spec.kind, files)(spec, plan, share)
