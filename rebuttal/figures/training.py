"""Figures of a training on given labels."""

from __future__ import annotations

from matplotlib import rc_context
from matplotlib.figure import Figure

from rebuttal.figures.style import BLUE, ORANGE, STYLE, Row, loss_panel, panels, share_panel


def training_curves(history: list[Row]) -> Figure:
    """Plot loss, training accuracy and test accuracy by epoch."""
    with rc_context(STYLE):
        figure, (left, right) = panels(2)
        epochs = [row["epoch"] for row in history]
        loss_panel(left, epochs, history)
        right.plot(epochs, [row["train_accuracy"] for row in history], color=BLUE, label="training")
        right.plot(epochs, [row["test_accuracy"] for row in history], color=ORANGE, label="test")
        share_panel(right, "epoch", "accuracy")
        return figure
