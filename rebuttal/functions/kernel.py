"""Interpolation of the training labels by a Gaussian kernel."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from rebuttal.config import checked
from rebuttal.data.examples import in_unit_range
from rebuttal.device import require_memory
from rebuttal.errors import ConfigError
from rebuttal.stages.fit import Fit
from rebuttal.stages.function import Logits
from rebuttal.stages.session import Session

log = logging.getLogger(__name__)

BANDWIDTH_INPUTS = 1000  # the training inputs whose mean squared distance decides gamma
DOUBLE_INPUTS = 20_000  # above, the factor is in float32: 3.2 GB and as much while it is computed
CELLS = 2**24  # of the kernel between inputs and training inputs that are in memory at a time
STEPS = 200  # of refinement, at most
TOLERANCE = 1e-10  # ‖Y − Kα‖/‖Y‖ at which refinement ends
UNSOLVED = 1e-6  # what remains of the equations if that is said as a warning
SHIFT = 1e-5  # added to the diagonal of a float32 factor, which rounding would make indefinite


@checked
class Kernel:
    """Interpolation of the training labels by a Gaussian kernel, without training (Zhang et al. 2017, section 5):
    f(x) = Σ_i α_i exp(−γ‖x − x_i‖²) + ȳ, Kα = Y, for inputs in [0, 1]; Y (n, K) are the one-hot labels less their mean
    ȳ, so that far from the training inputs f is the frequency of the classes.

    `gamma`: γ, per squared unit of the inputs; null: 2 / the mean of ‖x − y‖² over pairs of the first 1,000 training
    inputs, which for MNIST is about the authors' 0.02. `ridge`: added to the diagonal of K; with more than 0 the
    labels are not interpolated.

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

    def function(self, session: Session) -> Logits:
        require_factor(session.open(self.fit.dataset).identity("train")["size"], session.device)
        examples = self.fit.training_examples(session)
        x = in_unit_range(examples.inputs).flatten(1)
        y = F.one_hot(examples.labels, session.open(self.fit.dataset).classes).double()
        interpolant, residual = interpolated(x, y, self.gamma or usual_gamma(x), self.ridge)
        wrong = int((interpolant.at_centres().argmax(dim=1) != examples.labels).sum())
        said = "kernel: gamma %.4g; ‖Y − Kα‖/‖Y‖ is %.3g; %d of %d labels are not fitted"
        level = logging.INFO if residual < UNSOLVED else logging.WARNING
        log.log(level, said, interpolant.gamma, residual, wrong, len(examples))
        return interpolant

    def identity(self, session: Session) -> Any:
        settings = {"gamma": self.gamma, "ridge": self.ridge}
        return {"function": "kernel", "version": 1, "data": self.fit.data_identity(session), **settings}


