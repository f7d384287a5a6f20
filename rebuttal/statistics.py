"""Statistics over seeds. The unit of replication is a seed: a complete retraining."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.stats import CensoredData, ecdf, logrank, mannwhitneyu, spearmanr, t, ttest_1samp, ttest_ind, ttest_rel

RESAMPLES = 2000  # bootstrap samples

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
    half = float(t.ppf(0.975, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample)))
    return mean, mean - half, mean + half


def interval_of(values: Sequence[float | None]) -> Interval:
    """Return the mean with its 95 % t-interval; all None if a value is undefined, because a mean of the others would be
    that of another population."""
    defined = [value for value in values if value is not None]
    return mean_interval(defined) if len(defined) == len(values) else (None, None, None)


def interval_metrics(name: str, found: Interval) -> dict[str, float | int | bool | None]:
    """Return a value and the ends of its interval as the metrics `name`, `name_low`, `name_high`."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), found))


def size_needed(sizes: Sequence[float], curves: np.ndarray, target: float, rng: np.random.Generator) -> Interval:
    """Return the size at which an increasing curve reaches `target`, with its 95 % bootstrap percentile interval.

    `curves` (seeds, sizes): the mean over seeds is made monotone (isotonic regression) and interpolated over
    the logarithm of the size; the bootstrap resamples seeds. None means censored: the estimate or an end of the
    interval is not reached within the sizes. If the smallest size already reaches the target, it is returned. There is
    no interval for a single seed. If a point is undefined (NaN), so is the size.
    """
    curves = np.asarray(curves, dtype=float)
    if np.isnan(curves).any():
        return None, None, None
    needed = _crossing(sizes, curves.mean(axis=0), target)
    if len(curves) < 2:
        return _finite(needed), None, None
    draws = rng.integers(len(curves), size=(RESAMPLES, len(curves)))
    found = np.sort([_crossing(sizes, curves[draw].mean(axis=0), target) for draw in draws])
    low, high = found[round(0.025 * (RESAMPLES - 1))], found[round(0.975 * (RESAMPLES - 1))]
    return _finite(needed), _finite(low), _finite(high)


def _crossing(sizes: Sequence[float], curve: np.ndarray, target: float) -> float:
    """Return the size at which the monotone curve reaches `target`; infinite if it does not."""
    rising = isotonic_regression(curve).x
    if rising[-1] < target:
        return np.inf
    at = int(np.searchsorted(rising, target))
    if at == 0:
        return float(sizes[0])
    share = (target - rising[at - 1]) / (rising[at] - rising[at - 1])
    return float(np.exp(np.log(sizes[at - 1]) * (1 - share) + np.log(sizes[at]) * share))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def p_value(values: Values, threshold: float) -> float | None:
    """Return the two-sided p of a one-sample t-test of the mean against `threshold`; None for fewer than two values.

    It is below 0.05 if and only if the 95 % t-interval excludes the threshold. For values without spread it is 1 if
    they equal the threshold, else 0."""
    sample = np.asarray(values, dtype=float)
    if len(sample) < 2:
        return None
    if np.ptp(sample) == 0:
        return 1.0 if sample[0] == threshold else 0.0
    return float(ttest_1samp(sample, threshold).pvalue)


def effect_size(values: Values, threshold: float) -> float | None:
    """Return Cohen's d of the mean's distance from `threshold`, in standard deviations over seeds; None if there is no
    spread."""
    sample = np.asarray(values, dtype=float)
    spread = sample.std(ddof=1) if len(sample) > 1 else 0.0
    return float((sample.mean() - threshold) / spread) if spread > 0 else None


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
    return float(spearmanr(x, y).statistic)


def rank_correlation_interval(
    x: Values, y: Values, seeds: Sequence[int] | np.ndarray, rng: np.random.Generator
) -> Interval:
    """Return Spearman's ρ over all points, with its 95 % bootstrap percentile interval.

    The bootstrap resamples whole seeds, because the points of one seed share their data and initial weights; with few
    seeds the interval is too short. There is no interval for a single seed.
    """
    xs, ys, seed_of = np.asarray(x, dtype=float), np.asarray(y, dtype=float), np.asarray(seeds)
    rho = rank_correlation(xs, ys)
    blocks = [np.flatnonzero(seed_of == seed) for seed in np.unique(seed_of)]
    if rho is None or len(blocks) < 2:
        return rho, None, None
    draws = np.sort(rng.integers(len(blocks), size=(RESAMPLES, len(blocks))))
    distinct, times = np.unique(draws, axis=0, return_counts=True)  # with few seeds most draws repeat
    picked = (np.concatenate([blocks[i] for i in draw]) for draw in distinct)
    found = [rank_correlation(xs[at], ys[at]) for at in picked]
    rhos = np.array([np.nan if r is None else r for r in found]).repeat(times)
    low, high = np.nanquantile(rhos, (0.025, 0.975))
    return rho, float(low), float(high)


def curvature(x: Values, y: Values, seeds: Sequence[int] | np.ndarray) -> tuple[float, float, float] | None:
    """Return R² of a straight line, R² of a parabola, and p of the F-test of the line against the parabola.

    Least squares with one intercept per seed; R² is the share of the variance within seeds. None if there are too few
    points for a parabola, or if y does not vary within seeds.
    """
    from statsmodels.api import OLS

    xs, ys, seed_of = np.asarray(x, dtype=float), np.asarray(y, dtype=float), np.asarray(seeds)
    intercepts = (seed_of[:, None] == np.unique(seed_of)).astype(float)
    base = OLS(ys, intercepts).fit().ssr
    if len(np.unique(xs)) < 3 or len(ys) <= intercepts.shape[1] + 2 or base == 0:
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
    p_mann_whitney: float


def compare(a: dict[int, float], b: dict[int, float]) -> Comparison:
    """Compare two groups of values by seed, paired if both have the same seeds.

    Student's paired t-test, Welch's t-test, and the Mann–Whitney U test (exact for small groups without ties).
    """
    seeds = sorted(a)
    paired = seeds == sorted(b)
    x, y = (np.array([group[seed] for seed in sorted(group)], dtype=float) for group in (a, b))
    welch = ttest_ind(x, y, equal_var=False) if min(len(x), len(y)) > 1 and np.ptp(x) + np.ptp(y) > 0 else None
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
        p_paired=float(ttest_rel(x, y).pvalue) if paired and effect is not None else None,
        p_welch=float(welch.pvalue) if welch else None,
        p_mann_whitney=float(mannwhitneyu(x, y).pvalue),
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
    survival = ecdf(_censored(times)).sf
    below = np.flatnonzero(survival.probabilities <= 0.5)
    return float(survival.quantiles[below[0]]) if len(below) else None


def log_rank(a: Times, b: Times) -> float | None:
    """Return the two-sided p of the log-rank test (Mantel 1966) of equal times; None if neither group has an event."""
    if not any(reached for _, reached in (*a, *b)):
        return None
    return float(logrank(_censored(a), _censored(b)).pvalue)


def _censored(times: Times) -> CensoredData:
    return CensoredData(
        uncensored=[time for time, reached in times if reached], right=[time for time, reached in times if not reached]
    )
