"""The claims ledger: each claim is a number, a side and a threshold, and the networks that it is about.

`rebuttal.report.verdicts` judges them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from rebuttal.config import CONFIG_DIR, checked, construct
from rebuttal.errors import ConfigError
from rebuttal.report.read_yaml import read_yaml

SAME_IN_ALL = ("id", "statement", "comparison", "threshold", "region", "regions", "each")  # of the regions of a claim
TEXTS = ("id", "statement", "source", "experiment", "value", "command")
ADDED = ("where", "settings")  # of a region to those of its entry
LEDGER = CONFIG_DIR / "claims.yaml"


@checked
class Claim:
    """The claim that (`value` − `minus`) / `over`, all three names of metrics, is at least or at most
    `threshold`; `minus` may also be a number, such as a published one.

    `id`: its name; `region`, in words, the part of all cases that it is about, by which claims with one id, which say
    the same, differ; `statement`: the claim in words, in which `{threshold}` and `{percent}` stand for the
    threshold; `source`: who claims it; `experiment`: the experiment whose runs it is about; `comparison`: `at_least` or
    `at_most`.

    With `against`, the number is instead the rank correlation (Spearman) of `value` with that metric over the runs
    of one seed. `lower_bound`, `upper_bound`: the metric that bounds a censored `value`, such as the steps of a network
    that never fitted; it counts for the side that it proves, and for no other. `over_lower_bound`: the same for a
    censored `over`.

    The scope: `models` and `datasets`, the options that the claim is about (all, if empty); `labels`, those that the
    network of `corruption` was trained on (`true`, `random`, `permuted`); `where`, the range (low, high) of each
    metric; `settings`, the value of each key of the run's config; `fitted`, metrics that must all reach `fit_target`
    for a run to count. `control`: a metric reported next to the claim. `command`: the command whose runs the claim
    needs.
    """

    id: str
    statement: str
    source: str
    experiment: str
    value: str
    comparison: Literal["at_least", "at_most"]
    threshold: float
    command: str
    region: str = ""
    minus: str | float | None = None
    over: str | None = None
    over_lower_bound: str | None = None
    lower_bound: str | None = None
    upper_bound: str | None = None
    against: str | None = None
    control: str | None = None
    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    labels: Literal["true", "random", "permuted"] | None = None
    where: dict[str, tuple[float, float]] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    fitted: tuple[str, ...] = ()
    fit_target: float = 1.0

    @property
    def name(self) -> str:
        """Unique within a ledger."""
        return f"{self.id}: {self.region}" if self.region else self.id

    @property
    def metrics(self) -> list[str]:
        """Every metric that the claim names."""
        bounds = (self.lower_bound, self.upper_bound, self.over_lower_bound)
        names = (self.value, self.minus, self.over, *bounds, self.against, self.control, *self.fitted, *self.where)
        return [name for name in names if isinstance(name, str)]


def read_claims(path: Path = LEDGER) -> list[Claim]:
    """Return the claims of a ledger file.

    An entry with `each: {name: {value: words}}` is expanded to one claim per value, which replaces `{name}`; its words
    replace `{words}`. One with `regions: {words: {key: value}}` is expanded to one claim per region, with keys of its
    own, and with what its `where` and `settings` add to those of the entry.
    Raises `ConfigError` for a file that is not a list of claims, or an id that is used twice in one region.
    """
    entries = read_yaml(path, f"claims={path}", "a list of claims")
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"claims={path}: {_kind(entries)}; allowed: a list of claims")
    claims = [_claim(one, f"claims[{i}]") for i, entry in enumerate(entries) for one in _expand(entry, f"claims[{i}]")]
    names = [claim.name for claim in claims]
    if len(set(names)) < len(names):
        raise ConfigError(f"claims: id={next(n for n in names if names.count(n) > 1)}: used twice; allowed: unique ids")
    for claim in claims:
        if (other := next(one for one in claims if one.id == claim.id)).statement != claim.statement:
            raise ConfigError(
                f"claims: id={claim.name}: {claim.statement!r}; allowed: the statement of {other.name}, as regions of "
                "one claim have"
            )
    return claims


def _kind(entries: Any) -> str:
    return "empty" if not entries else f"holds a {type(entries).__name__}"


def _claim(entry: dict[str, Any], key: str) -> Claim:
    """Return the claim of an expanded entry, its threshold filled into its statement."""
    claim: Claim = construct(Claim, entry, key)
    _check(claim, key)
    percent = f"{100 * claim.threshold:.6g} %"
    words = claim.statement.replace("{threshold}", f"{claim.threshold:g}").replace("{percent}", percent)
    if left := re.search(r"\{[^{}]*\}", words):
        raise ConfigError(f"{key}.statement: {left[0]} stands for nothing; allowed: {{threshold}}, {{percent}}")
    return replace(claim, statement=words)


def _check(claim: Claim, key: str) -> None:
    """Raise `ConfigError` for what no run can satisfy, and for keys that would be ignored."""
    for name in TEXTS:
        if not getattr(claim, name).strip():
            raise ConfigError(f"{key}.{name}: empty; allowed: a text")
    if not 0 < claim.fit_target <= 1:
        raise ConfigError(f"{key}.fit_target={claim.fit_target:g}: of an accuracy; allowed: above 0, at most 1")
    for metric, (low, high) in claim.where.items():
        if low > high:
            raise ConfigError(f"{key}.where.{metric}={[low, high]}: no number is in it; allowed: the lower one first")
    ignored = ("minus", "over", "lower_bound", "upper_bound", "over_lower_bound")
    given = [name for name in ignored if getattr(claim, name) is not None]
    if claim.against is not None and given:
        raise ConfigError(f"{key}.{given[0]}={getattr(claim, given[0])}: a rank correlation has none; allowed: null")
    if claim.against is not None and abs(claim.threshold) > 1:
        raise ConfigError(f"{key}.threshold={claim.threshold:g}: a rank correlation; allowed: -1 to 1")
    if claim.over_lower_bound is not None and claim.over is None:
        raise ConfigError(f"{key}.over_lower_bound={claim.over_lower_bound}: of nothing; allowed: null, or beside over")


def _expand(entry: Any, key: str) -> Iterator[dict[str, Any]]:
    """Yield an entry's claims as arguments of `Claim`."""
    if not isinstance(entry, dict):
        raise ConfigError(f"{key}={entry!r}: allowed: a claim, with the keys id, statement, …")
    for name in entry:
        if not isinstance(name, str):
            raise ConfigError(f"{key}.{name}: allowed: names of keys; quote what YAML reads as something else")
    template = {name: value for name, value in entry.items() if name not in ("each", "regions")}
    regions = entry.get("regions")
    for words, own in [("", {})] if regions is None else _regions(regions, key):
        both = {name: template[name] | own[name] for name in ADDED if _are_keys(template.get(name), own.get(name))}
        yield from _expand_each(template | own | both | ({"region": words} if words else {}), entry.get("each"), key)


