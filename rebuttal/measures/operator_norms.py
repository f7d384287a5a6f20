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
    Part,
    Pointwise,
    Pool,
    Scale,
    Sum,
    affine_parts,
    batch_norm_scale,
    composed,
    padding_of,
    parts_of,
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
    if isinstance(module, nn.Linear):
        return float(module.weight.norm().item())
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
    """Return a bound on ‖f(x) − f(y)‖/‖x − y‖: the product of the parts' operator norms, ‖skip‖ + ‖branch‖ for a
    residual block (Virmaux & Scaman 2018).

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


@_bound.register(Pointwise)
@_bound.register(Pool)
def _(part: Part, norm_of: Norm) -> float:
    return 1.0


@_bound.register
def _(part: Sum, norm_of: Norm) -> float:
    return lipschitz_upper(part.branch, norm_of) + lipschitz_upper(part.skip, norm_of)
