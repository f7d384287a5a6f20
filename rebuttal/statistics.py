"""Statistics over seeds. The unit of replication is a seed: a complete retraining."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # see `rebuttal.measures.agreement`

Values = Sequence[float] | np.ndarray
Interval = tuple[float | None, float | None, float | None]  # a value and the ends of its interval


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds with its 95 % t-interval; `low` and `high` are None for a single seed."""

    mean: float
    low: float | None
    high: float | None
    n: int


def estimate(values: Values) -> Estimate | None:
    """Return the mean of the values with its interval; None if there are no values."""
    return Estimate(*mean_interval(values), len(values)) if len(values) else None


def mean_interval(values: Values) -> tuple[float, float | None, float | None]:
    """Return the mean with its 95 % t-interval; the ends are None for a single value."""
    sample = np.asarray(values, dtype=float)
    mean = float(sample.mean())
    if len(sample) < 2:
        return mean, None, None
    half = float(scipy.stats.t.ppf(0.975, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample)))
    return mean, mean - half, mean + half


def interval_of(values: Sequence[float | None]) -> Interval:
    """Return the mean with its 95 % t-interval; all None if a value is undefined, because a mean of the others would be
    that of another population."""
    defined = [value for value in values if value is not None]
    return mean_interval(defined) if len(defined) == len(values) else (None, None, None)


