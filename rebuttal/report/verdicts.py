"""Judges the claims of a ledger on the runs available.

A claim is judged separately for each configuration (runs that differ only in their seed) within its scope; seeds are
the units of replication. It is about the typical seed, the median: `supported` if the median lies on the claimed side
of the threshold, `refuted` if it lies on the other, both only if the test says so after Holm's correction over all
verdicts that have enough seeds for a test; otherwise `inconclusive`, or `not run` if no run within the scope has the
metrics.

The test is the sign test, exact for every distribution. Enough seeds are those with which it can be significant
(`seeds_that_decide`); whether a verdict has them depends on no value.

A run whose value is undefined or equal to the threshold counts against both sides. Runs below the fit target, and runs
that share a network with another run, are left out and listed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from rebuttal.errors import nearest
from rebuttal.report.claims import Claim
from rebuttal.report.gather import Run, independent_runs
from rebuttal.report.naming import (
    dataset_name,
    has_settings,
    known_datasets,
    known_experiments,
    known_models,
    labels_name,
    model_name,
    unknown_setting,
)
from rebuttal.statistics import (
    effect_size,
    holm,
    median_of_bounds,
    rank_correlation,
    seeds_needed,
    seeds_that_decide,
    sign_p,
)

SIGNIFICANCE = 0.05

Decision = Literal["supported", "refuted", "inconclusive", "not run"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)


@dataclass(frozen=True)
class Verdict:
    """A claim judged on one configuration, whose readable name is `name`.

    `values`: the known ones, one per run in `runs`, or one per seed for a rank correlation; `bounds`: of each, 1 if it
    is known as at least, −1 if it is known as at most the value, else 0; `undefined`: how many are not known.
    `left_out`: runs below the fit target. `shared`: runs that replicate nothing, because they have the seed or a
    trained network of a run in `runs`.
    `median`, `low`, `high`: over `values`, with its 95 % interval if all are known, whose ends are infinite where
    bounds leave them open; `bound`: of the median. `effect`: Cohen's d, None if a value is a bound. `p`: of the sign
    test, Holm-adjusted; None with too few seeds for a test. `needed`: the fewest seeds with which it can decide.
    `why`: what keeps the claim from being judged, or from being about all that it names, if anything does.
    """

    claim: Claim
    configuration: str
    name: str
    values: tuple[float, ...] = ()
    bounds: tuple[int, ...] = ()
    undefined: int = 0
    runs: tuple[Run, ...] = ()
    left_out: tuple[Run, ...] = ()
    shared: tuple[Run, ...] = ()
    control: float | None = None
    median: float | None = None
    bound: int = 0
    low: float | None = None
    high: float | None = None
    effect: float | None = None
    p: float | None = None
    needed: int | None = None
    verdict: Decision = "not run"
    why: str = ""

    @property
    def n(self) -> int:
        """The seeds that count, with those whose value is undefined."""
        return len(self.values) + self.undefined

    @property
    def censored(self) -> int:
        """How many of the values are bounds."""
        return sum(bound != 0 for bound in self.bounds)

    @property
    def ends(self) -> tuple[float | None, float | None]:
        """Those of the interval; None where there is none, and where it is open."""
        low, high = (end if end is not None and math.isfinite(end) else None for end in (self.low, self.high))
        return low, high

    @property
    def claimed(self) -> str:
        return f"{'≥' if self.claim.comparison == 'at_least' else '≤'} {self.claim.threshold:g}"

    @property
    def remarks(self) -> str:
        """What a reader must know about the seeds, in words: those that do not count, and how many would."""
        counts = {
            "undefined": self.undefined,
            "censored": self.censored,
            "not fitted": len(self.left_out),
            "of the same seed or network": len(self.shared),
        }
        parts = [f"{count} {what}" for what, count in counts.items() if count]
        if self.verdict == "inconclusive" and self.needed is not None and self.n < self.needed:
            parts.append(f"at least {self.needed} seeds needed")
        return "; ".join([*parts, *([self.why] if self.why else [])])


def judge(claims: Iterable[Claim], runs: Sequence[Run]) -> list[Verdict]:
    """Judge every claim on every configuration within its scope; a claim without runs is `not run`."""
    models, datasets, experiments = known_models(runs), known_datasets(runs), known_experiments(runs)
    verdicts: list[Verdict] = []
    for claim in claims:
        unknown = _unknown_name(claim, models, datasets, experiments) if runs else ""
        verdicts += [_remarked(verdict, unknown) for verdict in _measured(claim, runs)]
    enough = seeds_that_decide([verdict.n for verdict in verdicts], SIGNIFICANCE)
    adjusted = holm([sign_p(v.values, v.claim.threshold, v.n) if v.n >= enough else None for v in verdicts])
    return [
        replace(v, p=p, needed=_needed(v, verdicts, enough), verdict=_decide(v, p)) for v, p in zip(verdicts, adjusted)
    ]


def claims_by_region(verdicts: Iterable[Verdict]) -> dict[str, list[Verdict]]:
    """Return the verdicts on claims about several regions, by the id of the claim."""
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.claim.region:
            found.setdefault(verdict.claim.id, []).append(verdict)
    return found


def _measured(claim: Claim, runs: Sequence[Run]) -> list[Verdict]:
    """Return the claim's numbers on each configuration, not yet tested."""
    of_experiment = [run for run in runs if run.experiment == claim.experiment]
    about = [run for run in of_experiment if _is_about(claim, run)]
    inside = [run for run in about if all(_between(run, name, *ends) for name, ends in claim.where.items())]
    unknown = _unknown_metric(claim, about) if about else _unknown_setting(claim, of_experiment)
    if unknown or not inside:
        return [Verdict(claim, "", "", why=unknown)]
    groups: dict[str, list[Run]] = {}
    for run in inside:
        groups.setdefault(_group_key(claim, run), []).append(run)
    return [_numbers(claim, key, group) for key, group in groups.items() if _has_metric(claim, group)]


