"""The page of one case: what to look at first, numbers, slices, surfaces, histograms, provenance."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.errors import GeometryError
from mskt.core.sides import separate_sides
from mskt.core.volume import Volume
from mskt.report.flagged import WORST_FIRST
from mskt.report.page import histograms, surfaces, volumes
from mskt.report.page.content import CaseContent
from mskt.report.page.places import places
from mskt.report.page.rendering import number, render, script_json, viewer_library
from mskt.report.page.rows import Row, rows

_TOP_PERCENTILE = 99.5
FACTS = (
    ("mskt", "settings", "mskt"),
    ("segmenter", "settings", "segmenter"),
    ("weights", "segmenter", "weights"),
    ("weights SHA-256", "segmenter", "weights_sha256"),
    ("uncertainty", "uncertainty", "estimator"),
    ("measure", "uncertainty", "measure"),
    ("draws", "uncertainty", "draws"),
    ("seed", "uncertainty", "seed"),
    ("label set", "", "label_set"),
    ("device", "", "device"),
    ("input SHA-256", "input", "sha256"),
    ("run", "", "run_id"),
)
"""Shown of ``run.json``: title, part, key. The whole file is there, too, folded."""


def page(content: CaseContent, image: Volume | None) -> str:
    """The page as HTML, with everything in it.

    Args:
        content: what the run wrote.
        image: the CT on the grid of the label map; without it there are no grey slices, no tissue
            map and no histograms, and the page says so.

    Raises:
        GeometryError: the image lies on another grid than the label map.
    """
    if image is not None and not content.grid.same_as(image.grid):
        raise GeometryError(
            content.case_id,
            "was segmented on another grid than that of the image given",
            "Give the image that was segmented; mskt run --overwrite segments another one.",
        )
    sides = separate_sides(content.labels, content.grid, content.label_set)
    frame = volumes.Frame.around(content.labels, content.grid)
    labels = frame.samples(content.labels, content.grid)
    shown_sides = frame.samples(sides, content.grid)
    doubt = frame.means(content.doubt, content.grid)
    where = places(labels, shown_sides, doubt, frame.affine(blocks=False), content.label_set)
    table = rows(content.records, content.judged, where, content.tissues)
    flagged = [row for row in table if row.line.judged in ("failed", "inaccurate")]
    layers = _layers(content, image, frame, labels, doubt)
    meshes = list(
        surfaces.surfaces(labels, shown_sides, frame.affine(blocks=False), content.label_set)
    )
    return render(
        "case.html.j2",
        case_id=content.case_id,
        synthetic=content.synthetic,
        rows=[row for row in table if not row.empty],
        empty=_listed(row for row in table if row.empty),
        flagged=bool(flagged),
        first=flagged or [row for row in table if "look here first" in row.line.flags],
        counted=_counted(table),
        judged=bool(content.judged),
        with_dice=any(row.line.dice is not None for row in table),
        with_normalized=any("normalized_volume" in row.values for row in table),
        with_intervals=any(row.intervals for row in table),
        calibration=content.run.get("calibration"),
        histograms=_histograms(content, image, sides),
        preview=_base64(content.preview) if content.preview else "",
        with_image=image is not None,
        facts=_facts(content.run),
        notes=list(content.run.get("notes", [])),
        run_text=json.dumps(content.run, indent=2, ensure_ascii=False),
        layers={name: _base64(data) for name, data in layers.items()},
        library=_base64(viewer_library()),
        payload=script_json(_payload(content, doubt, meshes, table)),
        steps=_step_words(frame),
        number=number,
    )


def _layers(
    content: CaseContent,
    image: Volume | None,
    frame: volumes.Frame,
    labels: NDArray[np.uint8],
    doubt: NDArray[np.float32],
) -> dict[str, bytes]:
    """The volumes of the viewer, by name."""
    voxels, blocks = frame.affine(blocks=False), frame.affine(blocks=True)
    found = {
        "labels": volumes.label_map(labels, voxels),
        "doubt": volumes.doubt(doubt, _top(doubt), blocks),
    }
    if image is not None:
        found["ct"] = volumes.ct(frame.means(image.data, content.grid), blocks)
        muscles = {
            s.index for s in content.label_set.structures if content.tissues[s.name] == "muscle"
        }
        hu = frame.samples(image.data, content.grid)
        found["tissue"] = volumes.label_map(
            volumes.tissue_map(hu, labels, muscles.__contains__), voxels
        )
    return found


def _top(doubt: NDArray[np.float32]) -> float:
    """Upper end of the colours: as in the preview, the 99.5th percentile of what is not 0."""
    positive = doubt[doubt > 0]
    return float(f"{np.percentile(positive, _TOP_PERCENTILE):.2g}") if positive.size else 1.0


def _histograms(
    content: CaseContent, image: Volume | None, sides: NDArray[np.uint8]
) -> list[histograms.Histogram]:
    if image is None:
        return []
    counts = histograms.count(image.data, content.labels, sides)
    return histograms.pictures(counts, content.label_set.structures, content.tissues)


def _counted(table: Sequence[Row]) -> str:
    """How many structures have each flag and each kind of missing value."""
    flags = Counter(row.line.judged for row in table if row.line.judged)
    parts = [f"{flags[flag]} {flag}" for flag in (*WORST_FIRST, "ok") if flags[flag]]
    status = Counter(row.status for row in table if row.status)
    return ", ".join([*parts, *(f"{count} {words}" for words, count in sorted(status.items()))])


def _listed(table: Iterable[Row]) -> list[tuple[str, str]]:
    """Structures without a number by what became of them, both sides in one word."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in table:
        found.setdefault(row.status or "no value", {}).setdefault(row.title, []).append(row.side)
    return [
        (status, ", ".join(_name(title, sides) for title, sides in names.items()))
        for status, names in found.items()
    ]


