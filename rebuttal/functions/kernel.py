"""Interpolation of the training labels by a Gaussian kernel."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from rebuttal.config import checked
from rebuttal.data.examples import in_unit_range
from rebuttal.functions.equations import CELLS, precision_for, refined, require_factor, say, solver
from rebuttal.stages.fit import Fit
from rebuttal.stages.function import Logits
from rebuttal.stages.session import Session

log = logging.getLogger(__name__)

BANDWIDTH_INPUTS = 1000  # the training inputs whose mean squared distance decides gamma


@checked
class Kernel:
    """Interpolation of the training labels by a Gaussian kernel, without training (Zhang et al. 2017, section 5):
    f(x) = Σ_i α_i exp(−γ‖x − x_i‖²) + ȳ, Kα = Y, for inputs in [0, 1]; Y (n, K) are the one-hot labels less their mean
    ȳ, so that far from the training inputs f is the frequency of the classes.

    `gamma`: γ, per squared unit of the inputs; null: 2 / the mean of ‖x − y‖² over pairs of the first 1,000 training
    inputs, which is 0.019 for MNIST, where the authors' program has 0.02. `ridge`: added to the diagonal of K; above 0
    the labels are not interpolated.

    K is factored in float64, above 20,000 inputs in float32, and the solution refined in float64 by conjugate gradients
    that the factor preconditions; the log says what remains, ‖Y − Kα‖/‖Y‖, and how many labels are not fitted.
    """

    fit: Fit
    gamma: PositiveFloat | None = None
    ridge: NonNegativeFloat = 0.0
    differentiable: ClassVar[bool] = True
    fitted: ClassVar[bool] = False

    def needs(self, session: Session) -> tuple[()]:
        return ()

    def check(self, session: Session) -> None:
        require_factor("kernel", session.open(self.fit.dataset).identity("train")["size"], session.device)

    def function(self, session: Session) -> Logits:
        self.check(session)
        examples = self.fit.training_examples(session)
        x = in_unit_range(examples.inputs).flatten(1)
        y = F.one_hot(examples.labels, session.open(self.fit.dataset).classes).double()
        interpolant, residual = interpolated(x, y, self.gamma or usual_gamma(x), self.ridge)
        with torch.no_grad():
            logits = interpolant(x)
        say(log, f"kernel: gamma {interpolant.gamma:.4g}", residual, logits, examples.labels)
        return interpolant

    def identity(self, session: Session) -> Any:
        settings = {"gamma": self.gamma, "ridge": self.ridge}
        return {"function": "kernel", "version": 2, "data": self.fit.data_identity(session), **settings}


class Interpolant(nn.Module):
    """x (n, *shape) ↦ Σ_i `weights`_i exp(−`gamma`‖x − `centres`_i‖²) + `offset`, in float64 (n, K), from `centres`
    (m, d) and `weights` (m, K). `solution`: what the stage `accuracy` reports of it."""

    centres: Tensor
    weights: Tensor
    offset: Tensor

    def __init__(self, centres: Tensor, weights: Tensor, offset: Tensor, gamma: float, residual: float):
        super().__init__()
        self.gamma = gamma
        self.solution = {"weights": weights.numel(), "residual": residual, "gamma": gamma}
        # No parameters: nobody trained them, and measures of weights are of trained ones.
        for name, tensor in (("centres", centres), ("weights", weights), ("offset", offset)):
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        rows = in_unit_range(x).flatten(1).to(self.centres)
        return kernel_product(rows, self.centres, self.weights, self.gamma) + self.offset


def usual_gamma(x: Tensor) -> float:
    """Return 2 / the mean of ‖x − y‖² over pairs of inputs (n, d), 1 where there are none that differ."""
    squares = torch.pdist(x[:BANDWIDTH_INPUTS].double()).square()
    mean = squares.mean().item() if len(squares) else 0.0
    return 2 / mean if mean > 0 else 1.0


def gaussian(x: Tensor, centres: Tensor, gamma: float) -> Tensor:
    """Return exp(−γ‖x_i − c_j‖²), (n, m), of float64 x (n, d) and c (m, d)."""
    squares = x.square().sum(dim=1)[:, None] + centres.square().sum(dim=1) - 2 * x @ centres.T
    return (-gamma * squares).exp()


def kernel_product(x: Tensor, centres: Tensor, weights: Tensor, gamma: float) -> Tensor:
    """Return the product (n, K) of the kernel between x and the centres and weights (m, K), a part at a time."""
    parts = x.split(max(1, CELLS // len(centres)))
    return torch.cat([gaussian(part, centres, gamma) @ weights for part in parts])


def interpolated(x: Tensor, y: Tensor, gamma: float, ridge: float) -> tuple[Interpolant, float]:
    """Return the interpolant of targets (n, K) at inputs (n, d), and ‖Y − Kα‖/‖Y‖ of the centred targets."""
    x, offset = x.double(), y.mean(dim=0)
    matrix = torch.empty(len(x), len(x), dtype=precision_for(len(x)), device=x.device)
    size = max(1, CELLS // len(x))
    for part, rows in zip(x.split(size), matrix.split(size)):
        rows.copy_(gaussian(part, x, gamma))
    refused = (
        f"function=kernel: the kernel matrix of {len(x):,} training inputs is singular: some are equal, or gamma="
        f"{gamma:.4g} is too small; allowed: a larger gamma, or ridge above 0"
    )
    solve = solver(matrix, ridge, refused)
    weights, residual = refined(lambda w: kernel_product(x, x, w, gamma) + ridge * w, solve, y - offset, refused)
    return Interpolant(x, weights, offset, gamma, residual).eval(), residual
