"""The same checks as tests of pytest."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from mskt.testing.outcome import Build, Check, NotApplicable
from mskt.testing.runner import (
    _NOTHING,
    SUBPROCESS_CHECKS,
    checks_for,
    kind_of,
    name_of,
    refuse_unknown,
)


def parametrize_with_checks(
    *builds: Build, kind: str | None = None, expected_failures: Mapping[str, str] = _NOTHING
) -> Any:
    """Decorate a test ``(check, build)`` so that it runs once for each check and maker.

    Example:
        >>> @parametrize_with_checks(TinyNet, expected_failures={"check_…": "why"})
        ... def test_conformance(check, build):
        ...     check(build)

    Args:
        builds: classes or functions that make a fresh object at every call.
        kind: of all of them; found out if not given.
        expected_failures: become strict xfails: a check that passes again fails the test.
    """
    import pytest

    cases = []
    for build in builds:
        found = kind_of(build) if kind is None else kind
        refuse_unknown(found, expected_failures)
        for check in checks_for(found):
            name = name_of(check)
            marks = [pytest.mark.mskt_conformance]
            if name in SUBPROCESS_CHECKS:
                marks.append(pytest.mark.mskt_subprocess)
            if name in expected_failures:
                marks.append(pytest.mark.xfail(reason=expected_failures[name], strict=True))
            title = getattr(build, "__name__", type(build).__name__)
            cases.append(pytest.param(_skipping(check), build, id=f"{title}-{name}", marks=marks))
    return pytest.mark.parametrize(("check", "build"), cases)


def _skipping(check: Check) -> Check:
    """The check, with NotApplicable turned into a skip."""
    import pytest

    @functools.wraps(check)
    def run(build: Build) -> None:
        try:
            check(build)
        except NotApplicable as reason:
            pytest.skip(str(reason))

    return run
