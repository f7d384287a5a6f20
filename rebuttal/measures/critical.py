"""Critical samples: points near which the function has another class."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from rebuttal.config import checked
from rebuttal.measures.gradients import gradient, jacobian, to_first_order
from rebuttal.measures.margins import margin
from rebuttal.measures.measure import Findings, Probes, Subject, chunks, distribution, evaluate, logits_at


@checked
class CriticalSamples:
    """`critical_<kind>_<r>`: the share of the first `probes` probes of a kind for which a point of another class was
    found within r in every coordinate (‖x̂ − x‖_∞ ≤ r, in input space; the box is not clipped to [0, 1]^d), for each r
    in `radii`: the critical sample ratio of Arpit et al. 2017. A search gives a lower bound; the share never falls as r
    grows, because what was found within a smaller radius counts.

    First tried is the corner of the box towards the class that is nearest to first order, argmin_j
    (f_c − f_j)/‖∇(f_c − f_j)‖₁: for a linear classifier the answer is exact. Then, from x, `steps` moves by `step`
    times r along the sign of the gradient of (largest other logit − f_c), and `langevin` more with normal noise of
    standard deviation `noise` times r added in every coordinate (their Algorithm 1), clipped to the box. A function
    that is not differentiable is evaluated at as many points drawn uniformly from the box instead.

    Cost for each probe: K backward passes, and for each radius until a point is found up to `steps` + `langevin` + 1
    forward and backward passes.
    """

    radii: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    probes: PositiveInt
    steps: NonNegativeInt
    langevin: NonNegativeInt
    step: PositiveFloat
    noise: NonNegativeFloat
    version: ClassVar[int] = 2

    def __call__(self, subject: Subject, probes: Probes) -> Findings:
        found = Findings()
        search = self._climb if subject.differentiable else self._scatter
        for kind, every in probes.inputs.items():
            inputs = every[: self.probes]
            classes = logits_at(subject, every)[: self.probes].argmax(dim=1)
            corners = _corners(subject, inputs, probes.memory) if subject.differentiable else inputs
            critical = torch.zeros_like(classes, dtype=torch.bool)
            for radius in sorted(self.radii):
                rows = (~critical).nonzero()[:, 0]
                if len(rows):
                    critical[rows] = search(subject, inputs[rows], classes[rows], corners[rows], radius, probes)
                found |= distribution(f"critical_{kind}_{radius:g}", critical.double())
        return found

    def _climb(
        self, subject: Subject, inputs: Tensor, classes: Tensor, corners: Tensor, radius: float, probes: Probes
    ) -> Tensor:
        """Return for which inputs (n, *shape) another class was found along the gradient, (n,) bool."""
        found = margin(evaluate(subject, inputs + radius * corners), classes) < 0
        points = inputs.clone()
        for moves in range(self.steps + self.langevin + 1):
            rows = (~found).nonzero()[:, 0]
            if not len(rows):
                break
            leads, uphill = _leads(subject, points[rows], classes[rows], probes.memory)
            found[rows] = leads > 0
            move = self.step * uphill.sign()
            if moves >= self.steps:
                move += self.noise * torch.from_numpy(probes.rng.standard_normal(move.shape)).to(move)
            points[rows] = (points[rows] + radius * move).clamp(inputs[rows] - radius, inputs[rows] + radius)
        return found

    def _scatter(
        self, subject: Subject, inputs: Tensor, classes: Tensor, corners: Tensor, radius: float, probes: Probes
    ) -> Tensor:
        """Return for which inputs (n, *shape) another class was found at random points of the box, (n,) bool."""
        found = torch.zeros_like(classes, dtype=torch.bool)
        for _ in range(self.steps + self.langevin + 1):
            rows = (~found).nonzero()[:, 0]
            if not len(rows):
                break
            drawn = torch.from_numpy(probes.rng.uniform(-radius, radius, inputs[rows].shape)).to(inputs)
            found[rows] = margin(evaluate(subject, inputs[rows] + drawn), classes[rows]) < 0
        return found


def _corners(subject: Subject, inputs: Tensor, memory: int) -> Tensor:
    """Return the corners (n, *shape) of [−1, 1]^d that lead towards the nearest class to first order."""
    found = [_corner(*jacobian(subject, part)) for part in chunks(subject, inputs, memory)]
    return torch.cat(found).reshape(inputs.shape)


def _corner(logits: Tensor, rows: Tensor) -> Tensor:
    """Return corners (n, d) from logits (n, K) and Jacobians (n, K, d)."""
    each = torch.arange(len(logits), device=logits.device)
    top = logits.argmax(dim=1)
    slopes = rows[each, top, None] - rows
    steepness = slopes.abs().sum(dim=2).clamp(min=torch.finfo(rows.dtype).tiny)
    radii = to_first_order(logits[each, top, None] - logits, steepness, top)
    return -slopes[each, radii.argmin(dim=1)].sign()


def _leads(subject: Subject, points: Tensor, classes: Tensor, memory: int) -> tuple[Tensor, Tensor]:
    """Return by how much another class leads over `classes` (n,) at points (n, *shape), and its gradient there."""
    leads, gradients, start = [], [], 0
    for part in chunks(subject, points, memory):
        part = part.detach().requires_grad_()
        with torch.enable_grad():
            lead = -margin(subject.function(part), classes[start : start + len(part)])
        gradients.append(gradient(lead, part))
        leads.append(lead.detach())
        start += len(part)
    return torch.cat(leads), torch.cat(gradients)
