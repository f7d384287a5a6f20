"""Layers as linear operators on their real input size: spectral norms, stable ranks, Lipschitz bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import singledispatch
from math import prod
from typing import ClassVar

import numpy as np
import scipy  # see `rebuttal.measures.agreement`
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebuttal.config import checked
from rebuttal.measures.layers import (
    Affine,
    Composition,
    Joined,
    Part,
    Pointwise,
    Pool,
    Response,
    Scale,
    Sum,
    affine_parts,
    batch_norm_scale,
    composed,
    padding_of,
    parts_of,
    pool_windows,
    unsupported,
)
from rebuttal.measures.measure import Findings, Probes, Subject

TOLERANCE = 1e-10  # relative accuracy of the eigenvalues that ARPACK returns

Norm = Callable[[Affine | Composition], tuple[float, float]]  # to σ₁ and the residual of its iteration


@checked
class OperatorNorms:
    """For each affine layer (batch-norm folded in): `sigma_<layer>`, its largest singular value σ₁ as an
    operator on its real input size, padding and stride included, and `stable_rank_<layer>`, ‖A‖²_F/σ₁².

    `spectral_product`, the product of all σ₁, in log10; `operator_residual`, the largest of the iterations'
    ‖AᵀAv − σ²v‖/σ². Computed by Lanczos iteration (ARPACK) through the layer and its transpose, a power iteration that
    keeps the vectors of all its steps.
    """

    needs_layers: ClassVar[bool] = True

    def __call__(self, subject: Subject, probes: Probes) -> Findings:
        if subject.network is None or unsupported(subject.network):
            return Findings()
        numbers: dict[str, float | None] = {}
        residuals, logs = [], []
        norm_of = kept_norms(subject)
        for part in affine_parts(parts_of(subject.network, probes.shape)):
            sigma, residual = norm_of(part)
            numbers[f"sigma_{part.name}"] = sigma
            numbers[f"stable_rank_{part.name}"] = frobenius_norm(part) ** 2 / sigma**2 if sigma > 0 else None
            residuals.append(residual)
            logs.append(np.log10(sigma) if sigma > 0 else -np.inf)
        product = float(np.sum(logs))
        numbers["spectral_product_log10"] = product if np.isfinite(product) else None
        numbers["operator_residual"] = max(residuals)
        return Findings(numbers)


def kept_norms(subject: Subject) -> Norm:
    """Return `spectral_norm`, which computes each map of the subject once for all measures."""

    def norm_of(part: Affine | Composition) -> tuple[float, float]:
        return subject.once(("norm", part.name, part.shape), lambda: spectral_norm(part))

    return norm_of


def spectral_norm(part: Affine | Composition) -> tuple[float, float]:
    """Return σ₁ of the part's linear map, and the residual ‖AᵀAv − σ₁²v‖/σ₁² of the iteration that computed it."""
    if isinstance(part, Affine) and isinstance(part.module, Scale):  # diagonal
        return float((1 / part.module.std).max()), 0.0
    gram, size = _gram(part), prod(part.shape)
    if size < 3:  # ARPACK needs three dimensions
        matrix = np.stack([gram(row) for row in np.eye(size)])
        return float(np.sqrt(max(np.linalg.eigvalsh(matrix)[-1], 0))), 0.0
    start = np.random.default_rng(0).standard_normal(size)
    if not gram(start).any():
        return 0.0, 0.0
    square, vector = _largest_eigenpair(gram, start)
    return float(np.sqrt(square)), float(np.linalg.norm(gram(vector) - square * vector) / square)


