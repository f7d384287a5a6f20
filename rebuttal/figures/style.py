"""The style that all figures share, and their common panels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType  # newer than the oldest matplotlib that is supported

STYLE: dict[RcKeyType, Any] = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "figure.dpi": 200,
}
# Okabe & Ito (2008): distinguishable with any colour vision.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#777777"
_LINES: list[dict[str, Any]] = [
    {"color": colour, "marker": marker, "linestyle": line, "markersize": 3, "linewidth": 1.2}
    for colour, marker, line in zip(
        (BLUE, "#D55E00", GREEN, PURPLE, "#56B4E9", ORANGE, "black", GREY), "os^Dv*Px", ("-", "-", *["--"] * 6)
    )
]
WIDTH = 3.4  # inches: one journal column

Row = dict[str, Any]  # an epoch of a history, or a stage's metrics


def line_styles(count: int) -> list[dict[str, Any]]:
    """Return `count` styles. The first eight differ in colour and, in greyscale, in marker; the first two are solid."""
    return [_LINES[i % len(_LINES)] for i in range(count)]


def panels(count: int, height: float = 1.0) -> tuple[Figure, list[Axes]]:
    """Return a row of `count` axes, each one column wide."""
    figure = Figure(figsize=(WIDTH * count, WIDTH * 0.75 * height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def curve(axes: Axes, history: list[Row], name: str, **style: Any) -> None:
    """Plot a quantity by epoch, at the epochs that have it; nothing if none does."""
    points = [(row["epoch"], row[name]) for row in history if name in row]
    if points:
        axes.plot(*zip(*points), **style)


def loss_panel(axes: Axes, history: list[Row]) -> None:
    """Plot the training loss by epoch."""
    curve(axes, history, "loss", color=BLUE)
    axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss")


def share_panel(axes: Axes, x: str, y: str) -> None:
    """Format axes that show shares between 0 and 1, labelled `x` and `y`."""
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend()
