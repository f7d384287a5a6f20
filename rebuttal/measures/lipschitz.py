"""Lower and upper bounds on the Lipschitz constant."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveFloat
from torch import Tensor

from rebuttal.config import checked
from rebuttal.measures.gradients import gram_of, jacobian, slopes_at
from rebuttal.measures.layers import is_whitened, parts_of, unsupported
from rebuttal.measures.measure import Findings, Probes, Subject, chunks, spread_at
from rebuttal.measures.operator_norms import kept_norms, lipschitz_upper
from rebuttal.measures.variation import unit_vectors


@checked
class LipschitzBracket:
    """`lipschitz_lower`: the largest ‖J(x)‖₂ found at the probes and on a climb from the `starts` steepest of
    them; `lipschitz_upper`: the product of the layers' operator norms (Virmaux & Scaman 2018; Khromov & Singh
    2024), also as `_log10`. Affine maps that follow each other, such as the normalisation of the inputs and the first
    layer, count as one map: for a linear network the two bounds are equal.

    A ReLU network's Jacobian is constant in the linear region around x, so that ‖J‖ has no gradient to follow.
    The climb therefore tries, `steps` times, ± the leading right singular vector, along which f changes fastest,
    and ± a random direction, each by `step` times √d and clipped to [0, 1]^d, and keeps a point that is steeper.
    `_scaled`: divided by the spread of the logits at the test probes.
    If each image is whitened, the product bounds only the layers after whitening: `lipschitz_upper_whitened`.
    """

    starts: NonNegativeInt
    steps: NonNegativeInt
    step: PositiveFloat
    needs_layers: ClassVar[bool] = True

    def __call__(self, subject: Subject, probes: Probes) -> Findings:
        numbers: dict[str, float | None] = {}
        scale = spread_at(subject, probes.inputs["test"])
        if subject.differentiable:
            lower = self._lower(subject, probes)
            numbers |= {"lipschitz_lower": lower, "lipschitz_lower_scaled": lower / scale if scale > 0 else None}
        if subject.network is not None and not unsupported(subject.network):
            upper = lipschitz_upper(parts_of(subject.network, probes.shape), kept_norms(subject))
            name = "lipschitz_upper_whitened" if is_whitened(subject.network) else "lipschitz_upper"
            numbers |= {name: upper, f"{name}_log10": float(np.log10(upper)) if upper > 0 else None}
            numbers[f"{name}_scaled"] = upper / scale if scale > 0 else None
        return Findings(numbers)

    def _lower(self, subject: Subject, probes: Probes) -> float:
        inputs = torch.cat(list(probes.inputs.values()))
        norms = [slopes_at(subject, kind, probes.memory).norms for kind in probes.inputs.values()]
        steepness = torch.cat([of_kind["jacobian_spectral"] for of_kind in norms])
        best: float = steepness.max().item()
        points = inputs[steepness.topk(min(self.starts, len(inputs))).indices]
        length = self.step * inputs[0].numel() ** 0.5
        if not self.steps or not len(points):
            return best
        here, leading = _leading_singular_in_chunks(subject, points, probes.memory)
        for _ in range(self.steps):
            random = unit_vectors(points, probes.rng)
            for direction in (leading, -leading, random, -random):
                candidate = (points + length * direction).clamp(0, 1)
                there, its_leading = _leading_singular_in_chunks(subject, candidate, probes.memory)
                better = (there > here).reshape(-1, *[1] * (points.ndim - 1))
                points = torch.where(better, candidate, points)
                leading = torch.where(better, its_leading, leading)
                here = torch.maximum(here, there)
        return max(best, here.max().item())


def _leading_singular_in_chunks(subject: Subject, inputs: Tensor, memory: int) -> tuple[Tensor, Tensor]:
    found = [_leading_singular(subject, part) for part in chunks(subject, inputs, memory)]
    return torch.cat([norm for norm, _ in found]), torch.cat([direction for _, direction in found])


def _leading_singular(subject: Subject, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return ‖J‖₂ (n,) and the unit right singular vector (n, *shape) that attains it."""
    _, jacobians = jacobian(subject, inputs)
    values, vectors = torch.linalg.eigh(gram_of(jacobians))
    norm = values[:, -1].clamp(min=0).sqrt()
    direction = (vectors[:, None, :, -1].to(jacobians) @ jacobians)[:, 0]
    unit = direction / direction.norm(dim=1, keepdim=True).clamp(min=torch.finfo(direction.dtype).tiny)
    return norm, unit.reshape(inputs.shape)
