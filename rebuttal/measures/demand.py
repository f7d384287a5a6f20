"""Bounds that the training labels alone impose on any function that fits them."""

from __future__ import annotations

import torch
from torch import Tensor

from rebuttal.config import checked
from rebuttal.measures.measure import Findings, Probes, Subject, logits_at, spread_at


@checked
class LabelDemand:
    """How steep the training labels force a function to be, from the pairs of train probes with different labels:

    `demand_distance`: the smallest distance δ of such a pair; `demand_one_hot`, √2/δ: a lower bound on the Lipschitz
    constant of any function that outputs the labels as one-hot vectors; `demand_secant`: the largest
    ‖f(x) − f(y)‖/‖x − y‖ over those pairs, a lower bound on the function's own constant, and `_scaled` by the spread
    of the logits at the test probes. None if all labels are equal.
    """

    def __call__(self, subject: Subject, probes: Probes) -> Findings:
        train, labels = probes.inputs["train"], probes.labels
        differ = labels[:, None] != labels
        if not differ.any():
            return Findings({"demand_distance": None, "demand_one_hot": None, "demand_secant": None})
        distances = exact_distances(train.flatten(1)).masked_fill(~differ, torch.inf)
        changes = exact_distances(logits_at(subject, train))
        nearest = distances.min().item()
        secant = (changes / distances.masked_fill(distances == 0, torch.inf)).max().item()
        scale = spread_at(subject, probes.inputs["test"])
        return Findings(
            {
                "demand_distance": nearest,
                "demand_one_hot": 2**0.5 / nearest if nearest > 0 else None,
                "demand_secant": secant,
                "demand_secant_scaled": secant / scale if scale > 0 else None,
            }
        )


def exact_distances(points: Tensor) -> Tensor:
    """Return Euclidean distances (n, n) of points (n, d), in float64.

    They are computed from differences: expanding ‖x − y‖² into a matrix product cancels for close points."""
    points = points.double()
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
