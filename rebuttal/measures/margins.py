"""Margins: how clear an answer is, and how far the next answer."""

from __future__ import annotations

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from rebuttal.config import checked
from rebuttal.measures.gradients import jacobian
from rebuttal.measures.subject import Findings, Subject, Surroundings, chunks, distribution, spread_at
from rebuttal.training import predict


@checked
class Margins:
    """`margin_<kind>`: top logit minus runner-up, and `_scaled` by the spread of the logits;
    `given_margin_train`: the logit of the label that the network was given minus the largest other.

    `boundary_<kind>`: the distance at which the prediction changes along the straight line towards the
    boundary that is nearest to first order, argmin_j (f_top − f_j)/‖∇(f_top − f_j)‖ (exact for a linear
    classifier; compare DeepFool, Moosavi-Dezfooli et al. 2016). Looked for at distances up to `reach` in
    `points` steps, then by bisection; `boundary_unreached_<kind>` is the share of probes where it does not
    change on the way. They are left out of the mean.
    """

    reach: PositiveFloat
    points: PositiveInt

    def __call__(self, subject: Subject, around: Surroundings) -> Findings:
        found = Findings()
        for kind, inputs in around.probes.items():
            logits = predict(subject.function, inputs)
            scale = spread_at(subject, inputs)
            found |= distribution(f"margin_{kind}", margin(logits, logits.argmax(dim=1)), scale)
            if kind == "train":
                found |= distribution("given_margin_train", margin(logits, around.labels), scale)
            if subject.differentiable:
                found |= self._boundary(subject, inputs, around.memory, kind)
        return found

    def _boundary(self, subject: Subject, inputs: Tensor, memory: int, kind: str) -> Findings:
        distance = torch.cat([self._distances(subject, part) for part in chunks(subject, inputs, memory)])
        reached = distance.isfinite()
        unreached = Findings({f"boundary_unreached_{kind}": 1 - reached.double().mean().item()})
        if not reached.any():
            return unreached | Findings({f"boundary_{kind}": None})
        return unreached | distribution(f"boundary_{kind}", distance[reached])

    def _distances(self, subject: Subject, inputs: Tensor) -> Tensor:
        """(n,): the distance to the first change of class along the line; infinite where there is none."""
        direction, classes = _towards_boundary(subject, inputs)
        far = torch.full((len(inputs),), torch.inf, dtype=inputs.dtype, device=inputs.device)
        near = torch.zeros_like(far)
        for step in range(1, self.points + 1):
            length = self.reach * step / self.points
            changed = self._changed(subject, inputs, direction, near.new_full(near.shape, length), classes)
            near = torch.where(far.isinf() & ~changed, length, near)
            far = torch.where(far.isinf() & changed, length, far)
        for _ in range(40):
            middle = torch.where(far.isinf(), near, (near + far) / 2)
            changed = self._changed(subject, inputs, direction, middle, classes)
            far = torch.where(changed & far.isfinite(), middle, far)
            near = torch.where(~changed & far.isfinite(), middle, near)
        return far

    def _changed(self, subject: Subject, inputs: Tensor, direction: Tensor, length: Tensor, classes: Tensor) -> Tensor:
        steps = length.reshape(-1, *[1] * (inputs.ndim - 1)) * direction
        return predict(subject.function, inputs + steps).argmax(dim=1) != classes


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """(n,): the label's logit minus the largest other."""
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return (own - others.max(dim=1, keepdim=True).values)[:, 0]


def _towards_boundary(subject: Subject, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Unit directions (n, *shape) towards the nearest boundary to first order, and the classes (n,) there."""
    logits, rows = jacobian(subject, inputs)
    each = torch.arange(len(inputs), device=inputs.device)
    top = logits.argmax(dim=1)
    gaps = logits[each, top, None] - logits
    slopes = rows[each, top, None] - rows
    steepness = slopes.norm(dim=2).clamp(min=torch.finfo(rows.dtype).tiny)
    distances = (gaps / steepness).scatter(1, top[:, None], torch.inf)
    nearest = distances.argmin(dim=1)
    direction = -slopes[each, nearest] / steepness[each, nearest, None]
    return direction.reshape(inputs.shape), top
