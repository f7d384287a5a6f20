"""What the labels demand of any function that gives them."""

from __future__ import annotations

import torch
from torch import Tensor

from rebuttal.config import checked
from rebuttal.measures.subject import Findings, Subject, Surroundings, spread_at
from rebuttal.training import predict


@checked
class LabelDemand:
    """How steep the training labels force a function to be, among the train probes with different labels:

    `demand_distance`: the smallest distance δ of two of them; `demand_one_hot`, √2/δ: the Lipschitz constant
    that a function needs which gives the labels as one-hot vectors; `demand_secant`: the largest
    ‖f(x) − f(y)‖/‖x − y‖ over those pairs, which the function's own constant cannot be below, and `_scaled` by
    the spread of the logits at the test probes.
    """

    def __call__(self, subject: Subject, around: Surroundings) -> Findings:
        inputs, labels = around.probes["train"].flatten(1), around.labels
        differ = labels[:, None] != labels
        if not differ.any():
            return Findings({"demand_distance": None, "demand_one_hot": None, "demand_secant": None})
        distances = exact_distances(inputs).masked_fill(~differ, torch.inf)
        changes = exact_distances(predict(subject.function, around.probes["train"]))
        nearest = distances.min().item()
        secant = (changes / distances.masked_fill(distances == 0, torch.inf)).max().item()
        scale = spread_at(subject, around.probes["test"])
        return Findings(
            {
                "demand_distance": nearest,
                "demand_one_hot": 2**0.5 / nearest if nearest > 0 else None,
                "demand_secant": secant,
                "demand_secant_scaled": secant / scale if scale > 0 else None,
            }
        )


def exact_distances(points: Tensor) -> Tensor:
    """Euclidean distances (n, n) of points (n, d), in float64 and without the cancellation of the usual trick."""
    points = points.double()
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
