"""Figures. Each function takes plain numbers and gives a matplotlib `Figure`; none reads files or trains."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

STYLE = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "figure.dpi": 200,
}
# Okabe & Ito (2008): told apart with any colour vision.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#777777"
_LINES = [
    {"color": colour, "marker": marker, "linestyle": line, "markersize": 3, "linewidth": 1.2}
    for colour, marker, line in zip(
        (BLUE, "#D55E00", GREEN, PURPLE, "#56B4E9", ORANGE, "black", GREY), "os^Dv*Px", ("-", "-", *["--"] * 6)
    )
]
WIDTH = 3.4  # inches: one journal column

Row = dict[str, Any]


def line_styles(count: int) -> list[dict[str, Any]]:
    """`count` styles, the first eight told apart by colour and, in grey, by marker; the first two are solid."""
    return [_LINES[i % len(_LINES)] for i in range(count)]


def training_curves(history: list[Row]) -> Figure:
    """Loss, and training and test accuracy, by epoch."""
    with rc_context(STYLE):
        figure, (left, right) = _panels(2)
        epochs = [row["epoch"] for row in history]
        _loss_panel(left, epochs, history)
        right.plot(epochs, [row["train_accuracy"] for row in history], color=BLUE, label="training")
        right.plot(epochs, [row["test_accuracy"] for row in history], color=ORANGE, label="test")
        _share_panel(right, "epoch", "accuracy")
        return figure


def mimic_curves(history: list[Row], metrics: Row) -> Figure:
    """Loss, and the student's agreement with its teacher, by epoch, against what a constant would get."""
    with rc_context(STYLE):
        figure, (left, right) = _panels(2)
        epochs = [row["epoch"] for row in history]
        _loss_panel(left, epochs, history)
        right.plot(epochs, [row["train_accuracy"] for row in history], color=BLUE, label="inputs it learnt from")
        right.plot(epochs, [row["agreement"] for row in history], color=ORANGE, label="held-out inputs")
        right.axhline(metrics["majority_agreement"], color=GREY, linestyle="--", label="majority class")
        right.axhline(metrics["chance_agreement"], color=GREY, linestyle=":", label="chance")
        _share_panel(right, "epoch", "agreement with teacher")
        return figure


def agreement_bars(students: dict[str, Row]) -> Figure:
    """One bar a student (by name: its metrics), with its interval, majority class and chance marked."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * 1.35, 0.75 + 0.42 * len(students)), layout="constrained")
        axes = figure.subplots()
        for y, found in enumerate(students.values()):
            value, low, high = (found[f"agreement{end}"] for end in ("", "_low", "_high"))
            axes.barh(y, value, height=0.55, color=BLUE, alpha=0.85, label="agreement" if y == 0 else None)
            axes.plot([low, high], [y, y], color="black", linewidth=1)
            for key, marker, label in (
                ("majority_agreement", "D", "majority class"),
                ("chance_agreement", "|", "chance"),
            ):
                axes.plot(
                    found[key], y, marker, color=ORANGE, markeredgecolor="black", markersize=5 if marker == "D" else 12,
                    markeredgewidth=0.6 if marker == "D" else 2, linestyle="none", label=label if y == 0 else None,
                )  # fmt: skip
            kappa = "κ undefined" if found["kappa"] is None else f"κ = {found['kappa']:.2f}"
            axes.text(1.02, y, kappa, va="center", transform=axes.get_yaxis_transform())
        axes.set_yticks(range(len(students)), [name.replace("_", " ") for name in students])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlabel("held-out inputs on which student and teacher agree")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
        return figure


def learning_curves(curves: dict[str, list[Row]]) -> Figure:
    """Agreement and kappa against the number of inputs the student learnt from; a line a student."""
    with rc_context(STYLE):
        figure, (left, right) = _panels(2)
        for (name, points), style in zip(curves.items(), line_styles(len(curves))):
            colour = style["color"]
            sizes = [p["student_size"] for p in points]
            left.plot(
                sizes, [p["agreement"] for p in points], "o-", markersize=3, color=colour, label=name.replace("_", " ")
            )
            left.plot(sizes, [p["majority_agreement"] for p in points], "--", color=colour, linewidth=0.8)
            known = [p for p in points if p["kappa"] is not None]
            if known:
                sizes, kappa, low, high = (
                    np.array([p[key] for p in known]) for key in ("student_size", "kappa", "kappa_low", "kappa_high")
                )
                right.errorbar(
                    sizes, kappa, (kappa - low, high - kappa), fmt="o-", markersize=3, color=colour, capsize=2
                )
        left.plot([], [], "--", color=GREY, linewidth=0.8, label="majority class")
        _share_panel(left, "inputs labelled by the teacher", "agreement")
        right.axhline(0, color=GREY, linewidth=0.8)
        right.set_ylim(min(-0.05, right.get_ylim()[0]), 1.02)
        right.set_xlabel("inputs labelled by the teacher")
        right.set_ylabel("kappa (0: chance, 1: equal)")
        for axes in (left, right):
            axes.set_xscale("log")
        return figure


def confusion(table: np.ndarray) -> Figure:
    """Share of held-out inputs by the teacher's class (row) and the student's (column)."""
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


def decision_regions(
    teacher: np.ndarray, student: np.ndarray, corners: np.ndarray, extent: tuple[float, ...], classes: int
) -> Figure:
    """Classes on one 2-D slice: teacher, student, and where the two agree. `corners` (3, 2): the inputs
    through which the slice goes."""
    with rc_context(STYLE):
        figure, panels = _panels(3, height=1.05)
        colours = ListedColormap(_class_colours(classes))
        norm = BoundaryNorm(np.arange(classes + 1) - 0.5, classes)
        same = (teacher == student).astype(float)
        pictures = (
            ("teacher", teacher, colours, norm),
            ("student", student, colours, norm),
            (f"equal on {same.mean():.0%}", same, ListedColormap(["#222222", "#eeeeee"]), None),
        )
        for axes, (title, picture, cmap, scale) in zip(panels, pictures):
            kind = {"cmap": cmap, "origin": "lower", "extent": extent, "interpolation": "nearest"}
            axes.imshow(picture, norm=scale, **kind) if scale else axes.imshow(picture, vmin=0, vmax=1, **kind)
            axes.plot(*corners.T, "o", color="white", markeredgecolor="black", markersize=4)
            axes.set_title(title)
        panels[0].set_xlabel("distance in input space; dots: the teacher's training inputs", x=0, ha="left")
        return figure


def _panels(count: int, height: float = 1.0) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH * count, WIDTH * 0.75 * height), layout="constrained")
    return figure, list(figure.subplots(1, count))


def _loss_panel(axes: Axes, epochs: list[int], history: list[Row]) -> None:
    axes.plot(epochs, [row["loss"] for row in history], color=BLUE)
    axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss")


def _share_panel(axes: Axes, x: str, y: str) -> None:
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend()


def _class_colours(classes: int) -> np.ndarray:
    from matplotlib import colormaps

    return colormaps["tab10"].colors[:classes] if classes <= 10 else colormaps["turbo"](np.linspace(0, 1, classes))