def _are_keys(*values: Any) -> bool:
    return all(isinstance(value, dict) for value in values)


def _regions(regions: Any, key: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the words of each region and its own keys."""
    pairs = list(regions.items()) if isinstance(regions, dict) else []
    if len(pairs) < 2 or not all(isinstance(words, str) and words and isinstance(own, dict) for words, own in pairs):
        raise ConfigError(
            f"{key}.regions={regions!r}: allowed: two regions or more with their keys, {{words: {{key: value}}}}"
        )
    for words, own in pairs:
        for name in own:
            if name in SAME_IN_ALL or not isinstance(name, str):
                raise ConfigError(f"{key}.regions.{words}.{name}: allowed: keys other than {', '.join(SAME_IN_ALL)}")
    return pairs


def _expand_each(template: dict[str, Any], each: Any, key: str) -> Iterator[dict[str, Any]]:
    if each is None:
        yield _as_arguments(template)
        return
    name, values = _only_pair(each, key)
    for value, words in values.items():
        if not isinstance(value, str) or not isinstance(words, str):
            raise ConfigError(
                f"{key}.each.{name}: {value!r}: {words!r}: allowed: text; quote numbers and words that YAML reads as "
                "true, false or null"
            )
        yield _as_arguments(_substitute(_substitute(template, "{" + name + "}", value), "{words}", words))


def _only_pair(each: Any, key: str) -> tuple[str, dict[Any, Any]]:
    if isinstance(each, dict) and len(each) == 1:
        ((name, values),) = each.items()
        if isinstance(name, str) and isinstance(values, dict) and values:
            return name, values
    raise ConfigError(f"{key}.each={each!r}: allowed: one name with its values, {{name: {{value: words}}}}, all text")


def _substitute(node: Any, old: str, new: str) -> Any:
    if isinstance(node, dict):
        return {_substitute(key, old, new): _substitute(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [_substitute(item, old, new) for item in node]
    return node.replace(old, new) if isinstance(node, str) else node


def _as_arguments(entry: dict[str, Any]) -> dict[str, Any]:
    """Return YAML's lists as tuples, and its whole numbers as the floats that are meant."""
    whole = {key: entry[key] for key in ("threshold", "fit_target", "minus") if type(entry.get(key)) is int}
    numbers = {key: _as_float(value) for key, value in whole.items()}
    others: dict[str, Any] = {
        key: tuple(entry[key]) for key in ("fitted", "models", "datasets") if isinstance(entry.get(key), list)
    }
    settings, ranges = entry.get("settings"), entry.get("where")
    if isinstance(settings, dict):
        others["settings"] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
        }
    if isinstance(ranges, dict):
        others["where"] = {key: _as_range(bounds) for key, bounds in ranges.items()}
    return entry | numbers | others


def _as_range(bounds: Any) -> Any:
    if isinstance(bounds, list):
        return tuple(_as_float(bound) if type(bound) is int else bound for bound in bounds)
    return bounds


def _as_float(whole: int) -> float:
    """Infinite, which is refused, for a number that is too large."""
    try:
        return float(whole)
    except OverflowError:
        return math.inf
