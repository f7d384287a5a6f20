"""Sharpness: the curvature of the training loss in the weights."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import scipy  # which imports its parts when they are used
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from rebuttal.config import checked
from rebuttal.measures.measure import Findings, Probes, Subject, chunks, distribution
from rebuttal.training.losses import LossOption

log = logging.getLogger(__name__)

Product = Callable[[Tensor], Tensor]  # from v (P,) to Hv (P,)

_NOT_TWICE = re.compile("differentiate twice|derivative for .* is not implemented")


@checked
class Sharpness:
    """The Hessian H of the mean `loss` in all P parameters of a network, in evaluation mode, over the train probes and
    the labels that the network was given; absolute, in units of the loss for a weight changed by 1, so that it changes
    when weights are rescaled without changing the function (Dinh et al. 2017):

    `hessian_top`: its largest eigenvalue (sharpness; compare Jiang et al. 2020), by Lanczos's method until the bound
    is `tolerance` times the eigenvalue, and in at most `iterations` steps; `hessian_top_error`: that bound on the
    distance from it to an eigenvalue of H. The eigenvalue itself is nearer, as a rule by the square of the tolerance.
    `hessian_trace`: its trace by Hutch++ (Meyer et al. 2021) with `products` products, exact if a third
    of them is at least the rank of H; `_low`, `_high`: the 95 % interval over its random vectors.

    Undefined for functions that are no networks; None if its layers or the loss (`Margin`) cannot be differentiated
    twice, or overflow. A ReLU's kinks, where much of the curvature may be, count for nothing. Cost: up to `iterations`
    and `products` products Hv, each two backward passes through every train probe; the memory of `products`/3 copies of
    the weights.
    """

    loss: LossOption
    iterations: PositiveInt
    tolerance: Annotated[float, Field(gt=0, lt=1)]
    products: Annotated[int, Field(ge=6)]

    def __call__(self, subject: Subject, probes: Probes) -> Findings:
        if subject.network is None or not list(subject.network.parameters()):
            return Findings()
        hessian = Hessian(subject, subject.network, self.loss, probes)
        try:
            top, error = top_eigenvalue(hessian, hessian.signs(), self.iterations, self.tolerance)
            found = Findings({"hessian_top": top, "hessian_top_error": error}) | trace(hessian, self.products // 3)
        except RuntimeError as error:
            if not _NOT_TWICE.search(str(error)):
                raise
            log.warning("no curvature of the loss, because network or loss cannot be differentiated twice: %s", error)
            return Findings(dict.fromkeys(("hessian_top", "hessian_top_error", "hessian_trace")))
        return Findings({name: v if v is not None and math.isfinite(v) else None for name, v in found.numbers.items()})


@dataclass(frozen=True)
class Hessian:
    """v ↦ Hv, for the Hessian of the mean loss over the train probes, and random vectors that suit it."""

    subject: Subject
    network: nn.Module
    loss: Any
    probes: Probes

    def __call__(self, vector: Tensor) -> Tensor:
        inputs, labels = self.probes.inputs["train"], self.probes.labels
        found, start = torch.zeros_like(vector), 0
        for part in chunks(self.subject, inputs, self.probes.memory // 2):  # the second pass keeps as much as the first
            share = len(part) / len(inputs)
            found += share * self._product(part, labels[start : start + len(part)], vector)
            start += len(part)
        return found

    def signs(self) -> Tensor:
        """Return a random vector of ±1, (P,)."""
        like = nn.utils.parameters_to_vector(self.network.parameters())
        return torch.from_numpy(2.0 * self.probes.rng.integers(2, size=len(like)) - 1).to(like.detach())

    def _product(self, inputs: Tensor, labels: Tensor, vector: Tensor) -> Tensor:
        weights = {name: p.detach().requires_grad_() for name, p in self.network.named_parameters()}
        leaves = tuple(weights.values())
        # The faster kernels of attention cannot be differentiated twice.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            loss = self.loss(functional_call(self.network, weights, (inputs,)), labels)
            slopes = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
            along = torch.cat([slope.flatten() for slope in slopes]) @ vector
            if not along.requires_grad:  # the loss is linear in the weights
                return torch.zeros_like(vector)
            along.backward()  # which, unlike `grad`, fails at a layer that cannot be differentiated twice
        return torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in leaves])


def top_eigenvalue(product: Product, start: Tensor, iterations: int, tolerance: float) -> tuple[float, float]:
    """Return the largest eigenvalue of a symmetric matrix, from its products and a vector to start from (P,), and the
    distance from it within which there is an eigenvalue, which ends the search at `tolerance` times the eigenvalue.

    Without orthogonalising again: that repeats eigenvalues that were found, but needs three vectors only, and the
    largest stays right (Paige 1980)."""
    diagonal: list[float] = []
    beside: list[float] = []
    vector, before = start / start.norm(), torch.zeros_like(start)
    for _ in range(iterations):
        image = product(vector) - (beside[-1] if beside else 0.0) * before
        diagonal.append((image @ vector).item())
        image = image - diagonal[-1] * vector
        length = image.norm().item()
        if not math.isfinite(length):  # the loss overflows
            return math.nan, math.nan
        values, vectors = scipy.linalg.eigh_tridiagonal(diagonal, beside)
        error = length * abs(vectors[-1, -1])
        if error <= tolerance * abs(values[-1]):
            break
        beside.append(length)
        before, vector = vector, image / length
    return float(values[-1]), float(error)


def trace(hessian: Hessian, count: int) -> Findings:
    """Return the trace by Hutch++: that on the span of `count` products, and the mean of `count` estimates of the
    rest."""
    basis = torch.linalg.qr(torch.stack([hessian(hessian.signs()) for _ in range(count)], dim=1)).Q  # (P, count)
    spanned = sum((q @ hessian(q)).item() for q in basis.T.contiguous())
    rest = []
    for _ in range(count):
        signs = hessian.signs()
        beyond = signs - basis @ (basis.T @ signs)
        rest.append((beyond @ hessian(beyond)).item())
    return Findings(distribution("hessian_trace", spanned + torch.tensor(rest, dtype=torch.float64)).numbers)