def _gram(part: Affine | Composition) -> Callable[[np.ndarray], np.ndarray]:
    """Return v ↦ AᵀAv of the part's linear map A, on flat vectors."""
    with torch.no_grad():
        offset = part(torch.zeros(1, *part.shape, dtype=torch.float64))

    def gram(v: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(v.reshape(1, *part.shape)).requires_grad_()
        y = part(x) - offset
        (back,) = torch.autograd.grad(y, x, y.detach())
        return back.numpy().reshape(-1)

    return gram


def _largest_eigenpair(gram: Callable[[np.ndarray], np.ndarray], start: np.ndarray) -> tuple[float, np.ndarray]:
    linalg = scipy.sparse.linalg
    operator = linalg.LinearOperator((len(start), len(start)), matvec=gram, dtype=np.float64)
    try:
        (square,), vectors = linalg.eigsh(operator, k=1, which="LA", v0=start, tol=TOLERANCE, maxiter=1000)
        return square, vectors[:, 0]
    except linalg.ArpackNoConvergence as error:  # its last vector gives a lower bound, and the residual the error
        vector = error.eigenvectors[:, 0] if error.eigenvectors.size else start / np.linalg.norm(start)
        return vector @ gram(vector), vector


def frobenius_norm(part: Affine) -> float:
    """Return ‖A‖_F, exact. Each tap of a convolution counts as often as it is applied to the input without padding."""
    module = part.module
    if isinstance(module, nn.Linear):  # which is applied to each row of an input
        return float(module.weight.norm().item() * prod(part.shape[:-1]) ** 0.5)
    if isinstance(module, nn.Conv2d):
        taps = module.weight.square().sum(dim=1)  # (out, kh, kw)
        if (norm := part.batch_norm) is not None:
            taps = taps * batch_norm_scale(norm).square()[:, None, None]
        return float((taps * _applications(module, part.shape)).sum().sqrt().item())
    if isinstance(module, Scale):
        return float((1 / module.std).expand(part.shape).norm().item())
    if isinstance(module, nn.BatchNorm2d):
        return float(batch_norm_scale(module)[:, None, None].expand(part.shape).norm().item())
    return float((part.shape[0] / prod(part.shape[1:])) ** 0.5)  # average over all positions


def _applications(conv: nn.Conv2d, shape: tuple[int, ...]) -> Tensor:
    """Return how many outputs apply each tap of the kernel to a real input, (kh, kw)."""
    ones = torch.ones(1, 1, *shape[1:], dtype=torch.float64)
    unfolded = F.unfold(ones, conv.kernel_size, conv.dilation, padding_of(conv), conv.stride)
    return unfolded.sum(dim=2).reshape(conv.kernel_size)


def lipschitz_upper(parts: Sequence[Part], norm_of: Norm = spectral_norm) -> float:
    """Return a bound on ‖f(x) − f(y)‖/‖x − y‖: the product of the parts' operator norms (Virmaux & Scaman 2018):
    ‖skip‖ + ‖branch‖ for a residual block, √(Σ‖branch‖²) for a concatenation, √m for a max-pool of which m windows
    share a pixel.

    Affine maps that follow each other, as the normalisation of the inputs and the first layer do, count as one map, so
    that the bound is exact for a linear network. `norm_of`: computes the spectral norms."""
    return prod((_bound(part, norm_of) for part in composed(parts)), start=1.0)


@singledispatch
def _bound(part: Part | Composition, norm_of: Norm) -> float:
    raise TypeError(part)


@_bound.register(Affine)
@_bound.register(Composition)
def _(part: Affine | Composition, norm_of: Norm) -> float:
    return norm_of(part)[0]


@_bound.register
def _(part: Pointwise, norm_of: Norm) -> float:
    return 1.0


@_bound.register
def _(part: Pool, norm_of: Norm) -> float:
    """A window's maximum changes by at most the norm of the change within it. The sum of their squares over windows is
    at most m‖change‖², where m windows share a pixel; if that one is the largest in all of them, √m is reached."""
    rows, columns = (_most_windows(side, *window) for side, window in zip(part.shape[1:], pool_windows(part.module)))
    return float((rows * columns) ** 0.5)


def _most_windows(side: int, size: int, stride: int, padding: int) -> int:
    """Return in how many windows the pixel is that is in the most of them, along one axis."""
    starts = range(-padding, side + padding - size + 1, stride)
    return max(sum(start <= pixel < start + size for start in starts) for pixel in range(side))


@_bound.register
def _(part: Response, norm_of: Norm) -> float:
    """y_i = x_i/s_i^β, s_i = k + t_i, where t_i = α/n Σ x_j² over the n channels around i: the Jacobian is a diagonal
    of s_i^−β ≤ k^−β, minus a matrix whose row i is 2β α/n x_i x_j/s_i^(β+1) at these channels.

    Such a row is at most 2β t_i/s_i^(β+1) long, which is largest at t_i = k/β, and each channel is in at most n rows,
    so that the matrix has at most √n times the norm of a row."""
    module = part.module
    row = 2 * module.k**-module.beta * (1 + 1 / module.beta) ** -(module.beta + 1)
    return float(module.k**-module.beta + module.size**0.5 * row)


@_bound.register
def _(part: Joined, norm_of: Norm) -> float:
    """‖(f(x), g(x)) − (f(y), g(y))‖² = ‖f(x) − f(y)‖² + ‖g(x) − g(y)‖²."""
    return float(np.sqrt(sum(lipschitz_upper(branch, norm_of) ** 2 for branch in part.branches)))


@_bound.register
def _(part: Sum, norm_of: Norm) -> float:
    return lipschitz_upper(part.branch, norm_of) + lipschitz_upper(part.skip, norm_of)
