"""Run the checks without pytest, and keep account of expected failures."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from types import MappingProxyType, ModuleType

from mskt.core.anatomy import suggestion
from mskt.core.errors import UsageError
from mskt.core.interfaces import Loader, Metric, Segmenter, UncertaintyEstimator
from mskt.testing import (
    announcement,
    estimator_checks,
    loader_checks,
    metric_checks,
    segmenter_checks,
    segmenter_settings,
)
from mskt.testing.outcome import Build, Check, CheckResult, ConformanceError, NotApplicable

_MODULES: Mapping[str, tuple[ModuleType, ...]] = MappingProxyType(
    {
        "segmenter": (segmenter_checks, segmenter_settings, announcement),
        "uncertainty": (estimator_checks, announcement),
        "metric": (metric_checks, announcement),
        "loader": (loader_checks, announcement),
    }
)
_INTERFACES: Mapping[str, type] = MappingProxyType(
    {
        "segmenter": Segmenter,
        "uncertainty": UncertaintyEstimator,
        "metric": Metric,
        "loader": Loader,
    }
)
SUBPROCESS_CHECKS = frozenset({"check_segmenter_spawn", "check_announcement_is_light"})
_NOTHING: Mapping[str, str] = MappingProxyType({})


def checks_for(kind: str) -> tuple[Check, ...]:
    """All checks of a kind of plugin, in the order in which they stand in their modules.

    Args:
        kind: ``segmenter``, ``uncertainty``, ``metric`` or ``loader``.
    """
    if kind not in _MODULES:
        raise UsageError("", f"no kind of plugin named {kind!r}.", suggestion(kind, list(_MODULES)))
    return tuple(
        value
        for module in _MODULES[kind]
        for name, value in vars(module).items()
        if name.startswith("check_") and value.__module__ == module.__name__
    )


def kind_of(build: Build) -> str:
    """The kind of plugin that ``build`` makes; a class is asked itself, a function is called once.

    Raises:
        UsageError: what it makes implements none of the four interfaces.
    """
    maker = build
    while isinstance(maker, functools.partial):
        maker = maker.func
    made = maker if inspect.isclass(maker) else type(build())
    for kind, interface in _INTERFACES.items():
        if issubclass(made, interface):
            return kind
    raise UsageError(
        "",
        f"{made.__name__} is no plugin object.",
        f"Derive it from one of {', '.join(f'mskt.{i.__name__}' for i in _INTERFACES.values())}.",
    )


def name_of(check: Check) -> str:
    """The name by which an exemption refers to a check."""
    return str(check.__name__)


def refuse_unknown(kind: str, expected_failures: Mapping[str, str]) -> None:
    """Refuse an exemption for a check that does not exist, and one without a reason."""
    names = [name_of(check) for check in checks_for(kind)]
    for name, reason in expected_failures.items():
        if name not in names:
            raise UsageError("", f"no check named {name!r} for a {kind}.", suggestion(name, names))
        if not reason.strip():
            raise UsageError(
                "",
                f"the expected failure of {name} has no reason.",
                f"Write why: expected_failures={{{name!r}: '…'}}.",
            )


def run_check(check: Check, build: Build, reason: str | None = None) -> CheckResult:
    """Run one check.

    Args:
        check: one of :func:`checks_for`.
        build: makes a fresh object at every call.
        reason: why it is expected to fail; None if it is not.
    """
    name = name_of(check)
    try:
        check(build)
    except NotApplicable as skipped:
        return CheckResult(name, "skipped", str(skipped))
    except ConformanceError as error:
        message = str(error)
    except Exception as error:  # plugin code may raise anything
        message = (
            f"{type(error).__name__}: {error}\n"
            f"The plugin raised this while the check called it as its interface says: "
            f"{_innermost(error)}."
        )
    else:
        if reason is None:
            return CheckResult(name, "passed")
        return CheckResult(
            name,
            "xpass",
            f"expected to fail ({reason}), but passed\nRemove it from expected_failures.",
        )
    return (
        CheckResult(name, "failed", message)
        if reason is None
        else CheckResult(name, "xfail", reason)
    )


def _innermost(error: BaseException) -> str:
    """Function and line where an exception was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "place unknown"
    code = trace.tb_frame.f_code
    return f"{trace.tb_frame.f_globals.get('__name__')}.{code.co_name}, line {trace.tb_lineno}"


def run_checks(
    build: Build, kind: str | None = None, expected_failures: Mapping[str, str] = _NOTHING
) -> list[CheckResult]:
    """Run all checks of a kind on what ``build`` makes.

    Args:
        build: makes a fresh object at every call.
        kind: ``segmenter``, ``uncertainty``, ``metric`` or ``loader``; found out if not given.
        expected_failures: name of a check → why it must fail. Strict: one that passes is reported.

    Returns:
        One result a check; all is well if every ``result.ok``.
    """
    kind = kind_of(build) if kind is None else kind
    refuse_unknown(kind, expected_failures)
    return [
        run_check(check, build, expected_failures.get(name_of(check))) for check in checks_for(kind)
    ]
