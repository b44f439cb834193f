"""``mskt doctor``: one page that says what works here, for the user and for a bug report."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Annotated, Any

import typer

from mskt.cli.console import SOME_FAILED, print_json, stdout
from mskt.core.errors import MsktError

LIBRARIES = (
    "torch",
    "numpy",
    "scipy",
    "nibabel",
    "pydicom",
    "SimpleITK",
    "edt",
    "connected-components-3d",
    "scikit-image",
    "matplotlib",
    "typer",
    "rich",
)
_LITTLE_MEMORY = 6 * 2**30


def doctor_command(
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Say what is installed and what works: versions, processor, GPU, memory, plugins, weights.

    Nothing personal is printed: no names of files, users or machines.
    """
    facts = examine()
    if json_output:
        print_json(facts)
    else:
        _print(facts)
    if facts["problems"]:
        raise typer.Exit(SOME_FAILED)


def examine() -> dict[str, Any]:
    """All facts, JSON-ready; ``problems`` holds what keeps mskt from working, in words."""
    from mskt import __version__

    facts: dict[str, Any] = {
        "mskt": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "libraries": {name: _version(name) for name in LIBRARIES},
        "processor": _processor(),
        "memory_bytes": _memory(),
        "gpu": _gpu(),
    }
    facts["plugins"], broken = _plugins()
    facts["metrics"], unknown = _metrics()
    facts["weights"], damaged = _weights()
    facts["remarks"] = _remarks(facts)
    missing = [f"{name} is not installed" for name, v in facts["libraries"].items() if v is None]
    facts["problems"] = [*missing, *broken, *unknown, *damaged]
    if not facts["plugins"]["segmenter"]:
        facts["problems"].append(
            "no segmenter is installed: install mskt itself (pip install mskt)"
        )
    facts["verdict"] = _verdict(facts)
    return facts


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> dict[str, Any]:
    import torch

    cpu = torch.cpu
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cores": cores,
        "threads": torch.get_num_threads(),
        "avx512_bf16": bool(cpu._is_avx512_bf16_supported()),
        "amx": bool(cpu._is_amx_tile_supported()),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def _memory() -> int | None:
    if sys.platform == "win32" or not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _gpu() -> list[dict[str, Any]]:
    import torch

    if torch.backends.mps.is_available():
        return [{"name": "Apple GPU (mps)", "memory_bytes": None}]
    found = []
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        found.append({"name": properties.name, "memory_bytes": properties.total_memory})
    return found


def _plugins() -> tuple[dict[str, Any], list[str]]:
    """Announced and importable objects by kind, and what is broken."""
    from mskt.core.registry import KINDS, registry

    plugins = registry()
    broken = [
        f"plugin {b.plugin!r} of {b.distribution} does not load ({b.reason})"
        for b in plugins.broken
    ]
    usable: dict[str, Any] = {}
    for kind in KINDS:
        usable[kind] = {}
        for announced in plugins.announced(kind):
            name = announced.spec.name
            try:
                announced.spec.load()
                usable[kind][name] = f"{announced.distribution} {announced.version}".strip()
            except MsktError as error:
                broken.append(str(error).replace("\n", " "))
    return usable, broken


def _metrics() -> tuple[str, list[str]]:
    """How metrics of large scans are computed here, and what is wrong with how it was set."""
    from mskt.plugins.metrics import engine

    numba = _version("numba")
    try:
        way = engine.told()
    except MsktError as error:
        return "unknown", [str(error).replace("\n", " ")]
    return f"{way}, numba {numba}" if numba else way, []


def _weights() -> tuple[dict[str, str], list[str]]:
    from mskt.core import weights

    states, damaged = {}, []
    try:
        found = weights.available()
    except MsktError as error:
        return {}, [str(error).replace("\n", " ")]
    for info in found:
        try:
            weights.verify(info)
            states[info.name] = "intact"
        except MsktError as error:
            states[info.name] = "damaged"
            damaged.append(str(error).replace("\n", " "))
    return states, damaged


def _remarks(facts: dict[str, Any]) -> list[str]:
    """What works but could be better."""
    remarks = []
    if not facts["gpu"]:
        remarks.append("no GPU: a scan takes minutes instead of seconds")
    torch_version = facts["libraries"]["torch"] or ""
    if torch_version.startswith("2.9."):
        remarks.append("torch 2.9 runs 3-D convolutions four times slower than its neighbours")
    if (facts["memory_bytes"] or _LITTLE_MEMORY) < _LITTLE_MEMORY:
        remarks.append("less than 6 GB of memory: long scans may not fit")
    if not facts["weights"]:
        remarks.append("no weights found: 'mskt models list' says where to put them")
    return remarks


def _verdict(facts: dict[str, Any]) -> str:
    count = len(facts["problems"])
    if count:
        return f"{count} problem{'s' if count > 1 else ''}: {facts['problems'][0]}"
    return "everything works" + (f"; {'; '.join(facts['remarks'])}" if facts["remarks"] else "")


def _print(facts: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    cpu = facts["processor"]
    memory = facts["memory_bytes"]
    table.add_row("mskt", f"{facts['mskt']}, Python {facts['python']}, {facts['system']}")
    table.add_row(
        "processor",
        f"{cpu['cores']} cores, {cpu['threads']} threads, {cpu['capability']}"
        f"{', bf16' if cpu['avx512_bf16'] else ''}{', AMX' if cpu['amx'] else ''}",
    )
    table.add_row("memory", "unknown" if memory is None else f"{memory / 2**30:.1f} GiB")
    table.add_row("GPU", ", ".join(gpu["name"] for gpu in facts["gpu"]) or "none")
    table.add_row(
        "libraries", ", ".join(f"{k} {v or 'MISSING'}" for k, v in facts["libraries"].items())
    )
    for kind, names in facts["plugins"].items():
        table.add_row(
            kind, ", ".join(f"{name} ({origin})" for name, origin in names.items()) or "none"
        )
    table.add_row("metrics by", facts["metrics"])
    table.add_row("weights", ", ".join(f"{k} ({v})" for k, v in facts["weights"].items()) or "none")
    console = stdout()
    console.print(table)
    for problem in facts["problems"]:
        console.print(
            f"problem: {problem}", style="red", highlight=False, markup=False, soft_wrap=True
        )
    for remark in facts["remarks"]:
        console.print(f"remark: {remark}", highlight=False, markup=False, soft_wrap=True)
    console.print(facts["verdict"], style="bold", highlight=False, markup=False, soft_wrap=True)
