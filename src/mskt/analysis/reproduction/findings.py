"""What an experiment gives: tables, the data of figures, and remarks. Nothing here draws or writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Row = dict[str, object]
"""One line of a table; numbers, text, or None where something does not exist."""


@dataclass(frozen=True)
class Column:
    """A column as people see it.

    Attributes:
        head: its title; of published values with the paper.
        cell: text of a row.
        left: text, not numbers.
    """

    head: str
    cell: Callable[[Row], str]
    left: bool = False


@dataclass(frozen=True)
class Table:
    """A table: every figure for programs, chosen ones for people.

    Attributes:
        name: of the file, after the experiment's; empty for the main one.
        rows: all with the same keys.
        columns: what is shown.
        below: what the columns mean, one sentence or two.
        most: rows that people are shown; the file has all of them.
    """

    name: str
    title: str
    rows: Sequence[Row]
    columns: Sequence[Column]
    below: str = ""
    most: int = 1000

    @property
    def cells(self) -> list[list[str]]:
        """Text of the rows that are shown."""
        return [[column.cell(row) for column in self.shown] for row in self.rows[: self.most]]

    @property
    def remark(self) -> str:
        """What stands below, with how many rows are in the file only."""
        left = len(self.rows) - self.most
        return f"{self.below} {left} further rows in the file.".strip() if left > 0 else self.below

    @property
    def shown(self) -> list[Column]:
        """The columns but that of the model where there is only one."""
        models = {row.get("model") for row in self.rows}
        return [c for c in self.columns if c.head != "model" or len(models) > 1]


@dataclass(frozen=True)
class Points:
    """A distribution in a box plot.

    Attributes:
        category: place on the axis, such as a structure.
        series: colour, such as a model.
        who: patient of each value; the same patient is joined by a line where the plot is paired.
    """

    category: str
    series: str
    who: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Boxes:
    """Box plots: categories along the axis, series side by side.

    Attributes:
        marks: by category, a star where two series differ.
        paired: join the values of a patient.
        best: ``high`` or ``low``, whichever is better; empty where neither is.
    """

    name: str
    title: str
    axis: str
    points: Sequence[Points]
    marks: dict[str, str] = field(default_factory=dict)
    paired: bool = False
    best: str = ""
    below: str = ""


@dataclass(frozen=True)
class HeatMap:
    """A matrix of colours with numbers in it.

    Attributes:
        values: by row of lines; None where there is no value.
        span: ends of the colour scale; None for those of the data.
        diverging: zero is in the middle.
    """

    name: str
    title: str
    colour: str
    lines: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]
    span: tuple[float, float] | None = None
    diverging: bool = False
    below: str = ""


@dataclass(frozen=True)
class Cloud:
    """Points of one series in a scatter plot.

    Attributes:
        line: slope and intercept of its regression; None for none.
        ellipse: that holds 95 % if both are normal: centre x, y, and the covariances xx, xy, yy,
            already scaled; None for none.
    """

    series: str
    who: tuple[str, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    line: tuple[float, float] | None = None
    ellipse: tuple[float, float, float, float, float] | None = None
    text: str = ""


@dataclass(frozen=True)
class Panel:
    """One scatter plot; ``upright`` and ``level`` are thresholds: name and place."""

    title: str
    clouds: Sequence[Cloud]
    upright: Sequence[tuple[str, float]] = ()
    level: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class Scatter:
    """Scatter plots with the same axes' titles."""

    name: str
    title: str
    x: str
    y: str
    panels: Sequence[Panel]
    below: str = ""


@dataclass(frozen=True)
class Curve:
    """A receiver operating characteristic: false and true positive rates, rising."""

    series: str
    level: str
    false: tuple[float, ...]
    true: tuple[float, ...]
    text: str


@dataclass(frozen=True)
class Roc:
    """ROC curves: a small plot for each structure; ``reasons`` for those without any."""

    name: str
    title: str
    panels: Sequence[tuple[str, Sequence[Curve]]]
    reasons: dict[str, str]
    below: str = ""


Plot = Boxes | HeatMap | Scatter | Roc


@dataclass(frozen=True)
class Findings:
    """All of it.

    Attributes:
        papers: names in :data:`mskt.analysis.reproduction.published.CITATIONS` that are compared with.
        notes: what did not go in, and what must be known to read it.
        exemplars: cases worth looking at, and why.
        empty: true if not one figure could be had.
    """

    tables: Sequence[Table]
    plots: Sequence[Plot]
    papers: Sequence[str]
    notes: Sequence[str] = ()
    exemplars: Sequence[tuple[str, str]] = ()
    empty: bool = False


def text(key: str, head: str) -> Column:
    """A column of words."""
    return Column(head, lambda row: str(row[key] if row[key] is not None else "–"), left=True)


def count(key: str, head: str) -> Column:
    """A column of whole numbers."""
    return Column(head, lambda row: "–" if row[key] is None else str(row[key]))


def plain(value: object, digits: int) -> str:
    """A number with so many digits after the point, or a dash."""
    return f"{value:.{digits}f}" if isinstance(value, (int, float)) else "–"


def value(key: str, head: str, digits: int = 3) -> Column:
    """A column of numbers."""
    return Column(head, lambda row: plain(row[key], digits))


def significant(key: str, head: str) -> Column:
    """A column of numbers of unlike size: three digits that count."""

    def cell(row: Row) -> str:
        number = row[key]
        return f"{number:.3g}" if isinstance(number, float) else "–"

    return Column(head, cell)


def spread(mean: str, sd: str, head: str, digits: int = 3) -> Column:
    """``mean ± sd``; the mean alone where one value has no spread."""

    def cell(row: Row) -> str:
        if row[mean] is None:
            return "–"
        return plain(row[mean], digits) + (
            "" if row[sd] is None else f" ± {plain(row[sd], digits)}"
        )

    return Column(head, cell)


def interval(key: str, head: str, digits: int = 2) -> Column:
    """``value [low, high]`` from ``key``, ``key_low``, ``key_high``; the value alone without them."""

    def cell(row: Row) -> str:
        low, high = row[f"{key}_low"], row[f"{key}_high"]
        if row[key] is None or low is None or high is None:
            return plain(row[key], digits)
        return f"{plain(row[key], digits)} [{plain(low, digits)}, {plain(high, digits)}]"

    return Column(head, cell)


def probability(key: str, head: str) -> Column:
    """A p value: three digits, small ones as a bound."""

    def cell(row: Row) -> str:
        p = row[key]
        return "<0.001" if isinstance(p, float) and p < 0.001 else plain(p, 3)

    return Column(head, cell)


def star(p: float | None) -> str:
    """``*`` below 0.05, ``**`` below 0.01, else nothing."""
    if p is None or p >= 0.05:
        return ""
    return "**" if p < 0.01 else "*"
