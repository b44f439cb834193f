"""Which experiments there are, and what each of them needs. Light: the help page reads it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from mskt.core.anatomy import suggestion
from mskt.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mskt.analysis.reproduction.findings import Findings
    from mskt.analysis.reproduction.inputs import Inputs, Source

_HOW = {
    "dice": "cases with reference labels beside them (docs/inputs.md): mskt run CASES --out DIR",
    "assd": "cases with reference labels: mskt run CASES --out DIR, or mskt evaluate",
    "uncertainty": "mskt run CASES --uncertainty mcdropout --out DIR",
    "volume": "mskt run CASES --out DIR",
    "mean_hu": "mskt run CASES --out DIR",
    "ravd": "cases with reference labels: mskt run CASES --out DIR",
}
_FACTS = {
    "sex": "F or M",
    "affected_side": "left or right",
    "height_m": "metres",
    "sarcopenia": "1 or 0; or smi, kg/m²",
    "cohort": "name of the database",
}


@dataclass(frozen=True)
class Experiment:
    """One analysis of the papers.

    Attributes:
        name: as the user types it.
        shows: in one line.
        paper: and where in it.
        metrics: every table must have values of; ``doubt`` is what ``--doubt`` names.
        facts: columns that ``--cases`` must fill for some case.
        sources: least number of methods or runs.
        steps: what the runs differ by, ``draws`` or ``training_cases``; empty if nothing.
        makes: commands that make such runs.
    """

    name: str
    shows: str
    paper: str
    metrics: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    sources: int = 1
    steps: str = ""
    makes: tuple[str, ...] = ()

    @property
    def needs(self) -> str:
        """In words, for the list."""
        words = [*self.metrics, *(f"--cases: {fact}" for fact in self.facts)]
        if self.sources > 1:
            words.append(f"{self.sources} results or more")
        return ", ".join(words)

    def compute(self, inputs: Inputs) -> Findings:
        """Do it, once nothing is missing.

        Raises:
            UsageError: something is missing; all of it is named.
            MsktError: the tables contradict themselves.
        """
        self.check(inputs)
        module = import_module(f"mskt.analysis.reproduction.{self.name.replace('-', '_')}")
        return cast("Callable[[Inputs], Findings]", module.compute)(inputs)

    def check(self, inputs: Inputs) -> None:
        """Name everything that is missing, and how to get it, in one error.

        Raises:
            UsageError: something is missing.
        """
        missing = [line for source in inputs.sources for line in self._metrics(source, inputs)]
        missing += self._facts(inputs)
        if len(inputs.sources) < self.sources and len(_methods(inputs)) < self.sources:
            missing.append(
                f"{self.sources} results to compare, {len(inputs.sources)} given: "
                + "; ".join(self.makes or ("one more --results [NAME=]DIR",))
            )
        if missing:
            raise UsageError(
                f"reproduce {self.name}",
                "lacks something.",
                "\n".join(f"- {line}" for line in missing),
            )

    def _metrics(self, source: Source, inputs: Inputs) -> list[str]:
        there = {row.metric for row in source.records if row.value is not None}
        found = []
        for metric in self.metrics:
            name = inputs.doubt if metric == "doubt" else metric
            if name not in there:
                how = _HOW.get(name, "mskt run CASES --uncertainty mcdropout --measures all")
                found.append(f"{source.name} has no value of {name}: {how}")
        return found

    def _facts(self, inputs: Inputs) -> list[str]:
        own = [facts for case, facts in inputs.facts.items() if case in set(inputs.cases)]
        found = []
        for fact in self.facts:
            names = ("sarcopenia", "smi") if fact == "sarcopenia" else (fact,)
            if not any(getattr(one, name) not in (None, "") for one in own for name in names):
                found.append(
                    f"no case of the results has {fact} ({_FACTS[fact]}): give --cases FILE.tsv "
                    f"with the columns case_id and {fact}"
                )
        return found


def _methods(inputs: Inputs) -> set[tuple[str, str, str]]:
    return {(row.segmenter, row.uncertainty, row.run_id) for row in inputs.records}


EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment(
        "accuracy",
        "Dice and surface distance of each structure and model; heat map patient × structure",
        "Soufi 2024, Fig. 3, A.1, A.2; Hiasa 2020; Kim 2024, Fig. 5",
        ("dice",),
    ),
    Experiment(
        "uncertainty",
        "Dice against uncertainty: 10 bins, scatter of each structure with ellipse and line",
        "Hiasa 2020, Fig. 6; Soufi 2024, Fig. A.6",
        ("dice", "doubt"),
    ),
    Experiment(
        "failure-detection",
        "does the uncertainty find inaccurate and failed structures: ROC, AUROC",
        "Soufi 2024, Table 2, Fig. 4, A.9",
        ("dice", "doubt"),
    ),
    Experiment(
        "training-size",
        "accuracy against the number of training cases",
        "Soufi 2024, Table 7",
        ("dice",),
        sources=2,
        steps="training_cases",
        makes=(
            "for each number N: mskt train --data CASES_N --out N",
            "mskt run TEST --weights N/weights.safetensors --out run_N",
            "mskt reproduce training-size --results 10=run_10 --results 20=run_20",
        ),
    ),
    Experiment(
        "dropout-samples",
        "accuracy against the number of dropout samples",
        "Soufi 2024, Table 8",
        ("dice",),
        sources=2,
        steps="draws",
        makes=(
            "mskt run CASES --samples 1 --out s1",
            "mskt run CASES --samples 10 --out s10",
            "mskt reproduce dropout-samples --results s1 --results s10",
        ),
    ),
    Experiment(
        "external",
        "one structure in several databases: accuracy, uncertainty, failure detection",
        "Soufi 2024, Tables 3 to 5, Fig. 6",
        ("dice",),
    ),
    Experiment(
        "side",
        "affected against unaffected side: volume, density, agreement, accuracy",
        "Soufi 2024, Table 6, Fig. 5",
        ("volume",),
        ("affected_side",),
    ),
    Experiment(
        "large-cohort",
        "cases without labels: flags by uncertainty, exemplars at its 5th and 95th percentile",
        "Soufi 2024, Fig. A.11",
        ("doubt",),
    ),
    Experiment(
        "sarcopenia",
        "volume over squared height of each muscle and group against sarcopenia, by sex; ICC",
        "Kim 2024, Fig. 7, 8",
        ("volume",),
        ("sex", "sarcopenia"),
    ),
    Experiment(
        "planes",
        "2-D, 2.5-D and 3-D networks on the same cases, paired",
        "Haque 2019, Fig. 5",
        ("dice",),
        sources=2,
        makes=(
            "mskt run CASES --segmenter unet2d --weights FILE --out 2d",
            "mskt run CASES --segmenter unet25d --weights FILE --out 25d",
            "mskt run CASES --segmenter unet3d --weights FILE --out 3d",
            "mskt reproduce planes --results 2d --results 25d --results 3d",
        ),
    ),
)


def experiment(name: str) -> Experiment:
    """Look one up by its name.

    Raises:
        UsageError: there is none; similar names are suggested.
    """
    for one in EXPERIMENTS:
        if one.name == name:
            return one
    raise UsageError(
        "", f"no experiment named {name!r}.", suggestion(name, [e.name for e in EXPERIMENTS])
    )
