"""Gradient norms: how fast the function changes at a point."""

from __future__ import annotations

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
            parts = [norms(*jacobian(subject, part)) for part in chunks(subject, inputs, probes.memory)]
            scale = spread_at(subject, inputs)
            for name in parts[0]:
                values = torch.cat([part[name] for part in parts])
                found |= distribution(f"{name}_{kind}", values, None if name == "softmax_jacobian" else scale)
        return found


def jacobian(subject: Subject, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (n, K) and their Jacobians (n, K, d) at inputs (n, *shape).

    One batched backward pass computes all of them: in evaluation mode inputs do not interact, so the gradient of the
    sum over inputs of logit k holds each input's own gradient.
    """
    inputs = inputs.detach().requires_grad_()
    with torch.enable_grad():
        logits = subject.function(inputs)
    n, classes = logits.shape
    cotangents = torch.eye(classes, dtype=logits.dtype, device=logits.device)[:, None].expand(-1, n, -1)
    (rows,) = torch.autograd.grad(logits, inputs, cotangents, is_grads_batched=True)
    return logits.detach(), rows.flatten(2).transpose(0, 1)


def norms(logits: Tensor, jacobians: Tensor) -> dict[str, Tensor]:
    """Return the four norms of `GradientNorms`, (n,) each, from logits (n, K) and Jacobians (n, K, d)."""
    top, runner_up = logits.topk(2, dim=1).indices.T
    each = torch.arange(len(logits), device=logits.device)
    # ‖AJ‖_F² = tr(A JJᵀ Aᵀ): everything follows from the small Gram matrices JJᵀ (n, K, K).
    gram = (jacobians @ jacobians.transpose(1, 2)).double()
    margin = gram[each, top, top] + gram[each, runner_up, runner_up] - 2 * gram[each, top, runner_up]
    p = logits.double().softmax(dim=1)
    softmax = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    return {
        "margin_gradient": margin.clamp(min=0).sqrt(),
        "jacobian_frobenius": gram.diagonal(dim1=1, dim2=2).sum(dim=1).sqrt(),
        "jacobian_spectral": torch.linalg.eigvalsh(gram)[:, -1].clamp(min=0).sqrt(),
        "softmax_jacobian": (softmax @ gram @ softmax).diagonal(dim1=1, dim2=2).sum(dim=1).clamp(min=0).sqrt(),
    }
