"""What a report shows of each experiment, declared in YAML: one file an experiment, in `conf/report/` and in the
folders `report` of the user's own configs.

`rebuttal.report.contents` makes it of runs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import MISSING, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import Field

from rebuttal.config import CONFIG_DIR, checked, construct
from rebuttal.errors import ConfigError, nearest
from rebuttal.report.charts import RESERVED, DotChart, HistoryChart, LabelNoiseChart, MetricNameChart
from rebuttal.report.claims import LEDGER, Claim, read_claims
from rebuttal.report.comparisons import Contrast, TimeToFit, Trend
from rebuttal.report.gather import Run
from rebuttal.report.naming import known_experiments
from rebuttal.report.plain import SweptChart
from rebuttal.report.published import Published, PublishedRow
from rebuttal.report.read_yaml import read_yaml
from rebuttal.report.tables import CellText, Grid, Levels, Selection

REPORTS = CONFIG_DIR / "report"

TableSpec = Grid | Levels | Published
ChartSpec = DotChart | LabelNoiseChart | MetricNameChart | HistoryChart | SweptChart
Spec = TableSpec | ChartSpec | Contrast | TimeToFit | Trend

KINDS: dict[str, dict[str, type]] = {
    "tables": {"grid": Grid, "levels": Levels, "published": Published},
    "charts": {
        "dots": DotChart,
        "label_noise": LabelNoiseChart,
        "metric_names": MetricNameChart,
        "history": HistoryChart,
        "swept": SweptChart,
    },
    "comparisons": {"contrast": Contrast, "time_to_fit": TimeToFit, "trend": Trend},
}

PARTS: dict[type, dict[str, type]] = {
    Published: {"rows": PublishedRow, "comparable": Selection},
    HistoryChart: {"series": Selection},
}


@checked
class Declaration:
    """What a report shows of the runs of `experiment`; the name of its file, unless given.

    `heading`: of its section; `order`: its place in the report, after which come those without one, by name. `partial`:
    runs need not have every metric that is named here; otherwise the report says which no run has. `place`: of each
    table, chart and comparison in its file `path`.
    """

    path: Path
    experiment: str
    heading: str
    order: int | None = None
    partial: bool = False
    tables: tuple[TableSpec, ...] = ()
    charts: tuple[ChartSpec, ...] = ()
    comparisons: tuple[Contrast | TimeToFit | Trend, ...] = ()
    places: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    def located(self) -> Iterator[tuple[str, Spec]]:
        """Yield each table, chart and comparison with its place."""
        for part, specs in (("tables", self.tables), ("charts", self.charts), ("comparisons", self.comparisons)):
            yield from zip(self.places[part], specs)


def read_declarations(recorded: Iterable[Path] = (), named: Iterable[Path] = ()) -> list[Declaration]:
    """Return the declarations in the order of the report: rebuttal's, and instead of them for the same experiment those
    in the folders `recorded`, and instead of these those in the folders `named`.

    Raises `ConfigError` for a file that is not a declaration, and for two different ones of one experiment."""
    found: dict[str, Declaration] = {}
    for folders in ([_with_files(folder) for folder in named], recorded, [REPORTS]):
        found = _layer(folders, set(found)) | found
    ordered = sorted(found.values(), key=lambda one: (one.order is None, one.order or 0, one.experiment))
    _check_unique(ordered)
    return ordered


def unknown_metrics(declared: Iterable[Declaration], runs: Sequence[Run]) -> list[str]:
    """Return a line for each table, chart or comparison that names a metric that no run of its experiment has, and for
    each declaration of an experiment whose name looks like a slip."""
    lines = []
    experiments = known_experiments(runs)
    for one in declared:
        if one.experiment not in experiments and (near := nearest(one.experiment, experiments)):
            lines.append(f"{one.path}: experiment={one.experiment}: no run is of it{near}")
        known = {name for run in runs if run.experiment == one.experiment for name in run.metrics}
        if known and not one.partial:
            lines += [line for place, spec in one.located() if (line := _unknown(spec, place, known))]
    return lines


def check_claimed(declared: Iterable[Declaration], claims: Sequence[Claim]) -> None:
    """Raise `ConfigError` for a chart of a claim that neither `claims` nor rebuttal's ledger has."""
    ids = {claim.id for claim in (*claims, *read_claims(LEDGER))}
    for one in declared:
        for place, spec in one.located():
            for label, claim in spec.claimed.items() if isinstance(spec, DotChart) else ():
                _check_in(claim, ids, f"{place}.claimed.{label}", "claim")


def _with_files(folder: Path) -> Path:
    if not any(folder.glob("*.yaml")):
        raise ConfigError(f"--declarations={folder}: has no YAML files; allowed: a folder like conf/report")
    return folder


