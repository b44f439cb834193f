"""What the experiments work on: results tables by name, and further facts about the cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mskt.analysis.statistics.methods import Method, methods_of
from mskt.core.errors import UsageError
from mskt.core.records import Record

SYNTHETIC = "synthetic phantom"
"""What ``dataset`` of a phantom's rows begins with."""


@dataclass(frozen=True)
class Source:
    """One results table.

    Attributes:
        name: what the user calls it, or its folder.
        records: its rows.
        draws: samples a voxel, as the runs say; empty where no run tells.
        training_cases: that the weights were trained on, as their card says; empty likewise.
    """

    name: str
    records: tuple[Record, ...]
    draws: frozenset[int] = frozenset()
    training_cases: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Facts:
    """Of one case; None or empty where the table of cases says nothing.

    Attributes:
        sex: ``F`` or ``M``.
        affected_side: ``left`` or ``right``.
        height_m: in metres.
        cohort: name of the database.
        sarcopenia: whether diagnosed.
        smi: appendicular skeletal muscle over squared height, kg/m².
    """

    sex: str = ""
    affected_side: str = ""
    height_m: float | None = None
    cohort: str = ""
    sarcopenia: bool | None = None
    smi: float | None = None


@dataclass(frozen=True)
class Inputs:
    """All that an experiment may use.

    Attributes:
        named: the user named the sources, so that methods are called by these names.
        facts: by case.
        labelled: tables with Dice to learn thresholds from.
        reference: a table whose values are taken as true; None if none was given.
        doubt: which metric is the uncertainty.
        structure: for experiments on one structure.
        truncated: count structures cut by the field of view.
        draws, seed: of each bootstrap over patients.
    """

    sources: tuple[Source, ...]
    named: bool = False
    facts: Mapping[str, Facts] = field(default_factory=dict)
    labelled: tuple[Source, ...] = ()
    reference: Source | None = None
    doubt: str = "uncertainty"
    structure: str = "gluteus_medius"
    truncated: bool = False
    draws: int = 1000
    seed: int = 0

    @property
    def records(self) -> list[Record]:
        """Rows of all sources."""
        return [row for source in self.sources for row in source.records]

    @property
    def cases(self) -> tuple[str, ...]:
        """Names, in order of appearance."""
        return tuple(dict.fromkeys(row.case_id for row in self.records))


@dataclass(frozen=True)
class Model:
    """One method, with all rows that it has."""

    name: str
    records: tuple[Record, ...]

    def has(self, metric: str) -> bool:
        """Whether any row has a value of the metric."""
        return any(row.metric == metric and row.value is not None for row in self.records)

    def method(self, metric: str) -> Method:
        """Its rows of one metric.

        Raises:
            UsageError: it has no value of it.
            InputError: a case occurs twice, or the unit changes.
        """
        found = methods_of([(self.name, self.records)], metric, SYNTHETIC)
        return replace(found[0], name=self.name)


def models_of(sources: Sequence[Source], metric: str, *, named: bool) -> list[Model]:
    """Tell the methods in some tables apart, as :func:`methods_of` does, and keep all their rows.

    Args:
        sources: tables of the same name belong together.
        metric: that all of them have.
        named: call methods by their tables.

    Raises:
        UsageError, InputError: as :func:`methods_of`.
    """
    tables = [(source.name, source.records) for source in sources]
    methods = methods_of(tables, metric, SYNTHETIC, by_table=named)
    if named and len(methods) == 1:
        methods = [replace(methods[0], name=sources[0].name)]
    found = []
    for method in methods:
        keys = {_key(row) for row in method.rows.values()}
        rows = tuple(row for _, records in tables for row in records if _key(row) in keys)
        found.append(Model(method.name, rows))
    return found


def _key(row: Record) -> tuple[str, str, str, str]:
    return row.case_id, row.segmenter, row.uncertainty, row.run_id


def one_model(inputs: Inputs, metric: str) -> Model:
    """The only method there is.

    Raises:
        UsageError: there are several.
    """
    models = models_of(inputs.sources, metric, named=inputs.named)
    if len(models) > 1:
        raise UsageError(
            "--results",
            f"hold several methods: {', '.join(model.name for model in models)}.",
            "This experiment is of one method: give the results of one.",
        )
    return models[0]


def synthetic_note(records: Iterable[Record]) -> list[str]:
    """Say so where cases are no patients."""
    marks = {row.case_id: row.dataset.startswith(SYNTHETIC) for row in records}
    if not any(marks.values()):
        return []
    part = "All" if all(marks.values()) else str(sum(marks.values()))
    return [f"{part} of {len(marks)} cases are synthetic phantoms, no patients."]
