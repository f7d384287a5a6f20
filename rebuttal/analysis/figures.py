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
        figure, (left, right) = panels(2)
        epochs = [row["epoch"] for row in history]
        loss_panel(left, epochs, history)
        right.plot(epochs, [row["train_accuracy"] for row in history], color=BLUE, label="training")
        right.plot(epochs, [row["test_accuracy"] for row in history], color=ORANGE, label="test")
        share_panel(right, "epoch", "accuracy")
        return figure


def decision_regions(
    teacher: np.ndarray, student: np.ndarray, corners: np.ndarray, extent: tuple[float, ...], classes: int
) -> Figure:
    """Classes on one 2-D slice: teacher, student, and where the two agree. `corners` (3, 2): the inputs
    through which the slice goes."""
    with rc_context(STYLE):
        figure, row = panels(3, height=1.05)
        colours = ListedColormap(_class_colours(classes))
        norm = BoundaryNorm(np.arange(classes + 1) - 0.5, classes)
        same = (teacher == student).astype(float)
        pictures = (
            ("teacher", teacher, colours, norm),
            ("student", student, colours, norm),
            (f"equal on {same.mean():.0%}", same, ListedColormap(["#222222", "#eeeeee"]), None),
        )
        for axes, (title, picture, cmap, scale) in zip(row, pictures):
            kind = {"cmap": cmap, "origin": "lower", "extent": extent, "interpolation": "nearest"}
            axes.imshow(picture, norm=scale, **kind) if scale else axes.imshow(picture, vmin=0, vmax=1, **kind)
            axes.plot(*corners.T, "o", color="white", markeredgecolor="black", markersize=4)
            axes.set_title(title)
        row[0].set_xlabel("distance in input space; dots: the teacher's training inputs", x=0, ha="left")
        return figure


def panels(count: int, height: float = 1.0) -> tuple[Figure, list[Axes]]:
    """A row of `count` axes, each one column wide."""
    figure = Figure(figsize=(WIDTH * count, WIDTH * 0.75 * height), layout="constrained")
    return figure, list(figure.subplots(1, count))


def loss_panel(axes: Axes, epochs: list[int], history: list[Row]) -> None:
    axes.plot(epochs, [row["loss"] for row in history], color=BLUE)
    axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss")


def share_panel(axes: Axes, x: str, y: str) -> None:
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend()


def _class_colours(classes: int) -> np.ndarray:
    from matplotlib import colormaps

    return colormaps["tab10"].colors[:classes] if classes <= 10 else colormaps["turbo"](np.linspace(0, 1, classes))


def strip(images: np.ndarray) -> Figure:
    """Above, images (n, H, W, C) in [0, 1] in their order; below, where each differs from the one before."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * 2, WIDTH * 4.6 / len(images)), layout="constrained")
        above, below = figure.subplots(2, len(images))
        changed = (np.abs(np.diff(images, axis=0)) > 0).any(axis=-1)
        for t, image in enumerate(images):
            above[t].imshow(image.clip(0, 1), interpolation="nearest", cmap="gray")
            above[t].set_title(f"t = {t}")
            if t > 0:
                below[t].imshow(changed[t - 1], interpolation="nearest", cmap="gray_r", vmin=0, vmax=1)
                below[t].set_xlabel(f"{changed[t - 1].sum()} changed")
        for axes in (*above, *below):
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(True)
        below[0].set_axis_off()
        return figure