def interval_metrics(name: str, found: Interval) -> dict[str, float | int | bool | None]:
    """Return a value and the ends of its interval as the metrics `name`, `name_low`, `name_high`."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), found))


ROUNDING = 1e-12  # of a mean, or a product, of shares: one that is equal to a threshold may come out as less


def size_needed(sizes: Sequence[float], curves: np.ndarray, target: float) -> Interval:
    """Return the size at which an increasing curve reaches `target`, and the lowest and highest such size of one seed.

    `curves` (seeds, sizes): the mean over seeds is made monotone (isotonic regression) and interpolated over the
    logarithm of the size. Infinite: not reached within the sizes. If the smallest size already reaches the target, it
    is returned. There is no range for a single seed. If a point is undefined (NaN), so is the size: None.
    """
    curves = np.asarray(curves, dtype=float)
    if np.isnan(curves).any():
        return None, None, None
    needed = _crossing(sizes, curves.mean(axis=0), target)
    if len(curves) < 2:
        return needed, None, None
    of_seeds = [_crossing(sizes, curve, target) for curve in curves]
    return needed, min(of_seeds), max(of_seeds)


def _crossing(sizes: Sequence[float], curve: np.ndarray, target: float) -> float:
    """Return the size at which the monotone curve reaches `target`; infinite if it does not."""
    rising = scipy.optimize.isotonic_regression(curve).x
    at = int(np.searchsorted(rising, target - ROUNDING))
    if at == len(rising):
        return np.inf
    if at == 0:
        return float(sizes[0])
    share = min((target - rising[at - 1]) / (rising[at] - rising[at - 1]), 1.0)
    return float(np.exp(np.log(sizes[at - 1]) * (1 - share) + np.log(sizes[at]) * share))


@dataclass(frozen=True)
class PowerLaw:
    """size = `factor` · x^`exponent`, with the standard deviation `spread` of the logarithm around it; see
    `power_law`."""

    factor: float
    exponent: float
    spread: float


@dataclass(frozen=True)
class NeededSize:
    """A size that is needed at `x`: `size` itself; or, `beyond` 1, more than that, the largest that was tried; or,
    `beyond` −1, at most that, the smallest that was tried."""

    x: float
    size: float
    beyond: int = 0


def needed_sizes(x: float, sizes: Sequence[float], curves: np.ndarray, target: float) -> list[NeededSize]:
    """Return the size that each of the curves (seeds, sizes) at `x` needs to reach the target, as `size_needed`
    interpolates it."""
    found = []
    for curve in np.asarray(curves, dtype=float):
        size = _crossing(sizes, curve, target)
        beyond = 1 if size == np.inf else -1 if size == sizes[0] else 0
        found.append(NeededSize(x, sizes[-1] if beyond == 1 else size, beyond))
    return found


def power_law(needed: Sequence[NeededSize]) -> PowerLaw | None:
    """Return the power law of the greatest likelihood, for sizes that are log-normal around it (Tobin 1958): a censored
    size enters by the probability of lying beyond its bound. Without censored sizes it is the least-squares line
    through the logarithms. None if fewer than two x have a size that is not censored, which then decides no exponent.
    """
    exact = [one for one in needed if not one.beyond]
    if len({one.x for one in exact}) < 2:
        return None
    x, y, beyond = (np.array(of) for of in zip(*((np.log(n.x), np.log(n.size), n.beyond) for n in needed)))
    is_exact = beyond == 0
    slope, intercept = np.polyfit(x[is_exact], y[is_exact], 1)
    spread = float(np.sqrt(np.mean((y - intercept - slope * x)[is_exact] ** 2)))
    if not is_exact.all():
        intercept, slope, spread = _tobit(x, y, beyond, np.array([intercept, slope, np.log(max(spread, LEAST_SPREAD))]))
    return PowerLaw(float(np.exp(intercept)), float(slope), float(spread))


LEAST_SPREAD = 1e-3  # of a logarithm: where all points lie on a line, the likelihood has no maximum


def _tobit(x: np.ndarray, y: np.ndarray, beyond: np.ndarray, start: np.ndarray) -> tuple[float, float, float]:
    """Return intercept, slope and spread of the greatest likelihood."""

    def loss(parameters: np.ndarray) -> float:
        intercept, slope, log_spread = parameters
        spread = max(np.exp(log_spread), LEAST_SPREAD)
        z = (y - intercept - slope * x) / spread
        terms = np.where(beyond == 0, scipy.stats.norm.logpdf(z) - np.log(spread), scipy.stats.norm.logcdf(-beyond * z))
        return -float(terms.sum())

    found = scipy.optimize.minimize(loss, start, method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-6}).x
    return float(found[0]), float(found[1]), max(float(np.exp(found[2])), LEAST_SPREAD)


LEAST_RESAMPLED = 8  # seeds: fewer have too few different samples for the tails


def exponent_interval(by_seed: Sequence[Sequence[NeededSize]], draws: int = 1000) -> Interval:
    """Return the exponent of the power law through the needed sizes of all seeds, with its 95 % interval: the
    t-interval over the seeds' own exponents, where no size is censored, else by a bootstrap of whole seeds, whose
    percentiles are expanded as Student's t is wider than the normal distribution (Hesterberg 2015, section 5.3: plain
    ones of few seeds are too narrow). Its ends are None for fewer than eight seeds, or where one in twenty draws or
    more decide no exponent."""
    law = power_law([one for seed in by_seed for one in seed])
    if law is None:
        return None, None, None
    if not any(one.beyond for seed in by_seed for one in seed):
        own = [of_seed.exponent for seed in by_seed if (of_seed := power_law(seed)) is not None]
        if len(own) == len(by_seed):
            return mean_interval(own)
    if len(by_seed) < LEAST_RESAMPLED:
        return law.exponent, None, None
    rng = np.random.default_rng(0)
    drawn = [rng.integers(len(by_seed), size=len(by_seed)) for _ in range(draws)]
    distinct = {tuple(sorted(chosen)) for chosen in drawn}
    found = {chosen: power_law([one for seed in chosen for one in by_seed[seed]]) for chosen in distinct}
    laws = [found[tuple(sorted(chosen))] for chosen in drawn]
    exponents = [one.exponent for one in laws if one is not None]
    if len(exponents) <= 0.95 * draws:
        return law.exponent, None, None
    n = len(by_seed)
    tail = scipy.stats.norm.cdf(-np.sqrt(n / (n - 1)) * scipy.stats.t.ppf(0.975, n - 1))
    low, high = np.quantile(exponents, [tail, 1 - tail])
    return law.exponent, float(low), float(high)


def median_interval(values: Values) -> Interval:
    """Return the median with its 95 % interval, which holds for every distribution.

    From the order statistics, interpolated for a coverage of 95 % (Hettmansperger & Sheather 1986). With five values it
    is their range, which covers the median in 15 of 16 cases; the ends are None for fewer, whose range covers less.
    """
    x = np.sort(np.asarray(values, dtype=float))
    n, median = len(x), float(np.median(x))
    if n < 5:
        return median, None, None
    if n == 5:
        return median, float(x[0]), float(x[-1])
    depth = int(scipy.stats.binom.ppf(0.025, n, 0.5))  # the largest whose interval, without interpolation, covers 95 %
    outer, inner = (1 - 2 * scipy.stats.binom.cdf(k - 1, n, 0.5) for k in (depth, depth + 1))
    step = (outer - 0.95) / (outer - inner)
    inward = (n - depth) * step / (depth + (n - 2 * depth) * step)
    low, high = x[depth - 1], x[n - depth]
    if inward:  # else nothing times infinity would be added
        low, high = (1 - inward) * low + inward * x[depth], (1 - inward) * high + inward * x[n - depth - 1]
    return median, float(low), float(high)


def median_of_bounds(values: Values, bounds: Sequence[int]) -> tuple[Interval, int]:
    """Return the median and its interval of numbers of which some are known as bounds only, and whether the median is
    one.

    `bounds`: 1 where the number is at least the value, −1 where it is at most the value, else 0; of the median
    likewise. An end of the interval that nothing bounds is infinite; a median that nothing bounds is None.
    """
    lowest, least, _ = median_interval(np.where(np.array(bounds) < 0, -np.inf, values))
    highest, _, most = median_interval(np.where(np.array(bounds) > 0, np.inf, values))
    if lowest == highest:
        return (lowest, least, most), 0
    if lowest != -np.inf:
        return (lowest, least, most), 1
    return (None if highest == np.inf else highest, least, most), -1


def sign_p(values: Values, threshold: float, n: int) -> float:
    """Return the two-sided p of the sign test of the median against `threshold`, exact for every distribution.

    Of `n` values only those in `values` are known, and only those on one side of the threshold count for it: unknown
    and equal values count against both sides.
    """
    sample = np.asarray(values, dtype=float)
    most = max(int((sample > threshold).sum()), int((sample < threshold).sum()))
    return min(1.0, float(2 * scipy.stats.binom.sf(most - 1, n, 0.5)))


def seeds_needed(comparisons: int, significance: float = 0.05) -> int:
    """Return the fewest seeds with which a sign test can be significant after correction for `comparisons` tests."""
    return 1 + int(np.floor(np.log2(max(comparisons, 1) / significance))) + 1


def seeds_that_decide(sizes: Sequence[int], significance: float = 0.05) -> int:
    """Return the fewest seeds with which a sign test, one of those with `sizes` seeds, can be significant after
    correction for all that have so many. The others cannot, whatever their values are, and take no share of the error
    (Tarone 1990)."""
    comparisons = 1
    while sum(n >= seeds_needed(comparisons, significance) for n in sizes) > comparisons:
        comparisons += 1
    return seeds_needed(comparisons, significance)


def effect_size(values: Values, threshold: float) -> float | None:
    """Return Cohen's d of the mean's distance from `threshold`, in standard deviations over seeds; None if there is no
    spread."""
    sample = np.asarray(values, dtype=float)
    spread = sample.std(ddof=1) if len(sample) > 1 else 0.0
    rounding = 1e-12 * max(abs(threshold), np.abs(sample).max(initial=0.0))
    return float((sample.mean() - threshold) / spread) if spread > rounding else None


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values after Holm's (1979) step-down adjustment; None stays None.

    statsmodels' `multipletests` runs the garbage collector at every call, which takes a quarter of a second once torch
    is loaded.
    """
    known = np.array([p for p in p_values if p is not None], dtype=float)
    order = known.argsort()
    adjusted = np.empty_like(known)
    adjusted[order] = np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1)).clip(max=1)
    found = iter(adjusted.tolist())
    return [None if p is None else next(found) for p in p_values]


