from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests

from rebuttal.statistics import (
    NeededSize,
    compare,
    curvature,
    effect_size,
    exponent_interval,
    holm,
    log_rank,
    mean_interval,
    median_interval,
    median_of_bounds,
    median_time,
    needed_sizes,
    power_law,
    rank_correlation,
    rank_correlation_of_seeds,
    seeds_needed,
    seeds_that_decide,
    sign_p,
    size_needed,
)

RNG = np.random.default_rng


def test_the_interval_is_student_s():
    values = [1.0, 2.0, 4.0, 9.0]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((4.0, expected.low, expected.high))
    assert mean_interval([3.0]) == (3.0, None, None)


@pytest.mark.parametrize("n", [1, 2, 4, 5, 6, 11, 30])
def test_the_median_of_bounds_holds_whatever_lies_beyond_them(n):
    """The numbers behind the bounds are drawn: their median and its interval must lie where the bounds say."""
    for seed in range(50):
        rng = RNG(seed)
        numbers, bounds = rng.normal(size=n), rng.choice([-1, 0, 0, 0, 1], size=n)
        values = numbers - bounds * rng.exponential(size=n)
        (median, low, high), bound = median_of_bounds(values, bounds)
        real, real_low, real_high = median_interval(numbers)
        if median is None:
            assert {-1, 1} <= set(bounds)
        else:
            assert (real == median) if bound == 0 else (real - median) * bound >= 0
        assert (low is None and high is None) if n < 5 else (low <= real_low and real_high <= high)
        assert median_of_bounds(numbers, [0] * n) == (median_interval(numbers), 0)


def test_a_straight_line_in_the_logarithm_is_interpolated_exactly():
    sizes = [10, 100, 1000, 10_000]
    curves = np.tile([0.0, 0.2, 0.4, 0.6], (3, 1))
    needed, lowest, highest = size_needed(sizes, curves, 0.3)
    assert needed == lowest == highest == pytest.approx(10**2.5)


def test_the_range_of_the_size_needed_is_that_of_single_seeds():
    sizes = [10, 100, 1000]
    curves = np.array([[0.0, 0.5, 1.0], [0.25, 0.75, 1.0], [0.5, 1.0, 1.0]])
    assert size_needed(sizes, curves, 0.5) == pytest.approx((10**1.5, 10, 100))
    assert size_needed(sizes, curves[:1], 0.5) == (pytest.approx(100), None, None)


def test_dips_are_levelled_before_interpolation():
    needed, _, _ = size_needed([1, 10, 100, 1000], np.array([[0.0, 0.5, 0.3, 0.8]]), 0.4)
    assert needed == pytest.approx(10)  # the dip and what precedes it become one step at 0.4


def test_what_is_not_reached_is_infinite_and_what_is_undefined_is_none():
    curves = np.array([[0.1, 0.2], [0.1, 0.9], [0.1, 0.9]])
    needed, lowest, highest = size_needed([10, 100], curves, 0.6)
    assert 10 < lowest < needed < 100 and highest == np.inf  # one seed stays below
    assert size_needed([10, 100], curves, 0.95) == (np.inf,) * 3
    assert size_needed([10, 100], curves, 0.05) == (10, 10, 10)
    curves[0, 0] = np.nan
    assert size_needed([10, 100], curves, 0.05) == (None, None, None)


@pytest.mark.parametrize("n", [6, 9, 12, 25])
def test_the_median_s_interval_lies_between_the_exact_ones_of_the_order_statistics(n):
    values = RNG(n).exponential(size=n)
    median, low, high = median_interval(values)
    assert median == np.median(values)
    wide = stats.quantile_test(values, q=0, p=0.5).confidence_interval(0.95)  # covers at least 95 %
    x = np.sort(values)
    inside = np.searchsorted(x, wide.low) + 1
    assert x[inside - 1] <= low <= x[inside] and x[n - 1 - inside] <= high <= x[n - inside]
    assert median_interval(-values) == pytest.approx((-median, -high, -low))


def test_the_median_s_interval_of_ten_by_hand():
    """Order statistics 2 to 9 cover 1 - 2 · 11/1024, 3 to 8 cover 1 - 2 · 56/1024; Hettmansperger & Sheather (1986)."""
    outer, inner = 1 - 22 / 1024, 1 - 112 / 1024
    step = (outer - 0.95) / (outer - inner)
    inward = 8 * step / (2 + 6 * step)
    assert median_interval(range(1, 11)) == pytest.approx((5.5, 2 + inward, 9 - inward))


def test_five_values_have_their_range_and_fewer_have_no_interval():
    assert median_interval([5, 1, 4, 2, 3]) == (3, 1, 5)
    assert median_interval([4, 1, 2, 3]) == (2.5, None, None) and median_interval([7]) == (7, None, None)


