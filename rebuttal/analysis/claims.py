"""The claims ledger: each claim a number with a threshold, judged on the runs that there are.

A claim is judged for each configuration by itself (runs that differ in their seed only), seeds being the units of
replication: `supported` when the whole 95 % interval lies on the claim's side of the threshold, `refuted` when it
lies on the other, after Holm's correction over all verdicts of the ledger; otherwise `inconclusive`; `not run` when no
run has the numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from rebuttal.analysis.gather import Run
from rebuttal.analysis.naming import setup_name
from rebuttal.analysis.statistics import Estimate, effect_size, holm, mean_interval, p_value, rank_correlation
from rebuttal.config import CONFIG_DIR, checked, construct
from rebuttal.errors import ConfigError

LEDGER = CONFIG_DIR / "claims.yaml"
SIGNIFICANCE = 0.05


@checked
class Claim:
    """`value`, less `minus`, over `over` (names of metrics), is `at_least` or `at_most` the `threshold`.

    With `against`, the number is instead the rank correlation (Spearman) of `value` with that metric over the runs
    of one seed. `instead` is taken where `value` is null: for a time that was not reached, its lower bound.
    `fitted`: metrics of which each must be `fit_target` for a run to count. `where`: metrics and the range
    (low, high) within which a run counts. `control`: a metric shown beside it. `command`: what fills a claim that
    was not run.
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
    """A claim on one configuration, `name` in words. `values`: one a seed, by which `runs`; `left_out`: runs that did
    not reach the fit target. `p` is Holm's adjusted."""

    claim: Claim
    configuration: str
    name: str
    values: tuple[float, ...]
    runs: tuple[Run, ...]
    left_out: tuple[Run, ...]
    control: float | None
    mean: float | None
    low: float | None
    high: float | None
    effect: float | None
    p: float | None
    verdict: Literal["supported", "refuted", "inconclusive", "not run"]

    @property
    def estimate(self) -> Estimate | None:
        return None if self.mean is None else Estimate(self.mean, self.low, self.high, len(self.values))

    @property
    def claimed(self) -> str:
        return f"{'≥' if self.claim.comparison == 'at_least' else '≤'} {self.claim.threshold:g}"


def read_claims(path: Path = LEDGER) -> list[Claim]:
    """The ledger. An entry with `each: {name: {value: words}}` stands for one claim a value, which replaces `{name}`,
    and the words `{words}`.

    Raises `ConfigError` for an entry that is not a claim."""
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    claims = [construct(Claim, one, f"claims[{i}]") for i, entry in enumerate(entries) for one in _each(entry)]
    names = [claim.id for claim in claims]
    if len(set(names)) < len(names):
        raise ConfigError(f"claims: id {next(n for n in names if names.count(n) > 1)} is given twice")
    return claims


def judge(claims: Iterable[Claim], runs: Sequence[Run]) -> list[Verdict]:
    """Every claim on every configuration that has its numbers; a claim without one is `not run`."""
    found = [verdict for claim in claims for verdict in _judged(claim, runs)]
    adjusted = holm([verdict.p for verdict in found])
    return [replace(v, p=p, verdict=_decide(v, p)) for v, p in zip(found, adjusted)]


def _each(entry: dict[str, Any]) -> list[dict[str, Any]]:
    each = entry.pop("each", None)
    if each is None:
        return [_as_arguments(entry)]
    ((name, values),) = each.items()
    return [
        _as_arguments(_replaced(_replaced(entry, "{" + name + "}", value), "{words}", words))
        for value, words in values.items()
    ]


def _replaced(node: Any, what: str, by: str) -> Any:
    if isinstance(node, dict):
        return {key: _replaced(value, what, by) for key, value in node.items()}
    if isinstance(node, list):
        return [_replaced(item, what, by) for item in node]
    return node.replace(what, by) if isinstance(node, str) else node


def _as_arguments(entry: dict[str, Any]) -> dict[str, Any]:
    where = {key: tuple(map(float, bounds)) for key, bounds in entry.get("where", {}).items()}
    numbers = {key: float(entry[key]) for key in ("threshold", "fit_target") if key in entry}
    return entry | numbers | {"fitted": tuple(entry.get("fitted", ())), "where": where}


def _judged(claim: Claim, runs: Sequence[Run]) -> list[Verdict]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.experiment == claim.experiment and claim.value in run.metrics and _is_meant(claim, run):
            groups.setdefault(_group(claim, run), []).append(run)
    verdicts = [_weighed(claim, configuration, group) for configuration, group in groups.items()]
    return verdicts or [_weighed(claim, "", [])]


def _group(claim: Claim, run: Run) -> str:
    """The configuration; for a claim about what changes along a metric, without the setting that moves it."""
    if claim.against is None:
        return run.configuration
    return run.setup


def _name(claim: Claim, group: Sequence[Run]) -> str:
    if not group:
        return ""
    return group[0].name if claim.against is None else setup_name(group[0].config)


def _is_meant(claim: Claim, run: Run) -> bool:
    inside = (
        run.metrics.get(name) is not None and low <= run.metrics[name] <= high
        for name, (low, high) in claim.where.items()
    )
    return all(inside)


def _weighed(claim: Claim, configuration: str, group: Sequence[Run]) -> Verdict:
    fitted = [run for run in group if _has_fitted(claim, run)]
    values = _correlations(claim, fitted) if claim.against else _numbers(claim, fitted)
    controls = [known for run in fitted if (known := run.metrics.get(claim.control or "")) is not None]
    mean, low, high = mean_interval(values) if values else (None, None, None)
    return Verdict(
        claim=claim,
        configuration=configuration,
        name=_name(claim, group),
        values=tuple(values),
        runs=tuple(fitted),
        left_out=tuple(run for run in group if not _has_fitted(claim, run)),
        control=sum(controls) / len(controls) if controls else None,
        mean=mean,
        low=low,
        high=high,
        effect=effect_size(values, claim.threshold) if values else None,
        p=p_value(values, claim.threshold) if values else None,
        verdict="not run",
    )


def _has_fitted(claim: Claim, run: Run) -> bool:
    return all((run.metrics.get(name) or 0) >= claim.fit_target for name in claim.fitted)


def _numbers(claim: Claim, runs: Sequence[Run]) -> list[float]:
    found = []
    for run in runs:
        value = run.metrics[claim.value]
        if value is None and claim.instead is not None:
            value = run.metrics.get(claim.instead)
        minus = 0.0 if claim.minus is None else run.metrics.get(claim.minus)
        over = 1.0 if claim.over is None else run.metrics.get(claim.over)
        if value is not None and minus is not None and over:
            found.append((value - minus) / over)
    return found


def _correlations(claim: Claim, runs: Sequence[Run]) -> list[float]:
    assert claim.against is not None
    found = []
    for seed in sorted({run.seed for run in runs}):
        points = [(run.metrics.get(claim.against), run.metrics[claim.value]) for run in runs if run.seed == seed]
        known = [point for point in points if None not in point]
        rho = rank_correlation(*zip(*known)) if known else None
        if rho is not None:
            found.append(rho)
    return found


def _decide(v: Verdict, p: float | None) -> str:
    if v.mean is None:
        undefined = v.runs and v.claim.against is None  # they have the metric, and it is null
        return "inconclusive" if v.left_out or undefined else "not run"
    if p is None or p >= SIGNIFICANCE:
        return "inconclusive"
    above = v.mean > v.claim.threshold
    return "supported" if above == (v.claim.comparison == "at_least") else "refuted"
