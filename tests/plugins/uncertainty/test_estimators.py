"""Estimators against the formulas of the papers, written out."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mskt.core.errors import UsageError
from mskt.plugins.uncertainty.estimators import DeterministicEstimator, McDropoutEstimator


def some_draws(count, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn((classes, 3, 4, 2), generator=generator).softmax(0) for _ in range(count)]


def plain(measure, draws):
    p = torch.stack(draws).double().numpy()
    mean = p.mean(0)
    if measure.startswith("variance"):
        variance = (p**2).mean(0) - mean**2
        return variance.mean(0) if measure == "variance" else variance.sum(0)
    entropy = -(mean * np.log(mean)).sum(0)
    if measure == "entropy":
        return entropy
    return entropy + (p * np.log(p)).sum(1).mean(0)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["variance", "variance_sum", "entropy", "mutual_information"]),
    st.integers(2, 12),
    st.integers(2, 9),
    st.integers(0, 99),
)
def test_streaming_equals_the_formula(measure, count, classes, seed):
    draws = some_draws(count, classes, seed)
    got = McDropoutEstimator(count, measure).reduce(iter(draws))
    np.testing.assert_allclose(got.uncertainty, plain(measure, draws), atol=2e-6)
    np.testing.assert_allclose(got.probabilities, torch.stack(draws).mean(0), atol=1e-6)


@pytest.mark.parametrize("measure", ["variance", "variance_sum", "mutual_information"])
def test_draws_that_agree_leave_no_doubt(measure):
    draw = some_draws(1)[0]
    got = McDropoutEstimator(5, measure).reduce([draw] * 5)
    assert got.uncertainty.abs().max() < 1e-6


def test_largest_variance_is_two_classes_that_take_turns():
    one = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
    got = McDropoutEstimator(2, "variance").reduce([one, 1 - one])
    assert got.uncertainty.item() == pytest.approx(0.25)


def test_entropy_of_one_pass():
    got = DeterministicEstimator().reduce([torch.full((8, 1, 1, 1), 1 / 8)])
    assert got.uncertainty.item() == pytest.approx(math.log(8))


def test_too_few_draws_are_refused_with_the_way_out():
    with pytest.raises(UsageError, match="--samples 10"):
        McDropoutEstimator(1)
    with pytest.raises(UsageError, match="at least two"):
        McDropoutEstimator(2).reduce(some_draws(1))


def test_unknown_measure_names_those_there_are():
    with pytest.raises(UsageError, match="Did you mean 'variance'"):
        McDropoutEstimator(5, "varience")
