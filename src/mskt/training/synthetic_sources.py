"""Sources of cases that nobody scanned: synthesis on the fly, and cohorts of phantoms."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import mskt
from mskt.core import checksum
from mskt.core.anatomy import suggestion
from mskt.core.cases import Case, find_cases, find_label_maps
from mskt.core.cases.names import stem
from mskt.core.errors import InputError, UsageError
from mskt.core.seeding import key
from mskt.core.volume import Labels, Volume
from mskt.synthesis import shape_table
from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.labelmap import LabelMap
from mskt.synthesis.phantom import make_phantom
from mskt.training.cases import CaseStream, TrainingCase
from mskt.training.dataspec import DataSpec
from mskt.training.kept import KeptStream
from mskt.training.prepared import Settings, prepare_made
from mskt.training.sources import AnnotatedSource, Plan, Source, annotated
from mskt.training.splits import Identity
from mskt.training.synthetic import PERSONS_FROM, SyntheticStream

_OWN = (
    "share", "maps", "table", "persons", "p_parametric", "p_mixed", "leave_out", "clinical", "validation",
    "cases",
)  # fmt: skip
_SETTINGS = {field.name: field for field in fields(SynthesisConfig)}
_TABLES = ("labels.json", "labels.tsv", "dseg.tsv", "dataset.json")
_LABEL_WORD = re.compile(r"(?:^|[._ -])(?:d?seg|labels?)(?:[._ -].*)?$", re.IGNORECASE)
_VALIDATION_FROM = PERSONS_FROM + 10_000
"""Seed of the first parametric person of validation: no training reaches it."""


@dataclass(frozen=True)
class Keep:
    """How many cases of a synthesis are used, and where they lie.

    Attributes:
        count: of training.
        cache: a folder.
        maps: what tells the contents of the label maps apart, JSON-ready.
    """

    count: int
    cache: Path
    maps: tuple[str, ...]

    def of(self, stream: SyntheticStream, count: int | None = None) -> KeptStream:
        """The first cases of the stream, ``self.count`` of them or another number."""
        return KeptStream.of(stream, count or self.count, self.cache, self.maps, stream.seed)


@dataclass(frozen=True)
class SyntheticSource(Source):
    """Synthesis on the fly.

    Its patients are the people whose anatomy it draws from: those of the maps, or else the measured
    persons of the shape table. To leave one out leaves out map and share of the shape table.

    Attributes:
        whole: the stream that leaves nobody out but ``left_out``.
        people: name of the person of each map.
        left_out: the user's choice, for all folds.
        validation: number of cases to validate on.
        keep: keeps a number of cases on disk, for training and for validation; None: each is new.
    """

    whole: SyntheticStream
    people: tuple[str, ...]
    left_out: str = ""
    validation: int = 8
    share: float | None = None
    keep: Keep | None = None
    follows_folds: bool = False

    @property
    def patients(self) -> tuple[str, ...]:
        """Whose anatomy it is, sorted."""
        everybody = self.people or shape_table.packaged().persons
        return tuple(sorted({*everybody} - {self.left_out}))

    def stream(self, patients: Collection[str]) -> CaseStream | None:
        """Cases made of the anatomy of these people alone."""
        made = self._of(patients)
        return self.keep.of(made) if made is not None and self.keep else made

    def _of(self, patients: Collection[str]) -> SyntheticStream | None:
        if not {*self.patients} & {*patients}:
            return None
        return self._only({*self.patients} - {*patients})

    def cases(self, patients: Collection[str]) -> list[Callable[[], TrainingCase]]:
        """A fixed set of cases of these people, of seeds that training never draws."""
        made = self._of(patients)
        if made is None:
            return []
        made = replace(
            made, seed=key(self.whole.seed, "validation") % 2**62, persons_from=_VALIDATION_FROM
        )
        if {*patients} < {*self.patients}:  # a fold: nothing of the others, not even in a mixture
            persons = shape_table.packaged().persons
            others = tuple(i for i, name in enumerate(persons) if name not in patients)
            made = replace(made, excluded_persons=others, p_parametric=0.0 if made.maps else 1.0)
        case = self.keep.of(made, self.validation).kept if self.keep else made.case
        return [partial(case, number) for number in range(self.validation)]

    def identities(self) -> list[Identity]:
        """Nothing: its cases are endless."""
        return []

    def describe(self) -> Mapping[str, Any]:
        """Settings of the stream, whose anatomy, and who is left out."""
        return {
            **self.whole.describe(),
            "share": self.share,
            "people": list(self.patients),
            "left_out": self.left_out,
            "validation_cases": self.validation,
            **({"kept_cases": self.keep.count} if self.keep else {}),
        }

    def _only(self, absent: Collection[str]) -> SyntheticStream:
        """The stream without these people."""
        persons = shape_table.packaged().persons
        maps = [
            m for m, name in zip(self.whole.maps, self.people, strict=True) if name not in absent
        ]
        excluded = {i for i, name in enumerate(persons) if name in absent}
        excluded |= {*self.whole.excluded_persons}
        chance = 0.0 if len(excluded) == len(persons) else self.whole.p_parametric
        return replace(
            self.whole,
            maps=tuple(maps),
            excluded_persons=tuple(sorted(excluded)),
            p_parametric=chance,
        )


def synthesis(spec: DataSpec, plan: Plan, share: float | None) -> SyntheticSource:
    """``synthesis``, or ``synthesis:DIR`` with label maps of people.

    Raises:
        UsageError, InputError: an option or a label map cannot be used.
    """
    spec.check_keys((*_OWN, *_SETTINGS))
    if spec.path is not None and "maps" in spec.options:
        raise UsageError(spec.text, "names maps twice.", "Write synthesis:DIR or ?maps=DIR.")
    folder = spec.path or (Path(spec.options["maps"]) if "maps" in spec.options else None)
    table = Path(spec.options["table"]) if "table" in spec.options else None
    maps, people, table = _maps(folder, table) if folder else ((), (), None)
    stream = SyntheticStream(
        maps=maps,
        table=str(table) if table else "",
        persons=spec.count("persons", 8),
        p_parametric=spec.number("p_parametric", 0.5, 0.0, 1.0),
        p_mixed=spec.number("p_mixed", 0.0, 0.0, 1.0),
        p_clinical=spec.number("clinical", 0.25, 0.0, 1.0),
        overrides=_overrides(spec),
        spacing_mm=plan.spacing_mm,
        shape=plan.shape,
        seed=plan.seed,
        label_set=plan.label_set,
    )
    for mask in maps:  # what is wrong with a map is said now, not by a worker in an hour
        plan.report(f"synthesis: {Path(mask).name}")
        LabelMap.from_file(mask, table)
    keep = None
    if "cases" in spec.options:
        files = [*map(Path, maps), *([table] if table else [])]
        sums = tuple(str(checksum.of_input(file)["sha256"]) for file in files)
        keep = Keep(spec.count("cases", 1), plan.cache, sums)
    source = SyntheticSource(stream, people, "", spec.count("validation", 8), share, keep)
    left_out = spec.options.get("leave_out", "")
    if not left_out:
        return source
    everybody = tuple(dict.fromkeys((*people, *shape_table.packaged().persons)))
    if left_out not in everybody:
        raise UsageError(
            spec.text, f"there is nobody named {left_out!r}.", suggestion(left_out, everybody)
        )
    return replace(
        source, whole=source._only({left_out}), left_out=left_out, people=_kept(source, left_out)
    )


def _kept(source: SyntheticSource, left_out: str) -> tuple[str, ...]:
    return tuple(name for name in source.people if name != left_out)


def _overrides(spec: DataSpec) -> tuple[tuple[str, Any], ...]:
    """Options that are settings of the synthesis: ``p_arms=0.9``, ``fat_mm=5:30``."""
    found = {}
    for name, text in spec.options.items():
        if name not in _SETTINGS or name in _OWN:
            continue
        usual = getattr(SynthesisConfig(), name)
        try:
            found[name] = _value(text, usual)
        except ValueError:
            form = "LOW:HIGH" if isinstance(usual, tuple) else "a number"
            form = "true or false" if isinstance(usual, bool) else form
            raise UsageError(spec.text, f"{name}={text!r} is not {form}.", "Correct it.") from None
    try:
        SynthesisConfig(**found)
    except ValueError as error:
        raise UsageError(spec.text, f"{error}.", "Correct it.") from error
    return tuple(found.items())


def _value(text: str, usual: Any) -> Any:
    if isinstance(usual, bool):
        return {"true": True, "false": False}.get(text) if text in ("true", "false") else _fail()
    if isinstance(usual, tuple):
        low, high = map(float, text.split(":"))
        return (low, high)
    return float(text)


def _fail() -> bool:
    raise ValueError


def _maps(folder: Path, table: Path | None) -> tuple[tuple[str, ...], tuple[str, ...], Path | None]:
    """Label maps of a folder or file, the name of each one's person, and their common table."""
    cases = _label_maps(folder)
    worded = [case for case in cases if _LABEL_WORD.search(stem(case.image))]
    cases = worded or cases
    names = [_LABEL_WORD.sub("", stem(case.image)) or case.case_id for case in cases]
    if len({*names}) < len(names):
        names = [case.case_id for case in cases]
    root = folder if folder.is_dir() else folder.parent
    common = [root / name for name in _TABLES if (root / name).is_file()]
    tables = {case.table for case in cases}
    if table is None and tables == {None}:
        table = common[0] if common else None
    elif table is None and len(tables) == 1:
        table = tables.pop()
    return tuple(str(case.image) for case in cases), tuple(names), table


