"""Statistics over seeds: the units of replication are whole re-trainings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.stats import spearmanr, t, ttest_1samp

RESAMPLES = 2000


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
