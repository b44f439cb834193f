"""The conformance kit: what every plugin must do, as checks that anybody can run.

In the tests of a plugin::

    from mskt.testing import parametrize_with_checks
    from mskt_tinynet.model import TinyNet

    @parametrize_with_checks(TinyNet)
    def test_conformance(check, build):
        check(build)

Without pytest: :func:`run_checks`, or ``mskt plugins check NAME``. Importing this package imports
neither pytest nor torch: pytest loads it at every start to learn the markers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mskt.testing.outcome import CheckResult, ConformanceError, NotApplicable
    from mskt.testing.pytest_adapter import parametrize_with_checks
    from mskt.testing.runner import checks_for, run_checks

_HOME = {
    "CheckResult": "mskt.testing.outcome",
    "ConformanceError": "mskt.testing.outcome",
    "NotApplicable": "mskt.testing.outcome",
    "checks_for": "mskt.testing.runner",
    "parametrize_with_checks": "mskt.testing.pytest_adapter",
    "run_checks": "mskt.testing.runner",
}
__all__ = [
    "CheckResult",
    "ConformanceError",
    "NotApplicable",
    "checks_for",
    "parametrize_with_checks",
    "run_checks",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'mskt.testing' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
