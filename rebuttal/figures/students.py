"""Figures of students and teachers: how far they agree, on which classes, and after how many inputs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from rebuttal.figures.style import (
    BLUE,
    GREY,
    ORANGE,
    STYLE,
    WIDTH,
    Row,
    curve,
    line_styles,
    loss_panel,
    panels,
    share_panel,
)
from rebuttal.rounding import fixed
from rebuttal.statistics import NeededSize, power_law

_MARK: dict[str, Any] = {"color": ORANGE, "markeredgecolor": "black", "markeredgewidth": 0.6, "linestyle": "none"}


def mimic_curves(history: list[Row], metrics: Row) -> Figure:
    """Plot the student's loss and its agreement with its teacher by epoch, against what a constant would reach."""
    with rc_context(STYLE):
        figure, (left, right) = panels(2)
        loss_panel(left, history)
        curve(right, history, "running_accuracy", color=BLUE, alpha=0.4, label="during the epoch")
        curve(right, history, "train_accuracy", color=BLUE, marker=".", label="training inputs")
        curve(right, history, "agreement", color=ORANGE, marker=".", label="held-out inputs")
        right.axhline(metrics["majority_agreement"], color=GREY, linestyle="--", label="majority class")
        right.axhline(metrics["chance_agreement"], color=GREY, linestyle=":", label="chance")
        share_panel(right, "epoch", "agreement with teacher")
        return figure


def agreement_bars(students: dict[str, Row]) -> Figure:
    """Draw a row for each student, from its metrics by name: agreement with its interval, that on its own inputs,
    majority class and chance; beside it kappa with its interval, and r."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * 2, 0.8 + 0.32 * len(students)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for y, found in enumerate(students.values()):
            _agreement_bar(left, y, found)
            _kappa_interval(right, y, found)
        left.set_yticks(range(len(students)), [_label(name) for name in students])
        left.set_ylim(len(students) - 0.5, -0.5)
        left.set_xlim(0, 1)
        left.xaxis.set_major_formatter(PercentFormatter(1))
        left.set_xlabel("held-out inputs on which student and teacher agree")
        right.axvline(0, color=GREY, linewidth=0.8)
        right.set_xlim(min(-0.05, right.get_xlim()[0]), 1)
        right.set_xlabel("kappa (0: chance, 1: equal)")
        handles, labels = left.get_legend_handles_labels()
        named = dict(zip(labels, handles))  # not every student has every mark
        figure.legend(list(named.values()), list(named), loc="outside upper center", ncols=3)
        return figure


def _agreement_bar(axes: Axes, y: int, found: Row) -> None:
    axes.barh(y, found["agreement"], height=0.55, color=BLUE, alpha=0.85, label="agreement")
    axes.plot([found["agreement_low"], found["agreement_high"]], [y, y], color="black", linewidth=1)
    own = found.get("train_agreement")  # a judge's student may have none
    if own is not None:
        axes.plot(own, y, "|", color=BLUE, markersize=13, markeredgewidth=2, label="on its own inputs")
    axes.plot(found["majority_agreement"], y, "D", **_MARK, markersize=5, label="majority class")
    axes.plot(found["chance_agreement"], y, "v", **_MARK, markersize=4, label="chance")


def _kappa_interval(axes: Axes, y: int, found: Row) -> None:
    if found["kappa"] is None:
        axes.text(0, y, " undefined", va="center")
    else:
        axes.plot(found["kappa"], y, "o", color=BLUE, markersize=4)
        axes.plot([found["kappa_low"], found["kappa_high"]], [y, y], color=BLUE)
    if found.get("r") is not None:
        at = axes.get_yaxis_transform()
        axes.text(1.02, y, f"r = {found['r']:.2g}", transform=at, va="center", color=GREY, fontsize="small")


def _r_axis(axes: Axes, a_question: float | None) -> None:
    """Add the axis of r above that of n2; `a_question`: what an input adds to r, None if there is no r."""
    if a_question:
        functions = partial(np.multiply, a_question), partial(np.multiply, 1 / a_question)
        above = axes.secondary_xaxis("top", functions=functions)
        above.set_xlabel("r: answers for each parameter of the teacher")


def learning_curves(curves: dict[str, list[Row]]) -> Figure:
    """Plot agreement and kappa against the number of the student's training inputs; a line for each student."""
    with rc_context(STYLE):
        figure, (left, right) = panels(2)
        for (name, points), style in zip(curves.items(), line_styles(len(curves))):
            _agreement_line(left, name, points, style["color"])
            _kappa_line(right, points, style["color"])
        left.plot([], [], "--", color=GREY, linewidth=0.8, label="majority class")
        left.plot([], [], ":", color=GREY, linewidth=0.8, label="on its own inputs")
        share_panel(left, "inputs labelled by the teacher", "agreement")
        right.axhline(0, color=GREY, linewidth=0.8)
        right.set_ylim(min(-0.05, right.get_ylim()[0]), 1.02)
        right.set_xlabel("inputs labelled by the teacher")
        right.set_ylabel("kappa (0: chance, 1: equal)")
        for axes in (left, right):
            axes.set_xscale("log")
        each = [p["r"] / p["student_size"] for points in curves.values() for p in points if p["r"] is not None]
        _r_axis(right, each[0] if each and np.allclose(each, each[0]) else None)
        return figure


