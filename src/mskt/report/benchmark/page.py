"""``benchmark.html``: one file without anything from elsewhere; tables sort by a click."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from mskt.report.benchmark.figures import figures
from mskt.report.benchmark.tables import TextTable, tables
from mskt.report.benchmark.text import how

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1b1b; margin: 2rem auto; max-width: 76rem;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .3rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; font-size: .87rem } .wide { overflow-x: auto }
th, td { padding: .28rem .55rem; border-bottom: 1px solid #ddd; text-align: right;
  vertical-align: top; white-space: nowrap }
th.w, td.w { text-align: left } td.long { white-space: normal; min-width: 18rem; text-align: left }
th { cursor: pointer; border-bottom: 2px solid #888 } th:hover { background: #eef4f9 }
tbody tr:hover { background: #f6f6f6 } td.best { font-weight: 600 }
.below, .how, figcaption { color: #555; font-size: .87rem; max-width: 62rem }
.notes { background: #fff7e0; border-left: 4px solid #e69f00; padding: .5rem 1rem .5rem 2rem;
  max-width: 60rem } figure { margin: 1rem 0 } svg { max-width: 100%; height: auto }
footer { margin-top: 2.5rem; color: #777; font-size: .82rem }
"""
_SORT = """
document.querySelectorAll("th").forEach(function (head) {
  head.addEventListener("click", function () {
    var body = head.closest("table").tBodies[0], at = head.cellIndex;
    var down = head.dataset.down === "1"; head.dataset.down = down ? "0" : "1";
    function value(row) {
      var text = row.cells[at].textContent, plain = text.replace(/\\u2212/g, "-");
      var number = parseFloat(plain.replace("<", ""));
      return isNaN(number) ? text : number;
    }
    Array.from(body.rows).sort(function (a, b) {
      var x = value(a), y = value(b);
      if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
      return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
    }).forEach(function (row) { body.appendChild(row); });
  });
});
"""
_LONG = 40


def page(content: Mapping[str, Any]) -> str:
    """The whole page."""
    title = f"Benchmark: {content['data']['name']}"
    notes = "".join(f"<li>{escape(note)}</li>" for note in content["notes"])
    shown = "".join(
        f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, svg in figures(content)
    )
    first, *others = [_table(table) for table in tables(content)] or [""]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>"
        + "".join(f'<p class="how">{escape(line)}</p>' for line in how(content))
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
        + first
        + shown
        + "".join(others)
        + "<footer>Made by mskt benchmark. Research use, not a diagnosis. Click a heading to sort."
        f"</footer><script>{_SORT}</script></body></html>\n"
    )


def _table(table: TextTable) -> str:
    def kind(number: int) -> str:
        return ' class="w"' if table.is_words(number) else ""

    head = "".join(f"<th{kind(n)}>{escape(name)}</th>" for n, name in enumerate(table.columns))
    rows = "".join(
        "<tr>" + "".join(_cell(text, table.is_words(n)) for n, text in enumerate(row)) + "</tr>"
        for row in table.rows
    )
    below = f'<p class="below">{escape(table.below)}</p>' if table.below else ""
    return (
        f'<h2>{escape(table.title)}</h2><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{below}"
    )


def _cell(text: str, words: bool) -> str:
    classes = ["w"] if words else []
    if len(text) > _LONG:
        classes.append("long")
    if text == "best":
        classes.append("best")
    named = f' class="{" ".join(classes)}"' if classes else ""
    return f"<td{named}>{escape(text)}</td>"
