"""The tables of a benchmark as text cells, for Markdown, HTML and terminal alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mskt.analysis.benchmarking.timing import OTHER, STAGES

NONE = "–"
WORDS = frozenset(
    (
        "segmenter",
        "uncertainty",
        "device",
        "who",
        "of",
        "test",
        "status",
        "reason",
        "why not",
        "",
        " ",
    )
)
_GIB = 2**30


@dataclass(frozen=True)
class TextTable:
    """A table.

    Attributes:
        columns: headings; those in :data:`WORDS` hold words, the others numbers.
        rows: cells, best first.
        below: what the columns mean.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    below: str = ""

    def is_words(self, column: int) -> bool:
        """True where words stand, which begin at the left."""
        return self.columns[column] in WORDS


def tables(content: Mapping[str, Any]) -> list[TextTable]:
    """Accuracy, doubt, time and what is missing; a table without rows is left out."""
    cells = ordered(content["cells"])
    found = [
        _accuracy(cells, content),
        _doubt(cells, content),
        _time(cells),
        _tests(content),
        _missing(cells),
    ]
    return [table for table in found if table.rows]


def ordered(cells: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """By rank; those without one at the end, in the order of the call."""
    return sorted(cells, key=lambda cell: (cell["rank"] is None, cell["rank"] or 0))


def who(cell: Mapping[str, Any]) -> tuple[str, str, str]:
    """The first columns of every table."""
    return cell["segmenter"], cell["uncertainty"], cell["device"]


def _accuracy(cells: Sequence[Mapping[str, Any]], content: Mapping[str, Any]) -> TextTable:
    rows = []
    for cell in cells:
        dice, assd = cell["dice"], cell["assd"]
        if dice is None:
            continue
        rows.append(
            (
                str(cell["rank"] or NONE),
                *who(cell),
                f"{cell['done']}/{cell['cases']}",
                _interval(dice, 3),
                dice["mark"] if cell["rank"] else NONE,
                NONE if assd is None else _interval(assd, 2),
                NONE if assd is None else assd["mark"],
                str(dice["missed"]),
                number(cell["seconds_per_case"], 1),
                number(cell["cases_per_hour"], 1),
                _gib(cell["peak_memory_bytes"]),
            )
        )
    one = content["comparisons"]["dice"]
    return TextTable(
        "Who is best",
        (
            "rank", "segmenter", "uncertainty", "device", "done", "Dice [95 %]", "", "ASSD mm [95 %]",
            " ", "missed", "s/case", "cases/h", "peak RSS GiB",
        ),
        tuple(rows),
        f"Ranked by Dice, on what all ranked ones have: {_count(len(one['cases']), 'case')}, "
        f"{_count(len(one['structures']), 'structure')}, {one['rows']} structures and sides. One "
        "value a patient: the mean over sides, then over structures; brackets: bootstrap over "
        f"patients. Beside it, paired against the best (Holm, {_count(one['tests'], 'test')} of Dice): "
        "* p < 0.05, ** p < 0.01, *** p < 0.001, n.s. no significant difference, no test: too few "
        "patients or nothing that differs. missed: structures not found. Not ranked (–): own cases "
        "only, not comparable.",
    )  # fmt: skip


def _doubt(cells: Sequence[Mapping[str, Any]], content: Mapping[str, Any]) -> TextTable:
    cut = "cut ones included" if content["settings"]["include_truncated"] else "not cut"
    rows = []
    for cell in cells:
        doubt = cell["doubt"]
        if doubt is None or cell["dice"] is None:
            continue
        reasons = [doubt[f"{name}_reason"] for name in ("auroc", "aurc", "spearman")]
        rows.append(
            (
                *who(cell),
                str(doubt["pairs"]),
                str(doubt["inaccurate"]),
                number(doubt["auroc"], 3),
                number(doubt["aurc"], 4),
                number(doubt["spearman"], 3),
                "; ".join(dict.fromkeys(filter(None, reasons))),
            )
        )
    return TextTable(
        "Which doubt is worth something",
        ("segmenter", "uncertainty", "device", "pairs", "inaccurate", "AUROC", "AURC", "Spearman",
         "why not"),
        tuple(rows),
        f"Pairs of Dice and doubt of single structures and sides, found, {cut}. AUROC: how often an "
        "inaccurate one (Dice below median − 2 · 1.4826 · MAD) has more doubt than another. AURC: "
        "mean of 1 − Dice that is left as the most doubtful are taken out; smaller is better. "
        "Spearman: of doubt and Dice; −1 is best.",
    )  # fmt: skip


def _time(cells: Sequence[Mapping[str, Any]]) -> TextTable:
    names = (*STAGES, OTHER)
    rows = [
        (
            *who(cell),
            str(cell["cases_timed"]),
            *(number(cell["stages"].get(name), 1) for name in names),
            _with_sd(cell),
            _gib(cell["peak_gpu_memory_bytes"]),
            number(cell["energy_j_per_case"], 0),
        )
        for cell in cells
        if cell["seconds_per_case"] is not None
    ]
    return TextTable(
        "Where the time goes",
        ("segmenter", "uncertainty", "device", "cases", *names, "all but read ± sd", "peak GPU GiB",
         "J/case"),
        tuple(rows),
        "Mean seconds a case, of those that are compared. assess: measuring, and comparing with the "
        "reference; write: files and preview. A tool timed from outside has one time, all that it does "
        "from start to end, reading and loading its model included. Energy of the GPU where it "
        "reports its power.",
    )  # fmt: skip


def _tests(content: Mapping[str, Any]) -> TextTable:
    labels = {cell["key"]: cell for cell in content["cells"]}
    rows = []
    for metric, digits in (("dice", 4), ("assd", 3)):
        for test in content["comparisons"][metric]["against_the_best"]:
            between = NONE
            if test["difference"] is not None:
                between = _interval({**test, "mean": test["difference"]}, digits, sign="+")
            rows.append(
                (
                    *who(labels[test["key"]]),
                    {"dice": "Dice", "assd": "ASSD mm"}[metric],
                    str(test["patients"]),
                    between,
                    test["test"] or NONE,
                    _p(test["p"]),
                    _p(test["p_adjusted"]),
                    test["reason"],
                )
            )
    return TextTable(
        "Against the best",
        ("segmenter", "uncertainty", "device", "of", "patients", "minus the best [95 %]", "test", "p",
         "p Holm", "why not"),
        tuple(rows),
    )  # fmt: skip


def _missing(cells: Sequence[Mapping[str, Any]]) -> TextTable:
    rows = [
        (*who(cell), cell["status"], f"{cell['done']}/{cell['cases']}", cell["reason"])
        for cell in cells
        if cell["status"] != "done"
    ]
    return TextTable(
        "What is missing",
        ("segmenter", "uncertainty", "device", "status", "done", "reason"),
        tuple(rows),
    )


def summary(content: Mapping[str, Any]) -> TextTable:
    """One line a cell, narrow enough for a terminal; cells without a Dice are left out."""
    cells = [cell for cell in ordered(content["cells"]) if cell["dice"] is not None]
    several = len({cell["device"] for cell in cells if cell["doubt"] is not None}) > 1
    rows = []
    for cell in cells:
        doubt = cell["doubt"] or {}
        name = f"{cell['segmenter']} + {cell['uncertainty']}"
        rows.append(
            (
                str(cell["rank"] or NONE),
                f"{name} ({cell['device']})" if several else name,
                f"{cell['done']}/{cell['cases']}",
                number(cell["dice"]["mean"], 3),
                cell["dice"]["mark"] if cell["rank"] else NONE,
                NONE if cell["assd"] is None else number(cell["assd"]["mean"], 2),
                number(doubt.get("auroc"), 2),
                number(doubt.get("aurc"), 3),
                number(cell["seconds_per_case"], 1),
                _gib(cell["peak_memory_bytes"]),
            )
        )
    return TextTable(
        content["data"]["name"],
        ("rank", "who", "done", "Dice", "", "ASSD", "AUROC", "AURC", "s/case", "RSS GiB"),
        tuple(rows),
        "Marks: paired against the best, Holm (* p < 0.05, ** < 0.01, *** < 0.001). AUROC, AURC: of "
        "the doubt. s/case: without reading"
        + (", after a warm-up." if content["settings"]["warm_up"] else ", no warm-up."),
    )


def number(value: float | None, digits: int) -> str:
    """A number, or a dash where there is none."""
    return NONE if value is None else f"{value:.{digits}f}".replace("-", "−")


def _interval(value: Mapping[str, Any], digits: int, sign: str = "") -> str:
    def told(one: float) -> str:
        return f"{one:{sign}.{digits}f}".replace("-", "−")

    low, high = value["low"], value["high"]
    text = told(value["mean"])
    return text if low is None or high is None else f"{text} [{told(low)}, {told(high)}]"


def _with_sd(cell: Mapping[str, Any]) -> str:
    text = number(cell["seconds_per_case"], 1)
    return text if cell["seconds_sd"] is None else f"{text} ± {cell['seconds_sd']:.1f}"


def _gib(value: int | None) -> str:
    return NONE if value is None else f"{value / _GIB:.2f}"


def _p(value: float | None) -> str:
    if value is None:
        return NONE
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"