def test_the_sign_test_is_the_binomial_one():
    rng = RNG(3)
    for _ in range(100):
        values = rng.normal(size=int(rng.integers(3, 20)))
        above = int((values > 0.3).sum())
        assert sign_p(values, 0.3, len(values)) == pytest.approx(stats.binomtest(above, len(values)).pvalue)
    assert sign_p([1, 1, 1], 1, 3) == 1.0  # equal to the threshold: for neither side
    assert sign_p([2, 2, 2, 2, 1], 1, 6) == pytest.approx(stats.binomtest(4, 6).pvalue)  # one equal, one unknown


def test_the_seeds_needed_for_an_exact_test():
    for comparisons in range(1, 200):
        n = seeds_needed(comparisons)
        assert sign_p([1] * n, 0, n) * comparisons < 0.05 <= sign_p([1] * (n - 1), 0, n - 1) * comparisons
    assert (seeds_needed(1), seeds_needed(28)) == (6, 11)


def test_tests_that_can_reach_no_significance_do_not_raise_the_seeds_that_decide():
    assert seeds_that_decide([]) == seeds_that_decide([3] * 1000) == seeds_that_decide([6] + [5] * 1000) == 6
    assert seeds_that_decide([11] * 51 + [3] * 1000) == 11 and seeds_that_decide([11] * 52) == 12
    rng = RNG(5)
    for _ in range(300):
        sizes = rng.integers(1, 16, size=int(rng.integers(1, 80))).tolist()
        enough = seeds_that_decide(sizes)
        tests = sum(n >= enough for n in sizes)
        assert seeds_needed(tests) <= enough  # each of them can reach significance among all of them
        # With one seed fewer as the limit, more would share the error than can reach their shares.
        assert enough == 6 or seeds_needed(sum(n >= enough - 1 for n in sizes)) > enough - 1


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


def test_a_seed_that_one_group_lacks_does_not_unpair_the_others():
    a, b = (dict(enumerate(hours)) for hours in SLEEP)
    less = {seed: hours for seed, hours in b.items() if seed != 4}
    found = compare(a, less)
    assert found == compare({seed: a[seed] for seed in less}, less) and found.paired and found.n_a == found.n_b == 9


def test_mann_whitney_on_hollander_and_wolfe_s_permeability():
    # Hollander & Wolfe 1973, p. 69; R's documentation of wilcox.test: W = 35, one-sided p = 0.1272.
    at_term = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
    early = [1.15, 0.88, 0.90, 0.74, 1.21]
    found = compare(dict(enumerate(at_term)), dict(enumerate(early, len(at_term))))
    assert found.p_mann_whitney == pytest.approx(2 * 0.1272, abs=1e-4)
    assert (found.n_a, found.n_b, found.paired) == (10, 5, False)


def test_groups_too_small_or_without_spread_give_none_and_not_nan():
    alone = compare({0: 1.0}, {1: 2.0})
    assert alone.difference == -1 and alone.p_welch is alone.low is alone.effect_size is None
    same = compare({0: 1.0, 1: 1.0}, {0: 2.0, 1: 2.0})
    assert same.p_paired is same.p_welch is same.effect_size is None and same.low == same.high == -1
    assert log_rank([(1, True)], [(1, True)]) is None


def test_what_differs_by_rounding_alone_has_no_spread():
    shifted = compare(dict(enumerate((0.3, 0.4, 0.7))), dict(enumerate((0.2, 0.3, 0.6))))
    assert shifted.effect_size is shifted.p_paired is None and shifted.difference == pytest.approx(0.1)


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


@given(st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=1, max_size=12))
def test_the_median_time_is_that_of_exact_fractions(times):
    survival, median = Fraction(1), None
    for time in sorted({time for time, _ in times}):
        at_risk = sum(other >= time for other, _ in times)
        survival *= 1 - Fraction(sum(times.count(one) for one in {(time, True)}), at_risk)
        median = time if median is None and survival <= Fraction(1, 2) else median
    assert median_time(times) == median


def test_spearman_over_seeds():
    # Intelligence and hours of television: the worked example of Wikipedia's article, rho = -29/165.
    quotient = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
    hours = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    assert rank_correlation_of_seeds(quotient, hours, [0] * 10) == (pytest.approx(-29 / 165), None, None)
    rho, lowest, highest = rank_correlation_of_seeds(quotient, hours, [0, 1] * 5)
    halves = [stats.spearmanr(quotient[i::2], hours[i::2]).statistic for i in (0, 1)]
    assert (rho, lowest, highest) == pytest.approx((-29 / 165, min(halves), max(halves)))
    constant = [*hours[:5], 1, 1, 1, 1, 1]
    assert rank_correlation_of_seeds(quotient, constant, [0] * 5 + [1] * 5)[1:] == (None, None)


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
    constant = np.repeat([0.1, 0.7, 0.3], 4)  # within seeds, but for rounding
    assert curvature([0, 1, 2, 3] * 3, constant, np.repeat([0, 1, 2], 4)) is None


