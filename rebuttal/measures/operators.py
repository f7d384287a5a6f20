"""Layers as linear operators on their real input size: spectral norms, stable ranks, Lipschitz bounds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from math import prod
from typing import ClassVar

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn import functional as F

from rebuttal.config import checked
from rebuttal.measures.structure import Affine, Part, Pointwise, Pool, Scale, Sum, affine_parts, parts_of
from rebuttal.measures.subject import Findings, Subject, Surroundings

TOLERANCE = 1e-10


@checked
class OperatorNorms:
    """For each affine layer (batch-norm folded in): `sigma_<layer>`, its largest singular value σ₁ as an
    operator on its real input size, padding and stride included, and `stable_rank_<layer>`, ‖A‖²_F/σ₁².

    `spectral_product`, the product of all σ₁, in log10; `operator_residual`, the largest of the iterations'
    ‖AᵀAv − σ²v‖/σ². Found by Lanczos iteration (ARPACK) through the layer and its transpose, which is power
    iteration that remembers its steps.
    """

    needs_layers: ClassVar[bool] = True

    def __call__(self, subject: Subject, around: Surroundings) -> Findings:
        if subject.network is None:
            return Findings()
        numbers: dict[str, float | None] = {}
        residuals, logs = [], []
        for part in affine_parts(parts_of(subject.network, _shape(around))):
            sigma, residual = spectral_norm(part)
            numbers[f"sigma_{part.name}"] = sigma
            numbers[f"stable_rank_{part.name}"] = frobenius_norm(part) ** 2 / sigma**2 if sigma > 0 else None
            residuals.append(residual)
            logs.append(np.log10(sigma) if sigma > 0 else -np.inf)
        product = float(np.sum(logs))
        numbers["spectral_product_log10"] = product if np.isfinite(product) else None
        numbers["operator_residual"] = max(residuals)
        return Findings(numbers)


def spectral_norm(part: Affine) -> tuple[float, float]:
    """σ₁ of the part's linear map, and the residual ‖AᵀAv − σ₁²v‖/σ₁² of the iteration that found it."""
    if isinstance(part.modules[0], Scale):  # diagonal
        return float((1 / part.modules[0].std).max()), 0.0
    size = prod(part.shape)
    zero = torch.zeros(1, *part.shape, dtype=torch.float64)

    def gram(v: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(v.reshape(1, *part.shape)).requires_grad_()
        y = part(x) - offset
        (back,) = torch.autograd.grad(y, x, y.detach())
        return back.numpy().reshape(-1)

    with torch.no_grad():
        offset = part(zero)
    if size < 3:  # ARPACK needs three dimensions
        matrix = np.stack([gram(row) for row in np.eye(size)])
        return float(np.sqrt(max(np.linalg.eigvalsh(matrix)[-1], 0))), 0.0
    start = np.random.default_rng(0).standard_normal(size)
    if not gram(start).any():
        return 0.0, 0.0
    operator = LinearOperator((size, size), matvec=gram, dtype=np.float64)
    try:
        (square,), vectors = eigsh(operator, k=1, which="LA", v0=start, tol=TOLERANCE, maxiter=1000)
        vector = vectors[:, 0]
    except ArpackNoConvergence as error:  # what it has is a lower bound; the residual tells how good
        vector = error.eigenvectors[:, 0] if error.eigenvectors.size else start / np.linalg.norm(start)
        square = vector @ gram(vector)
    return float(np.sqrt(square)), float(np.linalg.norm(gram(vector) - square * vector) / square)


def frobenius_norm(part: Affine) -> float:
    """‖A‖_F: exact. A convolution's is counted from how often each tap meets the input, padding left out."""
    first, *norm = part.modules
    if isinstance(first, nn.Linear):
        return first.weight.norm().item()
    if isinstance(first, nn.Conv2d):
        taps = first.weight.square().sum(dim=1)  # (out, kh, kw)
        if norm:
            taps = taps * (norm[0].weight.square() / (norm[0].running_var + norm[0].eps))[:, None, None]
        return (taps * _meetings(first, part.shape)).sum().sqrt().item()
    if isinstance(first, Scale):
        return (1 / first.std).expand(part.shape).norm().item()
    if isinstance(first, nn.BatchNorm2d):
        return _batch_norm_scale(first)[:, None, None].expand(part.shape).norm().item()
    return (part.shape[0] / prod(part.shape[1:])) ** 0.5  # average over all positions


def _meetings(conv: nn.Conv2d, shape: tuple[int, ...]) -> Tensor:
    """How many outputs use each tap of the kernel on a real input, (kh, kw)."""
    ones = torch.ones(1, 1, *shape[1:], dtype=torch.float64)
    unfolded = F.unfold(ones, conv.kernel_size, conv.dilation, conv.padding, conv.stride)
    return unfolded.sum(dim=2).reshape(conv.kernel_size)


def _batch_norm_scale(norm: nn.BatchNorm2d) -> Tensor:
    return norm.weight / (norm.running_var + norm.eps).sqrt()


def lipschitz_upper(parts: Sequence[Part]) -> float:
    """A bound on ‖f(x) − f(y)‖/‖x − y‖: the product of the parts' operator norms, where a residual block
    counts ‖skip‖ + ‖branch‖ (Virmaux & Scaman 2018)."""
    return prod((_bound(part) for part in parts), start=1.0)


@singledispatch
def _bound(part: Part) -> float:
    raise TypeError(part)


@_bound.register
def _(part: Affine) -> float:
    return spectral_norm(part)[0]


@_bound.register(Pointwise)
@_bound.register(Pool)
def _(part: Part) -> float:
    return 1.0


@_bound.register
def _(part: Sum) -> float:
    return lipschitz_upper(part.branch) + lipschitz_upper(part.skip)


def _shape(around: Surroundings) -> tuple[int, ...]:
    return tuple(next(iter(around.probes.values())).shape[1:])
