"""Faults that a user may accept by name: ``--allow NAME``.

Only faults that leave a usable image can be accepted; what would be a guess about left and right or
about the place of a slice is either spelt out in a note or cannot be accepted at all.
"""

from __future__ import annotations

from collections.abc import Mapping

ALLOWANCES: Mapping[str, str] = {
    "not-hu": "values that do not look like Hounsfield units are taken as they are",
    "not-finite": "NaN and infinite values become air (-1024 HU)",
    "no-orientation": "a file without orientation is taken in the format's default orientation",
    "sheared": "axes far from perpendicular are replaced by the nearest perpendicular ones",
    "gantry-tilt": "a gantry tilt in the header is ignored where the slice positions show none",
    "missing-slices": "missing slices are interpolated from their neighbours",
}


def unless_allowed(name: str) -> str:
    """The last line of a remedy: how to accept this fault."""
    return f"To go on all the same: --allow {name} ({ALLOWANCES[name]})."
