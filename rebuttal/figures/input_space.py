"""Figures in input space: decision regions on a slice, and the images of a walk."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure

from rebuttal.figures.style import STYLE, WIDTH, panels
from rebuttal.rounding import percent


def decision_regions(
    teacher: np.ndarray,
    student: np.ndarray,
    corners: np.ndarray,
    extent: tuple[float, float, float, float],
    classes: int,
) -> Figure:
    """Draw the classes on one 2-D slice: the teacher's, the student's, and where the two agree.

    `teacher`, `student`: predicted classes on the grid. `corners` (3, 2): the inputs through which the slice goes."""
    with rc_context(STYLE):
        figure, row = panels(3, height=1.05)
        colours = ListedColormap(_class_colours(classes))
        by_class = BoundaryNorm(np.arange(classes + 1) - 0.5, classes)
        same = (teacher == student).astype(float)
        two = ListedColormap(["#222222", "#eeeeee"])
        images: tuple[tuple[str, np.ndarray, Colormap, Normalize], ...] = (
            ("teacher", teacher, colours, by_class),
            ("student", student, colours, by_class),
            (f"equal on {percent(same.mean())}", same, two, Normalize(0, 1)),
        )
        for axes, (title, image, colour_map, norm) in zip(row, images):
            axes.imshow(image, cmap=colour_map, norm=norm, origin="lower", extent=extent, interpolation="nearest")
            axes.plot(*corners.T, "o", color="white", markeredgecolor="black", markersize=4)
            axes.set_title(title)
        row[0].set_xlabel("distance in input space; dots: the teacher's training inputs", x=0, ha="left")
        return figure


def _class_colours(classes: int) -> np.ndarray:
    if classes <= 10:
        return colormaps["tab10"](np.arange(classes))  # an index into its ten colours
    return colormaps["turbo"](np.linspace(0, 1, classes))


def strip(images: np.ndarray) -> Figure:
    """Draw images (n, H, W, C) in [0, 1] in order, and below each the pixels that differ from the image before it."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * 2, WIDTH * 4.6 / len(images)), layout="constrained")
        above, below = figure.subplots(2, len(images))
        changed = np.any(np.abs(np.diff(images, axis=0)) > 0, axis=-1)
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