def _label_maps(folder: Path) -> list[Case]:
    """Label maps at ``folder``, or those of the annotated cases there."""
    try:
        return find_label_maps([folder])
    except InputError as error:
        if not folder.is_dir():
            raise
        try:
            found = [case for case in find_cases([folder]) if case.reference is not None]
        except InputError:
            raise error from None
        if not found:
            raise
        return [replace(case, image=case.reference) for case in found if case.reference is not None]


def phantoms(spec: DataSpec, plan: Plan, share: float | None) -> AnnotatedSource:
    """``phantom?n=20&seed=1``: a fixed cohort of clean synthetic scans, each its own patient.

    Raises:
        UsageError: an option cannot be used, or a cohort is named.
    """
    spec.check_keys(("share", "n", "seed"))
    if spec.path is not None:
        raise UsageError(
            spec.text, "cohorts of phantoms have no names.", "Write phantom?n=20&seed=1."
        )
    count, first = spec.count("n", 20), spec.count("seed", 1, low=0)
    settings = Settings(plan.label_set, plan.spacing_mm)
    prepared = []
    for seed in range(first, first + count):
        name = f"phantom_{seed:04d}"
        plan.report(f"phantom: {name} ({seed - first + 1} of {count})")
        facts = ["phantom", mskt.__version__, repr(SynthesisConfig.phantom()), seed]
        made = partial(_phantom, seed, plan.spacing_mm)
        prepared.append(prepare_made(name, made, facts, settings, plan.cache))
    named = {
        "kind": "phantom",
        "name": f"phantoms {first} to {first + count - 1}",
        "synthetic": True,
    }
    return annotated(prepared, named, plan, share)


def _phantom(seed: int, spacing_mm: tuple[float, float, float]) -> tuple[Volume, Labels]:
    """The patient of ``mskt phantom --seed``."""
    made = make_phantom(seed, spacing_mm=spacing_mm)
    return made.image, made.labels
