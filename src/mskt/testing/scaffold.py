"""A new plugin project from templates: it passes every check before a line of it is changed."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from string import Template

from mskt.core.errors import OutputError, UsageError

_FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "__init__.py": "{package}/__init__.py",
    "model.py": "{package}/model.py",
    "test_conformance.py": "tests/test_conformance.py",
}


def write_project(name: str, folder: Path) -> list[Path]:
    """Write the project ``mskt-NAME`` into ``folder``.

    Args:
        name: of the new segmenter; lower case letters, digits, ``_`` and ``-``.
        folder: where the project's folder is made; it must not hold one of that name.

    Returns:
        The files written.

    Raises:
        UsageError: the name cannot be one of a plugin.
        OutputError: there is something already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*", name):
        raise UsageError(
            "",
            f"{name!r} cannot be the name of a plugin.",
            "Use lower case letters, digits, '_' or '-', beginning with a letter.",
        )
    words = re.split("[_-]", name)
    facts = {
        "name": name,
        "project": f"mskt-{'-'.join(words)}",
        "package": f"mskt_{'_'.join(words)}",
        "classname": "".join(word.capitalize() for word in words),
    }
    project = folder / facts["project"]
    if project.exists():
        raise OutputError(str(project), "exists already", "Choose another name or --out folder.")
    templates = resources.files("mskt.testing").joinpath("templates")
    written = []
    for template, place in _FILES.items():
        text = templates.joinpath(f"{template}.txt").read_text(encoding="utf-8")
        path = project / place.format(**facts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(text).substitute(facts), encoding="utf-8")
        written.append(path)
    return written
