"""The documentation is true: its code runs, its files and tables are those of the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from mskt.core import hookspecs
from mskt.core.registry import KINDS
from mskt.testing import checks_for
from mskt.testing.runner import name_of

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = ROOT / "docs" / "plugins.md"
EXAMPLE = ROOT / "examples" / "mskt-tinynet"
FENCE = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.M | re.S)
BLOCKS = FENCE.findall(PLUGINS.read_text(encoding="utf-8"))


def test_code_of_the_page_runs_in_order():
    page = {"__name__": "__main__"}  # a script: checks in another process do not apply
    blocks = [code for language, file, code in BLOCKS if language == "python" and not file]
    assert len(blocks) >= 4
    for code in blocks:
        exec(compile(code, "docs/plugins.md", "exec"), page)


@pytest.mark.parametrize(("file", "code"), [(file, code) for _, file, code in BLOCKS if file])
def test_files_on_the_page_are_those_of_the_example(file, code):
    assert (EXAMPLE / file).read_text(encoding="utf-8") == code


def test_example_is_shown_whole_and_short():
    """That it keeps its contract is tested with the template, which is the same text."""
    shown = {file for _, file, _ in BLOCKS if file}
    made = {
        str(path.relative_to(EXAMPLE))
        for path in EXAMPLE.rglob("*")
        if path.suffix in (".py", ".toml")
    }
    assert shown == made
    code = [
        line
        for name in made
        if "tests" not in name
        for line in (EXAMPLE / name).read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    assert len(code) < 30
    assert f"A segmenter in {len(code)} lines" in PLUGINS.read_text(encoding="utf-8")


def table_rows(first_cell):
    pattern = re.compile(rf"^\| `({first_cell}\w*)` \|(.*)\|$", re.M)
    return {
        name: [cell.strip() for cell in rest.split("|")]
        for name, rest in pattern.findall(PLUGINS.read_text(encoding="utf-8"))
    }


def test_every_hook_is_documented_with_its_arguments_and_its_spec():
    hooks = {name: value for name, value in vars(hookspecs).items() if hasattr(value, "mskt_spec")}
    assert set(hooks) == {hook for hook, _ in KINDS.values()}
    rows = table_rows("mskt_")
    assert set(rows) == set(hooks)
    specs = dict(KINDS.values())
    for name, hook in hooks.items():
        arguments = ", ".join(f"`{p}`" for p in inspect.signature(hook).parameters) or "none"
        fields = ", ".join(inspect.signature(specs[name]).parameters)
        assert rows[name][0] == arguments
        assert rows[name][1] == f"`{specs[name].__name__}({fields})`"


@pytest.mark.parametrize("hook", sorted(hook for hook, _ in KINDS.values()))
def test_example_in_the_docstring_of_a_hook_works(hook):
    """Each hookspec shows an implementation that yields its spec."""
    lines = inspect.getdoc(getattr(hookspecs, hook)).splitlines()
    code = "\n".join(line.strip()[4:] for line in lines if line.strip().startswith((">>>", "...")))
    space = {}
    exec(code, space)
    (spec,) = space[hook]()
    assert isinstance(spec, dict(KINDS.values())[hook])
    assert callable(space[hook]) and hasattr(space[hook], "mskt_impl")


def test_every_check_is_in_the_tables_with_its_meaning():
    checks = {name_of(check): check for kind in KINDS for check in checks_for(kind)}
    rows = table_rows("check_")
    assert set(rows) == set(checks)
    for name, check in checks.items():
        assert rows[name] == [inspect.getdoc(check).splitlines()[0]], name


def test_commands_on_the_page_exist():
    pytest.importorskip("mskt.cli.plugins")
    from mskt.cli.plugins import plugins_app

    known = {command.name for command in plugins_app.registered_commands}
    used = set(re.findall(r"mskt plugins (\w+)", PLUGINS.read_text(encoding="utf-8")))
    assert used <= known
