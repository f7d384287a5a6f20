"""Figures of a training on given labels."""

from __future__ import annotations

from matplotlib import rc_context
from matplotlib.figure import Figure

from rebuttal.figures.style import BLUE, ORANGE, STYLE, Row, curve, loss_panel, panels, share_panel


def training_curves(history: list[Row]) -> Figure:
    """Plot loss, training accuracy and test accuracy by epoch."""
    with rc_context(STYLE):
        figure, (left, right) = panels(2)
        loss_panel(left, history)
        curve(right, history, "running_accuracy", color=BLUE, alpha=0.4, label="during the epoch")
        curve(right, history, "train_accuracy", color=BLUE, marker=".", label="training")
        curve(right, history, "test_accuracy", color=ORANGE, marker=".", label="test")
        share_panel(right, "epoch", "accuracy")
        return figure