def _layer(folders: Iterable[Path], chosen: set[str]) -> dict[str, Declaration]:
    """Return the declarations in these folders, without those of experiments that are `chosen` already."""
    found: dict[str, Declaration] = {}
    for path in dict.fromkeys(path.resolve() for folder in folders for path in sorted(folder.glob("*.yaml"))):
        one = _read(path)
        if one.experiment in chosen:
            continue
        other = found.setdefault(one.experiment, one)
        if other.path.read_bytes() != path.read_bytes():
            raise ConfigError(
                f"{path}: experiment={one.experiment}: {other.path} declares it too; allowed: one of them, chosen by "
                "--declarations FOLDER"
            )
    return found


def _read(path: Path) -> Declaration:
    content = _content(path)
    allowed = [field.name for field in fields(Declaration) if field.name not in ("path", "places")]
    for key, value in content.items():
        _check_in(key, allowed, f"{path}: {key}={_short(value)}", "key", "")
    head = {"experiment": path.stem, "heading": content.get("experiment", path.stem)} | content
    name = head["experiment"]
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
        raise ConfigError(f"{path}: experiment={name}: allowed: the name of an experiment, as its config has it")
    parts, places = {}, {}
    for part in KINDS:
        specs = [_spec(*entry, part, name) for entry in _entries(content.get(part), f"{path}: {part}")]
        parts[part] = tuple(spec for spec, _ in specs)
        places[part] = tuple(place for _, place in specs)
    one: Declaration = construct(Declaration, head | parts | {"path": path, "places": places}, f"{path}:")
    for place, spec in one.located():
        _check(spec, place, one)
    return one


def _content(path: Path) -> dict[Any, Any]:
    content = read_yaml(path, str(path), "a declaration")
    if not isinstance(content, dict):
        kind = "empty" if content is None else f"holds a {type(content).__name__}"
        raise ConfigError(f"{path}: {kind}; allowed: keys {', '.join(('heading', *KINDS))}")
    return content


