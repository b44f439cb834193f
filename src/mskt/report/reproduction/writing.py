"""Tables as CSV, one page as Markdown, figures with their data beside them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from mskt.analysis.reproduction.catalogue import Experiment
from mskt.analysis.reproduction.findings import Boxes, Findings, HeatMap, Plot, Row, Scatter, Table
from mskt.analysis.reproduction.published import ANOTHER, CITATIONS
from mskt.core import atomic

FORMATS = ("png", "svg", "pdf")


def write(
    folder: Path,
    experiment: Experiment,
    findings: Findings,
    notes: Sequence[str],
    formats: Sequence[str],
) -> list[str]:
    """Write everything, the main table last, so that a call that broke off can be repeated.

    Args:
        folder: made if it is not there.
        experiment: whose findings these are.
        findings: tables and data of figures.
        notes: remarks for the page.
        formats: of the figures.

    Returns:
        Names of the files, the page first.
    """
    from mskt.report.reproduction.drawing import draw

    atomic.make_folder(folder)
    names = [one.name for one in (*findings.tables, *findings.plots)]
    assert len({*names}) == len(names), f"two files of one name: {names}"
    files = []
    for plot in findings.plots:
        stem = f"{experiment.name}_{safe(plot.name)}"
        rows = plot_rows(plot)
        if not rows:
            continue
        atomic.write_text(folder / f"{stem}.csv", to_csv(rows))
        files.append(f"{stem}.csv")
        for ending, data in draw(plot, formats).items():
            atomic.write_bytes(folder / f"{stem}.{ending}", data)
            files.append(f"{stem}.{ending}")
    page = f"{experiment.name}.md"
    atomic.write_text(folder / page, to_markdown(experiment, findings, notes, files))
    for table in reversed(findings.tables):
        name = f"{experiment.name}{'_' + table.name if table.name else ''}.csv"
        atomic.write_text(folder / name, to_csv(table.rows))
        files.insert(0, name)
    return [page, *files]


def safe(name: str) -> str:
    """A name as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", name).strip("_")


def to_csv(rows: Sequence[Row]) -> str:
    """Rows as text: header, 9 significant digits, empty where there is nothing, Unix line ends."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if rows:
        writer.writerow(rows[0])
    writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    if value is None:
        return ""
    return format(value, ".9g") if isinstance(value, float) else value


def plot_rows(plot: Plot) -> list[Row]:
    """Every point, cell or step that a figure shows, one a row."""
    if isinstance(plot, Boxes):
        return [
            {"category": one.category, "series": one.series, "patient": who, "value": value}
            for one in plot.points
            for who, value in zip(one.who, one.values, strict=True)
        ]
    if isinstance(plot, HeatMap):
        return [
            {"line": line, "column": column, "value": value}
            for line, values in zip(plot.lines, plot.values, strict=True)
            for column, value in zip(plot.columns, values, strict=True)
        ]
    if isinstance(plot, Scatter):
        return [
            {"panel": panel.title, "series": cloud.series, "patient": who, "x": x, "y": y}
            for panel in plot.panels
            for cloud in panel.clouds
            for who, x, y in zip(cloud.who, cloud.x, cloud.y, strict=True)
        ]
    return [
        {
            "panel": title,
            "series": c.series,
            "level": c.level,
            "false_positive": f,
            "true_positive": t,
        }
        for title, curves in plot.panels
        for c in curves
        for f, t in zip(c.false, c.true, strict=True)
    ]


def to_markdown(
    experiment: Experiment, findings: Findings, notes: Sequence[str], files: Sequence[str]
) -> str:
    """The page: tables, figures, remarks, and where the published values are from."""
    lines = [f"# {experiment.name}", "", f"{_sentence(experiment.shows)} ({experiment.paper}).", ""]
    lines += [f"**{_sentence(ANOTHER)}.** Columns with a star are published values.", ""]
    for table in findings.tables:
        lines += [f"## {table.title}", "", *_table(table), ""]
        lines += [table.remark, ""] if table.remark else []
    for plot in findings.plots:
        stem = f"{experiment.name}_{safe(plot.name)}"
        if f"{stem}.png" in files or f"{stem}.svg" in files:
            ending = "png" if f"{stem}.png" in files else "svg"
            lines += [f"![{plot.title}]({stem}.{ending})", ""]
            lines += [f"{plot.title}. {plot.below}".strip(), ""]
    if notes:
        lines += ["## To be known", "", *(f"- {_plain(note)}" for note in notes), ""]
    lines += ["## Published values", ""]
    lines += [f"- {paper}: {CITATIONS[paper]}" for paper in findings.papers]
    return "\n".join(lines) + "\n"


def _table(table: Table) -> list[str]:
    heads = [_plain(column.head) for column in table.shown]
    rule = ["---" if column.left else "---:" for column in table.shown]
    body = [[_plain(cell) for cell in cells] for cells in table.cells]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *body)]


def _plain(text: str) -> str:
    """Text whose signs Markdown would not take for its own."""
    return re.sub(r"([|*_<\[\]\\])", r"\\\1", text).replace("\n", " ")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
