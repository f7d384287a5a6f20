import numpy as np
import pytest
from scipy import stats

from rebuttal.analysis.statistics import mean_interval, size_needed

RNG = np.random.default_rng


def test_the_interval_is_student_s():
    values = [1.0, 2.0, 4.0, 9.0]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((4.0, expected.low, expected.high))
    assert mean_interval([3.0]) == (3.0, None, None)


def test_a_straight_line_in_the_logarithm_is_read_off_exactly():
    sizes = [10, 100, 1000, 10_000]
    curves = np.tile([0.0, 0.2, 0.4, 0.6], (3, 1))
    needed, low, high = size_needed(sizes, curves, 0.3, RNG(0))
    assert needed == low == high == pytest.approx(10**2.5)


def test_dips_are_levelled_before_reading():
    needed, _, _ = size_needed([1, 10, 100, 1000], np.array([[0.0, 0.5, 0.3, 0.8]]), 0.4, RNG(0))
    assert needed == pytest.approx(10)  # the dip and what precedes it become one step at 0.4


def test_what_is_not_reached_is_censored():
    curves = np.array([[0.1, 0.2], [0.1, 0.9], [0.1, 0.9]])
    needed, low, high = size_needed([10, 100], curves, 0.6, RNG(0))
    assert needed is not None and low is not None
    assert high is None  # in some resamples the mean stays below
    assert size_needed([10, 100], curves, 0.95, RNG(0)) == (None, None, None)
    assert size_needed([10, 100], curves, 0.05, RNG(0)) == (10, 10, 10)


def test_bootstrap_intervals_cover_the_truth():
    sizes, truth = np.array([10, 30, 100, 300, 1000]), 10**2.2
    rng, covered = RNG(1), 0
    for _ in range(100):
        offsets = rng.normal(0, 0.1, size=(10, 1))
        curves = 0.3 * (np.log10(sizes) - 2.2) + 0.5 + offsets
        _, low, high = size_needed(sizes, curves, 0.5, rng)
        covered += low <= truth <= high
    assert 83 <= covered <= 99  # a percentile interval of 10 seeds is a little too short