def law(rng, seeds, x, factor=2.0, exponent=1.5, spread=0.3):
    return [
        [NeededSize(at, float(factor * at**exponent * np.exp(spread * rng.standard_normal()))) for at in x]
        for _ in range(seeds)
    ]


def test_without_censored_sizes_the_power_law_is_the_least_squares_line_of_the_logarithms():
    (points,) = law(np.random.default_rng(0), 1, [10, 30, 100, 300])
    found = power_law(points)
    line = stats.linregress([np.log(p.x) for p in points], [np.log(p.size) for p in points])
    assert (found.exponent, np.log(found.factor)) == pytest.approx((line.slope, line.intercept))


def test_an_exact_power_law_is_found_also_through_censored_sizes():
    sizes = [NeededSize(x, 2 * x**1.5) for x in (10, 100, 1000)]
    assert power_law(sizes).exponent == pytest.approx(1.5) and power_law(sizes).factor == pytest.approx(2)
    censored = [*sizes, NeededSize(10000, 5000, 1), NeededSize(1, 50, -1)]  # bounds that the law keeps
    assert power_law(censored).exponent == pytest.approx(1.5, abs=1e-3)


def test_censored_sizes_count_as_censored():
    rng = np.random.default_rng(0)
    exponents, naive = [], []
    for _ in range(60):
        (points,) = law(rng, 1, [30, 100, 300, 1000] * 6, spread=0.5)
        limit = 2 * 400**1.5  # beyond it a size is not seen: half of those at 300, nearly all at 1,000
        seen = [NeededSize(p.x, min(p.size, limit), 1 if p.size > limit else 0) for p in points]
        exponents.append(power_law(seen).exponent)
        naive.append(power_law([NeededSize(p.x, p.size) for p in seen]).exponent)
    assert np.mean(exponents) == pytest.approx(1.5, abs=0.03)
    assert np.mean(naive) < 1.35


def test_the_law_agrees_with_an_independent_maximum_of_the_likelihood():
    rng = np.random.default_rng(1)
    (points,) = law(rng, 1, [30, 100, 300] * 4)
    points = [NeededSize(p.x, min(p.size, 6000.0), int(p.size > 6000)) for p in points]

    def negative(theta):
        total = 0.0
        for p in points:
            normal = stats.norm(theta[0] + theta[1] * np.log(p.x), np.exp(theta[2]))
            total -= normal.logsf(np.log(p.size)) if p.beyond else normal.logpdf(np.log(p.size))
        return total

    found = optimize.minimize(negative, [0.0, 1.0, 0.0], method="BFGS").x
    assert power_law(points).exponent == pytest.approx(found[1], abs=1e-3)


def test_no_exponent_without_two_sizes_that_are_known():
    assert power_law([NeededSize(10, 100), NeededSize(10, 90), NeededSize(100, 1000, 1)]) is None
    assert exponent_interval([[NeededSize(10, 100)], [NeededSize(10, 90)], [NeededSize(10, 80)]]) == (None, None, None)


@pytest.mark.slow
def test_the_bootstrap_of_whole_seeds_covers_the_exponent():
    rng = np.random.default_rng(2)
    covered, limit = 0, 2 * 1000**1.5  # of sizes that are seen: half of the largest are not
    for _ in range(15):
        of_seeds = law(rng, 8, [100, 300, 1000])
        for seed in of_seeds:  # what the sizes of one seed have in common
            shift = np.exp(0.3 * rng.standard_normal())
            seed[:] = [NeededSize(p.x, min(limit, p.size * shift), int(p.size * shift > limit)) for p in seed]
        _, low, high = exponent_interval(of_seeds, draws=40)
        covered += low <= 1.5 <= high
    assert covered >= 13  # plain percentiles, of which 89 % cover, would be 12 here
    assert exponent_interval(of_seeds[:7], draws=100)[1:] == (None, None)


@pytest.mark.parametrize("seeds", [3, 5])
def test_without_censored_sizes_the_interval_covers_the_exponent_also_with_few_seeds(seeds):
    rng = np.random.default_rng(4)
    intervals = [exponent_interval(law(rng, seeds, [300, 1000, 3000])) for _ in range(600)]
    covered = np.mean([low <= 1.5 <= high for _, low, high in intervals])
    assert 0.93 <= covered <= 0.97


def test_a_threshold_that_every_seed_reaches_exactly_is_reached():
    for target, seeds in ((0.7, 3), (0.85, 7), (0.1, 3)):
        assert size_needed([100, 1000], np.array([[target / 2, target]] * seeds), target) == pytest.approx((1000,) * 3)


def test_needed_sizes_of_each_seed():
    curves = np.array([[0.1, 0.3, 0.7], [0.6, 0.7, 0.8], [0.1, 0.2, 0.3]])
    first, second, third = needed_sizes(50, [10, 100, 1000], curves, 0.5)
    assert (first.x, first.size, first.beyond) == (50, pytest.approx(10**2.5), 0)
    assert (second.size, second.beyond) == (10, -1) and (third.size, third.beyond) == (1000, 1)
