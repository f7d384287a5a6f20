"""The claims ledger: each claim is a number and a threshold, judged on the runs available.

A claim is judged separately for each configuration (runs that differ only in their seed); seeds are the units of
replication. The verdict is `supported` if the whole 95 % interval lies on the claimed side of the threshold and
`refuted` if it lies on the other side, after Holm's correction over all verdicts of the ledger; otherwise
`inconclusive`, or `not run` if no run has the metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from rebuttal.config import CONFIG_DIR, checked, construct
from rebuttal.errors import ConfigError
from rebuttal.report.gather import Run
from rebuttal.report.naming import setup_name
from rebuttal.statistics import Estimate, effect_size, holm, mean_interval, p_value, rank_correlation

LEDGER = CONFIG_DIR / "claims.yaml"
SIGNIFICANCE = 0.05

Decision = Literal["supported", "refuted", "inconclusive", "not run"]


@checked
class Claim:
    """The claim that (`value` − `minus`) / `over`, all three names of metrics, is at least or at most `threshold`.

    `id`: a unique name; `statement`: the claim in words; `source`: who claims it; `experiment`: the experiment whose
    runs it is about; `comparison`: `at_least` or `at_most`.

    With `against`, the number is instead the rank correlation (Spearman) of `value` with that metric over the runs
    of one seed. `instead`: the metric to use if `value` is undefined; for a censored time, its lower bound.
    `fitted`: metrics that must all reach `fit_target` for a run to count. `where`: the range (low, high) of each
    metric within which a run counts. `control`: a metric reported next to the claim. `command`: the command whose
    runs the claim needs.
    """

    id: str
    statement: str
    source: str
    experiment: str
    value: str
    comparison: Literal["at_least", "at_most"]
    threshold: float
    command: str
    minus: str | None = None
    over: str | None = None
    instead: str | None = None
    against: str | None = None
    control: str | None = None
    fitted: tuple[str, ...] = ()
    fit_target: float = 1.0
    where: dict[str, tuple[float, float]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """A claim judged on one configuration, whose readable name is `name`.

    `values`: one per run in `runs`, or one per seed for a rank correlation. `left_out`: runs below the fit target.
    `shared`: runs that use a trained network of a run in `runs`, so that they replicate nothing.
    `mean`, `low`, `high`: the mean over `values` with its 95 % t-interval. `effect`: Cohen's d. `p`: Holm-adjusted.
    """

    claim: Claim
    configuration: str
    name: str
    values: tuple[float, ...]
    runs: tuple[Run, ...]
    left_out: tuple[Run, ...]
    shared: tuple[Run, ...]
    control: float | None
    mean: float | None
    low: float | None
    high: float | None
    effect: float | None
    p: float | None
    verdict: Decision

    @property
    def estimate(self) -> Estimate | None:
        return None if self.mean is None else Estimate(self.mean, self.low, self.high, len(self.values))

    @property
    def claimed(self) -> str:
        return f"{'≥' if self.claim.comparison == 'at_least' else '≤'} {self.claim.threshold:g}"


def read_claims(path: Path = LEDGER) -> list[Claim]:
    """Return the claims of a ledger file.

    An entry with `each: {name: {value: words}}` is expanded to one claim per value, which replaces `{name}`; its words
    replace `{words}`.
    Raises `ConfigError` for an entry that is not a claim, or an id that is used twice.
    """
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    claims = [construct(Claim, one, f"claims[{i}]") for i, entry in enumerate(entries) for one in _expand(entry)]
    ids = [claim.id for claim in claims]
    if len(set(ids)) < len(ids):
        raise ConfigError(f"claims: id={next(i for i in ids if ids.count(i) > 1)}: used twice; allowed: unique ids")
    return claims


def judge(claims: Iterable[Claim], runs: Sequence[Run]) -> list[Verdict]:
    """Judge every claim on every configuration that has its metrics; a claim without runs is `not run`."""
    verdicts = [verdict for claim in claims for verdict in _judge_claim(claim, runs)]
    adjusted = holm([verdict.p for verdict in verdicts])
    return [replace(v, p=p, verdict=_decide(v, p)) for v, p in zip(verdicts, adjusted)]


def _expand(entry: dict[str, Any]) -> list[dict[str, Any]]:
    each = entry.pop("each", None)
    if each is None:
        return [_as_arguments(entry)]
    ((name, values),) = each.items()
    return [
        _as_arguments(_substitute(_substitute(entry, "{" + name + "}", value), "{words}", words))
        for value, words in values.items()
    ]


def _substitute(node: Any, old: str, new: str) -> Any:
    if isinstance(node, dict):
        return {key: _substitute(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [_substitute(item, old, new) for item in node]
    return node.replace(old, new) if isinstance(node, str) else node


def _as_arguments(entry: dict[str, Any]) -> dict[str, Any]:
    where = {key: tuple(map(float, bounds)) for key, bounds in entry.get("where", {}).items()}
    numbers = {key: float(entry[key]) for key in ("threshold", "fit_target") if key in entry}
    return entry | numbers | {"fitted": tuple(entry.get("fitted", ())), "where": where}


def _judge_claim(claim: Claim, runs: Sequence[Run]) -> list[Verdict]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.experiment == claim.experiment and claim.value in run.metrics and _in_ranges(claim, run):
            groups.setdefault(_group_key(claim, run), []).append(run)
    verdicts = [_estimate(claim, configuration, group) for configuration, group in groups.items()]
    return verdicts or [_estimate(claim, "", [])]


def _group_key(claim: Claim, run: Run) -> str:
    """Return the run's configuration; for a trend, its setup, because the configuration varies along the trend."""
    return run.configuration if claim.against is None else run.setup


