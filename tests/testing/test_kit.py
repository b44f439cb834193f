"""The kit itself: good plugins pass, and every check catches the mutant made for it."""

from __future__ import annotations

import re

import kit_mutants
import kit_reference
import pytest

from mskt.core.errors import UsageError
from mskt.testing import (
    ConformanceError,
    NotApplicable,
    checks_for,
    parametrize_with_checks,
    run_checks,
)
from mskt.testing.runner import SUBPROCESS_CHECKS, name_of

pytest_plugins = ["pytester"]
KINDS = ("segmenter", "uncertainty", "metric", "loader")
CHECKS = {name_of(check): check for kind in KINDS for check in checks_for(kind)}
GOOD = (
    kit_reference.Good,
    kit_reference.GoodStochastic,
    kit_reference.GoodEnsemble,
    kit_reference.GoodVariance,
    kit_reference.GoodEntropy,
    kit_reference.GoodDistances,
    kit_reference.GoodLoader,
)


@parametrize_with_checks(*GOOD)
def test_good_plugins_pass(check, build):
    if check.__name__ in SUBPROCESS_CHECKS and build is not kit_reference.Good:
        pytest.skip("one process is enough")
    check(build)


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_check_catches_its_mutant(name):
    maker, advice = kit_mutants.MUTANTS[name]
    with pytest.raises(ConformanceError) as caught:
        CHECKS[name](maker)
    assert caught.value.fault and advice in caught.value.remedy, str(caught.value)


def test_every_check_has_a_mutant_and_no_mutant_is_left_over():
    assert set(kit_mutants.MUTANTS) == set(CHECKS)


def test_every_check_says_what_it_checks_and_fits_a_screen():
    import inspect

    for name, check in CHECKS.items():
        assert check.__doc__, name
        assert len(inspect.getsource(check).splitlines()) <= 45, name


def test_light_announcement_passes():
    CHECKS["check_announcement_is_light"](kit_mutants.SpecMaker("kit_light"))


def test_announcement_that_cannot_be_imported_is_explained():
    with pytest.raises(ConformanceError, match="no_such_module"):
        CHECKS["check_announcement_is_light"](kit_mutants.SpecMaker("no_such_module"))


def test_a_lambda_cannot_be_sent_to_another_process():
    with pytest.raises(NotApplicable, match="lambda"):
        CHECKS["check_segmenter_spawn"](lambda: kit_reference.Good(*()))


class TestRunner:
    def test_expected_failure_is_reported_with_its_reason(self):
        results = run_checks(
            kit_mutants.IgnoresSamples,
            expected_failures={"check_estimator_samples_option": "always ten"},
        )
        assert all(result.ok for result in results)
        assert {r.name: (r.status, r.message) for r in results}[
            "check_estimator_samples_option"
        ] == ("xfail", "always ten")

    def test_expected_failure_that_passes_is_a_failure(self):
        results = run_checks(
            kit_reference.GoodEntropy, expected_failures={"check_estimator_order": "was true once"}
        )
        stale = next(r for r in results if r.name == "check_estimator_order")
        assert stale.status == "xpass" and not stale.ok and "was true once" in stale.message

    def test_unknown_check_is_refused_with_the_nearest_name(self):
        with pytest.raises(UsageError, match="Did you mean 'check_estimator_order'"):
            run_checks(kit_reference.GoodEntropy, expected_failures={"check_estimator_ordr": "x"})

    def test_exemption_needs_a_reason(self):
        with pytest.raises(UsageError, match="has no reason"):
            run_checks(kit_reference.GoodEntropy, expected_failures={"check_estimator_order": " "})

    def test_unknown_kind(self):
        with pytest.raises(UsageError, match="no kind of plugin named 'backbone'"):
            checks_for("backbone")

    def test_what_is_no_plugin_is_refused(self):
        with pytest.raises(UsageError, match="dict is no plugin object"):
            run_checks(dict)

    def test_error_in_the_plugin_is_a_failure_that_names_the_place(self):
        def build():
            raise RuntimeError("weights are missing")

        results = run_checks(build, "uncertainty")
        assert not any(r.status == "passed" for r in results)
        failed = next(r for r in results if r.name == "check_estimator_mean")
        assert re.search(r"RuntimeError: weights are missing\n.*build, line \d+", failed.message)


class TestPytestAdapter:
    def _run(self, pytester, body):
        pytester.makepyfile(f"""
            import sys
            sys.path[:0] = {[kit_reference.__file__.rpartition("/")[0]]!r}
            from kit_mutants import IgnoresSamples
            from kit_reference import GoodEntropy
            from mskt.testing import parametrize_with_checks

            {body}
            def test_conformance(check, build):
                check(build)
        """)
        pytester.makeconftest("from mskt.testing.pytest_markers import pytest_configure")
        return pytester.runpytest_inprocess("--strict-markers", "-p", "no:cacheprovider")

    def test_checks_become_tests(self, pytester):
        result = self._run(pytester, "@parametrize_with_checks(GoodEntropy)")
        count = len(checks_for("uncertainty"))
        result.assert_outcomes(passed=count - 2, skipped=2)

    def test_expected_failures_are_strict(self, pytester):
        result = self._run(
            pytester,
            """@parametrize_with_checks(
                IgnoresSamples, expected_failures={
                    "check_estimator_samples_option": "always ten",
                    "check_estimator_order": "stale"})""",
        )
        result.assert_outcomes(
            passed=len(checks_for("uncertainty")) - 3, skipped=1, xfailed=1, failed=1
        )
