"""The linear least-squares classifier."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebuttal.config import checked
from rebuttal.data.examples import in_unit_range
from rebuttal.models.preprocess import FlattenPixels
from rebuttal.stages.fit import Fit
from rebuttal.stages.function import Logits
from rebuttal.stages.session import Session


@checked
class Linear:
    """The least-squares fit of the one-hot training labels by an affine function of the input; of several solutions the
    one with the smallest weights."""

    fit: Fit
    differentiable: ClassVar[bool] = True
    fitted: ClassVar[bool] = False

    def needs(self, session: Session) -> tuple[()]:
        return ()

    def function(self, session: Session) -> Logits:
        examples = self.fit.training_examples(session)
        x = in_unit_range(examples.inputs).flatten(1).double()
        y = F.one_hot(examples.labels, session.open(self.fit.dataset).classes).double()
        mean = x.mean(dim=0)
        weight = least_squares(x - mean, y - y.mean(dim=0))
        layer = nn.Linear(x.shape[1], y.shape[1], device=x.device)
        layer.weight.data.copy_(weight.T)
        layer.bias.data.copy_(y.mean(dim=0) - mean @ weight)
        return nn.Sequential(FlattenPixels(), layer).eval().requires_grad_(False)

    def identity(self, session: Session) -> Any:
        return {"function": "linear", "version": 2, "data": self.fit.data_identity(session)}


def least_squares(x: Tensor, y: Tensor) -> Tensor:
    """Return the smallest w (d, K) that minimises ‖xw − y‖, for x (n, d) and y (n, K).

    By the singular values of x itself, on the CPU: a Gram matrix squares their ratios, and features of small units
    would be lost."""
    found: Tensor = torch.linalg.lstsq(x.cpu(), y.cpu(), driver="gelsd").solution
    return found.to(x.device)