def _group_name(claim: Claim, group: Sequence[Run]) -> str:
    if not group:
        return ""
    return group[0].name if claim.against is None else setup_name(group[0].config)


def _in_ranges(claim: Claim, run: Run) -> bool:
    return all(_between(run.metrics.get(name), low, high) for name, (low, high) in claim.where.items())


def _between(value: float | None, low: float, high: float) -> bool:
    return value is not None and low <= value <= high


def _estimate(claim: Claim, configuration: str, group: Sequence[Run]) -> Verdict:
    """Return the claim's numbers on one configuration. The verdict is a placeholder until all p are adjusted."""
    fitted, shared = independent_runs([run for run in group if _has_fitted(claim, run)])
    values = _correlations(claim, fitted) if claim.against else _values(claim, fitted)
    controls = [value for run in fitted if (value := run.metrics.get(claim.control or "")) is not None]
    mean, low, high = mean_interval(values) if values else (None, None, None)
    return Verdict(
        claim=claim,
        configuration=configuration,
        name=_group_name(claim, group),
        values=tuple(values),
        runs=tuple(fitted),
        left_out=tuple(run for run in group if not _has_fitted(claim, run)),
        shared=tuple(shared),
        control=sum(controls) / len(controls) if controls else None,
        mean=mean,
        low=low,
        high=high,
        effect=effect_size(values, claim.threshold) if values else None,
        p=p_value(values, claim.threshold) if values else None,
        verdict="not run",
    )


def independent_runs(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """Return the runs that share no trained network with one before them of another seed, and the others."""
    seed_of: dict[str, int] = {}
    independent, shared = [], []
    for run in runs:
        if any(seed_of.get(network, run.seed) != run.seed for network in run.networks):
            shared.append(run)
            continue
        independent.append(run)
        seed_of |= dict.fromkeys(run.networks, run.seed)
    return independent, shared


def _has_fitted(claim: Claim, run: Run) -> bool:
    return all((run.metrics.get(name) or 0) >= claim.fit_target for name in claim.fitted)


def _values(claim: Claim, runs: Sequence[Run]) -> list[float]:
    """Return the claim's number for each run that has all of its metrics."""
    values = []
    for run in runs:
        value = run.metrics[claim.value]
        if value is None and claim.instead is not None:
            value = run.metrics.get(claim.instead)
        minus = 0.0 if claim.minus is None else run.metrics.get(claim.minus)
        over = 1.0 if claim.over is None else run.metrics.get(claim.over)
        if value is not None and minus is not None and over:
            values.append((value - minus) / over)
    return values


def _correlations(claim: Claim, runs: Sequence[Run]) -> list[float]:
    """Return the rank correlation of each seed's runs, if it is defined."""
    assert claim.against is not None
    correlations = []
    for seed in sorted({run.seed for run in runs}):
        points = [(run.metrics.get(claim.against), run.metrics[claim.value]) for run in runs if run.seed == seed]
        defined = [(x, y) for x, y in points if x is not None and y is not None]
        rho = rank_correlation([x for x, _ in defined], [y for _, y in defined])
        if rho is not None:
            correlations.append(rho)
    return correlations


def _decide(v: Verdict, p: float | None) -> Decision:
    if v.mean is None:
        undefined = v.runs and v.claim.against is None  # the runs have the metric, and it is null
        return "inconclusive" if v.left_out or undefined else "not run"
    if p is None or p >= SIGNIFICANCE:
        return "inconclusive"
    above = v.mean > v.claim.threshold
    return "supported" if above == (v.claim.comparison == "at_least") else "refuted"
