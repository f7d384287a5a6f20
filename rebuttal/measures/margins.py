"""Margins: in the logits, and in input space as the distance to the decision boundary."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from rebuttal.config import checked
from rebuttal.measures.gradients import slopes_at
from rebuttal.measures.measure import Findings, Probes, Subject, distribution, evaluate, logits_at, spread_at

BISECTIONS = 20  # halvings of the step that crosses the boundary, which locate it to a millionth of the step


@checked
class Margins:
    """`margin_<kind>`: top logit minus runner-up, and `_scaled` by the spread of the logits;
    `given_margin_train`: the logit of the label that the network was given minus the largest other logit.

    `boundary_<kind>`: the distance at which the prediction changes along the straight line towards the
    boundary that is nearest to first order, argmin_j (f_top − f_j)/‖∇(f_top − f_j)‖ (exact for a linear
    classifier; compare DeepFool, Moosavi-Dezfooli et al. 2016). Searched up to distance `reach` in `points` steps,
    then by bisection. `boundary_unreached_<kind>`: the share of probes whose prediction does not change within
    `reach`; they are left out of the mean.
    """

    reach: PositiveFloat
    points: PositiveInt
    version: ClassVar[int] = 2

    def __call__(self, subject: Subject, probes: Probes) -> Findings:
        found = Findings()
        for kind, inputs in probes.inputs.items():
            logits = logits_at(subject, inputs)
            scale = spread_at(subject, inputs)
            found |= distribution(f"margin_{kind}", margin(logits, logits.argmax(dim=1)), scale)
            if kind == "train":
                found |= distribution("given_margin_train", margin(logits, probes.labels), scale)
            if subject.differentiable:
                found |= self._boundary(subject, inputs, probes.memory, kind)
        return found

    def _boundary(self, subject: Subject, inputs: Tensor, memory: int, kind: str) -> Findings:
        distance = self._distances(subject, inputs, memory)
        reached = distance.isfinite()
        unreached = Findings({f"boundary_unreached_{kind}": int((~reached).sum()) / len(reached)})
        if not reached.any():
            return unreached | Findings({f"boundary_{kind}": None})
        return unreached | distribution(f"boundary_{kind}", distance[reached])

    def _distances(self, subject: Subject, inputs: Tensor, memory: int) -> Tensor:
        """Return the distance (n,) to the first change of class along the line; infinite if there is none."""
        slopes = slopes_at(subject, inputs, memory)
        direction, classes = slopes.boundary, slopes.logits.argmax(dim=1)
        found = torch.full((len(inputs),), torch.inf, dtype=inputs.dtype, device=inputs.device)

        def changed(rows: Tensor, lengths: Tensor) -> Tensor:
            steps = lengths.reshape(-1, *[1] * (inputs.ndim - 1)) * direction[rows]
            return evaluate(subject, inputs[rows] + steps).argmax(dim=1) != classes[rows]

        lengths = torch.linspace(0, self.reach, self.points + 1, dtype=inputs.dtype, device=inputs.device)[1:]
        for length in lengths:
            rows = found.isinf().nonzero()[:, 0]
            if len(rows):
                found[rows[changed(rows, length)]] = length
        rows = found.isfinite().nonzero()[:, 0]
        far = found[rows]
        near = far - self.reach / self.points
        for _ in range(BISECTIONS if len(rows) else 0):
            middle = (near + far) / 2
            beyond = changed(rows, middle)
            near, far = torch.where(beyond, near, middle), torch.where(beyond, middle, far)
        found[rows] = far
        return found


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the label's logit minus the largest other logit, (n,)."""
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return (own - others.max(dim=1, keepdim=True).values)[:, 0]