def _agreement_line(axes: Axes, name: str, points: list[Row], colour: str) -> None:
    sizes = [p["student_size"] for p in points]
    axes.plot(sizes, [p["agreement"] for p in points], "o-", markersize=3, color=colour, label=_label(name))
    axes.plot(sizes, [p["majority_agreement"] for p in points], "--", color=colour, linewidth=0.8)
    axes.plot(sizes, [p["train_agreement"] for p in points], ":", color=colour, linewidth=0.8)


def _kappa_line(axes: Axes, points: list[Row], colour: str) -> None:
    defined = [p for p in points if p["kappa"] is not None]
    if not defined:
        return
    sizes, kappa, low, high = (
        np.array([p[key] for p in defined]) for key in ("student_size", "kappa", "kappa_low", "kappa_high")
    )
    axes.errorbar(sizes, kappa, (kappa - low, high - kappa), fmt="o-", markersize=3, color=colour, capsize=2)


def confusion(table: np.ndarray) -> Figure:
    """Draw the share of held-out inputs by the teacher's class (row) and the student's (column)."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, WIDTH * 0.85), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(table / table.sum(), cmap="cividis", vmin=0)
        axes.set_xlabel("student's class")
        axes.set_ylabel("teacher's class")
        ticks = range(0, len(table), max(1, len(table) // 10))
        axes.set_xticks(ticks)
        axes.set_yticks(ticks)
        axes.spines[:].set_visible(False)
        figure.colorbar(image, label="share of held-out inputs", format=PercentFormatter(1))
        return figure


def class_shares(tables: dict[str, np.ndarray]) -> Figure:
    """Plot how often teacher and student predict each class; a panel for each confusion table, by name.

    It shows whether a teacher's predictions collapse to a few classes."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * max(1, len(tables) * 0.7), 1.9), layout="constrained")
        row = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
        for axes, (name, table) in zip(row, tables.items()):
            at = np.arange(len(table))
            axes.bar(at - 0.2, table.sum(axis=1) / table.sum(), width=0.4, color=BLUE, label="teacher")
            axes.bar(at + 0.2, table.sum(axis=0) / table.sum(), width=0.4, color=ORANGE, label="student")
            axes.axhline(1 / len(table), color=GREY, linewidth=0.8, linestyle="--", label="uniform")
            axes.set_title(_label(name))
            axes.set_xticks(at[:: max(1, len(table) // 10)])
            axes.set_xlabel("class")
        row[0].set_ylabel("share of inputs")
        row[0].yaxis.set_major_formatter(PercentFormatter(1))
        figure.legend(*row[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        return figure


def sample_efficiency(curves: dict[int, np.ndarray], sizes: Sequence[int], a_question: float | None = None) -> Figure:
    """Plot kappa against n2; a line for each n1, whose curves are (seeds, sizes), and a dot for each seed.
    `a_question`: what an input adds to r.

    Dotted vertical lines mark n1/10, by which the thesis expects the student to have learnt."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * 1.3, WIDTH * 0.9), layout="constrained")
        axes = figure.subplots()
        for (n1, seeds), style in zip(curves.items(), line_styles(len(curves))):
            axes.plot(sizes, seeds.mean(axis=0), **style, label=f"n1 = {n1:,}")
            for seed in seeds:
                axes.plot(sizes, seed, ".", color=style["color"], markersize=2.5, alpha=0.6)
            axes.axvline(n1 / 10, color=style["color"], linewidth=0.8, linestyle=":")
        axes.plot([], [], ":", color=GREY, linewidth=0.8, label="n2 = n1 / 10")
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.set_xscale("log")
        axes.set_ylim(min(-0.05, axes.get_ylim()[0]), 1.02)
        axes.set_xlabel("n2: new inputs labelled by the teacher")
        axes.set_ylabel("kappa of student and teacher")
        _r_axis(axes, a_question)
        axes.legend()
        return figure


def laws(needed: dict[tuple[str, float], list[list[NeededSize]]]) -> Figure:
    """Plot the n2 that each seed needs against n1, and the power law through all seeds; a panel for each measure and
    target. Triangles point to where a censored size lies. The dotted line is the thesis' n2 = n1/10."""
    with rc_context(STYLE):
        figure, row = panels(len(needed))
        for axes, ((what, target), by_seed) in zip(row, needed.items()):
            points = [one for seed in by_seed for one in seed]
            for beyond, marker in ((0, "o"), (1, "^"), (-1, "v")):
                some = [one for one in points if one.beyond == beyond]
                style: dict[str, Any] = {"markersize": 4, "linestyle": "none", "color": BLUE, "alpha": 0.6}
                axes.plot([one.x for one in some], [one.size for one in some], marker, **style)
            ends = np.array(sorted({one.x for one in points}))
            if (law := power_law(points)) is not None:
                label = f"n2 ∝ n1^{law.exponent:.2f}"
                axes.plot(ends, law.factor * ends**law.exponent, color=ORANGE, label=label)
            axes.plot(ends, ends / 10, ":", color=GREY, linewidth=0.8, label="n2 = n1 / 10")
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel("n1: inputs of the teacher")
            axes.set_ylabel(f"n2 for {what} {target:g}")
            axes.legend()
        return figure


def thinning(found: Row, every: Sequence[int]) -> Figure:
    """Plot the time to fit and the student's kappa against k, for a walk of which every k-th image is kept."""
    with rc_context(STYLE):
        figure, (left, right) = panels(2)
        _with_intervals(left, found, "steps_to_fit", every)
        missing = [k for k in every if found[f"steps_to_fit_{k}"] is None]
        for k in missing:
            left.axvline(k, color=GREY, linestyle=":", label="not fitted by every seed" if k == missing[0] else None)
        if missing:
            left.legend()
        left.set_ylabel("steps until every label is fitted")
        _with_intervals(right, found, "kappa", every)
        right.axhline(0, color=GREY, linewidth=0.8)
        right.set_ylabel("kappa of student and teacher")
        for axes in (left, right):
            axes.set_xscale("log")
            axes.set_xlabel("k: every k-th image of the walk")
        left.set_ylim(0, None)
        return figure


def architecture_table(kappas: list[list[float | None]], names: Sequence[str]) -> Figure:
    """Draw kappa by the teacher's architecture (row) and the student's (column)."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, WIDTH * 0.85), layout="constrained")
        axes = figure.subplots()
        table = np.array([[np.nan if k is None else k for k in row] for row in kappas])
        image = axes.imshow(table, cmap="cividis", vmin=0, vmax=1)
        for (i, j), kappa in np.ndenumerate(table):
            text = "–" if np.isnan(kappa) else fixed(kappa, 2)
            axes.text(j, i, text, ha="center", va="center", color="black" if kappa > 0.5 else "white")
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("student")
        axes.set_ylabel("teacher")
        axes.spines[:].set_visible(False)
        figure.colorbar(image, label="kappa")
        return figure


def _with_intervals(axes: Axes, found: Row, name: str, at: Sequence[int]) -> None:
    """Plot the metrics `<name>_<k>` for each k in `at`, with their intervals if they have any."""
    defined = [k for k in at if found[f"{name}_{k}"] is not None]
    values, low, high = (
        np.array([found[f"{name}_{k}{end}"] for k in defined], dtype=float) for end in ("", "_low", "_high")
    )
    bars = None if np.isnan(low).any() else np.abs([values - low, high - values])
    axes.errorbar(defined, values, bars, fmt="o-", markersize=3, capsize=2, color=BLUE)


def _label(name: str) -> str:
    return name.replace("_", " ")
