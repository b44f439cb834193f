"""Entry point of pytest: makes the kit's markers known, for projects that use --strict-markers."""

from __future__ import annotations

from typing import Any

MARKERS = (
    "mskt_conformance: a check of mskt's conformance kit",
    "mskt_subprocess: a check that starts a Python process of its own (seconds)",
)


def pytest_configure(config: Any) -> None:
    """Register the markers."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
