"""Gradient norms: how fast the function changes at a point."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rebuttal.config import checked
from rebuttal.measures.measure import Findings, Probes, Subject, chunks, distribution, spread_at


@checked
class GradientNorms:
    """Means over the probes of each kind, with `_scaled` (divided by the spread of the logits there):

    `margin_gradient`: ‖∇ₓ(top logit − runner-up)‖₂. `jacobian_frobenius` and `jacobian_spectral`: ‖J‖_F and
    ‖J‖₂ of the logits' Jacobian J (K, d). `softmax_jacobian`: ‖J_softmax‖_F of the probabilities
    (Novak et al. 2018, section 3.1), which is not scaled, because probabilities have a fixed scale.

    Undefined for functions that are not differentiable.
    """

    def __call__(self, subject: Subject, probes: Probes) -> Findings:
        if not subject.differentiable:
            return Findings()
        found = Findings()
        for kind, inputs in probes.inputs.items():
            slopes = slopes_at(subject, inputs, probes.memory)
            scale = spread_at(subject, inputs)
            for name, values in slopes.norms.items():
                found |= distribution(f"{name}_{kind}", values, None if name == "softmax_jacobian" else scale)
        return found


def jacobian(subject: Subject, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (n, K) and their Jacobians (n, K, d) at inputs (n, *shape).

    One backward pass for each class: in evaluation mode inputs do not interact, so the gradient of the sum over inputs
    of logit k holds each input's own gradient. All classes in one pass would take more memory, and longer for it.
    """
    inputs = inputs.detach().requires_grad_()
    with torch.enable_grad():
        logits = subject.function(inputs)
    rows = logits.new_empty(*logits.shape, inputs[0].numel(), dtype=inputs.dtype)
    for k, one_hot in enumerate(torch.eye(logits.shape[1], dtype=logits.dtype, device=logits.device)):
        rows[:, k] = gradient(logits, inputs, one_hot.expand_as(logits)).flatten(1)
    return logits.detach(), rows


def gradient(outputs: Tensor, inputs: Tensor, cotangents: Tensor | None = None) -> Tensor:
    """Return the gradient at `inputs` of the sum of the outputs, each times its cotangent; 0 where they do not depend
    on the inputs. The graph stays, for further ones."""
    if not outputs.requires_grad:  # a constant function
        return torch.zeros_like(inputs)
    found: Tensor = torch.autograd.grad(
        outputs, inputs, torch.ones_like(outputs) if cotangents is None else cotangents, True, materialize_grads=True
    )[0]
    return found


def margin_gradients(subject: Subject, inputs: Tensor) -> Tensor:
    """Return ∇ₓ(top logit − runner-up), (n, *shape), by one backward pass."""
    inputs = inputs.detach().requires_grad_()
    with torch.enable_grad():
        top = subject.function(inputs).topk(2, dim=1).values
    return gradient(top[:, 0] - top[:, 1], inputs)


@dataclass(frozen=True)
class Slopes:
    """What the measures need of the Jacobians at n inputs: `logits` (n, K); `norms`, (n,) each; `boundary`, the unit
    directions (n, *shape) towards the nearest decision boundary to first order."""

    logits: Tensor
    norms: dict[str, Tensor]
    boundary: Tensor


def slopes_at(subject: Subject, inputs: Tensor, memory: int) -> Slopes:
    """Return the slopes at probes, computed once for all measures, with about `memory` bytes."""
    return subject.once_at(inputs, "slopes", lambda: _slopes(subject, inputs, memory))


def _slopes(subject: Subject, inputs: Tensor, memory: int) -> Slopes:
    parts = []
    for part in chunks(subject, inputs, memory):
        logits, rows = jacobian(subject, part)
        parts.append(Slopes(logits, norms(logits, rows), _towards_boundary(logits, rows).reshape(part.shape)))
    names = parts[0].norms
    return Slopes(
        torch.cat([part.logits for part in parts]),
        {name: torch.cat([part.norms[name] for part in parts]) for name in names},
        torch.cat([part.boundary for part in parts]),
    )


def _towards_boundary(logits: Tensor, rows: Tensor) -> Tensor:
    """Return unit directions (n, d) towards the nearest boundary to first order, from Jacobians (n, K, d)."""
    each = torch.arange(len(logits), device=logits.device)
    top = logits.argmax(dim=1)
    gaps = logits[each, top, None] - logits
    slopes = rows[each, top, None] - rows
    steepness = slopes.norm(dim=2).clamp(min=torch.finfo(rows.dtype).tiny)
    nearest = to_first_order(gaps, steepness, top).argmin(dim=1)
    direction: Tensor = -slopes[each, nearest] / steepness[each, nearest, None]
    return direction


def to_first_order(gaps: Tensor, steepness: Tensor, top: Tensor) -> Tensor:
    """Return the distances (n, K) at which each class would overtake the `top` one (n,), if the `gaps` (n, K) between
    them closed as steeply as here; infinite for the class itself and one that rises and falls with it."""
    flat = steepness <= torch.finfo(steepness.dtype).tiny
    return (gaps / steepness).masked_fill(flat, torch.inf).scatter(1, top[:, None], torch.inf)


def gram_of(jacobians: Tensor) -> Tensor:
    """Return the Gram matrices JJᵀ, float64 (n, K, K), of Jacobians (n, K, d)."""
    exact = jacobians.double()
    return exact @ exact.transpose(1, 2)


def norms(logits: Tensor, jacobians: Tensor) -> dict[str, Tensor]:
    """Return the four norms of `GradientNorms`, (n,) each, from logits (n, K) and Jacobians (n, K, d).

    As ‖AJ‖_F² = tr(A JJᵀ Aᵀ), Gram matrices decide them: for the softmax, which consists of differences of logits,
    those of J less its mean over the classes, which would cancel afterwards."""
    gram, centred = gram_of(jacobians), gram_of(jacobians - jacobians.mean(dim=1, keepdim=True))
    top, runner_up = logits.topk(2, dim=1).indices.T
    each = torch.arange(len(logits), device=logits.device)
    margin = jacobians[each, top] - jacobians[each, runner_up]
    p = logits.double().softmax(dim=1)
    softmax = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    return {
        "margin_gradient": margin.double().norm(dim=1),
        "jacobian_frobenius": gram.diagonal(dim1=1, dim2=2).sum(dim=1).sqrt(),
        "jacobian_spectral": torch.linalg.eigvalsh(gram)[:, -1].clamp(min=0).sqrt(),
        "softmax_jacobian": (softmax @ centred @ softmax).diagonal(dim1=1, dim2=2).sum(dim=1).clamp(min=0).sqrt(),
    }
