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

COLOURS = ("#1b7837", "#a6dba0", "#d9d9d9", "#c2a5cf", "#fee391")  # of the regions, in their order

Line = tuple[str, Any] | None
Row = Mapping[str, float | None]


def plane_and_lines(rows: Mapping[tuple[Line, int, int], Row], regions: Sequence[str]) -> Figure:
    """Draw the plane of n1 and n2, each cell in the colour of its region with its agreement in percent; beside it a
    panel for each factor: agreement against r, a line for each value, at the first n1 of the lines. `rows`: by line,
    n1 and n2."""
    factors = list(dict.fromkeys(line[0] for line, _, _ in rows if line is not None))
    with rc_context(STYLE):
        columns = max(1, -(-len(factors) // 2))
        figure = Figure(figsize=(WIDTH * (1.2 + 0.75 * columns), WIDTH * 1.25), layout="constrained")
        left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.2, 0.75 * columns))[0]
        _plane(left.subplots(), {key[1:]: row for key, row in rows.items() if key[0] is None}, len(regions))
        axes = right.subplots(2, columns, sharey=True, squeeze=False).flatten()
        for i, panel in enumerate(axes):
            if i < len(factors):
                _lines(panel, factors[i], rows)
            panel.set_visible(i < len(factors))
        for panel in axes[::columns]:
            panel.set_ylabel("agreement")
        patches = [Patch(color=colour, label=name) for colour, name in zip(COLOURS, regions)]
        left.legend(handles=patches, loc="outside lower center", ncols=3, fontsize="small")
        return figure


def _plane(axes: Axes, cells: Mapping[tuple[int, int], Row], count: int) -> None:
    n1s, n2s = (sorted({key[i] for key in cells}) for i in (0, 1))
    table = np.array([[cells[n1, n2]["region"] for n1 in n1s] for n2 in n2s], dtype=float)
    axes.imshow(table, cmap=ListedColormap(COLOURS[:count]), vmin=-0.5, vmax=count - 0.5, origin="lower", aspect="auto")
    for (j, i), _ in np.ndenumerate(table):
        agreement = cells[n1s[i], n2s[j]]["agreement"]
        axes.text(i, j, "–" if agreement is None else f"{100 * agreement:.0f}", ha="center", va="center")
    axes.set_xticks(range(len(n1s)), [f"{n:,}" for n in n1s])
    axes.set_yticks(range(len(n2s)), [f"{n:,}" for n in n2s])
    axes.set_xlabel("n1: inputs that the teacher memorised")
    axes.set_ylabel("n2: questions of the student")
    axes.set_title("agreement on new inputs, %")
    axes.spines[:].set_visible(False)


def _lines(axes: Axes, factor: str, rows: Mapping[tuple[Line, int, int], Row]) -> None:
    of_factor = {key: row for key, row in rows.items() if key[0] is not None and key[0][0] == factor}
    first = min(n1 for _, n1, _ in of_factor)
    values = list(dict.fromkeys(line for line, _, _ in of_factor))
    has_r = all(row["r"] for row in of_factor.values())
    for line, style in zip(values, line_styles(len(values))):
        assert line is not None
        points = {n2: row for (owner, n1, n2), row in of_factor.items() if owner == line and n1 == first}
        x = np.array([row["r"] if has_r else n2 for n2, row in points.items()], dtype=float)
        y = np.array([row["agreement"] for row in points.values()], dtype=float)
        axes.plot(x, y, **style, label=str(line[1]))
    axes.axhline(0.85, color=GREY, linestyle=":", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("r" if has_r else "n2")
    axes.set_title(factor.replace("_", " "))
    axes.legend(fontsize="small")
