import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from rebuttal.statistics import (
    compare,
    curvature,
    effect_size,
    holm,
    log_rank,
    mean_interval,
    median_time,
    p_value,
    rank_correlation,
    rank_correlation_interval,
    size_needed,
)

RNG = np.random.default_rng


def test_the_interval_is_student_s():
    values = [1.0, 2.0, 4.0, 9.0]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((4.0, expected.low, expected.high))
    assert mean_interval([3.0]) == (3.0, None, None)


def test_a_straight_line_in_the_logarithm_is_interpolated_exactly():
    sizes = [10, 100, 1000, 10_000]
    curves = np.tile([0.0, 0.2, 0.4, 0.6], (3, 1))
    needed, low, high = size_needed(sizes, curves, 0.3, RNG(0))
    assert needed == low == high == pytest.approx(10**2.5)


def test_dips_are_levelled_before_interpolation():
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


def test_p_is_below_five_percent_exactly_if_the_interval_excludes_the_threshold():
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


# "Student" 1908: extra hours of sleep of ten patients under two drugs; R's documentation of t.test has its results.
SLEEP = (
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
)


def test_paired_and_welch_on_the_sleep_of_student_1908():
    a, b = (dict(enumerate(hours)) for hours in SLEEP)
    found = compare(a, b)
    assert found.paired and found.p_paired == pytest.approx(0.002833, abs=5e-7)
    assert (found.low, found.high) == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)
    assert found.effect_size == pytest.approx(-4.0621 / 10**0.5, abs=5e-5)
    shifted = compare(a, {seed + 1: hours for seed, hours in b.items()})
    assert not shifted.paired and shifted.p_paired is None
    assert shifted.p_welch == found.p_welch == pytest.approx(0.07939, abs=5e-6)
    assert (shifted.low, shifted.high) == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)


def test_mann_whitney_on_hollander_and_wolfe_s_permeability():
    # Hollander & Wolfe 1973, p. 69; R's documentation of wilcox.test: W = 35, one-sided p = 0.1272.
    at_term = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
    early = [1.15, 0.88, 0.90, 0.74, 1.21]
    found = compare(dict(enumerate(at_term)), dict(enumerate(early)))
    assert found.p_mann_whitney == pytest.approx(2 * 0.1272, abs=1e-4)
    assert (found.n_a, found.n_b, found.paired) == (10, 5, False)


def test_groups_too_small_or_without_spread_give_none_and_not_nan():
    alone = compare({0: 1.0}, {1: 2.0})
    assert alone.difference == -1 and alone.p_welch is alone.low is alone.effect_size is None
    same = compare({0: 1.0, 1: 1.0}, {0: 2.0, 1: 2.0})
    assert same.p_paired is same.p_welch is same.effect_size is None and same.low == same.high == -1


def test_log_rank_and_median_on_the_leukaemia_trial():
    # Freireich et al. 1963, weeks in remission; chi² = 16.79 and medians 23 and 8 in Kleinbaum & Klein's textbook.
    reached = {6: 3, 7: 1, 10: 1, 13: 1, 16: 1, 22: 1, 23: 1}
    treated = [(t, True) for t, count in reached.items() for _ in range(count)]
    treated += [(t, False) for t in (6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35)]
    placebo = [(t, True) for t in (1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23)]
    assert log_rank(treated, placebo) == pytest.approx(stats.chi2.sf(16.793, 1), rel=2e-3)
    assert median_time(treated) == 23 and median_time(placebo) == 8
    assert median_time([(5, False), (6, False), (3, True)]) is None
    assert log_rank([(5, False)], [(5, False)]) is None


def test_spearman_over_seeds():
    # Intelligence and hours of television: the worked example of Wikipedia's article, rho = -29/165.
    quotient = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
    hours = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    rho, low, high = rank_correlation_interval(quotient, hours, [0, 1] * 5, RNG(0))
    assert rho == pytest.approx(-29 / 165) and low <= rho <= high
    assert rank_correlation_interval(quotient, hours, [0] * 10, RNG(0))[1:] == (None, None)
    levels, falling = [0, 1, 2] * 3, [3, 2, 1] * 3
    assert rank_correlation_interval(levels, falling, [0] * 3 + [1] * 3 + [2] * 3, RNG(0)) == pytest.approx((-1,) * 3)


def test_a_line_is_distinguished_from_a_parabola():
    rng, seeds = RNG(0), np.repeat([0, 1, 2], 5)
    x = np.tile([0, 0.25, 0.5, 0.75, 1], 3)
    offsets = seeds * 10.0  # between seeds, so that the fit must not depend on them
    straight = offsets - x + rng.normal(0, 0.02, 15)
    bent = straight + 0.5 * x**2
    assert curvature(x, straight, seeds)[2] > 0.05 and curvature(x, bent, seeds)[2] < 1e-6
    line, parabola, p = curvature(x, bent, seeds)
    # Independently: the same fits on values from which each seed's mean is removed.
    within = lambda values: (values.reshape(3, 5) - values.reshape(3, 5).mean(axis=1, keepdims=True)).ravel()  # noqa: E731
    y, total = within(bent), (within(bent) ** 2).sum()
    left = [
        np.linalg.lstsq(np.column_stack([within(x**k) for k in range(1, degree + 1)]), y)[1][0] for degree in (1, 2)
    ]
    assert (line, parabola) == pytest.approx((1 - left[0] / total, 1 - left[1] / total))
    assert p == pytest.approx(stats.f.sf((left[0] - left[1]) / (left[1] / 10), 1, 10))
    assert curvature([0, 1], [0, 1], [0, 0]) is None
