"""The map: in which region each cell lies, and agreement against r along the lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from rebuttal.figures.style import GREY, STYLE, WIDTH, line_styles
from rebuttal.rounding import percent

COLOURS = ("#1b7837", "#a6dba0", "#d9d9d9", "#c2a5cf", "#fee391")  # of the regions, in their order

Row = Mapping[str, float | None]


def plane_and_lines(rows: Mapping[Any, Row], regions: Sequence[str]) -> Figure:
    """Draw the plane of n1 and n2, each cell in the colour of its region with its agreement in percent; beside it a
    panel for each factor, and one for other students: agreement against r, a line for each value and one for that of
    the plane, at the first n1 of the lines. `rows`: by `rebuttal.stages.map.Cell`."""
    own = {place: row for place, row in rows.items() if place.other is None}
    plane = {(place.n1, place.n2): row for place, row in own.items() if place.line is None}
    curves = _curves(rows)
    with rc_context(STYLE):
        columns = max(1, -(-len(curves) // 2))
        figure = Figure(figsize=(WIDTH * (1.2 + 0.75 * columns), WIDTH * 1.25), layout="constrained")
        left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.2, 0.75 * columns))[0]
        _plane(left.subplots(), plane, len(regions))
        axes = right.subplots(2, columns, sharey=True, squeeze=False).flatten()
        for panel, (factor, of_values) in zip(axes, curves.items()):
            _lines(panel, factor, of_values)
        for panel in axes[len(curves) :]:
            panel.set_visible(False)
        for panel in axes[::columns]:
            panel.set_ylabel("agreement")
        patches = [Patch(color=colour, label=name) for colour, name in zip(COLOURS, regions)]
        left.legend(handles=patches, loc="outside lower center", ncols=3, fontsize="small")
        return figure


def _curves(rows: Mapping[Any, Row]) -> dict[str, dict[str, dict[int, Row]]]:
    """Return rows by factor, then by its value, then by n2, at the first n1 of the lines."""
    beyond = [place for place in rows if place.line is not None or place.other is not None]
    if not beyond:
        return {}
    first = min(place.n1 for place in beyond)
    found: dict[str, dict[str, dict[int, Row]]] = {}
    for place in (place for place in beyond if place.n1 == first and (place.line is None or place.other is None)):
        factor, value = place.line or ("teacher", place.other)
        found.setdefault(factor, {}).setdefault(str(value), {})[place.n2] = rows[place]
    base = {p.n2: row for p, row in rows.items() if p.line is None and p.other is None and p.n1 == first}
    return {factor: values | ({"as in the plane": base} if base else {}) for factor, values in found.items()}


def _plane(axes: Axes, cells: Mapping[tuple[int, int], Row], count: int) -> None:
    n1s, n2s = (sorted({key[i] for key in cells}) for i in (0, 1))
    table = np.array([[cells[n1, n2]["region"] for n1 in n1s] for n2 in n2s], dtype=float)
    axes.imshow(table, cmap=ListedColormap(COLOURS[:count]), vmin=-0.5, vmax=count - 0.5, origin="lower", aspect="auto")
    for (j, i), number in np.ndenumerate(table):
        agreement = cells[n1s[i], n2s[j]]["agreement"]
        colour = "white" if number == 0 else "black"  # the first region is dark
        words = "–" if agreement is None else percent(agreement).removesuffix("%")
        axes.text(i, j, words, ha="center", va="center", color=colour)
    axes.set_xticks(range(len(n1s)), [f"{n:,}" for n in n1s])
    axes.set_yticks(range(len(n2s)), [f"{n:,}" for n in n2s])
    axes.set_xlabel("n1: inputs that the teacher memorised")
    axes.set_ylabel("n2: questions of the student")
    axes.set_title("agreement on new inputs, %")
    axes.spines[:].set_visible(False)


def _lines(axes: Axes, factor: str, values: Mapping[str, Mapping[int, Row]]) -> None:
    has_r = all(row["r"] for points in values.values() for row in points.values())
    for (value, points), style in zip(values.items(), line_styles(len(values))):
        x = np.array([row["r"] if has_r else n2 for n2, row in sorted(points.items())], dtype=float)
        y = np.array([row["agreement"] for _, row in sorted(points.items())], dtype=float)
        axes.plot(x, y, **style, label=value)
    axes.axhline(0.85, color=GREY, linestyle=":", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("r" if has_r else "n2")
    axes.set_title(factor.replace("_", " "))
    axes.legend(fontsize="small")