class Interpolant(nn.Module):
    """x (n, *shape) ↦ Σ_i `weights`_i exp(−`gamma`‖x − `centres`_i‖²) + `offset`, in float64 (n, K), from `centres`
    (m, d) and `weights` (m, K)."""

    def __init__(self, centres: Tensor, weights: Tensor, offset: Tensor, gamma: float):
        super().__init__()
        self.gamma = gamma
        # As parameters: what a backward pass keeps of them is not counted for each input.
        self.centres, self.weights, self.offset = (nn.Parameter(t, False) for t in (centres, weights, offset))

    def forward(self, x: Tensor) -> Tensor:
        rows = in_unit_range(x).flatten(1).to(self.centres)
        parts = rows.split(max(1, CELLS // len(self.centres)))
        return torch.cat([gaussian(part, self.centres, self.gamma) @ self.weights + self.offset for part in parts])

    def at_centres(self) -> Tensor:
        """Return f (m, K) at the centres."""
        with torch.no_grad():
            found: Tensor = self(self.centres)
        return found


def require_factor(n: int, device: torch.device) -> None:
    """Raise `ConfigError` if the kernel matrix of n inputs and its factor do not fit into the memory of the device."""
    size = 2 * n * n * _precision(n).itemsize
    require_memory(size, f"function=kernel: the kernel matrix of {n:,} training inputs and its factor", device)


def usual_gamma(x: Tensor) -> float:
    """Return 2 / the mean of ‖x − y‖² over pairs of inputs (n, d), 1 where there are none that differ."""
    squares = torch.pdist(x[:BANDWIDTH_INPUTS].double()).square()
    mean = squares.mean().item() if len(squares) else 0.0
    return 2 / mean if mean > 0 else 1.0


def gaussian(x: Tensor, centres: Tensor, gamma: float) -> Tensor:
    """Return exp(−γ‖x_i − c_j‖²), (n, m), of float64 x (n, d) and c (m, d)."""
    squares = x.square().sum(dim=1)[:, None] + centres.square().sum(dim=1) - 2 * x @ centres.T
    return (-gamma * squares).exp()


def interpolated(x: Tensor, y: Tensor, gamma: float, ridge: float) -> tuple[Interpolant, float]:
    """Return the interpolant of targets (n, K) at inputs (n, d), and ‖Y − Kα‖/‖Y‖ of the centred targets."""
    x, offset = x.double(), y.mean(dim=0)
    solve = _factor(x, gamma, ridge)

    def product(weights: Tensor) -> Tensor:
        parts = [gaussian(x[rows], x, gamma) @ weights for rows in _rows(len(x))]
        return torch.cat(parts) + ridge * weights

    weights, residual = refined(product, solve, y - offset)
    return Interpolant(x, weights, offset, gamma).eval(), residual


def refined(product: Callable[[Tensor], Tensor], solve: Callable[[Tensor], Tensor], y: Tensor) -> tuple[Tensor, float]:
    """Return w (n, K) with `product`(w) = y, and ‖y − product(w)‖/‖y‖, by conjugate gradients for each column, which
    `solve`, almost the inverse, preconditions."""
    w, rest = torch.zeros_like(y), y
    size = y.norm().clamp(min=torch.finfo(y.dtype).tiny)
    direction = step = solve(rest)
    for _ in range(STEPS):
        along = product(direction)
        power = (rest * step).sum(dim=0)
        length = power / (direction * along).sum(dim=0)
        w, rest = w + length.nan_to_num() * direction, rest - length.nan_to_num() * along
        step = solve(rest)
        direction = step + ((rest * step).sum(dim=0) / power).nan_to_num() * direction
        if (rest.norm() / size).item() < TOLERANCE:
            break
    return w, ((y - product(w)).norm() / size).item()


def _factor(x: Tensor, gamma: float, ridge: float) -> Callable[[Tensor], Tensor]:
    """Return r ↦ K⁻¹r, to the precision of a Cholesky factor of K. Raises `ConfigError` if K is not positive."""
    precision = _precision(len(x))
    matrix = torch.empty(len(x), len(x), dtype=precision, device=x.device)
    for rows in _rows(len(x)):
        matrix[rows] = gaussian(x[rows], x, gamma).to(precision)
    matrix.diagonal().add_(ridge + (SHIFT if precision == torch.float32 else 0))
    factor, failed = torch.linalg.cholesky_ex(matrix)
    least = factor.diagonal().min().square().item()  # 0 up to rounding if an input is equal to another
    if failed.item() or not least > len(x) * torch.finfo(torch.float64).eps:
        raise ConfigError(
            f"function=kernel: the kernel matrix of {len(x):,} training inputs is singular: some are equal, or gamma="
            f"{gamma:.4g} is too small; allowed: a larger gamma, or ridge above 0"
        )
    return lambda rest: torch.cholesky_solve(rest.to(precision), factor).double()


def _precision(n: int) -> torch.dtype:
    return torch.float64 if n <= DOUBLE_INPUTS else torch.float32


def _rows(n: int) -> Iterator[slice]:
    """Yield the rows of an n × n matrix in parts of about `CELLS` cells."""
    size = max(1, CELLS // n)
    return (slice(start, start + size) for start in range(0, n, size))
