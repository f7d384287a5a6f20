"""Local variation: how much the function changes over small but finite distances."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from rebuttal.config import checked
from rebuttal.measures.measure import Findings, Probes, Subject, distribution, evaluate, logits_at, spread_at


@checked
class LocalVariation:
    """At each probe, in `directions` random directions δ of each length r in `radii` (input space):

    `variation_<kind>_<r>`: mean of ‖f(x+δ) − f(x)‖/‖δ‖, and `_scaled` by the spread of the logits;
    `flips_<kind>_<r>`: share of predictions that change. For f = Wx the variation is E‖Wu‖ over random unit
    vectors u, which is ‖W‖_F/√d for large d.
    """

    radii: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    directions: PositiveInt

    def __call__(self, subject: Subject, probes: Probes) -> Findings:
        found = Findings()
        for kind, inputs in probes.inputs.items():
            here = logits_at(subject, inputs)
            scale = spread_at(subject, inputs)
            steps = [unit_vectors(inputs, probes.rng) for _ in range(self.directions)]
            for radius in self.radii:
                there = [evaluate(subject, inputs + radius * step) for step in steps]
                change = torch.stack([(f - here).norm(dim=1) for f in there]).mean(dim=0) / radius
                flips = torch.stack([f.argmax(dim=1) != here.argmax(dim=1) for f in there]).double().mean(dim=0)
                found |= distribution(f"variation_{kind}_{radius:g}", change, scale)
                found |= distribution(f"flips_{kind}_{radius:g}", flips)
        return found


def unit_vectors(like: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw independent uniform directions, one for each row of `like`: (n, *shape) of Euclidean length 1."""
    drawn = torch.from_numpy(rng.standard_normal(like.shape)).to(like)
    lengths: Tensor = drawn.flatten(1).norm(dim=1)
    return drawn / lengths.reshape(-1, *[1] * (like.ndim - 1))
