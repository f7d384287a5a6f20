"""Statistics over seeds: the units of replication are whole re-trainings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.stats import CensoredData, ecdf, logrank, mannwhitneyu, spearmanr, t, ttest_1samp, ttest_ind, ttest_rel

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % t-interval, which a single seed does not have."""

    mean: float
    low: float | None
    high: float | None
    n: int


def estimate(values: Sequence[float]) -> Estimate | None:
    """Null for no values."""
    return Estimate(*mean_interval(values), len(values)) if len(values) else None


def mean_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """The mean with its 95 % t-interval; no interval for a single value."""
    sample = np.asarray(values, dtype=float)
    mean = float(sample.mean())
    if len(sample) < 2:
        return mean, None, None
    half = float(t.ppf(0.975, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample)))
    return mean, mean - half, mean + half


def interval_metrics(
    name: str, found: tuple[float | None, float | None, float | None]
) -> dict[str, float | int | bool | None]:
    """A value and the ends of its interval as the metrics `name`, `name_low`, `name_high`."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), found))


def size_needed(
    sizes: Sequence[float], curves: np.ndarray, target: float, rng: np.random.Generator
) -> tuple[float | None, float | None, float | None]:
    """The size at which a growing curve reaches `target`, with its 95 % bootstrap percentile interval.

    `curves` (seeds, sizes): the mean over seeds is made monotone (isotonic regression) and interpolated over
    the logarithm of the size; the bootstrap draws seeds. Null is censored: for the estimate or the upper end,
    not reached within the sizes; where the smallest size already reaches it, that size is given.
    """
    curves = np.asarray(curves, dtype=float)
    estimate = _crossing(sizes, curves.mean(axis=0), target)
    if len(curves) < 2:
        return _finite(estimate), None, None
    draws = rng.integers(len(curves), size=(RESAMPLES, len(curves)))
    found = np.sort([_crossing(sizes, curves[draw].mean(axis=0), target) for draw in draws])
    low, high = found[round(0.025 * (RESAMPLES - 1))], found[round(0.975 * (RESAMPLES - 1))]
    return _finite(estimate), _finite(low), _finite(high)


def _crossing(sizes: Sequence[float], curve: np.ndarray, target: float) -> float:
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


def p_value(values: Sequence[float], threshold: float) -> float | None:
    """Two-sided p of a one-sample t-test of the mean against `threshold`; below 0.05 exactly where the 95 %
    t-interval leaves the threshold out. Values without spread decide at once; null for fewer than two."""
    sample = np.asarray(values, dtype=float)
    if len(sample) < 2:
        return None
    if np.ptp(sample) == 0:
        return 1.0 if sample[0] == threshold else 0.0
    return float(ttest_1samp(sample, threshold).pvalue)


def effect_size(values: Sequence[float], threshold: float) -> float | None:
    """Cohen's d of the mean's distance from `threshold`, in standard deviations over seeds; null where there is
    no spread."""
    sample = np.asarray(values, dtype=float)
    spread = sample.std(ddof=1) if len(sample) > 1 else 0.0
    return float((sample.mean() - threshold) / spread) if spread > 0 else None


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's (1979) step-down adjustment, null passed through.

    Not statsmodels' `multipletests`, which collects garbage at every call: a quarter of a second beside torch.
    """
    known = np.array([p for p in p_values if p is not None], dtype=float)
    order = known.argsort()
    adjusted = np.empty_like(known)
    adjusted[order] = np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1)).clip(max=1)
    found = iter(adjusted.tolist())
    return [None if p is None else next(found) for p in p_values]


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman's ρ; null where one side is constant or there are fewer than three points."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(spearmanr(x, y).statistic)


def rank_correlation_interval(
    x: Sequence[float], y: Sequence[float], seeds: Sequence[int], rng: np.random.Generator
) -> tuple[float | None, float | None, float | None]:
    """Spearman's ρ over all points, with its 95 % bootstrap percentile interval.

    The bootstrap draws whole seeds, because the points of one seed share their data and initial weights; with few
    seeds the interval is too short.
    """
    x, y, seeds = np.asarray(x, dtype=float), np.asarray(y, dtype=float), np.asarray(seeds)
    whole = rank_correlation(x, y)
    blocks = [np.flatnonzero(seeds == seed) for seed in np.unique(seeds)]
    if whole is None or len(blocks) < 2:
        return whole, None, None
    draws = np.sort(rng.integers(len(blocks), size=(RESAMPLES, len(blocks))))
    distinct, times = np.unique(draws, axis=0, return_counts=True)  # of few seeds most draws are the same
    picked = (np.concatenate([blocks[i] for i in draw]) for draw in distinct)
    rhos = np.array([rank_correlation(x[at], y[at]) for at in picked], dtype=float).repeat(times)
    low, high = np.nanquantile(rhos, (0.025, 0.975))
    return whole, float(low), float(high)


def curvature(x: Sequence[float], y: Sequence[float], seeds: Sequence[int]) -> tuple[float, float, float] | None:
    """Is a straight line enough? R² of the line, R² of the parabola, and p of the F-test between the two.

    Least squares with an intercept a seed; R² is of what varies within seeds. Null where there are too few points for a
    parabola, or where y does not vary within seeds.
    """
    from statsmodels.api import OLS

    x, y, seeds = np.asarray(x, dtype=float), np.asarray(y, dtype=float), np.asarray(seeds)
    intercepts = (seeds[:, None] == np.unique(seeds)).astype(float)
    base = OLS(y, intercepts).fit().ssr
    if len(np.unique(x)) < 3 or len(y) <= intercepts.shape[1] + 2 or base == 0:
        return None
    line = OLS(y, np.column_stack([intercepts, x])).fit()
    parabola = OLS(y, np.column_stack([intercepts, x, x**2])).fit()
    _, p, _ = parabola.compare_f_test(line)
    return 1 - line.ssr / base, 1 - parabola.ssr / base, float(p)


@dataclass(frozen=True)
class Comparison:
    """Two groups of seeds. The difference is a - b with its 95 % interval: of the pairs where `paired`, else Welch's.
    `effect_size`: Cohen's d, of the pairs' differences or with the pooled deviation. p: two-sided; null where a test
    has too few values."""

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
    """Groups `a` and `b`, values by seed: paired where both have the same seeds.

    Student's paired t-test, Welch's t-test, and the Mann–Whitney U test (exact where there are no ties).
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
    if min(len(x), len(y)) < 2:
        return None
    freedom = len(x) + len(y) - 2
    pooled = np.sqrt(((len(x) - 1) * x.var(ddof=1) + (len(y) - 1) * y.var(ddof=1)) / freedom)
    return float((x.mean() - y.mean()) / pooled) if pooled > 0 else None


Times = Sequence[tuple[float, bool]]
"""Times to an event, each with whether it was reached; if not, the time is where the watching stopped."""


def median_time(times: Times) -> float | None:
    """Kaplan and Meier's (1958) median; null where more than half of the runs did not reach the event."""
    survival = ecdf(_censored(times)).sf
    below = np.flatnonzero(survival.probabilities <= 0.5)
    return float(survival.quantiles[below[0]]) if len(below) else None


def log_rank(a: Times, b: Times) -> float | None:
    """Two-sided p of the log-rank test (Mantel 1966) of equal times; null where neither group has an event."""
    if not any(reached for _, reached in (*a, *b)):
        return None
    return float(logrank(_censored(a), _censored(b)).pvalue)


def _censored(times: Times) -> CensoredData:
    return CensoredData(
        uncensored=[time for time, reached in times if reached], right=[time for time, reached in times if not reached]
    )
