"""Solution of Kα = Y for a symmetric positive matrix K as large as the training set, with what remains of it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from rebuttal.device import require_memory
from rebuttal.errors import ConfigError

DOUBLE_INPUTS = 20_000  # above, the factor is in float32: 3.2 GB and as much while it is computed
STEPS = 200  # of refinement, at most
TOLERANCE = 1e-10  # ‖Y − Kα‖/‖Y‖ at which refinement ends
UNSOLVED = 1e-6  # what remains of the equations if that is said as a warning
REFUSED = 1e-2  # what remains if they have no solution: the float32 factor of a singular matrix shows none by itself
CELLS = 2**24  # of the matrix that are in float64 in memory at a time
SHIFT = 1e-5  # of the largest diagonal, added to that of a float32 factor, which rounding would make indefinite

Map = Callable[[Tensor], Tensor]


def precision_for(n: int) -> torch.dtype:
    """Return the type in which the matrix of n inputs is factored."""
    return torch.float64 if n <= DOUBLE_INPUTS else torch.float32


def require_factor(name: str, n: int, device: torch.device) -> None:
    """Raise `ConfigError` if the matrix of n inputs and its factor do not fit into the memory of the device."""
    size = 2 * n * n * precision_for(n).itemsize
    require_memory(size, f"function={name}: the kernel matrix of {n:,} training inputs and its factor", device)


def solver(matrix: Tensor, ridge: float, refused: str) -> Map:
    """Return r ↦ (K + ridge)⁻¹r, to the precision of a Cholesky factor of the matrix K (n, n), which is changed.

    Raises `ConfigError` with the text `refused` if it is not positive."""
    scale = matrix.diagonal().max().item()
    matrix.diagonal().add_(ridge + (SHIFT * scale if matrix.dtype == torch.float32 else 0))
    factor, failed = torch.linalg.cholesky_ex(matrix)
    least = factor.diagonal().min().square().item()  # 0 up to rounding if an input is equal to another
    if failed.item() or not least > len(matrix) * torch.finfo(torch.float64).eps * scale:
        raise ConfigError(refused)
    return lambda rest: torch.cholesky_solve(rest.to(factor.dtype), factor).double()


def refined(product: Map, solve: Map, y: Tensor, refused: str) -> tuple[Tensor, float]:
    """Return w (n, K) with `product`(w) = y, and ‖y − product(w)‖/‖y‖, by conjugate gradients for each column, which
    `solve`, almost the inverse, preconditions.

    Raises `ConfigError` with the text `refused` if there is no such w."""
    w, rest = torch.zeros_like(y), y
    size = y.norm().clamp(min=torch.finfo(y.dtype).tiny)
    direction = step = solve(rest)
    for _ in range(STEPS):
        along = product(direction)
        power = (rest * step).sum(dim=0)
        length = (power / (direction * along).sum(dim=0)).nan_to_num()  # 0/0 where a column is 0
        w, rest = w + length * direction, rest - length * along
        if (rest.norm() / size).item() < TOLERANCE:
            break
        step = solve(rest)
        direction = step + ((rest * step).sum(dim=0) / power).nan_to_num() * direction
    residual = ((y - product(w)).norm() / size).item()
    if not residual <= REFUSED:
        raise ConfigError(refused)
    return w, residual


def say(log: logging.Logger, name: str, residual: float, logits: Tensor, labels: Tensor) -> None:
    """Log what remains of the equations, and how many labels are not those of the largest logits (n, K)."""
    wrong = int((logits.argmax(dim=1) != labels).sum())
    level = logging.INFO if residual < UNSOLVED else logging.WARNING
    said = "%s: ‖Y − Kα‖/‖Y‖ is %.3g; %d of %d labels are not fitted"
    log.log(level, said, name, residual, wrong, len(labels))
