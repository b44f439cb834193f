"""Templates to HTML: values are escaped, scripts and styles are put into the page."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_LIBRARY = _HERE / "vendor" / "niivue-0.69.0.umd.js.gz"


def render(template: str, **values: Any) -> str:
    """Fill a template of this package.

    Args:
        template: its file name.
        values: for it; text is escaped where it is put in.
    """
    return str(_environment().get_template(template).render(**values))


@cache
def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["static"] = _static
    return environment


def _static(name: str) -> Any:
    """A style sheet or script of our own, as it is."""
    import markupsafe

    return markupsafe.Markup((_HERE / "static" / name).read_text(encoding="utf-8"))


def viewer_library() -> bytes:
    """NiiVue (BSD 2-Clause, see the licence beside it), gzipped."""
    return _LIBRARY.read_bytes()


def script_json(value: Any) -> Any:
    """JSON that may stand inside a ``script`` element: nothing in it can end that element."""
    import markupsafe

    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return markupsafe.Markup(text.replace("<", "\\u003c"))


def number(value: float | None, form: str) -> str:
    """A number in that form; an empty cell where there is none."""
    return "" if value is None else format(value, form)