def _entries(content: Any, key: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each entry of a list with its place; of one with `each: {label: value}`, an entry for each value."""
    if content is not None and not isinstance(content, list):
        raise ConfigError(f"{key}={_short(content)}: allowed: a list")
    for i, entry in enumerate(content or ()):
        place = f"{key}[{i}]"
        if not isinstance(entry, dict) or not all(isinstance(name, str) for name in entry):
            raise ConfigError(f"{place}={_short(entry)}: allowed: keys kind, …")
        if "each" not in entry:
            yield entry, place
            continue
        each = entry["each"]
        if not isinstance(each, dict) or not all(isinstance(text, str) for pair in each.items() for text in pair):
            raise ConfigError(f"{place}.each={_short(each)}: allowed: label: value, both text")
        rest = {name: value for name, value in entry.items() if name != "each"}
        for label, value in each.items():
            yield _filled(rest, label, value), place


def _filled(node: Any, label: str, value: str) -> Any:
    if isinstance(node, dict):
        return {key: _filled(inner, label, value) for key, inner in node.items()}
    if isinstance(node, list):
        return [_filled(inner, label, value) for inner in node]
    return node.replace("{label}", label).replace("{value}", value) if isinstance(node, str) else node


def _spec(entry: dict[str, Any], place: str, part: str, experiment: str) -> tuple[Any, str]:
    kinds = KINDS[part]
    if "kind" not in entry:
        raise ConfigError(f"{place}.kind is missing; allowed: {', '.join(kinds)}")
    kind = str(entry["kind"])
    _check_in(kind, kinds, f"{place}.kind", f"kind of {part.removesuffix('s')}")
    target = kinds[kind]
    allowed = [field.name for field in fields(target) if field.name != "experiment"]
    given = {key: _tuples(value) for key, value in entry.items() if key != "kind"}
    for key, value in given.items():
        _check_in(key, allowed, f"{place}.{key}={_short(value)}", "key", "")
    if isinstance(given.get("text_columns"), dict):
        given["text_columns"] = {
            label: _parts(texts, CellText, f"{place}.text_columns.{label}") if isinstance(texts, tuple) else texts
            for label, texts in given["text_columns"].items()
        }
    for key, part_type in PARTS.get(target, {}).items():
        if key in given:
            given[key] = _parts(given[key], part_type, f"{place}.{key}")
    usual = {key: experiment for key in ("name", "table") if key in allowed}
    implied = {"experiment": experiment} if target is not DotChart else {}
    return construct(target, usual | given | implied, place), place


def _parts(values: Any, kind: type, place: str) -> Any:
    """Return parts that are given as keys, by label or in a list, as objects; the check of types refuses others."""

    def part(value: Any, at: str) -> Any:
        return construct(kind, value, at) if isinstance(value, dict) else value

    if isinstance(values, dict):
        return {label: part(value, f"{place}.{label}") for label, value in values.items()}
    return (
        tuple(part(value, f"{place}[{i}]") for i, value in enumerate(values)) if isinstance(values, tuple) else values
    )


def _tuples(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _tuples(value) for key, value in node.items()}
    return tuple(_tuples(value) for value in node) if isinstance(node, list) else node


def _check(spec: Spec, place: str, one: Declaration) -> None:
    """Refuse what the types of the fields allow and what would show nothing."""
    for field in fields(spec):
        if field.default is MISSING and field.default_factory is MISSING and getattr(spec, field.name) in ({}, ()):
            raise ConfigError(f"{place}.{field.name} is empty; allowed: at least one of its kind")
    if not isinstance(spec, (DotChart, Contrast, TimeToFit, Trend)):
        _check_name(spec.name, f"{place}.name")
    if isinstance(spec, Grid):
        for word in re.findall(r"{.*?}", spec.metric):
            _check_in(word, ("{row}", "{column}"), f"{place}.metric={spec.metric}: {word}", "placeholder", "")
    if isinstance(spec, MetricNameChart):
        for label, pattern in spec.panels.items():
            _check_pattern(pattern, f"{place}.panels.{label}")
        if not spec.vertical_divisor:
            raise ConfigError(f"{place}.vertical_divisor=0: allowed: any other number")
    if isinstance(spec, (MetricNameChart, HistoryChart)):
        _check_labels(spec.log_y, spec.panels, f"{place}.log_y", "panel")
    if isinstance(spec, Published):
        for label, row in spec.rows.items():
            _check_labels(row.values, spec.columns, f"{place}.rows.{label}.values", "column")
    if isinstance(spec, DotChart):
        _check_dots(spec, place, one)


def _check_dots(spec: DotChart, place: str, one: Declaration) -> None:
    tables = {table.name: table for table in one.tables}
    _check_in(spec.table, tables, f"{place}.table", "table of this file")
    for label, names in spec.panels.items():
        _check_labels(names, tables[spec.table].labels, f"{place}.panels.{label}", "row or column")
    for key, labels in (("lines", spec.lines), ("claimed", spec.claimed), ("log", spec.log)):
        _check_labels(labels, spec.panels, f"{place}.{key}", "panel")


def _check_name(name: str, key: str) -> None:
    """Names are the stems of files, of which a report has some itself."""
    if name in RESERVED or not re.fullmatch(r"[\w-][\w.-]*", name):
        raise ConfigError(f"{key}={name}: allowed: letters, digits, _, - and ., and not {' or '.join(RESERVED)}")


def _check_pattern(pattern: str, key: str) -> None:
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise ConfigError(f"{key}={pattern}: {error}; allowed: a regular expression with the group x") from None
    if "x" not in groups:
        raise ConfigError(f"{key}={pattern}: has no group x; allowed: a regular expression with (?P<x>…)")


def _check_labels(labels: Iterable[str], allowed: Collection[str], key: str, what: str) -> None:
    for label in labels:
        _check_in(label, allowed, key, what)


def _check_in(value: Any, allowed: Collection[str], key: str, what: str, shown: str | None = None) -> None:
    """Refuse a value that is not one of those allowed; `key` has it already if nothing is to be shown after it."""
    if value not in allowed:
        nearest = get_close_matches(str(value), allowed, n=1)
        hint = f"; nearest: {nearest[0]}" if nearest else ""
        head = f"{key}={value}" if shown is None else key
        raise ConfigError(f"{head}: unknown {what}{hint}; allowed: {', '.join(allowed)}")


def _check_unique(declared: Sequence[Declaration]) -> None:
    names: dict[tuple[bool, str], str] = {}
    for one in declared:
        for place, spec in one.located():
            name = None if isinstance(spec, (Contrast, TimeToFit, Trend)) else spec.name
            other = place if name is None else names.setdefault((isinstance(spec, TableSpec), name), place)
            if other != place:
                raise ConfigError(f"{place}.name={name}: {other} has it too; allowed: another name")


def _unknown(spec: Spec, place: str, known: set[str]) -> str | None:
    """Describe the first metric of a declaration that no run has, and the one nearest to it."""
    if isinstance(spec, MetricNameChart):
        patterns = {label: re.compile(pattern) for label, pattern in spec.panels.items()}
        absent = (label for label, pattern in patterns.items() if not any(map(pattern.fullmatch, known)))
        label = next(absent, None)
        return None if label is None else f"{place}.panels.{label}={spec.panels[label]}: no run has such a metric"
    for at, names in spec.metrics():
        if known.isdisjoint(names):
            nearest = [match for name in names for match in get_close_matches(name, known, n=1)]
            hint = f"; nearest: {nearest[0]}" if nearest else ""
            return f"{place}.{at}: no run has the metric {names[0]}{hint}"
    return None


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else f"{text[:60]}…"
