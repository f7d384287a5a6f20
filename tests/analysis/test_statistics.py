import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from rebuttal.analysis.statistics import effect_size, holm, mean_interval, p_value, rank_correlation, size_needed

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


def test_p_is_below_five_percent_exactly_where_the_interval_leaves_the_threshold_out():
    rng = RNG(3)
    for _ in range(200):
        values, threshold = rng.normal(size=4), rng.normal()
        _, low, high = mean_interval(values)
        assert (p_value(values, threshold) < 0.05) == (not low <= threshold <= high)
    assert p_value([1.0, 1.0], 0.5) == 0.0 and p_value([0.5, 0.5], 0.5) == 1.0 and p_value([3.0], 0.0) is None


def test_holm_by_hand():
    # Holm 1979: sorted p times (m - rank), made monotone.
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([None]) == [None]
    p_values = RNG(5).random(20) ** 3
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


def test_effect_size_and_rank_correlation_by_hand():
    assert effect_size([1.0, 3.0], 0.0) == pytest.approx(2 / 2**0.5)
    assert effect_size([1.0, 1.0], 0.0) is None
    assert rank_correlation([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx(0.8)
    assert rank_correlation([1, 2, 3], [5, 5, 5]) is None
