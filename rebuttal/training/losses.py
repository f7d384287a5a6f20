"""Losses of classification: options of the group `training/loss`.

One of your own is a frozen dataclass that is called with logits (n, K) and labels (n,), the class of each, and returns
their mean loss. The mean: a batch may be processed in pieces.
"""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from rebuttal.config import Offers, checked


class Loss(Protocol):
    """A config object of the group `training/loss`."""

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss, a scalar, of logits (n, K) for labels (n,)."""
        ...


LossOption = Annotated[Loss, Offers("__call__", 2, "an option of the group training/loss")]


@checked
class CrossEntropy:
    """Cross-entropy; with `label_smoothing` ε against 1 − ε + ε/K for the label and ε/K for each other class (Szegedy
    et al. 2016)."""

    label_smoothing: Annotated[float, Field(ge=0, le=1)] = 0.0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def of_each(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the losses (n,) of which the loss is the mean."""
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing, reduction="none")


@checked
class SquaredError:
    """The mean over the classes of (f_c − y_c)², where y is `height` for the label and 0 for the others, and the
    label's term counts `weight` times (Hui and Belkin 2021)."""

    weight: PositiveFloat = 1.0
    height: PositiveFloat = 1.0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self._squares(logits, labels).mean()

    def of_each(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the losses (n,) of which the loss is the mean."""
        return self._squares(logits, labels).mean(dim=1)

    def _squares(self, logits: Tensor, labels: Tensor) -> Tensor:
        one_hot = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
        return (logits - self.height * one_hot).square() * torch.where(one_hot > 0, self.weight, 1.0)


@checked
class SoftCrossEntropy:
    """Cross-entropy at `temperature` T against probabilities (n, K), times T², so that its gradients have one scale at
    every T (Hinton et al. 2015, section 2). Its targets are a teacher's, so that it is no option of the group."""

    temperature: PositiveFloat

    def __call__(self, logits: Tensor, probabilities: Tensor) -> Tensor:
        t = self.temperature
        return t**2 * F.cross_entropy(logits / t, probabilities)

    def of_each(self, logits: Tensor, probabilities: Tensor) -> Tensor:
        """Return the losses (n,) of which the loss is the mean."""
        t = self.temperature
        return t**2 * F.cross_entropy(logits / t, probabilities, reduction="none")


@checked
class LogitError:
    """The mean squared error of logits (n, K) against a teacher's, in units of their `variance`."""

    variance: PositiveFloat

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(logits, targets) / self.variance

    def of_each(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the losses (n,) of which the loss is the mean."""
        return F.mse_loss(logits, targets, reduction="none").mean(dim=1) / self.variance


@checked
class Margin:
    """The multi-class hinge loss: the sum over the other classes c of max(0, `margin` − f_y + f_c)^`power`, divided by
    K (Weston and Watkins 1999)."""

    margin: PositiveFloat = 1.0
    power: Literal[1, 2] = 1

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.multi_margin_loss(logits, labels, p=self.power, margin=self.margin)
