"""How a check ends: it passes, it does not apply, or it says what to change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Build = Callable[[], Any]
"""Makes a fresh plugin object: a class without required arguments, or a function."""
Check = Callable[[Build], None]
CheckStatus = Literal["passed", "failed", "xfail", "xpass", "skipped"]


class ConformanceError(AssertionError):
    """A plugin does not keep its contract.

    Args:
        fault: what was seen, with the value.
        remedy: what the author should change.
    """

    def __init__(self, fault: str, remedy: str) -> None:
        super().__init__(fault, remedy)
        self.fault = fault
        self.remedy = remedy

    def __str__(self) -> str:
        """The fault, and the remedy on a line of its own."""
        return f"{self.fault}\n{self.remedy}"


class NotApplicable(Exception):
    """The check has nothing to look at in this plugin; the text says why."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How one check ended.

    Attributes:
        status: ``xfail`` is a failure that was expected; ``xpass`` one that was expected and did
            not happen: the exemption is stale, which counts as a failure.
        message: fault and remedy of a failure, reason of an exemption or a skip.
    """

    name: str
    status: CheckStatus
    message: str = ""

    @property
    def ok(self) -> bool:
        """True unless somebody has to do something."""
        return self.status not in ("failed", "xpass")


def require(condition: object, fault: str, remedy: str) -> None:
    """Fail the check unless ``condition`` holds.

    Raises:
        ConformanceError: with ``fault`` and ``remedy``.
    """
    if not condition:
        raise ConformanceError(fault, remedy)
