"""``benchmark.md``: tables to be pasted into a paper, and how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mskt.report.benchmark.tables import TextTable, tables


def markdown(content: Mapping[str, Any]) -> str:
    """All tables with what they mean."""
    parts = [f"# Benchmark: {_escaped(content['data']['name'])}", "\n".join(how(content))]
    for table in tables(content):
        below = f"\n\n{_escaped(table.below)}" if table.below else ""
        parts.append(f"## {table.title}\n\n{_table(table)}{below}")
    notes = content["notes"]
    if notes:
        parts.append("## Notes\n\n" + "\n".join(f"- {_escaped(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def how(content: Mapping[str, Any]) -> list[str]:
    """How it was measured, in sentences."""
    data, settings, machine = content["data"], content["settings"], content["machine"]
    n, patients = data["cases"], data["patients"]
    lines = [
        f"{n} case{'' if n == 1 else 's'} of {patients} patient{'' if patients == 1 else 's'} with "
        f"reference labels. mskt {content['mskt']}, {content['created'][:10]}, seed {settings['seed']}."
    ]
    lines.append(
        f"{machine['processor']}, {machine['cores']} cores"
        + (f", {machine['gpu']}" if machine.get("gpu") else "")
        + (f"; torch {machine['torch']}, " if machine.get("torch") else "; ")
        + (f"threads: {machine['threads']}." if machine.get("threads") else "")
    )
    lines.append(
        "Every cell reads the same files and runs in processes of its own, one at a time. "
        + (
            "Before the first case of each process that case was done once more as a warm-up, which "
            "is in no time."
            if settings["warm_up"]
            else "No warm-up: the first case of each process has what is slow only once."
        )
        + " Reading the image is timed apart and not in seconds a case or cases an hour."
    )
    if settings["folds"]:
        steps = settings["max_steps"]
        length = f"{steps} steps" if steps else "as long as the recipe says"
        lines.append(
            f"Cross-validation with {settings['folds']} folds of whole patients: who can be trained was "
            f"trained on the other folds (recipe {settings['recipe']}, {length}, last weights), so that "
            "each case is tested once by weights that never saw it."
        )
    return lines


def _table(table: TextTable) -> str:
    head = "| " + " | ".join(map(_escaped, table.columns)) + " |"
    line = "|" + "|".join(
        "---" if table.is_words(number) else "---:" for number in range(len(table.columns))
    )
    rows = ["| " + " | ".join(map(_escaped, row)) + " |" for row in table.rows]
    return "\n".join([head, line + "|", *rows])


def _escaped(text: str) -> str:
    for sign in ("\\", "|", "*", "_", "<"):
        text = text.replace(sign, "\\" + sign)
    return text