def _name(title: str, sides: Sequence[str]) -> str:
    return f"{title} ({sides[0]})" if len(sides) == 1 and sides[0] else title


def _facts(run: Any) -> list[tuple[str, str]]:
    found = []
    for title, part, key in FACTS:
        source = run.get(part) if part else run
        value = source.get(key) if isinstance(source, dict) else None
        if value not in (None, ""):
            found.append((title, str(value)))
    seconds, grid = run.get("seconds", {}), run.get("grid", {})
    if seconds:
        found.append(("seconds", ", ".join(f"{name} {value:g}" for name, value in seconds.items())))
    if grid:
        size = " × ".join(map(str, grid.get("shape", [])))
        mm = " × ".join(f"{value:g}" for value in grid.get("spacing_mm", []))
        found.append(("grid", f"{size} voxels of {mm} mm"))
    return found


def _payload(
    content: CaseContent,
    doubt: NDArray[np.float32],
    meshes: Sequence[surfaces.Surface],
    table: Sequence[Row],
) -> dict[str, Any]:
    """What the script of the page needs."""
    flags = {(row.line.structure, row.line.side): row.line.judged for row in table}
    info = content.run.get("uncertainty", {})
    return {
        "doubt": {"top": _top(doubt), "name": info.get("measure", "uncertainty")},
        "structures": [
            {"index": s.index, "name": s.name.replace("_", " "), "rgb": list(s.rgb)}
            for s in content.label_set.structures
        ],
        "meshes": [
            {
                "name": mesh.name.replace("_", " "),
                "color": mesh.color,
                "tissue": content.tissues.get(mesh.structure, ""),
                "flag": flags.get((mesh.structure, mesh.side), ""),
                "mz3": _base64(mesh.mz3),
            }
            for mesh in meshes
        ],
    }


def _step_words(frame: volumes.Frame) -> str:
    mm = [s * n for s, n in zip(frame.grid.spacing_mm, frame.steps, strict=True)]
    return " × ".join(f"{value:.3g}" for value in mm)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