def _remarked(verdict: Verdict, remark: str) -> Verdict:
    return replace(verdict, why="; ".join(filter(None, (remark, verdict.why))))


def _is_about(claim: Claim, run: Run) -> bool:
    about_model = not claim.models or model_name(run.config, run.places) in claim.models
    about_data = not claim.datasets or dataset_name(run.config, run.places) in claim.datasets
    about_labels = claim.labels is None or labels_name(run.config) == f"{claim.labels} labels"
    return about_model and about_data and about_labels and has_settings(run.config, claim.settings)


def _between(run: Run, name: str, low: float, high: float) -> bool:
    value = run.metrics.get(name)
    return value is not None and low <= value <= high


def _unknown_metric(claim: Claim, runs: Sequence[Run]) -> str:
    """Name the first metric of the claim that no run has, and the metric nearest to it."""
    known = {name for run in runs for name in run.metrics}
    for name in claim.metrics:
        if name not in known:
            return f"no run has the metric {name}{nearest(name, known)}"
    return ""


def _unknown_setting(claim: Claim, runs: Sequence[Run]) -> str:
    """Name the first key of the claim's settings that no run has."""
    unknown = unknown_setting([run.config for run in runs], claim.settings)
    return f"no run has the key {unknown}" if unknown else ""


def _unknown_name(claim: Claim, models: set[str], datasets: set[str], experiments: set[str]) -> str:
    """Name the experiment of the claim, or the first of its models or data sets, that no option and no run has."""
    if claim.experiment not in experiments:
        return f"no experiment is called {claim.experiment}{nearest(claim.experiment, experiments)}"
    for kind, names, known in (("model", claim.models, models), ("data set", claim.datasets, datasets)):
        for name in names:
            if name not in known:
                return f"no {kind} is called {name}{nearest(name, known)}"
    return ""


def _has_metric(claim: Claim, group: Sequence[Run]) -> bool:
    return any(claim.value in run.metrics for run in group)


def _group_key(claim: Claim, run: Run) -> str:
    """Return the run's configuration; for a trend, its setup, because the configuration varies along the trend."""
    return run.configuration if claim.against is None else run.setup


