"""Which path computes the metrics: what is asked for, what is installed, what is worth it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mskt.core.errors import UsageError
from mskt.core.interfaces import LabelPair
from mskt.plugins.metrics import borders, engine


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has measured nothing yet and was asked for nothing."""
    monkeypatch.delenv(engine.VARIABLE, raising=False)
    monkeypatch.setattr(engine, "_seen", 0)
    engine.compiled.cache_clear()


def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr(engine, "installed", lambda: False)


def compiled_for(*voxels: int) -> list[bool]:
    return [engine.kernels_for(number) is not None for number in voxels]


def test_small_pairs_are_not_worth_loading_numba_until_they_add_up() -> None:
    pytest.importorskip("numba")
    half = engine.WORTHWHILE_VOXELS // 2
    assert compiled_for(half, half - 1, 1, 1) == [False, False, True, True]


def test_the_variable_settles_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setenv(engine.VARIABLE, "numba")
    assert compiled_for(1) == [True]
    monkeypatch.setenv(engine.VARIABLE, " NumPy ")
    assert compiled_for(10 * engine.WORTHWHILE_VOXELS) == [False]


def test_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(engine.VARIABLE, "cuda")
    with pytest.raises(UsageError, match=r"(?s)MSKT_METRICS=cuda.*auto, numpy, numba"):
        engine.kernels_for(1)


def test_without_numba_numpy_computes_and_asking_for_numba_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_numba(monkeypatch)
    assert compiled_for(10 * engine.WORTHWHILE_VOXELS) == [False]
    assert "not installed" in engine.told()
    monkeypatch.setenv(engine.VARIABLE, "numba")
    with pytest.raises(UsageError, match=r"(?s)mskt\[fast\]"):
        engine.kernels_for(1)


def test_a_numba_that_does_not_load_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr(engine, "installed", lambda: True)
    assert compiled_for(10 * engine.WORTHWHILE_VOXELS) == [False]


def test_where_nothing_can_be_kept_numba_computes_only_if_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numba = pytest.importorskip("numba")
    njit = numba.njit

    def unwritable(*functions: Callable[..., Any], cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(*functions, **options)

    monkeypatch.setattr(numba, "njit", unwritable)
    assert compiled_for(10 * engine.WORTHWHILE_VOXELS) == [False]
    monkeypatch.setenv(engine.VARIABLE, "numba")
    labels = np.ones((2, 3, 4), np.uint8)
    scan = borders.scan_of(LabelPair(labels, labels, (1,), (1.0, 1.0, 1.0)))
    assert scan.kernels is not None
    assert not scan.kernels.kept
    assert scan.counts[1, 1] == 24


def test_threads_follow_the_usual_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert engine.threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert engine.threads() >= 1


def test_results_come_in_the_order_of_the_items(monkeypatch: pytest.MonkeyPatch) -> None:
    for threads in ("1", "4"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        assert list(engine.each(lambda n: n * n, range(20))) == [n * n for n in range(20)]