def rank_correlation(x: Values, y: Values) -> float | None:
    """Return Spearman's ρ; None if one variable is constant or there are fewer than three points."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return round(float(scipy.stats.spearmanr(x, y).statistic), 12)  # not -0.8999999999999998 for -0.9


def rank_correlation_of_seeds(x: Values, y: Values, seeds: Sequence[int] | np.ndarray) -> Interval:
    """Return Spearman's ρ over all points, and the lowest and highest ρ of one seed.

    The ends are None for a single seed, and if ρ is undefined in one of them.
    """
    xs, ys, seed_of = np.asarray(x, dtype=float), np.asarray(y, dtype=float), np.asarray(seeds)
    of_seeds = [rank_correlation(xs[seed_of == seed], ys[seed_of == seed]) for seed in np.unique(seed_of)]
    defined = [rho for rho in of_seeds if rho is not None]
    if len(of_seeds) < 2 or len(defined) < len(of_seeds):
        return rank_correlation(xs, ys), None, None
    return rank_correlation(xs, ys), min(defined), max(defined)


def curvature(x: Values, y: Values, seeds: Sequence[int] | np.ndarray) -> tuple[float, float, float] | None:
    """Return R² of a straight line, R² of a parabola, and p of the F-test of the line against the parabola.

    Least squares with one intercept per seed; R² is the share of the variance within seeds. None if there are too few
    points for a parabola, or if y does not vary within seeds.
    """
    from statsmodels.api import OLS

    xs, ys, seed_of = np.asarray(x, dtype=float), np.asarray(y, dtype=float), np.asarray(seeds)
    intercepts = (seed_of[:, None] == np.unique(seed_of)).astype(float)
    base = OLS(ys, intercepts).fit().ssr
    if len(np.unique(xs)) < 3 or len(ys) <= intercepts.shape[1] + 2 or base <= 1e-18 * (ys**2).sum():  # rounding
        return None
    line = OLS(ys, np.column_stack([intercepts, xs])).fit()
    parabola = OLS(ys, np.column_stack([intercepts, xs, xs**2])).fit()
    _, p, _ = parabola.compare_f_test(line)
    return 1 - line.ssr / base, 1 - parabola.ssr / base, float(p)


@dataclass(frozen=True)
class Comparison:
    """Two groups of seeds, a and b.

    `difference`: a - b, with its 95 % interval `low` to `high`: of the pairs if `paired`, else Welch's. `effect_size`:
    Cohen's d, of the pairs' differences, or with the pooled standard deviation. p-values are two-sided; None if there
    are too few values for the test.
    """

    n_a: int
    n_b: int
    mean_a: float
    mean_b: float
    difference: float
    low: float | None
    high: float | None
    paired: bool
    effect_size: float | None
    p_paired: float | None
    p_welch: float | None
    p_mann_whitney: float | None


def compare(a: dict[int, float], b: dict[int, float]) -> Comparison:
    """Compare two groups of values by seed: paired, if the seeds of one are all among those of the other, whose further
    seeds then do not count.

    Student's paired t-test, Welch's t-test, and the Mann–Whitney U test (exact for small groups without ties).
    """
    common = sorted(a.keys() & b.keys())
    paired = len(common) == min(len(a), len(b))
    x, y = (np.array([group[seed] for seed in (common if paired else sorted(group))], dtype=float) for group in (a, b))
    welch = (
        scipy.stats.ttest_ind(x, y, equal_var=False) if min(len(x), len(y)) > 1 and np.ptp(x) + np.ptp(y) > 0 else None
    )
    if paired:
        _, low, high = mean_interval(x - y)
        effect = effect_size(x - y, 0.0)
    else:
        low, high = welch.confidence_interval() if welch else (None, None)
        effect = _cohen_d(x, y)
    return Comparison(
        n_a=len(x),
        n_b=len(y),
        mean_a=float(x.mean()),
        mean_b=float(y.mean()),
        difference=float(x.mean() - y.mean()),
        low=None if low is None else float(low),
        high=None if high is None else float(high),
        paired=paired,
        effect_size=effect,
        p_paired=float(scipy.stats.ttest_rel(x, y).pvalue) if paired and effect is not None else None,
        p_welch=float(welch.pvalue) if welch else None,
        p_mann_whitney=float(scipy.stats.mannwhitneyu(x, y).pvalue),
    )


def _cohen_d(x: np.ndarray, y: np.ndarray) -> float | None:
    """Return Cohen's d with the pooled standard deviation; None if there is no spread."""
    if min(len(x), len(y)) < 2:
        return None
    freedom = len(x) + len(y) - 2
    pooled = np.sqrt(((len(x) - 1) * x.var(ddof=1) + (len(y) - 1) * y.var(ddof=1)) / freedom)
    return float((x.mean() - y.mean()) / pooled) if pooled > 0 else None


Times = Sequence[tuple[float, bool]]  # (time, True if the event occurred then, False if observation ended then)


def median_time(times: Times) -> float | None:
    """Return Kaplan and Meier's (1958) median time; None if the survival curve does not fall to one half."""
    survival = scipy.stats.ecdf(_censored(times)).sf
    below = np.flatnonzero(survival.probabilities <= 0.5 + ROUNDING)
    return float(survival.quantiles[below[0]]) if len(below) else None


def log_rank(a: Times, b: Times) -> float | None:
    """Return the two-sided p of the log-rank test (Mantel 1966) of equal times; None if nothing could differ: no event,
    or all at a time when the others are over."""
    if not any(reached for _, reached in (*a, *b)):
        return None
    with np.errstate(invalid="ignore"):
        p = float(scipy.stats.logrank(_censored(a), _censored(b)).pvalue)
    return p if np.isfinite(p) else None


def _censored(times: Times) -> scipy.stats.CensoredData:
    return scipy.stats.CensoredData(
        uncensored=[time for time, reached in times if reached], right=[time for time, reached in times if not reached]
    )