def _numbers(claim: Claim, configuration: str, group: Sequence[Run]) -> Verdict:
    fitted, shared = independent_runs([run for run in group if _has_fitted(claim, run)])
    found = _correlations(claim, fitted, group) if claim.against else [_value(claim, run) for run in fitted]
    values, bounds = [value for value, _ in found if value is not None], [b for value, b in found if value is not None]
    controls = [value for run in fitted if (value := run.metrics.get(claim.control or "")) is not None]
    (median, low, high), bound = median_of_bounds(values, bounds) if values else ((None, None, None), 0)
    known = len(values) == len(found)
    return Verdict(
        claim=claim,
        configuration=configuration,
        name=group[0].name if claim.against is None else group[0].setup_name,
        values=tuple(values),
        bounds=tuple(bounds),
        undefined=len(found) - len(values),
        runs=tuple(fitted),
        left_out=tuple(run for run in group if not _has_fitted(claim, run)),
        shared=tuple(shared),
        control=sum(controls) / len(controls) if controls else None,
        median=median,
        bound=bound,
        low=low if known else None,
        high=high if known else None,
        effect=effect_size(values, claim.threshold) if values and not any(bounds) else None,
    )


def _has_fitted(claim: Claim, run: Run) -> bool:
    return all((run.metrics.get(name) or 0) >= claim.fit_target for name in claim.fitted)


Found = tuple[float | None, int]  # a value, None if undefined; and 1 or −1 if the number is at least or at most that


def _value(claim: Claim, run: Run) -> Found:
    """Return the claim's number for a run."""
    number = _ratio(claim, run, claim.value, claim.over)
    if number is not None:
        return number, 0
    bounds = [
        (_ratio(claim, run, claim.lower_bound, claim.over), 1),
        (_ratio(claim, run, claim.upper_bound, claim.over), -1),
    ]
    if claim.over_lower_bound is not None:
        farthest = _ratio(claim, run, claim.value, claim.over_lower_bound)
        bounds += [(farthest, 1 if (farthest or 0) < 0 else -1)]  # a larger divisor brings it nearer to 0
    for bound, side in bounds:
        if bound is not None and (bound - claim.threshold) * side > 0:
            return bound, side
    return None, 0


def _ratio(claim: Claim, run: Run, value: str | None, over: str | None) -> float | None:
    number = None if value is None else run.metrics.get(value)
    minus = run.metrics.get(claim.minus) if isinstance(claim.minus, str) else claim.minus or 0.0
    divisor = 1.0 if over is None else run.metrics.get(over)
    if number is None or minus is None or divisor is None or divisor <= 0:
        return None
    return float((number - minus) / divisor)


def _correlations(claim: Claim, fitted: Sequence[Run], group: Sequence[Run]) -> list[Found]:
    """Return the rank correlation of each seed's fitted runs, over the same levels in all seeds: those that more than
    one of them, if there are more, has fitted. It is undefined for a seed that lacks a level or a value; a seed with
    fewer than three runs has no correlation yet."""
    assert claim.against is not None
    seeds_at = Counter(run.configuration for run in fitted)
    several = max(seeds_at.values(), default=0) > 1
    levels = {level for level, seeds in seeds_at.items() if seeds > 1 or not several}
    found: list[Found] = []
    for seed, runs in sorted(Counter(run.seed for run in group).items()):
        own = [run for run in fitted if run.seed == seed and run.configuration in levels]
        points = [(run.metrics.get(claim.against), run.metrics.get(claim.value)) for run in own]
        known = [(x, y) for x, y in points if x is not None and y is not None]
        if runs >= 3:
            whole = len(known) == len(levels) >= 3
            found.append((rank_correlation(*map(list, zip(*known))) if whole else None, 0))
    return found


def _needed(verdict: Verdict, verdicts: Sequence[Verdict], enough: int) -> int:
    """Return the seeds that a verdict needs, if all that have runs of its experiment get as many."""
    experiment = verdict.claim.experiment
    tests = sum(v.n >= enough or (v.n > 0 and v.claim.experiment == experiment) for v in verdicts)
    return seeds_needed(tests, SIGNIFICANCE)


def _decide(v: Verdict, p: float | None) -> Decision:
    if not v.n:
        return "inconclusive" if v.left_out else "not run"
    if p is None or p >= SIGNIFICANCE or v.median is None:
        return "inconclusive"
    return "supported" if (v.median > v.claim.threshold) == (v.claim.comparison == "at_least") else "refuted"
